"""The report of an evaluation, a comparison or a benchmark: one page that works from disk, and its numbers as JSON and CSV."""

import base64
import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import InputError, WorkError
from ..outputs import make_folder, write_text
from ..types import Measure
from . import plot, tables
from .aggregate import Summary
from .card import Card
from .plot import clock, number

Picture = npt.NDArray[np.uint8]

_EMBEDDED = 2 * 2**20  # bytes of a video up to which it goes into the page
_EMBEDDED_IN_ALL = 8 * 2**20
_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".mkv": "video/x-matroska"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strip:
    """One moment: `picture` uint8 [H, W, 3] shows the source and the results side by side, `caption` says which and when."""

    caption: str
    picture: Picture


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worst:
    """A frame at which `label` did worst in `measure` (a measure's name): `picture` uint8 [H, W, 3] is source | result | error.

    `time` is in seconds, `value` in the measure's unit.
    """

    label: str
    measure: str
    frame: int
    time: float
    value: float
    picture: Picture


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """What a page shows. One card is an evaluation, several are a comparison, summaries are a benchmark (all, then groups).

    `recipes` are by label, `videos` files by label: small ones go into the page, others are linked.
    Raises `InputError` where there is neither a card nor a summary, and for pictures of another kind.
    """

    title: str
    subtitle: str = ""
    cards: tuple[Card, ...] = ()
    strips: tuple[Strip, ...] = ()
    worst: tuple[Worst, ...] = ()
    summaries: tuple[Summary, ...] = ()
    videos: Mapping[str, Path] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.cards and not self.summaries:
            raise InputError("The report has no card and no summary. Give at least one result that was judged.")
        for picture in (*(one.picture for one in self.strips), *(one.picture for one in self.worst)):
            shape, kind = picture.shape, picture.dtype
            if kind != np.uint8 or len(shape) != 3 or shape[-1] != 3 or 0 in shape:
                raise InputError(f"A picture of shape {shape} and type {kind} is none. Give uint8 of shape [H, W, 3].")


def check_name(path: Path) -> None:
    """Raise `InputError` unless `path` is named like a web page."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"The report {str(path)!r} is no web page. Give a name that ends in .html.")


def write_report(path: Path, report: Report, *, overwrite: bool = True) -> tuple[Path, Path, Path]:
    """The files written: the page at `path`, and its numbers as .json and .csv of the same name.

    Raises `InputError` where `path` does not end in .html or one may not be replaced, `WorkError` where one cannot be written.
    """
    check_name(path)
    report = replace(report, cards=tuple(_told_apart(_finite(card) for card in report.cards)))
    files = path, path.with_suffix(".json"), path.with_suffix(".csv")
    writers: tuple[Callable[[], str], ...] = (
        lambda: _page(report, path),
        lambda: json.dumps(_plain(to_dict(report)), indent=1, ensure_ascii=False, allow_nan=False),
        lambda: to_csv(report),
    )
    try:
        make_folder(path.parent)
        for file, text in zip(files, writers, strict=True):
            write_text(file, text(), overwrite=overwrite)
    except OSError as error:
        raise WorkError(f"The report cannot be written to {path}: {error}. Give another place, or make room.") from error
    return files


def read_cards(path: Path) -> tuple[Card, ...]:
    """The cards of the .json beside a report. Raises `InputError` for what is none."""
    try:
        rows = json.loads(path.read_text("utf-8"))["cards"]
        return tuple(Card.from_dict(row) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no report of flowpaint: {error}. Give the .json that `flowpaint evaluate --report` wrote."
        ) from error


def to_dict(report: Report) -> dict[str, Any]:
    """All of a report but its pictures, as values that JSON holds. `Card.from_dict` reads each of "cards"."""
    return {
        "format": "flowpaint report 1",
        "title": report.title,
        "subtitle": report.subtitle,
        "cards": [card.to_dict() for card in report.cards],
        "strips": [one.caption for one in report.strips],
        "worst": [{name: getattr(one, name) for name in ("label", "measure", "frame", "time", "value")} for one in report.worst],
        "summaries": [one.to_dict() for one in report.summaries],
        "videos": {label: str(file) for label, file in report.videos.items()},
        "recipes": dict(report.recipes),
        "command": report.command,
        "versions": dict(report.versions),
        "notes": list(report.notes),
    }


def to_csv(report: Report) -> str:
    """All numbers of a report, a row each: first those of whole clips, then those of frames. What is missing has its reason."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("case", "label", "measure", "title", "unit", "better", "frame", "time", "value", "missing"))
    for summary in report.summaries[:1]:  # the groups hold the same numbers
        for case, methods in summary.values.items():
            for method, row in methods.items():
                table.writerows((case, method, *_named(summary.measures, name), "", "", value, "") for name, value in row.items())
    for card in report.cards:
        for name in dict.fromkeys((*card.measures, *card.values, *card.missing)):
            value, reason = card.values.get(name, ""), card.missing.get(name, "")
            table.writerow(("", card.label, *_named(card.measures, name), "", "", value, reason))
    for card in report.cards:
        for name, curve in card.series.items():
            for frame, level in curve.items():
                time = card.times[frame] if frame < len(card.times) else ""
                table.writerow(("", card.label, *_named(card.measures, name), frame, time, level, ""))
    return text.getvalue()


