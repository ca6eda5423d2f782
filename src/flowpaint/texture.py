"""Flicker and kept texture: how steady a painted video is, and how much of its paint it still has.

*Flicker*: mean |R_i - warp(R_i-1)| in levels of 255, along the source's motion, over the pixels whose motion returns to within
one pixel when it is followed there and back. *Texture kept*: the energy of the band between two Gaussians (sigma 1 and 4) of
luma, 15 x 15 means, of the result over that of the same frame edited by itself; in the fastest tenth and in the stillest 40 %
of the pixels. Flicker alone rewards blur, and texture alone rewards flicker: read them together.

The motion is OpenCV's DIS (Kroeger et al., ECCV 2016), which belongs to the definition: another estimator gives other numbers.
Pictures are raw, [H, W, 3] RGB, uint8 or uint16.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .types import Raw

Field: TypeAlias = npt.NDArray[np.float32]  # a number at each pixel, [H, W], or a vector, [H, W, 2]
Mask: TypeAlias = npt.NDArray[np.bool_]  # [H, W]
Preset = Literal["ultrafast", "fast", "medium"]
Parts: TypeAlias = dict[str, float]  # by the names of PARTS

PRESET: Preset = "fast"
PARTS = ("fast", "still")  # of a frame, by the motion of its pixels

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
_RETURNS = 1.0  # pixels by which a motion may miss its start
_FINE, _COARSE = 1.0, 4.0  # sigmas of the Gaussians, pixels
_WINDOW = 15  # pixels of the means of energy
_FASTEST, _STILLEST = 0.9, 0.4  # quantiles of speed
_EDITED = 4.0  # levels of 255 by which an edited picture differs from its source; codecs differ by less
_LEAST_ENERGY = 0.25  # levels squared, mean: half a level is what rounding leaves on a flat picture
_LEAST_SIDE = 32  # pixels; smaller pictures are extended for DIS


# ---------------------------------------------------------------------------------------------------------------- measures


@dataclass(frozen=True, eq=False)
class Motion:
    """Where the pixels of a frame come from: `back` [H, W, 2] leads to the frame before, pixels; `returns` [H, W] says where it
    leads back again to within one pixel.
    """

    back: Field
    returns: Mask

    @property
    def speed(self) -> Field:
        """Return the length of `back`, [H, W], pixels a frame."""
        return np.asarray(np.hypot(self.back[..., 0], self.back[..., 1]), np.float32)


def motion(before: Raw, now: Raw, preset: Preset = PRESET) -> Motion:
    """Return the motion between the frames `before` and `now` of one size, measured both ways by DIS."""
    estimator = cv2.DISOpticalFlow.create(_PRESETS[preset])
    height, width = now.shape[:2]
    first, second = (_extended(cv2.cvtColor(_bytes(one), cv2.COLOR_RGB2GRAY)) for one in (before, now))
    there, back = (
        np.asarray(estimator.calc(*pair, np.zeros((*first.shape, 2), np.float32)), np.float32)[:height, :width]
        for pair in ((first, second), (second, first))
    )
    missed = back + warp(there, back)
    return Motion(back=back, returns=np.square(missed).sum(axis=-1) < _RETURNS**2)


def _extended(grey: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A picture of a size that DIS can work on: its edge is repeated."""
    height, width = grey.shape
    return np.pad(grey, ((0, max(0, _LEAST_SIDE - height)), (0, max(0, _LEAST_SIDE - width))), mode="edge")


def warp(picture: npt.NDArray[Any], back: Field) -> npt.NDArray[Any]:
    """Return `picture` [H, W] or [H, W, C], float32 or integers, sampled (linear, edges repeated) at pixel + `back` [H, W, 2]."""
    height, width = back.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, x + back[..., 0], y + back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def flicker(before: Raw, now: Raw, moved: Motion) -> float:
    """Return mean |now - warp(before)|, levels of 255, over the pixels that return and the channels; NaN where none returns."""
    if not moved.returns.any():
        return float("nan")
    difference = np.abs(warp(_levels(before), moved.back) - _levels(now))
    return float(difference[moved.returns].mean(dtype=np.float64))


