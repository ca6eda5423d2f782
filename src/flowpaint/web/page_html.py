"""The pieces of the page that Gradio has no component for, as HTML: text in, text out.

Each piece is one block without blank lines, because it is shown through Markdown, and everything that a user typed is escaped.
`page.js` brings it to life by its data attributes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

_STATES = {
    "queued": "waiting for its turn",
    "running": "at work",
    "waiting": "waits for you",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}
_SUGGESTED = 12  # frames at which an edited picture would help; a film has thousands
_LABELS = {
    "video": "Video",
    "report": "Report (JSON)",
    "sheet": "Contact sheet",
    "candidates": "Candidates",
    "first": "First frame",
}


def block(tag: str, inside: str, **attributes: str | int | float | bool | None) -> str:
    """One element around `inside`, which is HTML already; `class_` and `data_x` become class and data-x, None is left out."""
    said = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return f"<{tag}{said}>" if tag in ("img", "input") else f"<{tag}{said}>{inside}</{tag}>"


def text(words: object) -> str:
    """`words` as HTML on one line."""
    return escape(" ".join(str(words).split()))


def problem(words: str) -> str:
    """What went wrong, read out at once; nothing for no words."""
    return block("p", text(words), class_="fp-problem", role="alert") if words else ""


def upload(label: str, *, kind: str, tells: str, hint: str = "", with_frame: bool = False) -> str:
    """A place to choose a file, or drop one, that goes to the server at once; its id goes to the hidden field `tells`."""
    accept = "video/*,.mkv,.mov,.avi,.webm,.gif" if kind == "video" else "image/*"
    chooser = block("input", "", type="file", accept=accept, data_upload=kind, data_tells=tells, data_with_frame=with_frame)
    title = block("span", text(label), class_="fp-drop-title") + (block("span", text(hint), class_="fp-hint") if hint else "")
    bar = block("progress", "", max="1", value="0", hidden=True, aria_label="Upload")
    said = block("span", "", class_="fp-said", role="status")
    away = block("button", "Remove", type="button", data_forget=tells, hidden=True)
    return block("div", block("label", title + chooser, class_="fp-drop") + bar + block("div", said + away, class_="fp-line"))


def viewer(asset: Mapping[str, Any]) -> str:
    """The clip's frames with a slider to scrub through them, the brush, and the clip itself to play."""
    identity, frames = str(asset["id"]), int(asset.get("frames") or 1)
    address = f"/v1/assets/{identity}"
    picture = block("img", "", class_="fp-frame", src=f"{address}/frames/0?side=960", alt="Frame 0 of the clip")
    ink = block("canvas", "", class_="fp-ink", tabindex="0", hidden=True, role="img", aria_label=_INK, aria_describedby="fp-keys")
    cursor = block("span", "", class_="fp-cursor", hidden=True)
    slider = block("input", "", type="range", class_="fp-scrub", min="0", max=frames - 1, value="0", step="1", id="fp-scrub")
    label = block("label", "Frame", for_="fp-scrub") + slider + block("output", "", class_="fp-where", for_="fp-scrub")
    facts = [str(asset["name"]), f"{asset.get('width')} × {asset.get('height')}", f"{frames} frames", clock(asset.get("seconds"))]
    shape = float(asset.get("width") or 16) / float(asset.get("height") or 9)
    facts.append("with sound" if asset.get("has_audio") else "no sound")
    play = block("summary", "Play the clip") + block(
        "video", "", src=f"{address}/content", controls=True, preload="none", class_="fp-play", playsinline=True
    )
    return block(
        "figure",
        block("figcaption", text(" · ".join(facts)))
        + block("div", picture + ink + cursor, class_="fp-stage", style=f"--shape: {shape:.4f}")
        + block("div", label, class_="fp-line")
        + _brush()
        + block("details", play),
        class_="fp-viewer",
        data_asset=identity,
        data_frames=frames,
        data_seconds=asset.get("seconds") or 0,
        data_width=asset.get("width") or 0,
        data_height=asset.get("height") or 0,
    )


_INK = "The frame, to be marked"


def _brush() -> str:
    size = block("input", "", type="range", class_="fp-size", min="2", max="40", value="10", id="fp-size")
    rub = block("input", "", type="checkbox", class_="fp-rub", id="fp-rub")
    keys = "Drag to paint. With the keyboard: arrow keys move the brush, the space bar paints, Shift and an arrow paint a line."
    tools = (
        block("span", block("label", "Brush size", for_="fp-size") + size)
        + block("span", rub + block("label", "Rub out", for_="fp-rub"))
        + block("button", "Clear", type="button", data_brush="clear")
        + block("button", "Use this region", type="button", data_brush="use", class_="fp-main")
        + block("button", "Change the whole picture", type="button", data_brush="forget")
    )
    return block(
        "details",
        block("summary", "Change only a part of the picture")
        + block("p", keys, id="fp-keys", class_="fp-hint")
        + block("p", "The region stays where it is for the whole clip.", class_="fp-hint")
        + block("div", tools, class_="fp-line fp-tools")
        + block("p", "", class_="fp-said", role="status"),
        class_="fp-brush",
    )