def _named(measures: Mapping[str, Measure], name: str) -> tuple[str, str, str, str]:
    one = measures.get(name)
    better = {True: "higher", False: "lower", None: ""}
    return (name, one.title, one.unit, better[one.higher_is_better]) if one else (name, "", "", "")


def _finite(card: Card) -> Card:
    """The card without numbers that are none: a reason stands in their place."""
    broken = {name: f"the answer is {value}" for name, value in card.values.items() if not math.isfinite(value)}
    return replace(
        card,
        values={name: float(value) for name, value in card.values.items() if name not in broken},
        series={name: {i: float(v) for i, v in row.items() if math.isfinite(v)} for name, row in card.series.items()},
        missing={**card.missing, **broken},
        times=card.times if all(map(math.isfinite, card.times)) else (),
    )


def _told_apart(cards: Iterable[Card]) -> Iterator[Card]:
    """The cards, numbered where they would have the same label."""
    seen: dict[str, int] = {}
    for card in cards:
        seen[card.label] = seen.get(card.label, 0) + 1
        yield card if seen[card.label] == 1 else replace(card, label=f"{card.label} ({seen[card.label]})")


def _plain(value: Any) -> Any:
    """`value` as JSON holds it: what is not finite is null, paths and other things are their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


# ----------------------------------------------------------------------------------------------------------------- page

_STYLE = """
:root{color-scheme:light dark;--paper:#fdfcfa;--panel:#f4f2ee;--mark:#0b63b0;--warn:#9a5b00;--warned:#fdf3df}
@media (prefers-color-scheme:dark){:root{--paper:#171614;--panel:#211f1d;--mark:#6cb2ff;--warn:#e3b341;--warned:#2c2413}}
@media print{:root{color-scheme:light;--paper:#fff;--panel:#f6f5f2;--mark:#0b63b0;--warn:#9a5b00;--warned:#fdf3df}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:40px 24px 64px;max-width:1120px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
h1{font-size:30px;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0;overflow-wrap:anywhere;text-wrap:balance}
h2{font-size:20px;line-height:1.3;font-weight:650;letter-spacing:-.005em;margin:56px 0 14px}
h3{font-size:15px;font-weight:650;margin:28px 0 6px}
p{margin:0 0 10px;max-width:75ch}.lead{font-size:17px;color:var(--soft);margin:6px 0 0}.soft,small{color:var(--soft)}
small{font-size:13px;line-height:1.4}p>small{display:block;margin-top:8px}a{color:var(--mark)}
.facts{display:flex;flex-wrap:wrap;gap:2px 22px;margin:14px 0 0;padding:0;list-style:none;font-size:14px;color:var(--soft)}
.warn{margin:26px 0 0;padding:14px 18px;border-left:4px solid var(--warn);background:var(--warned);border-radius:0 6px 6px 0}
.warn h2{font-size:15px;margin:0 0 4px;color:var(--warn)}.warn ul,.plain{margin:0;padding-left:18px}.plain li{margin:4px 0}
figure{margin:0;min-width:0;break-inside:avoid}figcaption{font-size:14px;line-height:1.4;color:var(--soft);margin:7px 0 0}
img,video{display:block;width:100%;height:auto;border-radius:4px;background:var(--panel)}
.stack{display:grid;gap:22px}.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:30px 36px}
.grid.one{grid-template-columns:minmax(0,720px)}.few{grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr))}
.large{position:absolute;opacity:0;pointer-events:none}.grid label{display:block;cursor:zoom-in}
.grid figure:has(.large:checked){grid-column:1/-1}.grid figure:has(.large:checked) label{cursor:zoom-out}
.large:focus-visible+img,summary:focus-visible,.wide:focus-visible{outline:2px solid var(--mark);outline-offset:3px}
.curve figcaption{margin:0 0 8px;color:var(--ink);font-weight:600}.curve figcaption small{font-weight:400}
.wide{overflow-x:auto;position:relative}
table{border-collapse:collapse;width:100%;font-size:15px;line-height:1.35}
th,td{padding:9px 0 9px 22px;text-align:right;vertical-align:top;border-bottom:1px solid var(--rule)}
td{font-variant-numeric:tabular-nums;white-space:nowrap}th{font-weight:400}
th:first-child{text-align:left;padding-left:0;min-width:150px}td.text{text-align:left;white-space:normal;overflow-wrap:anywhere}
thead th{vertical-align:bottom;font-weight:600;border-bottom:1.5px solid var(--soft);overflow-wrap:anywhere;min-width:76px}
th small{display:block;margin-top:1px}.single{max-width:760px}
.cards thead th:first-child{width:44%}.cards tbody td{font-size:16px}
.key{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:7px}
.best{font-weight:700;color:var(--mark)}.best::before{content:"";display:inline-block;width:6px;height:6px;border-radius:50%;
background:var(--mark);margin:0 7px 2px 0}.best,.best::before{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.none{color:var(--soft)}.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
details{border-bottom:1px solid var(--rule);padding:11px 0}summary{cursor:pointer;font-weight:600}details>div{margin:12px 0 4px}
pre,code{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{margin:0;padding:12px 14px;background:var(--panel);border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere}
footer{margin-top:44px;font-size:14px;color:var(--soft)}
@media (max-width:560px){body{padding:24px 16px 48px}h1{font-size:25px}h2{margin-top:42px}table{font-size:14px}
th,td{padding:8px 0 8px 10px}th:first-child{min-width:96px}
thead .key{display:block;margin:0 0 4px auto}.cards tbody td{font-size:14px}thead th{min-width:58px}
.cards th small,.best::before{display:none}.cards th:first-child{position:sticky;left:0;background:var(--paper)}
.strip img,.large:checked+img{width:auto;max-width:none;height:136px}.grid label{overflow-x:auto}}
@media print{body{padding:0;font-size:12px}.wide{overflow:visible}tr{break-inside:avoid}
details::details-content{content-visibility:visible;display:block}}
"""

# Nothing is fetched, whatever a label or a note may hold.
_POLICY = "default-src 'none'; img-src data:; media-src data: file: 'self'; style-src 'unsafe-inline'"


def _page(report: Report, path: Path) -> str:
    cards = report.cards
    lines = tables.warnings(cards)
    warned = f'<aside class="warn" role="note"><h2>Read with care</h2>{tables.listed(lines)}</aside>' if lines else ""
    parts = [
        f"<header><h1>{escape(report.title)}</h1>{_lead(report)}{_about(cards)}</header>{warned}",
        _strips(report),
        _videos(report, path),
        "".join(
            _section(f"Benchmark: {one.name}" if len(report.summaries) > 1 else "Benchmark", tables.summary_section(one))
            for one in report.summaries
        ),
        _section("Measures", tables.card_table(cards)) if cards else "",
        _missing(cards),
        _section("Over time", tables.curves(cards)),
        _worst(report),
        _section("How it was made", _details(report)),
        _footer(report, path),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{plot.STYLE}{_STYLE}</style></head>\n"
        f"<body>{chr(10).join(part for part in parts if part)}</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _lead(report: Report) -> str:
    return f'<p class="lead">{escape(report.subtitle)}</p>' if report.subtitle else ""


def _about(cards: tuple[Card, ...]) -> str:
    """Length and size, once where all cards agree."""
    told = {}
    for card in cards:
        length = f", {clock(card.times[-1])}" if len(card.times) > 1 else ""
        told[card.label] = f"{card.frames} frame{'s' * (card.frames != 1)}{length}, judged at {card.width}×{card.height}"
    if not told:
        return ""
    same = len(set(told.values())) == 1
    lines = [next(iter(told.values()))] if same else [f"{escape(label)}: {text}" for label, text in told.items()]
    marks = [tables.key(place, card.label) for place, card in enumerate(cards)] if same and len(cards) > 1 else []
    return f'<ul class="facts">{"".join(f"<li>{one}</li>" for one in (*lines, *marks))}</ul>'


def _strips(report: Report) -> str:
    figures = [
        f'<figure class="strip"><div class="wide" tabindex="0" role="region" aria-label="{escape(one.caption)}">'
        f"{_image(one.picture, one.caption)}</div><figcaption>{escape(one.caption)}</figcaption></figure>"
        for one in report.strips
    ]
    return _section("Pictures", f'<div class="stack">{"".join(figures)}</div>' if figures else "")


def _measures(report: Report) -> dict[str, Measure]:
    known = tables.measures_of(report.cards)
    for summary in report.summaries:
        known = {**summary.measures, **known}
    return known


def _worst(report: Report) -> str:
    known = _measures(report)
    figures = []
    for one in report.worst:
        measure = known.get(one.measure)
        title, unit, digits = (measure.title, measure.unit, measure.digits) if measure else (one.measure, "", 3)
        value = f"{number(one.value, digits)} {unit}".strip()
        words = f"{one.label}: {title} {value} at {clock(one.time)}, frame {one.frame}"
        figures.append(
            f'<figure><label><input class="large" type="checkbox" aria-label="Enlarge {escape(words)}">'
            f"{_image(one.picture, f'Source, result and error. {words}')}</label>"
            f"<figcaption>{escape(words)}</figcaption></figure>"
        )
    lead = '<p class="soft">Each picture shows source, result and error. Choose one to enlarge it.</p>'
    return _section("Worst moments", f'{lead}<div class="grid">{"".join(figures)}</div>' if figures else "")


def _missing(cards: tuple[Card, ...]) -> str:
    lines = tables.not_run(cards)
    return f"<section><h3>Not run</h3>{tables.listed(lines)}</section>" if lines else ""


def _details(report: Report) -> str:
    parts = [tables.fold("Notes", tables.listed(map(escape, report.notes)), opened=True)]
    parts.append(tables.fold("What the numbers rest on", tables.facts_table(report.cards)))
    parts.append(tables.fold("Where the measures come from", tables.sources(_measures(report).values())))
    recipes = {**{card.label: card.recipe for card in report.cards if card.recipe}, **report.recipes}
    for label, recipe in recipes.items():
        text = json.dumps(_plain(recipe), indent=2, ensure_ascii=False)
        parts.append(tables.fold(f"Recipe of {label}", f"<pre>{escape(text)}</pre>"))
    parts.append(tables.fold("Command", f"<pre>{escape(report.command)}</pre>" if report.command else ""))
    versions = "\n".join(f"{name} {one}" for name, one in report.versions.items())
    parts.append(tables.fold("Versions", f"<pre>{escape(versions)}</pre>" if versions else ""))
    return "".join(parts)


def _footer(report: Report, path: Path) -> str:
    links = [
        f'<a href="{quote(path.with_suffix(end).name)}">{escape(path.with_suffix(end).name)}</a>' for end in (".json", ".csv")
    ]
    made = f"Made by flowpaint {escape(report.versions.get('flowpaint', ''))}".strip()
    return f"<footer>{made}. The same numbers: {links[0]}, {links[1]}.</footer>"


def _videos(report: Report, path: Path) -> str:
    """The videos: those that are small in the page itself, the others by a link from the page's folder."""
    room = _EMBEDDED_IN_ALL
    figures = []
    for label, file in report.videos.items():
        size = file.stat().st_size if file.is_file() else None
        kind = _TYPES.get(file.suffix.lower(), "")
        link = quote(Path(os.path.relpath(file.resolve(), path.parent.resolve())).as_posix())
        words = f"{escape(label)}: {escape(file.name)}"
        if size is None:
            figures.append(f"<figure><figcaption>{words} is no longer there.</figcaption></figure>")
            continue
        if kind and size <= min(_EMBEDDED, room):
            room -= size
            at = f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
        else:
            at = link
        shown = f'<video controls loop muted playsinline preload="metadata" src="{at}" aria-label="{escape(label)}"></video>'
        figures.append(f'<figure>{shown if kind else ""}<figcaption><a href="{link}">{words}</a></figcaption></figure>')
    return _section("Videos", f'<div class="grid few">{"".join(figures)}</div>' if figures else "")


def _image(picture: Picture, words: str) -> str:
    """An <img> of the picture [H, W, 3] itself: JPEG, or PNG where that is smaller."""
    coded = []
    for kind, options in (("jpeg", {"quality": 88, "subsampling": 0}), ("png", {})):
        data = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(data, kind, **options)
        coded.append((len(data.getvalue()), kind, data.getvalue()))
    _, kind, content = min(coded)
    height, width = picture.shape[:2]
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<img src="{uri}" width="{width}" height="{height}" alt="{escape(words)}">'