def texture_energy(picture: Raw) -> Field:
    """Return the energy of the texture of `picture` around each pixel, [H, W], levels of 255 squared.

    It is the mean over 15 x 15 pixels of (G1 - G4)^2, G being luma (Rec. 601) blurred by a Gaussian of sigma 1 and 4 pixels.
    """
    luma = cv2.cvtColor(_levels(picture), cv2.COLOR_RGB2GRAY)
    fine, coarse = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in (_FINE, _COARSE))
    return np.asarray(cv2.blur(np.square(fine - coarse), (_WINDOW, _WINDOW)), np.float32)


def texture_kept(made: Field, alone: Field, speed: Field, where: Mask | None = None) -> Parts:
    """Return the energy `made` [H, W] over the energy `alone` [H, W] of the frame edited by itself: where it is fast, and still.

    Fast is the fastest tenth by `speed` [H, W], or what moves at all where that is less; still are the stillest 40 %. Pixels
    outside `where` [H, W] count in neither. A part with nothing to compare, or whose frame edited by itself is flat, is absent.
    """
    inside = np.ones(speed.shape, bool) if where is None else where
    if not inside.any():
        return {}
    fastest, stillest = np.quantile(speed[inside], (_FASTEST, _STILLEST))
    parts = {"fast": speed >= fastest if fastest > 0 else speed > 0, "still": speed <= stillest}
    kept = {}
    for name, part in parts.items():
        chosen = part & inside
        total = alone[chosen].sum(dtype=np.float64)
        if total > _LEAST_ENERGY * chosen.sum():
            kept[name] = float(made[chosen].sum(dtype=np.float64) / total)
    return kept


def edited_part(source: Raw, picture: Raw) -> Field:
    """Return 1 where `picture` differs from its unedited `source`, else 0: by 4 levels of 255, mean of 15 x 15 pixels."""
    difference = np.abs(_levels(source) - _levels(picture)).max(axis=-1)
    return np.asarray(cv2.blur(difference, (_WINDOW, _WINDOW)) >= _EDITED, np.float32)


def _levels(picture: Raw) -> Field:
    """A picture as float32 levels of 255."""
    found = picture.astype(np.float32)
    return found / np.float32(257) if picture.dtype == np.uint16 else found


def _bytes(picture: Raw) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.convertScaleAbs(picture, alpha=255 / 65535) if picture.dtype == np.uint16 else picture, np.uint8)


# ---------------------------------------------------------------------------------------------------------------- samples

_PAIRS_EVERY, _MOST_PAIRS, _LEAST_PAIRS = 10, 16, 3  # at 720p a pair costs 0.06 s of one core, a frame of a painted look 0.6 s
_TEXTURES_EVERY, _MOST_TEXTURES = 64, 6  # an editor's picture costs 1.5 s there: 4 % of what 64 frames take
_GRID = 5  # pixels between those whose energy and speed are kept: a third of the window of the means


@dataclass(frozen=True, eq=False)
class Sample:
    """Energy of the result and speed of the source at every fifth pixel of one frame, [h, w] each."""

    energy: Field
    speed: Field


@dataclass(frozen=True, eq=False)
class Reference:
    """Energy [h, w] on the grid of a `Sample` that its frame would have if edited by itself, and where that is known."""

    energy: Field
    where: Mask | None = None


