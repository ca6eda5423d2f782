"""Fast operations on pictures, float32 [1, C, H, W]: by OpenCV on a CPU, by torch on other devices. Edges repeat.

Both ways give the same numbers to a few millionths. (OpenCV before version 5 samples at steps of a 32nd of a pixel.)
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...smoothing import box as shifted_box
from ...warp import resize, sample_at

_Plane: TypeAlias = npt.NDArray[np.float32]
_PIECE = 1 << 16  # pixels of a strip: what is worked on stays in a core's own cache


def by_opencv(picture: Tensor) -> bool:
    """Return whether OpenCV works on `picture`: it is on the CPU."""
    return picture.device.type == "cpu"


def strips(height: int, width: int, device: str | torch.device) -> list[tuple[int, int]]:
    """Return the rows of a picture, from and to, in pieces that fit a cache; on other devices than a CPU in one piece.

    The pieces hang on the size alone, and each begins at an even row.
    """
    if torch.device(device).type != "cpu":
        return [(0, height)]
    rows = max(8, _PIECE // max(width, 1) // 2 * 2)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


class Sampler:
    """A picture [1, C, H, W] that is asked for its values at many points, between its pixels: bilinear, or `cubic`."""

    def __init__(self, picture: Tensor, *, cubic: bool = False) -> None:
        self._picture = picture
        self._mode = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
        self._cubic = cubic
        self._groups: list[_Plane] = []
        if by_opencv(picture):
            # Four channels are sampled at once, faster than two or three.
            planes = picture[0].numpy()
            for first in range(0, len(planes), 4):
                group = planes[first : first + 4]
                filled = [*group, *[np.zeros_like(group[0])] * (4 - len(group))] if len(group) > 1 else group
                self._groups.append(cv2.merge(list(filled)) if len(filled) > 1 else np.ascontiguousarray(group[0]))

    def __call__(self, points: Tensor) -> Tensor:
        """Return the values at `points` [1, 2, h, w], (x, y) in pixels: [1, C, h, w]."""
        if not self._groups:
            return _cubic_at(self._picture, points) if self._cubic else sample_at(self._picture, points)
        x, y = (np.ascontiguousarray(one) for one in points[0].numpy())
        channels = self._picture.shape[1]
        found = torch.empty(1, channels, *points.shape[-2:])
        for number, group in enumerate(self._groups):
            values = cv2.remap(group, x, y, self._mode, borderMode=cv2.BORDER_REPLICATE)
            if values.ndim == 2:
                found[0, 4 * number] = torch.from_numpy(values)
            else:
                count = min(4, channels - 4 * number)
                for place in range(count):
                    cv2.extractChannel(values, place, found[0, 4 * number + place].numpy())
        return found


def _cubic_at(picture: Tensor, points: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    scale = points.new_tensor([2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)])
    unit = points.permute(0, 2, 3, 1) * scale - 1.0
    return F.grid_sample(picture, unit, mode="bicubic", padding_mode="border", align_corners=True)


def _by_plane(picture: Tensor, height: int, width: int, work: Callable[[_Plane, _Plane], Any]) -> Tensor:
    """Return a picture [1, C, height, width] whose planes `work` makes of those of `picture`."""
    made = torch.empty(1, picture.shape[1], height, width)
    for given, wanted in zip(picture[0], made[0], strict=True):
        work(given.numpy(), wanted.numpy())
    return made


def halve(picture: Tensor) -> Tensor:
    """Return `picture`, whose sides are even, at half the size: means of 2x2 pixels."""
    if not by_opencv(picture):
        return F.avg_pool2d(picture, 2)
    height, width = picture.shape[-2] // 2, picture.shape[-1] // 2
    return _by_plane(picture, height, width, lambda a, b: cv2.resize(a, (width, height), b, interpolation=cv2.INTER_AREA))


def double(picture: Tensor, rows: tuple[int, int] | None = None) -> Tensor:
    """Return `picture` at twice the size, bilinear: all of it, or the `rows`, from (even) and to, of the large one."""
    top, bottom = rows or (0, 2 * picture.shape[-2])
    first, last = max(0, top // 2 - 1), min(picture.shape[-2], (bottom + 1) // 2 + 1)
    height, width = 2 * (last - first), 2 * picture.shape[-1]
    around = picture[..., first:last, :]
    if by_opencv(picture):
        large = _by_plane(around, height, width, lambda a, b: cv2.resize(a, (width, height), b, interpolation=cv2.INTER_LINEAR))
    else:
        large = F.interpolate(around, scale_factor=2, mode="bilinear", align_corners=False)
    return large[..., top - 2 * first : bottom - 2 * first, :]


def enlarge(picture: Tensor, height: int, width: int) -> Tensor:
    """Return `picture` at `height` x `width`, bilinear; smaller by area means."""
    grows = height >= picture.shape[-2] and width >= picture.shape[-1]
    if not by_opencv(picture) or not grows:
        return resize(picture, height, width)
    return _by_plane(picture, height, width, lambda a, b: cv2.resize(a, (width, height), b, interpolation=cv2.INTER_LINEAR))


def box(picture: Tensor, size: int) -> Tensor:
    """Return means over `size` x `size` pixels (odd)."""
    if not by_opencv(picture):
        return shifted_box(picture, size)
    height, width = picture.shape[-2:]
    return _by_plane(picture, height, width, lambda a, b: cv2.blur(a, (size, size), b, borderType=cv2.BORDER_REPLICATE))


def luma(picture: Tensor) -> Tensor:
    """Return Rec. 601 luma [1, 1, H, W] of [1, 3, H, W]."""
    return (0.299 * picture[:, :1]).add_(picture[:, 1:2], alpha=0.587).add_(picture[:, 2:3], alpha=0.114)
