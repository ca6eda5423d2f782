"""The pieces of the page that show one job: its progress, its first frame, its result and the weak moments of it."""

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .page_html import block, clock, labels, states, text

_WEAK = 8  # moments listed at most
_NEAR = 3  # frames on either side that a moment stands for
_DOUBT = 0.6  # confidence below which a frame is doubtful
_FLICKERS = 2.0  # times the flicker of the source, and at least so many levels more, from which a frame is listed
_LEVELS = 1.5


def progress(job: Mapping[str, Any]) -> str:
    """How a job stands: state, bar, time left and the newest finished frame; `page.js` keeps it up to date."""
    state, at = str(job["state"]), job.get("progress") or {}
    total = int(at.get("total") or 0)
    said = states().get(state, state)
    head = block("p", block("strong", text(said[:1].upper() + said[1:]), class_=f"fp-state fp-{state}") + " " + text(_about(job)))
    inside = head + (block("p", text(job["look"]), class_="fp-hint") if job.get("look") else "")
    if state == "failed":
        inside += block("p", text((job.get("error") or {}).get("message") or "It failed."), class_="fp-problem", role="alert")
    if state in ("queued", "running"):
        value = f"{int(at.get('done') or 0) / total:.4f}" if total else None
        inside += block("progress", "", class_="fp-bar", max="1", value=value, aria_label="Progress")
        inside += block("p", "", class_="fp-eta")
        has = any(one["name"] == "preview" for one in job.get("artifacts") or ())
        preview = f"/v1/jobs/{job['id']}/artifacts/preview" if has else None
        inside += block("img", "", class_="fp-preview", src=preview, alt="The newest finished frame", hidden=not has)
    live = state in ("queued", "running", "waiting")
    return block("section", inside, class_="fp-job", data_job=job["id"], data_state=state, data_live=live, aria_label="This job")


def _about(job: Mapping[str, Any]) -> str:
    return str(job.get("prompt") or job.get("kind") or "")


def first(job: Mapping[str, Any], source: Mapping[str, Any] | None) -> str:
    """The source's frame beside the edited one that waits for approval; `source` is the asset, while it is here."""
    edited = f"/v1/jobs/{job['id']}/artifacts/first?v={job.get('attempt') or 0}"
    pictures = ""
    if source:
        frame = _begins(str((job.get("request") or {}).get("start") or ""), source)
        before = block("img", "", src=f"/v1/assets/{source['id']}/frames/{frame}?side=960", alt="The frame as it is")
        pictures += block("figure", before + block("figcaption", "Before"))
    after = block("img", "", src=edited, alt="The frame as edited")
    return block("div", pictures + block("figure", after + block("figcaption", "After")), class_="fp-pair")


def _begins(time: str, source: Mapping[str, Any]) -> int:
    """The number of the frame at `time`: a number of a frame, 3.5s, or minutes and seconds with colons; 0 for anything else."""
    if time.isdecimal():
        return int(time)
    try:
        seconds = sum(float(one) * 60**place for place, one in enumerate(reversed(time.removesuffix("s").split(":"))))
    except ValueError:
        return 0
    frames, length = int(source.get("frames") or 1), float(source.get("seconds") or 0)
    return min(frames - 1, max(0, round(seconds * frames / length))) if length else 0


def result(job: Mapping[str, Any], source: str | None, report: Mapping[str, Any] | None) -> str:
    """The finished video beside its source, and its files to download."""
    files = {str(one["name"]): one for one in job.get("artifacts") or ()}
    if "video" not in files:
        return NOTHING
    address = str(files["video"]["href"])
    request, offset = job.get("request") or {}, _offset(report)
    beside = None if request.get("side_by_side") else source
    links = "".join(
        block("li", block("a", f"{labels().get(name, name)} ({_size(one.get('bytes'))})", href=one["href"], download=True))
        for name, one in files.items()
        if name in labels()
    )
    return block("div", _compare(address, beside, offset) + block("ul", links, class_="fp-links"), class_="fp-result")


