"""Cards and summaries as pieces of a web page: tables, lists, plots. Every text that came from outside is escaped."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape

from ..types import Measure
from . import plot
from .aggregate import Average, Pair, Summary
from .card import Card
from .plot import number

# What people look at first, by what the measures' names hold. The others follow in the cards' order.
_FIRST = ("warp", "we_", "flicker", "drift", "sharp", "clip", "agreement", "pixel_mse", "lpips", "psnr", "ssim")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "", name: str) -> str:
    """A <table> of cells that are markup already: the first of each row is its header. `name` is read to those who cannot see.

    A cell that begins with "<td" brings its own tag.
    """
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in rest)}</tr>'
        for first, *rest in rows
    )
    box = f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">'
    shape = f' class="{kind}"' if kind else ""
    return f"{box}<table{shape}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def fold(title: str, body: str, *, opened: bool = False) -> str:
    """A part of the page that can be opened, or nothing where there is nothing in it."""
    return f"<details{' open' * opened}><summary>{escape(title)}</summary><div>{body}</div></details>" if body else ""


def listed(lines: Iterable[str]) -> str:
    """Lines of markup as a list, or nothing where there is none."""
    rows = "".join(f"<li>{line}</li>" for line in lines)
    return f'<ul class="plain">{rows}</ul>' if rows else ""


def key(place: int, label: str) -> str:
    """A label with the dot of its colour in the plots."""
    return f'<span class="key" style="background:{plot.colour(place)}"></span>{escape(label)}'


def titled(measure: Measure, *, source: bool = True) -> str:
    """What a measure is called, its unit, which way is better, and where it comes from."""
    way = {True: ("↑", "higher is better"), False: ("↓", "lower is better"), None: ("", "")}[measure.higher_is_better]
    arrow = f' <span title="{way[1]}" aria-hidden="true">{way[0]}</span><span class="hidden">, {way[1]}</span>' if way[0] else ""
    unit = f' <span class="soft">{escape(measure.unit)}</span>' if measure.unit else ""
    origin = f"<small>{escape(measure.source)}</small>" if source and measure.source else ""
    return f"{escape(measure.title)}{unit}{arrow}{origin}"


def measures_of(cards: Sequence[Card]) -> dict[str, Measure]:
    """All measures of `cards`, by name, in the order in which they are met."""
    found: dict[str, Measure] = {}
    for card in cards:
        found = {**found, **{name: one for name, one in card.measures.items() if name not in found}}
    return found


def by_rank(names: Iterable[str]) -> list[str]:
    """Measures' names, those that people look at first in front."""
    return sorted(names, key=lambda name: next((at for at, part in enumerate(_FIRST) if part in name), len(_FIRST)))


# ---------------------------------------------------------------------------------------------------------------- cards


def card_table(cards: Sequence[Card]) -> str:
    """A row for each measure that any card has a number for, a column for each card; the best is marked where it differs."""
    known = measures_of(cards)
    rows = [
        [titled(one), *_cells([card.values.get(name) for card in cards], one)]
        for name, one in known.items()
        if any(name in card.values for card in cards)
    ]
    if not rows:
        return '<p class="soft">No measure has a number.</p>'
    marks = [key(place, card.label) if len(cards) > 1 else escape(card.label) for place, card in enumerate(cards)]
    words = ["↑ higher is better, ↓ lower is better, no arrow: neither."]
    if len(cards) > 1:
        words.append('<span class="best">marked</span> is the best of a row, as far as the digits shown tell.')
    if any(name not in card.values for name in known for card in cards):
        words.append("– means no number; the reasons are below.")
    return f"{table(('Measure', *marks), rows, kind='cards', name='Measures')}<p><small>{' '.join(words)}</small></p>"


def _cells(values: Sequence[float | None], measure: Measure) -> list[str]:
    shown = [None if value is None else number(value, measure.digits) for value in values]
    top = best(values, measure)
    return [
        '<td class="none">–<span class="hidden"> no number</span></td>'
        if text is None
        else f'<td><span class="best">{text}</span><span class="hidden"> best</span></td>'
        if place in top
        else f"<td>{text}</td>"
        for place, text in enumerate(shown)
    ]


