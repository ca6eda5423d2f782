"""How things move: numbers over time, affine motion, smooth non-rigid displacement.

Time counts frames. Lengths are in *scene units*: the short side of the picture is 1, whatever its size in pixels, so a speed
of 40 pixels a frame at 512 pixels is 40 / 512.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError

Points: TypeAlias = npt.NDArray[np.float64]  # [2, N]: x to the right, y down

STEEPEST = 0.5  # of a ripple: below 1 it has an inverse, and at 0.5 the iteration halves its error at each step


def cosine(turns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """cos(2 pi turns), the same shape."""
    # torch vectorises the cosine of float64, ten times as fast as numpy's.
    waves: npt.NDArray[np.float64] = torch.cos(torch.from_numpy(math.tau * turns)).numpy()
    return waves


def transform(matrix: npt.NDArray[np.float64], points: Points) -> Points:
    """`matrix` [2, 2] times `points` [2, N]."""
    # Written out: a matrix library may sum in another order on another machine.
    (a, b), (c, d) = matrix
    return np.stack((a * points[0] + b * points[1], c * points[0] + d * points[1]))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A smooth number over time: sum of powers[k] time^k and amplitude sin(2 pi (time / period + phase))."""

    powers: tuple[float, ...] = ()
    waves: tuple[tuple[float, float, float], ...] = ()  # (amplitude, period in frames, phase in turns)

    def __call__(self, time: float) -> float:
        """The number at `time`."""
        smooth = sum(factor * time**power for power, factor in enumerate(self.powers))
        return smooth + sum(amount * math.sin(math.tau * (time / period + phase)) for amount, period, phase in self.waves)


NOTHING = Curve()


@dataclass(frozen=True, kw_only=True)
class Swell:
    """One term of a ripple: vector * cos(2 pi (frequency . point + phase + beat * time))."""

    vector: tuple[float, float]
    frequency: tuple[float, float]  # cycles a unit
    phase: float = 0.0  # turns
    beat: float = 0.0  # turns a frame


@dataclass(frozen=True, kw_only=True)
class Ripple:
    """A smooth displacement of the plane that grows in time: half of it is there after `rise` frames, all of it if 0.

    Raises `InputError` for a ripple so steep that the plane could fold over itself.
    """

    swells: tuple[Swell, ...]
    rise: float = 0.0

    def __post_init__(self) -> None:
        steep = sum(math.tau * math.hypot(*one.vector) * math.hypot(*one.frequency) for one in self.swells)
        if steep > STEEPEST:
            raise InputError(f"A ripple of steepness {steep:.2f} may fold the plane. Lower it to {STEEPEST} or less.")

    @property
    def reach(self) -> float:
        """The longest displacement that can occur."""
        return sum(math.hypot(*one.vector) for one in self.swells)

    def __call__(self, points: Points, time: float) -> Points:
        """The displacement [2, N] of `points` [2, N] at `time`."""
        grown = time / (abs(time) + self.rise) if self.rise else 1.0
        moved = np.zeros_like(points)
        for one in self.swells:
            wave = cosine(one.frequency[0] * points[0] + one.frequency[1] * points[1] + (one.phase + one.beat * time))
            moved[0] += grown * one.vector[0] * wave
            moved[1] += grown * one.vector[1] * wave
        return moved


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Where a layer's plane lies: world = scale * rotation(angle) * shear * (point + ripple(point)) + (x, y)."""

    x: Curve = NOTHING
    y: Curve = NOTHING
    angle: Curve = NOTHING  # radians; positive turns x towards y: clockwise on screen
    log_scale: Curve = NOTHING
    shear: Curve = NOTHING
    ripple: Ripple | None = None

    def at(self, time: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The affine part at `time`: matrix [2, 2] and offset [2, 1]."""
        angle, scale = self.angle(time), math.exp(self.log_scale(time))
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        return turn @ np.array([[1.0, self.shear(time)], [0.0, 1.0]]), np.array([[self.x(time)], [self.y(time)]])


REST = Motion()