def shots(rows: Sequence[Mapping[str, Any]]) -> str:
    """The shots of a clip; each leads to its first frame."""
    if len(rows) < 2:
        return block("p", "One shot, no cuts.", class_="fp-hint") if rows else ""
    buttons = (
        block("button", f"Shot {place}: {_short(row['from'])} – {_short(row['to'])}", type="button", data_go=row["first"])
        for place, row in enumerate(rows, start=1)
    )
    items = "".join(block("li", one) for one in buttons)
    head = block("p", f"{len(rows)} shots:", id="fp-shots")
    return block("div", head + block("ul", items, class_="fp-chips", aria_labelledby="fp-shots"))


def _short(time: object) -> str:
    """A clock time without hours that are none: 00:00:01.500 is 0:01.5."""
    hours, minutes, seconds = str(time).split(":")
    rest = f"{minutes}:{seconds[:4]}"
    return text(rest.removeprefix("0") if hours == "00" else f"{hours}:{rest}")


def keyframes(chosen: Mapping[str, str], wanted: Sequence[int] = ()) -> str:
    """The edited pictures given so far, and the frames at which more would help."""
    given = "".join(
        block(
            "li",
            block("button", f"Frame {int(number)}", type="button", data_go=number)
            + block("button", "Remove", type="button", data_tell="fp-key", data_value=f"{number}=", class_="fp-quiet"),
        )
        for number in sorted(chosen, key=int)
    )
    missing = [number for number in wanted if str(number) not in chosen]
    more = "".join(
        block("li", block("button", f"Go to frame {number}", type="button", data_go=number)) for number in missing[:_SUGGESTED]
    )
    said = block("p", "Edited pictures you gave:") + block("ul", given, class_="fp-chips") if given else ""
    if more:
        said += block("p", "More edited pictures would help at:") + block("ul", more, class_="fp-chips")
    return block("div", said) if said else ""


def plan(found: Mapping[str, Any]) -> str:
    """What a job would do and take, in sentences."""
    cost = found.get("estimate") or {}
    seconds = cost.get("seconds")
    many = len(found.get("shots") or ())
    said = [f"{found['frames']} frames in {many} {'shot' if many == 1 else 'shots'}."]
    if found.get("look"):
        said.append(str(found["look"]))
    made = found.get("keyframes_made") or []
    if made:
        said.append(f"{len(made)} key {'picture is' if len(made) == 1 else 'pictures are'} edited for you.")
    if seconds is not None:
        said.append(f"About {duration(float(seconds))} of work.")
    notes = "".join(block("p", text(one), class_="fp-hint") for one in found.get("warnings") or ())
    return block("div", block("p", text(" ".join(said))) + notes, class_="fp-plan", role="status")


def jobs(rows: Sequence[Mapping[str, Any]], shown: str) -> str:
    """The list of jobs, newest first; each can be opened, and a finished one removed."""
    if not rows:
        return block("p", "No jobs yet. They stay here when you close the page.", class_="fp-hint")
    return block("ul", "".join(_job_row(row, str(row["id"]) == shown) for row in rows), class_="fp-jobs")


def _job_row(row: Mapping[str, Any], is_shown: bool) -> str:
    state, name = str(row["state"]), str(row.get("name") or "result")
    words = str(row.get("prompt") or row.get("look") or row.get("kind") or "")
    inside = (
        block("span", text(_STATES.get(state, state)), class_=f"fp-state fp-{state}")
        + block("span", text(words or name), class_="fp-words")
        + block("span", text(since(row.get("created"))), class_="fp-hint")
    )
    opener = block("button", inside, type="button", data_tell="fp-job", data_value=row["id"], aria_current=_true(is_shown))
    away = block(
        "button",
        "Remove",
        type="button",
        data_tell="fp-remove",
        data_value=row["id"],
        data_sure="Remove this job and its files?",
        class_="fp-quiet",
        aria_label=f"Remove the job {words or name}",
    )
    return block("li", opener + (away if state in ("done", "failed", "cancelled") else ""))


def _true(said: bool) -> str | None:
    return "true" if said else None


# ------------------------------------------------------------------------------------------------------------ words of time


def clock(seconds: float | None) -> str:
    """Minutes and seconds, like 1:07.5."""
    minutes, rest = divmod(float(seconds or 0), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def duration(seconds: float) -> str:
    """A length of time in round words, like "40 s" or "12 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def since(moment: float | str | None) -> str:
    """When something happened, seconds since 1970 or as ISO 8601: the date and the time of day of the server."""
    if not moment:
        return ""
    when = datetime.fromtimestamp(moment) if isinstance(moment, int | float) else datetime.fromisoformat(moment).astimezone()
    return when.strftime("%d %b %H:%M")


def labels() -> Mapping[str, str]:
    """What the page calls the files of a job."""
    return _LABELS


def states() -> Mapping[str, str]:
    """What the page calls the states of a job."""
    return _STATES
