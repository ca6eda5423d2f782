"""Silhouettes: each says how far inside it a point of its plane lies.

Calling a shape gives a signed distance in scene units, positive inside, exact in sign and good to some per cent near the edge,
where it is used for smooth borders. `radius` bounds the shape around the origin.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..errors import InputError, ShapeError
from .distance import signed_distance
from .motion import Points

Distances = npt.NDArray[np.float64]  # [N]


class Shape(Protocol):
    """A silhouette in its own plane."""

    @property
    def radius(self) -> float:
        """No point further than this from the origin is inside."""
        ...

    def __call__(self, points: Points, /) -> Distances:
        """Signed distance [N] of `points` [2, N] to the edge, positive inside."""
        ...


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A circle with harmonics: r(a) = size * (1 + sum of amplitude cos(order a + phase))."""

    size: float
    harmonics: tuple[tuple[int, float, float], ...] = ()  # (order, amplitude, phase in radians)

    def __post_init__(self) -> None:
        total = sum(abs(amplitude) for _, amplitude, _ in self.harmonics)
        if total >= 1:
            raise InputError(f"Harmonics of {total:.2f} in sum cut through the blob's centre. Keep their sum below 1.")

    @property
    def radius(self) -> float:
        return self.size * (1.0 + sum(abs(amplitude) for _, amplitude, _ in self.harmonics))

    def __call__(self, points: Points) -> Distances:
        away = np.sqrt(np.square(points[0]) + np.square(points[1]))
        unit = (points[0] + 1j * points[1]) / np.maximum(away, 1e-12)  # unit^k = e^(i k a): no arctangent, no cosine
        edge = np.full_like(away, 1.0)
        slope = np.zeros_like(away)
        for order, amplitude, phase in self.harmonics:
            turned = unit**order * complex(math.cos(phase), math.sin(phase))
            edge += amplitude * turned.real
            slope -= amplitude * order * turned.imag
        # The edge leans by r'/r against the circle: what is measured along the ray is longer than the distance.
        within: Distances = (self.size * edge - away) / np.sqrt(1.0 + np.square(slope / edge))
        return within


@dataclass(frozen=True, kw_only=True)
class Polygon:
    """A closed polygon, convex or not."""

    corners: tuple[tuple[float, float], ...]

    @property
    def radius(self) -> float:
        return max(math.hypot(*corner) for corner in self.corners)

    def __call__(self, points: Points) -> Distances:
        squares = np.full(points.shape[1], np.inf)
        inside = np.zeros(points.shape[1], dtype=bool)
        for (ax, ay), (bx, by) in zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True):
            dx, dy, px, py = bx - ax, by - ay, points[0] - ax, points[1] - ay
            along = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-24), 0.0, 1.0)
            np.minimum(squares, np.square(px - along * dx) + np.square(py - along * dy), out=squares)
            if ay != by:  # a ray to the right crosses this side: even-odd rule
                inside ^= ((ay > points[1]) != (by > points[1])) & (px < py * (dx / dy))
        away: Distances = np.sqrt(squares)
        return np.where(inside, away, -away)


@dataclass(frozen=True, kw_only=True)
class Glyph:
    """Text in Pillow's built-in font, centred, its longer side `size`. Raises `InputError` for text without ink."""

    text: str
    size: float

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError(f"The text {self.text!r} has nothing to draw. Give at least one visible character.")

    @property
    def radius(self) -> float:
        return self._field.radius

    @cached_property
    def _field(self) -> "Cutout":
        font = ImageFont.load_default(size=96)
        left, top, right, bottom = font.getbbox(self.text)
        width, height = math.ceil(right - left), math.ceil(bottom - top)
        page = Image.new("L", (width, height))
        ImageDraw.Draw(page).text((-left, -top), self.text, fill=255, font=font)
        return Cutout(mask=np.asarray(page) >= 128, width=self.size * width / max(width, height))

    def __call__(self, points: Points) -> Distances:
        return self._field(points)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cutout:
    """A given mask, bool [H, W], True inside, centred, `width` wide.

    Raises `ShapeError` for another array, `InputError` for an empty mask.
    """

    mask: npt.NDArray[np.bool_]
    width: float

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise ShapeError(f"mask is {self.mask.dtype} {self.mask.shape}. Expected bool [H, W].")
        if not self.mask.any():
            raise InputError(f"A mask of {self.mask.shape} without one True pixel cuts out nothing. Give another mask.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cutout) and self.width == other.width and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.mask.tobytes(), self.mask.shape, self.width))

    @property
    def radius(self) -> float:
        return 0.5 * math.hypot(*self.mask.shape) * self._step

    @property
    def _step(self) -> float:
        return self.width / int(self.mask.shape[1])

    @cached_property
    def _field(self) -> Distances:
        return signed_distance(np.pad(self.mask, 1))

    def __call__(self, points: Points) -> Distances:
        height, width = self._field.shape
        x, y = points[0] / self._step + (width - 1) / 2, points[1] / self._step + (height - 1) / 2
        inner_x, inner_y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        left, top = np.minimum(inner_x.astype(np.intp), width - 2), np.minimum(inner_y.astype(np.intp), height - 2)
        ahead, below = inner_x - left, inner_y - top
        flat, corner = self._field.ravel(), top * width + left
        upper = flat[corner] * (1 - ahead) + flat[corner + 1] * ahead
        lower = flat[corner + width] * (1 - ahead) + flat[corner + width + 1] * ahead
        outside = np.sqrt(np.square(x - inner_x) + np.square(y - inner_y))
        value = upper * (1 - below) + lower * below - outside
        within: Distances = value * self._step
        return within