def _compare(address: str, source: str | None, offset: float) -> str:
    after = block("video", "", class_="fp-after", src=address, preload="auto", playsinline=True, loop=True)
    videos, parts = after, ""
    if source:
        before = block(
            "video", "", class_="fp-before", src=f"/v1/assets/{source}/content", preload="auto", muted=True, playsinline=True
        )
        videos = before + after + block("span", "", class_="fp-edge")
        share = block("input", "", type="range", class_="fp-share", min="0", max="100", value="50", id="fp-share")
        parts = block("div", block("label", "Source", for_="fp-share") + share + block("span", "Result"), class_="fp-line")
    play = block("button", "Play", type="button", class_="fp-toggle")
    time = block("input", "", type="range", class_="fp-time", min="0", max="1000", value="0", aria_label="Time in the result")
    tools = block("div", play + time + block("output", "0:00.0", class_="fp-at"), class_="fp-line")
    cannot = "This browser cannot play the file. Download it below; the frames of the clip above can still be looked at."
    fallback = block("p", cannot, class_="fp-problem fp-cannot", hidden=True)
    return block(
        "div", block("div", videos, class_="fp-stage") + parts + tools + fallback, class_="fp-compare", data_offset=offset
    )


def _offset(report: Mapping[str, Any] | None) -> float:
    """Where in the source, in seconds, the result begins."""
    found = (report or {}).get("input") or {}
    return round(int(found.get("first_frame") or 0) / _rate(found), 4)


def _rate(found: Mapping[str, Any]) -> float:
    above, _, below = str(found.get("rate") or "25").partition("/")
    return float(above) / float(below or 1)


def weak(report: Mapping[str, Any]) -> str:
    """The moments that may not look right, worst first, each leading there, or a sentence where there are none; and the notes."""
    found = moments(report)
    notes = "".join(block("li", text(one)) for one in report.get("warnings") or ())
    told = block("p", "Notes:") + block("ul", notes, class_="fp-notes") if notes else ""
    if not found:
        return block("div", block("p", "No weak moments were found.", class_="fp-hint") + told)
    about = report.get("input") or {}
    start, rate = int(about.get("first_frame") or 0), _rate(about)
    wants = set(report.get("wants_keyframe") or ())
    items = []
    for number, why in found:
        at = (number - start) / rate
        more = " An edited picture here would help." if number in wants else ""
        said = f"Frame {number}, {clock(at)}: {why}.{more}"
        items.append(block("li", block("button", text(said), type="button", data_go=number, data_moment=f"{at:.4f}")))
    return block("div", block("p", "Look at these moments:") + block("ul", "".join(items), class_="fp-moments") + told)


def moments(report: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The few frames of a finished job that look least right, worst first, and what is wrong with each.

    Of neighbours the worst alone: a doubtful place is many frames long. The rows are gone through once: a film has 100 000.
    """
    # One that is kept keeps out its neighbours and no others, so the few that are listed are among this many of the worst.
    worst = heapq.nsmallest(_WEAK * (2 * _NEAR + 1), _doubts(report))
    kept: list[tuple[float, int, str]] = []
    for one in worst:
        if all(abs(one[1] - other[1]) > _NEAR for other in kept):
            kept.append(one)
    return [(number, why) for _, number, why in kept[:_WEAK]]


def _doubts(report: Mapping[str, Any]) -> Iterator[tuple[float, int, str]]:
    wants = set(report.get("wants_keyframe") or ())
    for row in report.get("frames") or ():
        number, sure = int(row["frame"]), float(row.get("confidence", 1.0))
        before, after = float(row.get("source_flicker", 0.0)), float(row.get("result_flicker", 0.0))
        if number in wants or sure < _DOUBT:
            yield sure, number, f"{round(100 * (1 - sure))} % of the picture is guessed"
        elif after > _FLICKERS * before and after > before + _LEVELS:
            yield 1.0 - 0.001 * (after - before), number, "it flickers more than the source"


def shortened(report: bytes) -> dict[str, Any]:
    """What the page shows of a report in JSON: the report itself, of its frames those of `moments` only.

    Raises ValueError for bytes that are no JSON.
    """
    whole: dict[str, Any] = json.loads(report)
    shown = {number for number, _ in moments(whole)}
    return {**whole, "frames": [row for row in whole.get("frames") or () if int(row["frame"]) in shown]}


NOTHING = block("p", "Nothing yet. What you make is shown here.", class_="fp-hint")


def wanted(plan: Mapping[str, Any] | None, report: Mapping[str, Any] | None) -> Sequence[int]:
    """The frames of the input at which an edited picture of the user's would help, by a plan and by a finished report."""
    found = {int(one) for one in (plan or {}).get("keyframes_made") or ()}
    return sorted(found | {int(one) for one in (report or {}).get("wants_keyframe") or ()})


def _size(count: int | None) -> str:
    if not count:
        return "empty"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
