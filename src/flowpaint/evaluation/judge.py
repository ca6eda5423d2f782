"""Judging one result: every metric looks on while source and result stream past once."""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any

from ..errors import LicenceError, MissingExtraError, WeightsError
from ..moments import Case, Pass
from ..seams import Metric, Tally
from ..types import Measure, Score
from ..weights import nothing_fetched
from .card import Card, gather

Progress = Callable[[str, int, int], None]


def judge(
    case: Case,
    metrics: Mapping[str, Metric],
    *,
    through: Pass,
    label: str,
    needed: Collection[str] = (),
    recipe: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Card:
    """The card of `case` by `metrics`, named as a page calls them.

    A metric whose weights or packages are not here, or may not be used, is missing, with the reason, and nothing is fetched for
    it; one that is `needed` fetches them, and raises `WeightsError`, `LicenceError` or `MissingExtraError` where it cannot.
    """
    tallies, scores = _begun(case, metrics, needed)
    for moment in through(case):
        for tally in tallies.values():
            tally.see(moment)
        if progress is not None:
            progress(f"judge {label}", moment.index + 1, len(case.source))
    scores |= {name: tally.score() for name, tally in tallies.items()}
    found = gather({name: scores[name] for name in metrics})
    height, width = through.size(case)
    begin = case.source.times[0]
    return Card(
        label=label,
        frames=len(case.source),
        width=width,
        height=height,
        measures=measures_of(metrics),
        values=found.values,
        series=found.series,
        missing=found.missing,
        facts={**found.facts, "resize": "area" if (height, width) != (case.source.height, case.source.width) else "none"},
        warnings=found.warnings,
        times=tuple(float(time - begin) for time in case.source.times),
        recipe=recipe or {},
    )


def measures_of(metrics: Mapping[str, Metric]) -> dict[str, Measure]:
    """Everything that `metrics` can give, by name."""
    return {measure.name: measure for metric in metrics.values() for measure in metric.measures}


def _begun(case: Case, metrics: Mapping[str, Metric], needed: Collection[str]) -> tuple[dict[str, Tally], dict[str, Score]]:
    """The tallies of the metrics that can work, and the empty scores of those that cannot."""
    tallies: dict[str, Tally] = {}
    scores: dict[str, Score] = {}
    for name, metric in metrics.items():
        try:
            with nullcontext() if name in needed else nothing_fetched():
                tallies[name] = metric(case)
        except (WeightsError, MissingExtraError, LicenceError) as error:
            if name in needed:
                raise
            scores[name] = Score(missing={one.name: f"not run: {error}" for one in metric.measures})
    return tallies, scores