def best(values: Sequence[float | None], measure: Measure) -> set[int]:
    """The places of the best of `values`: those that read the same share it, and it is nobody's where all read the same."""
    found = {place: value for place, value in enumerate(values) if value is not None}
    texts = {place: number(value, measure.digits) for place, value in found.items()}
    if measure.higher_is_better is None or len(set(texts.values())) < 2:
        return set()
    choose = max if measure.higher_is_better else min
    top = choose(found, key=lambda place: found[place])
    return {place for place, text in texts.items() if text == texts[top]}


def not_run(cards: Sequence[Card]) -> list[str]:
    """Why which measure has no number, a line for each reason: the measures, the cards where they are not all, the reason."""
    known = measures_of(cards)
    reasons: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in dict.fromkeys(name for card in cards for name in (*card.measures, *card.missing)):
        why: dict[str, list[str]] = {}
        for card in cards:
            if name not in card.values:
                why.setdefault(card.missing.get(name, "no reason was given"), []).append(card.label)
        for reason, labels in why.items():
            title = known[name].title if name in known else name
            reasons.setdefault((reason, tuple(labels)), []).append(title)
    return [
        f"<b>{escape(', '.join(titles))}</b>"
        f"{'' if len(labels) == len(cards) else ' (' + escape(', '.join(labels)) + ')'}: {escape(reason)}"
        for (reason, labels), titles in reasons.items()
    ]


def warnings(cards: Sequence[Card]) -> list[str]:
    """The cards' warnings, each once, with the labels where not all cards have it."""
    found: dict[str, list[str]] = {}
    for card in cards:
        for line in card.warnings:
            found.setdefault(line, []).append(card.label)
    return [
        escape(line) if len(labels) == len(cards) else f"<b>{escape(', '.join(labels))}:</b> {escape(line)}"
        for line, labels in found.items()
    ]


def facts_table(cards: Sequence[Card]) -> str:
    """What the numbers cannot be read without: a row each, one cell where all cards agree."""
    names = dict.fromkeys(name for card in cards for name in card.facts)
    rows = []
    for name in names:
        told = ["–" if name not in card.facts else _fact(card.facts[name]) for card in cards]
        cells = [f'<td class="text" colspan="{len(cards)}">{told[0]}</td>'] if len(set(told)) == 1 else told
        rows.append([escape(name), *(one if one.startswith("<td") else f'<td class="text">{one}</td>' for one in cells)])
    return table(("Fact", *(escape(card.label) for card in cards)), rows, kind="told", name="Facts") if rows else ""


