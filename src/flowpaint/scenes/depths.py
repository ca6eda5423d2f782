"""How near each point of a layer is.

*Nearness* in [0, 1] is inverse distance, 1 = near (see `camera`). Calling one of these gives the nearness of points [2, N]; its
`band` bounds it, so that layers can be held apart and the order of layers is the order of depth everywhere.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .camera import Nearness
from .motion import Points, cosine


class Depth(Protocol):
    """The relief of a layer."""

    @property
    def band(self) -> tuple[float, float]:
        """The least and the greatest nearness."""
        ...

    def __call__(self, points: Points, /) -> Nearness:
        """The nearness of `points` [2, N]: [N], or one number that holds for all."""
        ...


@dataclass(frozen=True, kw_only=True)
class Level:
    """The same everywhere."""

    nearness: float

    @property
    def band(self) -> tuple[float, float]:
        return self.nearness, self.nearness

    def __call__(self, _points: Points) -> Nearness:
        return self.nearness


@dataclass(frozen=True, kw_only=True)
class Slope:
    """A slanted plane, nearness + tilt . point, level again where it would leave nearness +- span."""

    nearness: float
    tilt: tuple[float, float]
    span: float

    @property
    def band(self) -> tuple[float, float]:
        return self.nearness - self.span, self.nearness + self.span

    def __call__(self, points: Points) -> Nearness:
        lean: npt.NDArray[np.float64] = np.clip(self.tilt[0] * points[0] + self.tilt[1] * points[1], -self.span, self.span)
        return self.nearness + lean


@dataclass(frozen=True, kw_only=True)
class Relief:
    """Smooth hills: nearness + span * mean of cos(2 pi (frequency . point + phase)) over `hills` (fx, fy, phase in turns)."""

    nearness: float
    span: float
    hills: tuple[tuple[float, float, float], ...]

    @property
    def band(self) -> tuple[float, float]:
        return self.nearness - self.span, self.nearness + self.span

    def __call__(self, points: Points) -> Nearness:
        hills = [cosine(fx * points[0] + fy * points[1] + phase) for fx, fy, phase in self.hills]
        return self.nearness + self.span / len(hills) * sum(hills[1:], hills[0])
