"""Stage 1: light that flickers in a part of the picture, taken out: a lamp, a window at one side, bands of a rolling shutter.

Between neighbours the change of light is measured as fields of gains (`gains`), and added up over the frames around. What swings
to and fro in such a sum is flicker. A light that is switched on, a slow dawn and a cut do not swing, and stay.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ...warp import resize, resize_flow, warp
from .gains import at_pixels, measure, sizes
from .motion import Motion
from .trend import trend_gap

_SHORT_SIDE = 96  # of the pictures that are compared: light is smooth
_FLOOR = 1.0 / 255  # deviation of a gain that is no flicker, however well it is measured


class Light:
    """The light of each frame against that of the frames within `radius`. Measured once for each pair of neighbours."""

    def __init__(self, motion: Motion, radius: int) -> None:
        self._motion, self._radius = motion, radius
        self._between = lru_cache(maxsize=4 * radius + 4)(self._measure)
        self._gaps = lru_cache(maxsize=2 * radius + 2)(self._gap)
        self.small: Callable[[int], Tensor] = lru_cache(maxsize=2 * radius + 2)(self._small)

    def steady(self, picture: Tensor, index: int) -> Tensor:
        """Return `picture`, frame `index` [1, 3, H, W], of any size, in the light that the frames around agree upon: in [0, 1]."""
        gap = self._gaps(index)
        if gap is None or not gap.any():
            return picture
        gain = at_pixels(gap, sizes(*self._compared(index)), *picture.shape[-2:])
        return (picture * gain.exp()).clamp(0, 1)

    def _small(self, index: int) -> Tensor:
        return self.steady(self._motion.small(index), index)

    def _gap(self, index: int) -> Tensor | None:
        """Return the logarithms of the gains that frame `index` lacks [3, N]; None where no frame is near."""
        offsets, series, variances = [], [], []
        for way in (-1, 1):
            total = torch.zeros(())
            for step in range(1, self._radius + 1):
                at = index + way * step
                hop = self._between(min(at, at - way)) if 0 <= at < self._motion.length else None
                if hop is None:
                    break
                total = total.to(hop) + way * hop[0]
                offsets.append(way * step)
                series.append(total)
                variances.append(hop[1])
        if not series:
            return None
        floor = (_FLOOR**2 + torch.stack(variances).mean(dim=0)).sqrt()
        return trend_gap(series[0].new_tensor(offsets), torch.stack(series), floor)

    def _measure(self, index: int) -> Tensor | None:
        """Return the gains from frame `index` to the next one and their variance [2, 3, N]; None across a cut."""
        flow = self._motion.onwards(index)
        if flow is None:
            return None
        size = self._compared(index)
        here, after = (resize(self._motion.small(one), *size) for one in (index, index + 1))
        return measure(here, warp(after, resize_flow(flow.vectors, *size)), resize(flow.visibility, *size))

    def _compared(self, index: int) -> tuple[int, int]:
        """Return height and width of the pictures that are compared."""
        height, width = self._motion.small(index).shape[-2:]
        scale = min(1.0, _SHORT_SIDE / min(height, width))
        return round(height * scale), round(width * scale)
