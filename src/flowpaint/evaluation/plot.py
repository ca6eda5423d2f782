"""Plots as SVG text: curves over time, and means with their intervals. Colours are CSS variables, so one plot suits both schemes.

A page that shows them puts `STYLE` into its style sheet. Without it they are drawn in the light scheme's colours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

# Dark enough on white, light enough on near-black (3:1 and more), told apart by people with any kind of colour vision in
# the order given, and by their dashes on paper.
_LIGHT = ("#0b63b0", "#c2410c", "#047857", "#a21caf", "#8a6100", "#475569")
_DARK = ("#6cb2ff", "#ff9a62", "#3ecf9a", "#e58cf0", "#e3b341", "#a8b3c4")
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 3", "4 2 1 2")
_DASHED = "".join(f"svg.plot .d{place}{{stroke-dasharray:{dashes}}}" for place, dashes in enumerate(_DASHES) if dashes)
_CHROME = {"ink": ("#1c1b19", "#e9e6e1"), "soft": ("#615d57", "#a9a49c"), "rule": ("#d9d5ce", "#3b3936")}


def _scheme(which: int) -> str:
    chrome = [f"--{name}:{pair[which]}" for name, pair in _CHROME.items()]
    curves = [f"--c{place}:{colour}" for place, colour in enumerate((_LIGHT, _DARK)[which])]
    return ";".join(chrome + curves)


STYLE = f""":root{{{_scheme(0)}}}
@media (prefers-color-scheme:dark){{:root{{{_scheme(1)}}}}}
@media print{{:root{{{_scheme(0)}}}}}
svg.plot{{display:block;width:100%;height:auto;overflow:visible}}
svg.plot text{{font:12px system-ui,sans-serif;fill:var(--soft);font-variant-numeric:tabular-nums}}
svg.plot text.name{{fill:var(--ink)}}
@media (max-width:560px){{svg.plot text{{font-size:14.5px}}}}
@media print{{{_DASHED}}}
"""

_WIDTH, _HEIGHT = 500.0, 220.0
_LETTER = 7.6  # pixels a letter takes at most, at the size of a phone
_BINS = 400  # a longer curve is drawn by the lowest and highest value of each stretch: no peak is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line: `values` by frame, and when each frame is shown in seconds, `times` by frame, where that is known."""

    label: str
    values: Mapping[int, float]
    times: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row of an interval plot: `mean` with `low` and `high` where there is an interval, `points` the single cases."""

    label: str
    mean: float
    low: float | None = None
    high: float | None = None
    points: tuple[float, ...] = ()
    place: int = 0  # in the order of colours


def number(value: float, digits: int = 3) -> str:
    """`value` as people read it: `digits` after the point, more for what is near zero, powers of ten for what is nearer."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-5:
        mantissa, _, power = f"{value:.2e}".partition("e")
        text = f"{mantissa}·10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    elif size >= 1e4:
        text = f"{value:,.0f}".replace(",", " ")
    else:
        shown = max(digits, 1 - math.floor(math.log10(size))) if 0 < size < 10 ** (1 - digits) else digits
        text = f"{value:.{shown}f}"
    return text.replace("-", "−")


def clock(seconds: float) -> str:
    """A time as `0:05.25`, or `1:02:03.00` from an hour on."""
    minutes, rest = divmod(round(seconds, 2), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:05.2f}" if hours else f"{minutes}:{rest:05.2f}"


def colour(place: int) -> str:
    """The CSS colour of curve or row number `place`."""
    at = place % len(_LIGHT)
    return f"var(--c{at},{_LIGHT[at]})"


# ------------------------------------------------------------------------------------------------------------ line plot


def line_plot(curves: Sequence[Curve], *, title: str, unit: str = "", digits: int = 3) -> str:
    """An <svg> of `curves` over frames, or over seconds where all curves have times. Frames without a value leave a gap.

    Values that are not finite are not drawn. "" where nothing is left to draw.
    """
    finite = [(place, one, {i: v for i, v in sorted(one.values.items()) if math.isfinite(v)}) for place, one in enumerate(curves)]
    drawn = [row for row in finite if row[2]]
    if not drawn:
        return ""
    timed = all(one.times is not None and row.keys() <= one.times.keys() for _, one, row in drawn)
    across = [[(one.times or {})[i] if timed else float(i) for i in row] for _, one, row in drawn]
    y = _Scale.of([v for _, _, row in drawn for v in row.values()], digits)
    x = _Scale.over_time([v for row in across for v in row], timed)
    key, top = _legend([(place, one.label) for place, one, _ in drawn]) if len(curves) > 1 else ("", 0.0)
    top += 24 if unit else 10
    left = 10 + _LETTER * max(len(text) for _, text in y.ticks)
    frame = _Frame(left=left, right=_WIDTH - 14, top=top, bottom=top + _HEIGHT - 48, x=x, y=y)
    lines = []
    for (place, one, row), row_x in zip(drawn, across, strict=True):
        path = " ".join(_path(frame, stretch) for stretch in _stretches(list(row), row_x, list(row.values())))
        lines.append(
            f'<path d="{path}" fill="none" stroke="{colour(place)}" stroke-width="1.8" stroke-linejoin="round" '
            f'stroke-linecap="round"{_dash(place)}><title>{escape(one.label)}</title></path>'
        )
    counted = "frame" if not timed else "" if ":" in x.ticks[-1][1] else "seconds"
    axes = frame.axes(unit, counted)
    words = f"{title} over time: " + "; ".join(_words(one, row, digits) for _, one, row in drawn)
    return _svg(words, top + _HEIGHT - 22, key + axes + "".join(lines))


