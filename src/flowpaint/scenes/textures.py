"""What is painted on a layer: colours as a function of the position in its plane.

Calling a texture with points [2, N] gives colours float32 [3, N] in [0, 1]. `step` is the distance of neighbouring pixels in
the plane: a photograph needs it to choose its resolution. `Styled` turns any texture into another: the edits are made of it.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import ShapeError
from .motion import Points

Colours: TypeAlias = npt.NDArray[np.float32]  # [3, N] in [0, 1]
Colour: TypeAlias = tuple[float, float, float]

_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)  # Rec. 601


class Texture(Protocol):
    """Colours of a plane."""

    def __call__(self, points: Points, step: float, /) -> Colours:
        """Colours [3, N] in [0, 1] at `points` [2, N]; pixels lie `step` apart."""
        ...


@dataclass(frozen=True, kw_only=True)
class Flat:
    """One colour."""

    colour: Colour

    def __call__(self, points: Points, _step: float) -> Colours:
        return np.repeat(np.array(self.colour, np.float32)[:, None], points.shape[1], axis=1)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Smooth noise: waves of random direction, each between `finest` and four times as long, larger ones stronger."""

    seed: int
    colour: Colour = (0.5, 0.5, 0.5)  # its mean
    finest: float = 0.1
    contrast: float = 0.18  # standard deviation of each channel
    num_waves: int = 12

    @cached_property
    def _waves(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        rng = np.random.default_rng([101, self.seed])
        direction = rng.random(self.num_waves) * math.tau
        length = self.finest * 4.0 ** rng.random(self.num_waves)
        length[0] = self.finest
        vectors = math.tau / length * np.stack((np.cos(direction), np.sin(direction)))
        weights = rng.normal(size=(3, self.num_waves)) * length
        # A wave of amplitude a has the standard deviation a / sqrt(2).
        weights *= self.contrast * math.sqrt(2) / np.linalg.norm(weights, axis=1, keepdims=True)
        phases = rng.random((self.num_waves, 1)) * math.tau
        return vectors.T.astype(np.float32), phases.astype(np.float32), weights.astype(np.float32)

    def __call__(self, points: Points, _step: float) -> Colours:
        vectors, phases, weights = self._waves
        waves = np.sin(vectors @ points.astype(np.float32) + phases)
        colours: Colours = np.clip(weights @ waves + np.array(self.colour, np.float32)[:, None], 0.0, 1.0)
        return colours


@dataclass(frozen=True, kw_only=True)
class Stripes:
    """Stripes of two colours: a sine at `sharpness` 0.5, harder edges above."""

    first: Colour
    second: Colour
    period: float
    angle: float = 0.0
    sharpness: float = 1.0

    def __call__(self, points: Points, _step: float) -> Colours:
        across = math.cos(self.angle) * points[0] + math.sin(self.angle) * points[1]
        return _mix(self.first, self.second, 0.5 + self.sharpness * _sine(across / self.period))


@dataclass(frozen=True, kw_only=True)
class Checks:
    """A chessboard of two colours: a product of sines at `sharpness` 0.5, harder edges above."""

    first: Colour
    second: Colour
    period: float
    angle: float = 0.0
    sharpness: float = 1.0

    def __call__(self, points: Points, _step: float) -> Colours:
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        across = _sine((cosine * points[0] + sine * points[1]) / self.period)
        along = _sine((cosine * points[1] - sine * points[0]) / self.period)
        return _mix(self.first, self.second, 0.5 + self.sharpness * across * along)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """A straight blend of two colours, `length` long, centred on the origin."""

    first: Colour
    second: Colour
    length: float
    angle: float = 0.0

    def __call__(self, points: Points, _step: float) -> Colours:
        along = math.cos(self.angle) * points[0] + math.sin(self.angle) * points[1]
        return _mix(self.first, self.second, 0.5 + along / self.length)


def _sine(turns: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    waves: npt.NDArray[np.float32] = np.sin((math.tau * turns).astype(np.float32))
    return waves


def _mix(first: Colour, second: Colour, share: npt.NDArray[np.floating]) -> Colours:
    start, end = np.array(first, np.float32)[:, None], np.array(second, np.float32)[:, None]
    mixed: Colours = start + (end - start) * np.clip(share, 0.0, 1.0).astype(np.float32)
    return mixed


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A photograph, uint8 [H, W, 3], centred, `width` wide, mirrored beyond its edges. Raises `ShapeError` for another array."""

    pixels: npt.NDArray[np.uint8]
    width: float = 1.5

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8 or min(self.pixels.shape[:2]) < 2:
            raise ShapeError(f"pixels is {self.pixels.dtype} {self.pixels.shape}. Expected uint8 [H, W, 3], 2 pixels or more.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Photo) and self.width == other.width and np.array_equal(self.pixels, other.pixels)

    def __hash__(self) -> int:
        return hash((self.pixels.tobytes(), self.pixels.shape, self.width))

    @cached_property
    def _levels(self) -> list[Colours]:
        """The photograph at full, half, quarter ... size, [3, H, W]: a small picture is sampled without aliasing."""
        levels = [np.ascontiguousarray(self.pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)]
        while min(levels[-1].shape[1:]) >= 8:
            _, height, width = levels[-1].shape
            even = levels[-1][:, : height - height % 2, : width - width % 2]
            levels.append(even.reshape(3, height // 2, 2, width // 2, 2).mean(axis=(2, 4)))
        return levels

    def __call__(self, points: Points, step: float) -> Colours:
        pixel = self.width / self.pixels.shape[1]
        number = min(max(int(math.log2(max(step / pixel, 1.0)) + 0.5), 0), len(self._levels) - 1)
        level = self._levels[number]
        _, height, width = level.shape
        size = pixel * 2**number
        # A level starts at the photograph's corner, but lacks a last odd column: it is the whole one's middle that is centred.
        x = points[0] / size + self.pixels.shape[1] / 2 / 2**number - 0.5
        y = points[1] / size + self.pixels.shape[0] / 2 / 2**number - 0.5
        return _bilinear(level, _mirrored(x, width), _mirrored(y, height))


def _mirrored(position: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    period = 2.0 * (count - 1)
    folded: npt.NDArray[np.float64] = (count - 1) - np.abs(np.mod(position, period) - (count - 1))
    return folded


def _bilinear(picture: Colours, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Colours:
    _, height, width = picture.shape
    left, top = np.minimum(x.astype(np.intp), width - 2), np.minimum(y.astype(np.intp), height - 2)
    ahead, below = (x - left).astype(np.float32), (y - top).astype(np.float32)
    flat, corner = picture.reshape(3, -1), top * width + left
    upper = flat.take(corner, axis=1) * (1 - ahead) + flat.take(corner + 1, axis=1) * ahead
    lower = flat.take(corner + width, axis=1) * (1 - ahead) + flat.take(corner + width + 1, axis=1) * ahead
    blended: Colours = upper * (1 - below) + lower * below
    return blended


@dataclass(frozen=True, kw_only=True)
class Styled:
    """A texture seen through a filter: colours mixed by a matrix, tones gathered in levels, shadows hatched.

    `matrix` (3 rows of 3) and `offset` act first; `levels` > 0 draws tones softly towards that many steps; `hatching` in
    [0, 1] darkens with lines that lie in the plane, `period` apart, where the picture is dark. Every step is smooth.
    """

    texture: Texture
    matrix: tuple[Colour, Colour, Colour] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    offset: Colour = (0.0, 0.0, 0.0)
    levels: int = 0
    hatching: float = 0.0
    period: float = 0.04
    angle: float = 0.8

    def __call__(self, points: Points, step: float) -> Colours:
        colours: Colours = np.array(self.matrix, np.float32) @ self.texture(points, step)
        colours = np.clip(colours + np.array(self.offset, np.float32)[:, None], 0.0, 1.0)
        if self.levels:
            rate = math.tau * self.levels
            colours = colours - np.float32(0.9 / rate) * np.sin(np.float32(rate) * colours)
        if self.hatching:
            across = math.cos(self.angle) * points[0] + math.sin(self.angle) * points[1]
            lines = 0.5 + 0.5 * _sine(across / self.period)
            colours = colours * (1 - np.float32(self.hatching) * lines * np.square(1 - _LUMA @ colours))
        return colours.clip(0.0, 1.0)
