"""Edges without weights: Canny's, and a soft edge map. Both take their levels once per clip: levels per frame flicker."""

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ...smoothing import gaussian, gradient
from ...types import Raw, check_shape, to_raw
from ...warp import grid_of, sample_at

_RATIO = 0.5  # of the lower to the upper threshold: Canny advises a half to a third
_LEAST, _MOST = 60.0, 240.0  # between which the upper threshold is sought: below is noise, above hardly an edge
_SCALES = (1.0, 2.0, 4.0)  # pixels: the spreads at which soft edges are sought
_STEP = 2.5066283  # sqrt(2 pi): the slope of a step of height 1 smoothed by sigma is 1 / (sigma sqrt(2 pi))
_FAINT = 0.05  # step, as a share of black to white, below which nothing is drawn white
_CREST = 0.15  # fall from the crest, as a share of its height, that thins a slope away


@dataclass(frozen=True, kw_only=True)
class CannyEdges:
    """Canny's edges (PAMI 1986), white on black, one pixel wide.

    `low` and `high` are thresholds of the gradient (Sobel, L1, the strongest colour channel, in levels of 255), FRESCO's are 50
    and 100. A missing one is chosen for the clip: `high` so that a `share` of the pixels is above it in its median frame,
    within 60 to 240, `low` as half of `high`.
    """

    low: float | None = None
    high: float | None = None
    share: float = 0.1

    def __post_init__(self) -> None:
        low, high = self.low or 0.0, float("inf") if self.high is None else self.high
        if not 0 <= low <= high:
            raise ConfigError(f"Canny's thresholds {self.low} and {self.high} do not fit. Give 0 <= low <= high.")
        if not 0 < self.share < 1:
            raise ConfigError(f"A share of {self.share} pixels cannot be edges. Give one between 0 and 1.")

    def __call__(self, frames: Tensor) -> Tensor:
        """Maps [T, 3, H, W], 0 or 1, of `frames` [T, 3, H, W] in [0, 1]."""
        check_shape(frames=(frames, "T 3 H W"))
        low, high = self._levels(frames)
        found = [torch.from_numpy(cv2.Canny(to_raw(one), low, high)) for one in frames]
        maps = torch.stack(found).to(frames.device) > 0
        return maps[:, None].float().expand(-1, 3, -1, -1)

    def fitted(self, frames: Tensor) -> "CannyEdges":
        """The same with the thresholds of the clip `frames` [T, 3, H, W]: parts of one clip then come out as the whole does."""
        check_shape(frames=(frames, "T 3 H W"))
        low, high = self._levels(frames)
        return dataclasses.replace(self, low=low, high=high)

    def _levels(self, frames: Tensor) -> tuple[float, float]:
        low, high = self.low, self.high
        if high is None:
            tops = [float(np.quantile(_slopes(to_raw(one)), 1 - self.share)) for one in frames]
            high = max(float(np.clip(np.median(tops), _LEAST, _MOST)), low or 0.0)
        return _RATIO * high if low is None else low, high


def _slopes(picture: Raw) -> np.ndarray:
    """The gradient that Canny compares with its thresholds: [H, W]."""
    across, down = (np.abs(cv2.Sobel(picture, cv2.CV_32F, x, 1 - x)) for x in (1, 0))
    steepest: np.ndarray = (across + down).max(axis=2)
    return steepest


@dataclass(frozen=True, kw_only=True)
class SoftEdges:
    """Soft edges without weights, white on black: what stands out at several scales is brighter.

    Steps of colour are measured by the structure tensor (Di Zenzo, CVGIP 1986) at three scales, the derivatives normalised so
    that a step counts the same at each (Lindeberg, IJCV 1998, with gamma = 1), texture without direction discounted, slopes
    thinned towards their crests (Canny's non-maximum suppression, by degrees), and the scales averaged.

    `level` is the step, as a share of black to white, that is drawn white. None takes it from the clip: what a `share` of the
    pixels exceeds in its median frame, at least 0.05.
    """

    level: float | None = None
    share: float = 0.04

    def __post_init__(self) -> None:
        if self.level is not None and not self.level > 0:
            raise ConfigError(f"Steps of {self.level} cannot be drawn white. Give a level above 0.")
        if not 0 < self.share < 1:
            raise ConfigError(f"A share of {self.share} pixels cannot be edges. Give one between 0 and 1.")

    def __call__(self, frames: Tensor) -> Tensor:
        """Maps [T, 3, H, W] in [0, 1] of `frames` [T, 3, H, W] in [0, 1]."""
        check_shape(frames=(frames, "T 3 H W"))
        steps = self._steps(frames)
        level = self._level(steps) if self.level is None else self.level
        return (steps / level).clamp(0, 1).expand(-1, 3, -1, -1)

    def fitted(self, frames: Tensor) -> "SoftEdges":
        """The same with the level of the clip `frames` [T, 3, H, W]: parts of one clip then come out as the whole does."""
        if self.level is not None:
            return self
        check_shape(frames=(frames, "T 3 H W"))
        return dataclasses.replace(self, level=self._level(self._steps(frames)))

    def _steps(self, frames: Tensor) -> Tensor:
        return torch.cat([_steps(one[None].float()) for one in frames])  # one by one: memory

    def _level(self, steps: Tensor) -> float:
        # By numpy: torch refuses quantiles of more than 2^24 values.
        tops = [float(np.quantile(one.cpu().numpy(), 1 - self.share)) for one in steps]
        return max(float(np.median(tops)), _FAINT)


def _steps(frame: Tensor) -> Tensor:
    """The steps of colour of `frame` [1, 3, H, W], as shares of black to white, thinned: [1, 1, H, W]."""
    found = torch.zeros_like(frame[:, :1])
    for sigma in _SCALES:
        slopes = gradient(gaussian(frame, sigma).transpose(0, 1)) * (0.5 * sigma * _STEP)
        x, y = slopes[:, 0], slopes[:, 1]
        tensor = torch.stack([(x * x).sum(dim=0), (x * y).sum(dim=0), (y * y).sum(dim=0)])[None]
        xx, xy, yy = gaussian(tensor, 0.5 * sigma).split(1, dim=1)
        root = torch.sqrt((0.5 * (xx - yy)).square() + xy.square())
        middle = 0.5 * (xx + yy)
        most, least = middle + root, (middle - root).clamp_min(0)
        # The mean over colours keeps a grey step's own height.
        step = ((most - 0.5 * least).clamp_min(0) / 3).sqrt()
        found += _thinned(step, 0.5 * torch.atan2(2 * xy, xx - yy), sigma)
    return found / len(_SCALES)


def _thinned(step: Tensor, angle: Tensor, reach: float) -> Tensor:
    """`step` [1, 1, H, W] where it is no lower than `reach` pixels to either side along `angle`, fading where it is."""
    across = reach * torch.cat([angle.cos(), angle.sin()], dim=1)
    here = grid_of(step)
    beside = torch.maximum(sample_at(step, here + across), sample_at(step, here - across))
    return step * ((step - beside) / (_CREST * step + 1e-6) + 1).clamp(0, 1)
