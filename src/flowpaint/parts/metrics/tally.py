"""A tally for metrics that give numbers of each frame and their mean."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ...moments import Moment
from ...types import Measure, Score

Look = Callable[[Moment], Mapping[str, float]]
NOTHING = "no frame gave a number"


class FrameTally:
    """Numbers of each frame by `look`, which leaves out what a frame does not tell.

    The value of a measure is the mean over the frames that gave one; `curves` are the measures whose numbers by frame are
    kept, all if None. `reasons` say why a measure may stay without a number.
    """

    def __init__(
        self,
        measures: Sequence[Measure],
        look: Look,
        *,
        reasons: Mapping[str, str] | None = None,
        facts: Mapping[str, str | int | float] | None = None,
        curves: Sequence[str] | None = None,
    ) -> None:
        self._names = [one.name for one in measures]
        self._look, self._reasons, self._facts = look, reasons or {}, facts or {}
        self._curves = self._names if curves is None else curves
        self._series: dict[str, dict[int, float]] = {name: {} for name in self._names}

    def see(self, moment: Moment) -> None:
        """Take in the numbers of the next frame."""
        for name, value in self._look(moment).items():
            if math.isfinite(value):
                self._series[name][moment.index] = value

    def score(self) -> Score:
        """The means, the curves, and what is missing."""
        found = {name: row for name, row in self._series.items() if row}
        return Score(
            values={name: math.fsum(row.values()) / len(row) for name, row in found.items()},
            series={name: row for name, row in found.items() if name in self._curves},
            missing={name: self._reasons.get(name, NOTHING) for name in self._names if name not in found},
            facts=self._facts,
        )


def mean_over(values: Tensor, where: Tensor | None) -> float:
    """The mean of `values` [1, C, h, w] over the pixels where `where` [1, 1, h, w] is 1, NaN where there are none."""
    if where is None:
        return values.mean().item()
    total = where.sum().item() * values.shape[1]
    return (values * where).sum().item() / total if total > 0 else math.nan