def on_grid(field: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what `field` [H, W] holds at the pixels of which samples are kept."""
    return np.ascontiguousarray(field[_GRID // 2 :: _GRID, _GRID // 2 :: _GRID])


class Samples:
    """Flicker and texture of some frames of a long video, spread over it evenly: what a report can afford.

    Frames are shown to it in order with `see`. It measures a pair in every 10 frames, 16 at most, and keeps the texture of one
    frame in 64, 6 at most (of short clips 3 pairs and 1 frame). `cuts` are the first frames of shots: no pair crosses one.
    """

    def __init__(self, frames: int, cuts: Collection[int] = ()) -> None:
        pairs = min(_MOST_PAIRS, max(_LEAST_PAIRS, frames // _PAIRS_EVERY))
        ends = [index for index in range(1, frames) if index not in cuts]
        self.pairs = frozenset(_spread(ends, pairs))
        self.textures = frozenset(_spread(sorted(self.pairs), min(_MOST_TEXTURES, max(1, frames // _TEXTURES_EVERY))))
        self._flickers: dict[int, tuple[float, float]] = {}
        self._samples: dict[int, Sample] = {}
        self._last: tuple[int, Raw, Raw] | None = None

    def see(self, index: int, source: Raw, result: Raw) -> None:
        """Take in frame `index`, before and after the edit."""
        last, self._last = self._last, (index, source, result) if index + 1 in self.pairs else None
        if index not in self.pairs or last is None or last[0] != index - 1:
            return
        moved = motion(last[1], source)
        self._flickers[index] = flicker(last[1], source, moved), flicker(last[2], result, moved)
        if index in self.textures:
            self._samples[index] = Sample(on_grid(texture_energy(result)), on_grid(moved.speed))

    def flicker(self) -> tuple[float, float] | None:
        """Return the mean flicker of source and result over the pairs that were measured, None where there is none."""
        found = np.array([pair for pair in self._flickers.values() if np.isfinite(pair).all()])
        return (float(found[:, 0].mean()), float(found[:, 1].mean())) if len(found) else None

    def texture(self, reference: Callable[[int], Reference | None]) -> dict[str, Any]:
        """Return the texture kept, means over the frames that were compared with `reference(index)`: fast, still, `frames`.

        Frames for which `reference` gives None are left out. A part that no frame tells is None.
        """
        rows: dict[int, Parts] = {}
        for index, sample in sorted(self._samples.items()):
            if (known := reference(index)) is not None:
                rows[index] = texture_kept(sample.energy, known.energy, sample.speed, known.where)
        told = {index: row for index, row in rows.items() if row}
        means = {name: [row[name] for row in told.values() if name in row] for name in PARTS}
        return {name: float(np.mean(row)) if row else None for name, row in means.items()} | {"frames": sorted(told)}

    def saved(self, frames: range) -> dict[str, npt.NDArray[Any]]:
        """Return what was seen of `frames`, as arrays."""
        kept: dict[str, npt.NDArray[Any]] = {}
        for index in self._flickers.keys() & set(frames):
            kept[f"flicker{index}"] = np.array(self._flickers[index])
        for index in self._samples.keys() & set(frames):
            kept[f"energy{index}"], kept[f"speed{index}"] = self._samples[index].energy, self._samples[index].speed
        if self._last is not None and self._last[0] == frames[-1]:
            kept["sampled_source"], kept["sampled_result"] = self._last[1:]
        return kept

    def restore(self, frames: range, kept: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `saved` gave for `frames`."""
        for index in self.pairs & set(frames):
            if f"flicker{index}" in kept:
                source, result = kept[f"flicker{index}"].tolist()
                self._flickers[index] = source, result
            if f"energy{index}" in kept:
                self._samples[index] = Sample(kept[f"energy{index}"], kept[f"speed{index}"])
        if "sampled_source" in kept:
            self._last = frames[-1], kept["sampled_source"], kept["sampled_result"]


def _spread(places: list[int], count: int) -> list[int]:
    """Return `count` of `places`, all where there are no more, from the middles of as many equal stretches."""
    count = min(count, len(places))
    return [places[(2 * one + 1) * len(places) // (2 * count)] for one in range(count)]