def _fact(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "not known"
    return escape(str(value))


def sources(measures: Iterable[Measure]) -> str:
    """Each measure's paper, equation or library, as a list."""
    return listed(f"{escape(one.title)}: {escape(one.source)}" for one in measures if one.source)


def curves(cards: Sequence[Card]) -> str:
    """A figure for each measure with a series, the important ones first."""
    known = measures_of(cards)
    figures = []
    for name in by_rank(dict.fromkeys(name for card in cards for name in card.series)):
        one = known.get(name) or Measure(name=name, title=name, unit="", higher_is_better=None, source="")
        lines = [plot.Curve(label=card.label, values=card.series.get(name, {}), times=_times(card)) for card in cards]
        drawn = plot.line_plot(lines, title=one.title, unit=one.unit, digits=one.digits)
        if drawn:
            head = titled(_bare(one), source=False)
            figures.append(f'<figure class="curve"><figcaption>{head}</figcaption>{drawn}</figure>')
    return f'<div class="grid{" one" * (len(figures) == 1)}">{"".join(figures)}</div>' if figures else ""


def _bare(measure: Measure) -> Measure:
    """The measure without its unit, for a figure whose axis names it."""
    return replace(measure, unit="")


def _times(card: Card) -> Mapping[int, float] | None:
    return dict(enumerate(card.times)) if card.times else None


# ------------------------------------------------------------------------------------------------------------ summaries


def summary_section(summary: Summary) -> str:
    """A benchmark: means with intervals as a table and as plots, then pairs and every case, folded."""
    cases, methods = len(summary.cases), summary.methods
    shown = [name for name in summary.measures if any(one.mean is not None for one in summary.of(name))]
    rows = [[titled(summary.measures[name]), *_average_cells(summary, name)] for name in shown]
    marks = [key(place, one) for place, one in enumerate(methods)]
    note = (
        f"Means over {cases} case{'s' * (cases != 1)}; below them the 95 % interval of the mean (bootstrap over cases, "
        "from 6 cases on), the median, and how often the method was best (ties shared). "
        "No mean is marked as best where methods lack different cases."
    )
    parts = [table(("Measure", *marks), rows, kind="cards", name=f"Averages, {summary.name}"), f"<p><small>{note}</small></p>"]
    parts.append(f'<div class="grid">{"".join(_interval_figure(summary, name) for name in by_rank(shown))}</div>')
    parts.append(fold("Two methods at a time", _pair_table(summary)))
    parts.append(fold(f"Every case ({cases})", _case_table(summary, shown)))
    gone = [one for one in summary.averages if one.lacking]
    lines = [
        f"<b>{escape(summary.measures[one.measure].title)}</b> ({escape(one.method)}): none in {one.lacking} of {cases}, "
        f"most often because: {escape(one.reason)}"
        for one in gone
    ]
    parts.append(fold("Cases without a number", listed(lines)))
    return "".join(parts)


def _average_cells(summary: Summary, name: str) -> list[str]:
    measure = summary.measures[name]
    found = {one.method: one for one in summary.averages if one.measure == name}
    fair = len({one.cases for one in found.values() if one.cases}) == 1  # means over unlike cases are not ranked
    top = best([found[method].mean for method in summary.methods], measure) if fair else set()
    return [_average_cell(found[method], measure, place in top) for place, method in enumerate(summary.methods)]


def _average_cell(one: Average, measure: Measure, top: bool) -> str:
    if one.mean is None or one.median is None:
        return '<td class="none">–<span class="hidden"> no number</span></td>'
    text = number(one.mean, measure.digits)
    lines = [f'<span class="best">{text}</span><span class="hidden"> best</span>' if top else text]
    if one.low is not None and one.high is not None:
        lines.append(f"<small>{number(one.low, measure.digits)} to {number(one.high, measure.digits)}</small>")
    more = [f"median {number(one.median, measure.digits)}"]
    if one.wins is not None and one.contests:
        more.append(f"best in {one.wins:g} of {one.contests}")
    if one.lacking:
        more.append(f"{one.cases} of {one.cases + one.lacking} cases")
    return f"<td>{'<br>'.join(lines + [f'<small>{text}</small>' for text in more])}</td>"


def _interval_figure(summary: Summary, name: str) -> str:
    measure = summary.measures[name]
    bars = [
        plot.Bar(
            label=one.method,
            mean=one.mean,
            low=one.low,
            high=one.high,
            points=tuple(row[one.method][name] for row in summary.values.values() if name in row.get(one.method, {})),
            place=summary.methods.index(one.method),
        )
        for one in summary.of(name)
        if one.mean is not None
    ]
    drawn = plot.interval_plot(bars, title=measure.title, unit=measure.unit, digits=measure.digits)
    head = titled(_bare(measure), source=False)
    return f'<figure class="curve"><figcaption>{head}</figcaption>{drawn}</figure>'


def _pair_table(summary: Summary) -> str:
    rows = [_pair_row(one, summary.measures[one.measure]) for one in summary.pairs if one.cases]
    if not rows:
        return ""
    head = ("Measure", "First", "Second", "First − second", "95 % interval", "p", "Cases", "Left out")
    note = (
        f"Over the cases that both have a number for. p: two-sided sign-flip test, each row by itself: of {len(rows)} rows "
        f"about {max(1, round(len(rows) / 20))} would fall below 0.05 by chance alone."
    )
    return f"{table(head, rows, name=f'Pairs, {summary.name}')}<p><small>{note}</small></p>"


def _pair_row(one: Pair, measure: Measure) -> list[str]:
    spread = "–"
    if one.low is not None and one.high is not None:
        spread = f"{number(one.low, measure.digits)} to {number(one.high, measure.digits)}"
    chance = "–" if one.p is None else "&lt; 0.001" if one.p < 0.001 else f"{one.p:.3f}"
    difference = "–" if one.difference is None else number(one.difference, measure.digits)
    counts = [str(one.cases), str(one.left_out)]
    return [titled(measure, source=False), escape(one.first), escape(one.second), difference, spread, chance, *counts]


def _case_table(summary: Summary, shown: Sequence[str]) -> str:
    rows = [
        [
            f"{escape(case)}<small>{escape(method)}</small>",
            *("–" if name not in row else number(row[name], summary.measures[name].digits) for name in shown),
        ]
        for case, methods in summary.values.items()
        for method, row in methods.items()
    ]
    head = ("Case", *(titled(summary.measures[name], source=False) for name in shown))
    return table(head, rows, name=f"Every case, {summary.name}")
