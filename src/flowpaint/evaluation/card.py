"""What was found about one result: numbers, curves, what is missing and why. All of it fits into JSON."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InputError
from ..types import Measure, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The judgement of one result.

    `label` is what tells it from others on a page (a method's name); `values`, `series`, `missing`, `facts` and `warnings` are
    as in `Score`, of all metrics together; `times` are the frames' instants in seconds; `recipe` is how the result was made.
    """

    label: str
    frames: int
    width: int  # of the pictures that were judged
    height: int
    measures: Mapping[str, Measure]
    values: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The card as values that JSON holds: numbers of frames become texts there."""
        return {**asdict(self), "series": {name: {str(k): v for k, v in row.items()} for name, row in self.series.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Card":
        """The card that `to_dict` described. Raises `InputError` for what is none."""
        try:
            plain = dict(values)
            plain["measures"] = {name: Measure(**one) for name, one in plain["measures"].items()}
            plain["series"] = {name: {int(k): float(v) for k, v in row.items()} for name, row in plain["series"].items()}
            for name in ("warnings", "times"):
                plain[name] = tuple(plain[name])
            return cls(**plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"This is no card of flowpaint: {error!r}. Give the .json that `flowpaint evaluate` wrote."
            ) from error


def gather(scores: Mapping[str, Score]) -> Score:
    """The scores of several metrics (by the metrics' names) as one. Values and curves that are not finite become missing."""
    values: dict[str, float] = {}
    series: dict[str, dict[int, float]] = {}
    missing: dict[str, str] = {}
    facts: dict[str, str | int | float] = {}
    warnings: list[str] = []
    for metric, score in scores.items():
        for name, value in score.values.items():
            if math.isfinite(value):
                values[name] = value
            else:
                missing[name] = f"the answer is {value}"
        for name, row in score.series.items():
            series[name] = {index: value for index, value in row.items() if math.isfinite(value)}
        missing.update(score.missing)
        facts.update({f"{metric}.{name}": value for name, value in score.facts.items()})
        warnings += [one for one in score.warnings if one not in warnings]
    return Score(values=values, series=series, missing=missing, facts=facts, warnings=tuple(warnings))
