"""Where the pixels of a few neighbouring frames are seen in the first and in the last of them.

Displacements between neighbours are composed, so that a picture is resampled once however far it is carried.
Arrays are float32: displacement [h, w, 2] in pixels, (dx, dy); visibility [h, w] in [0, 1], 1 = the same surface is seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...seams import FlowEstimator
from ...types import Raw

Array: TypeAlias = npt.NDArray[np.float32]
Numbers = TypeVar("Numbers", bound=npt.NDArray[Any])

_SLACK = 4.0  # pixels by which flow and reverse flow, each composed of several, may disagree: visibility falls to 1/e there
_ALIKE = 25.0  # levels of 255 by which a pixel and the one it is matched to may differ, likewise


@dataclass(frozen=True)
class Step:
    """The motion between two neighbouring frames, both ways: `back` on the later frame's grid, `ahead` on the earlier one's."""

    back: Array
    ahead: Array


@dataclass(frozen=True)
class Track:
    """Where each pixel of a frame is seen in another one, and how surely."""

    displacement: Array
    visibility: Array


def shrink(frame: Raw, size: tuple[int, int]) -> Array:
    """Return a raw frame [H, W, 3] at `size` (width, height): float32 [h, w, 3] in levels of 0 to 255."""
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    if frame.dtype == np.uint16:
        small *= 255.0 / 65535.0
    return small


def measure_step(before: Array, after: Array, flow: FlowEstimator) -> Step:
    """Return the motion between two neighbouring frames [h, w, 3] in levels of 0 to 255."""
    a, b = (torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in (before, after))
    found = flow(b, a)
    reverse = found.reverse if found.reverse is not None else flow(a, b).vectors
    back, ahead = (np.ascontiguousarray(one[0].permute(1, 2, 0).cpu().numpy(), np.float32) for one in (found.vectors, reverse))
    return Step(back, ahead)


def tracks_to_first(frames: Sequence[Array], steps: Sequence[Step]) -> list[Track]:
    """Return for each of `frames` [h, w, 3], which `steps` join, where it is seen in the first one."""
    height, width = frames[0].shape[:2]
    here = grid(height, width)
    away = back = np.zeros((height, width, 2), np.float32)  # from the first frame to this one, and from this one to the first
    tracks = [Track(back, np.ones((height, width), np.float32))]
    for frame, step in zip(frames[1:], steps, strict=True):
        away = away + sample(step.ahead, here + away)
        back = step.back + sample(back, here + step.back)
        tracks.append(Track(back, _visibility(frame, frames[0], back, away)))
    return tracks


def tracks_to_last(frames: Sequence[Array], steps: Sequence[Step]) -> list[Track]:
    """Return for each of `frames` [h, w, 3], which `steps` join, where it is seen in the last one."""
    turned = [Step(back=one.ahead, ahead=one.back) for one in reversed(steps)]
    return tracks_to_first(frames[::-1], turned)[::-1]


def _visibility(here: Array, there: Array, flow: Array, reverse: Array) -> Array:
    """Return how surely each pixel of `here` is seen in `there`: flows return, colours agree, it is inside the frame."""
    place = grid(*flow.shape[:2]) + flow
    miss = flow + sample(reverse, place)
    unlike = np.abs(here - sample(there, place)).mean(axis=2) / _ALIKE
    visible = np.exp(-np.square(miss).sum(axis=2) / _SLACK**2 - np.square(unlike))
    return np.asarray(visible * inside(place), np.float32)


def grid(height: int, width: int) -> Array:
    """Return the position of each pixel, [h, w, 2], (x, y)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])


def inside(place: Array) -> npt.NDArray[np.bool_]:
    """Return where positions [h, w, 2] lie within a frame of the same size: bool [h, w]."""
    height, width = place.shape[:2]
    x, y = place[..., 0], place[..., 1]
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))


def sample(array: Numbers, place: Array, *, cubic: bool = False) -> Numbers:
    """Return `array` [H, W] or [H, W, C] at positions [h, w, 2], of the same type; beyond the edge the edge repeats."""
    kind = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    x, y = place[..., 0], place[..., 1]
    return cast(Numbers, cv2.remap(array, x, y, kind, borderMode=cv2.BORDER_REPLICATE))


def enlarged(displacement: Array, size: tuple[int, int]) -> Array:
    """Return positions [H, W, 2] at `size` (width, height) that a displacement found on smaller frames leads to."""
    width, height = size
    scale = np.array([width / displacement.shape[1], height / displacement.shape[0]], np.float32)
    full = cv2.resize(displacement, size, interpolation=cv2.INTER_LINEAR) * scale
    return np.asarray(grid(height, width) + full, np.float32)