def _words(curve: Curve, row: Mapping[int, float], digits: int) -> str:
    low, high = min(row.values()), max(row.values())
    return f"{curve.label} from {number(low, digits)} to {number(high, digits)}"


def _stretches(frames: list[int], xs: list[float], ys: list[float]) -> list[list[tuple[float, float]]]:
    """The points in runs without a gap: a step of more than 1.5 times the usual one is a gap."""
    steps = sorted(b - a for a, b in pairwise(frames))
    usual = steps[len(steps) // 2] if steps else 1
    found = [[(xs[0], ys[0])]]
    for place in range(1, len(frames)):
        if frames[place] - frames[place - 1] > 1.5 * usual:
            found.append([])
        found[-1].append((xs[place], ys[place]))
    width = -(-len(frames) // _BINS)
    return [_thinned(one, width) for one in found]


def _thinned(points: list[tuple[float, float]], width: int) -> list[tuple[float, float]]:
    """The lowest and highest point of every 2 * `width` points, in their order."""
    if width < 2:
        return points
    kept = []
    for start in range(0, len(points), 2 * width):
        part = points[start : start + 2 * width]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def _path(frame: "_Frame", points: list[tuple[float, float]]) -> str:
    placed = [f"{frame.across(x):.1f} {frame.down(y):.1f}" for x, y in points]
    return f"M{placed[0]}" + ("".join(f"L{one}" for one in placed[1:]) or "h0")  # a line of no length is a dot


def _dash(place: int) -> str:
    """Dashes on paper, and on the screen too where the colours are used a second time."""
    which = (place // len(_LIGHT) + place) % len(_DASHES)
    again = f' stroke-dasharray="{_DASHES[which]}"' if place >= len(_LIGHT) and _DASHES[which] else ""
    return f' class="d{which}"{again}'


def _legend(rows: list[tuple[int, str]]) -> tuple[str, float]:
    """The labels with a piece of their lines, and how tall they stand."""
    parts, x, y = [], 0.0, 10.0
    for place, label in rows:
        shown = label if len(label) <= 40 else f"{label[:38]}…"
        wide = 30 + _LETTER * len(shown) + 14
        if x and x + wide > _WIDTH:
            x, y = 0.0, y + 19
        parts.append(
            f'<line x1="{x:.0f}" x2="{x + 24:.0f}" y1="{y:.0f}" y2="{y:.0f}" stroke="{colour(place)}" stroke-width="2.4"'
            f'{_dash(place)}/><text class="name" x="{x + 30:.0f}" y="{y + 4:.0f}">{escape(shown)}</text>'
        )
        x += wide
    return "".join(parts), y + 12


# -------------------------------------------------------------------------------------------------------- interval plot


def interval_plot(bars: Sequence[Bar], *, title: str, unit: str = "", digits: int = 3) -> str:
    """An <svg> with a row for each of `bars`: the mean as a dot, its interval as a line, the cases as faint dots."""
    if not bars:
        return ""
    ends = [v for one in bars for v in (one.mean, one.low, one.high, *one.points) if v is not None and math.isfinite(v)]
    x = _Scale.of(ends or [0.0], digits)
    names = [one.label if len(one.label) <= 22 else f"{one.label[:20]}…" for one in bars]
    left = 12 + _LETTER * max(len(one) for one in names)
    bottom = 26.0 * len(bars) + 4
    frame = _Frame(left=left, right=_WIDTH - 20, top=4, bottom=bottom, x=x, y=_Scale(0, 1, ()))
    parts = []
    for row, (one, name) in enumerate(zip(bars, names, strict=True)):
        y, ink = 26 * row + 17, colour(one.place)
        dots = "".join(
            f'<circle cx="{frame.across(v):.1f}" cy="{y}" r="2.6" opacity="0.28"/>' for v in one.points if math.isfinite(v)
        )
        whisker = ""
        if one.low is not None and one.high is not None:
            whisker = (
                f'<line x1="{frame.across(one.low):.1f}" x2="{frame.across(one.high):.1f}" y1="{y}" y2="{y}" '
                f'stroke="{ink}" stroke-width="2.4" stroke-linecap="round"/>'
            )
        parts.append(
            f'<text class="name" x="0" y="{y + 4}">{escape(name)}<title>{escape(one.label)}</title></text>'
            f'<g fill="{ink}">{dots}{whisker}<circle cx="{frame.across(one.mean):.1f}" cy="{y}" r="5">'
            f"<title>{escape(_told(one, digits))}</title></circle></g>"
        )
    words = f"{title}: " + "; ".join(_told(one, digits) for one in bars)
    return _svg(words, bottom + (34 if unit else 20), frame.uprights(unit) + "".join(parts))


def _told(bar: Bar, digits: int) -> str:
    if bar.low is None or bar.high is None:
        return f"{bar.label} {number(bar.mean, digits)}"
    return f"{bar.label} {number(bar.mean, digits)}, interval {number(bar.low, digits)} to {number(bar.high, digits)}"


# ----------------------------------------------------------------------------------------------------------------- axes


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, values: Sequence[float], digits: int) -> "_Scale":
        """A scale around `values` with round ticks; from zero where that wastes little room."""
        low, high = min(values), max(values)
        if 0 < low < 0.4 * high:
            low = 0.0
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            reach = max(abs(high) * 0.1, 10.0**-digits)
            low, high = low - reach, high + reach
        step = _step((high - low) / 5)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        marks = [place * step for place in range(first, last + 1)]
        plain = decimals <= 5 and max(map(abs, marks)) < 1e6
        texts = [f"{mark:.{decimals}f}".replace("-", "−") if plain else number(mark) for mark in marks]
        texts = ["0" if mark == 0 else text for mark, text in zip(marks, texts, strict=True)]
        return cls(marks[0], marks[-1], tuple(zip(marks, texts, strict=True)))

    @classmethod
    def over_time(cls, values: Sequence[float], timed: bool) -> "_Scale":
        """From the first to the last of `values`, ticks inside; minutes and seconds from two minutes on."""
        low, high = min(values), max(values)
        if high <= low:
            low, high = low - 0.5, high + 0.5
            return cls(low, high, (((low + high) / 2, f"{values[0]:g}"),))
        long = timed and high > 120
        step = _step((high - low) / 5, minutes=long)
        step = step if timed else max(1.0, step)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        marks = [place * step for place in range(first, last + 1)]
        return cls(low, high, tuple((mark, clock(mark).partition(".")[0] if long else f"{mark:.6g}") for mark in marks))


def _step(wanted: float, minutes: bool = False) -> float:
    """The round number that is `wanted` or the next above it."""
    if minutes:
        return next((step for step in (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0) if step >= wanted), 3600.0)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wanted * (1 - 1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where the data stand in the picture."""

    left: float
    right: float
    top: float
    bottom: float
    x: _Scale
    y: _Scale

    def across(self, value: float) -> float:
        return self.left + (value - self.x.low) / (self.x.high - self.x.low) * (self.right - self.left)

    def down(self, value: float) -> float:
        return self.bottom - (value - self.y.low) / (self.y.high - self.y.low) * (self.bottom - self.top)

    def axes(self, unit: str, below: str) -> str:
        """Lines across at the ticks of y, ticks below, and what both count."""
        parts = [
            f'<line x1="{self.left:.0f}" x2="{self.right:.0f}" y1="{self.down(v):.1f}" y2="{self.down(v):.1f}" {_RULE}/>'
            f'<text x="{self.left - 7:.0f}" y="{self.down(v) + 4:.1f}" text-anchor="end">{text}</text>'
            for v, text in self.y.ticks
        ]
        for v, text in self.x.ticks:
            room = self.right - _LETTER * (len(below) + len(text) / 2) if below else _WIDTH
            if self.across(v) < room:  # what is counted stands at the end of the row, in the place of the last tick
                parts.append(f'<text x="{self.across(v):.1f}" y="{self.bottom + 18:.0f}" text-anchor="middle">{text}</text>')
        parts.append(f'<text x="{self.right:.0f}" y="{self.bottom + 18:.0f}" text-anchor="end">{below}</text>')
        if unit:
            parts.append(f'<text x="{self.left:.0f}" y="{self.top - 8:.0f}">{escape(unit)}</text>')
        return "".join(parts)

    def uprights(self, unit: str) -> str:
        """Lines down at the ticks of x, with their numbers below."""
        parts = [
            f'<line x1="{self.across(v):.1f}" x2="{self.across(v):.1f}" y1="{self.top:.0f}" y2="{self.bottom:.0f}" {_RULE}/>'
            f'<text x="{self.across(v):.1f}" y="{self.bottom + 16:.0f}" text-anchor="middle">{text}</text>'
            for v, text in self.x.ticks
        ]
        if unit:
            parts.append(f'<text x="{self.right:.0f}" y="{self.bottom + 31:.0f}" text-anchor="end">{escape(unit)}</text>')
        return "".join(parts)


_RULE = f'stroke="var(--rule,{_CHROME["rule"][0]})" stroke-width="1"'


def _svg(words: str, height: float, body: str) -> str:
    size = f'viewBox="0 0 {_WIDTH:.0f} {height:.0f}"'
    return f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(words)}">{body}</svg>'
