"""Stage 2: brightness, contrast and colour that breathe, taken out by a pointwise map.

The map is a grid of curves, coarse in space and in value (the bilateral grid of Chen, Paris and Durand, SIGGRAPH 2007), one
for each channel: any gain, gamma or tint, and one that differs from corner to corner. Being smooth, it moves tones and leaves
detail as it is.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...types import Flow
from ...warp import resize, resize_flow, warp
from .gains import tents
from .motion import Motion
from .trend import trend_gap

_BINS = 16  # of value
_CELLS = 4  # along the short side
_SHORT_SIDE = 96  # of the pictures that are compared: tones need no pixels
_BORROW = 0.008  # share of a picture's pixels at which a cell believes itself as much as the whole picture


def steady_tone(picture: Tensor, small: Callable[[int], Tensor], motion: Motion, index: int, radius: int) -> Tensor:
    """Return `picture`, frame `index` [1, 3, H, W], in the tones that the frames within `radius` agree upon, in [0, 1].

    `small(index)` is any frame at the size of the flow.
    """
    flows = motion.around(index, radius)
    if not flows:
        return picture
    offsets = torch.tensor(sorted(flows), dtype=picture.dtype, device=picture.device)
    correction = trend_gap(offsets, _tone_series(small, index, flows))
    return (picture + _look_up(correction, picture)).clamp(0, 1)


def _tone_series(small: Callable[[int], Tensor], index: int, flows: dict[int, Flow]) -> Tensor:
    """How much brighter than frame `index` each frame that `flows` lead to is, in order: [K, 3, bins, rows, columns]."""
    middle = small(index)
    scale = min(1.0, _SHORT_SIDE / min(middle.shape[-2:]))
    height, width = (round(length * scale) for length in middle.shape[-2:])
    here = resize(middle, height, width)
    around = torch.cat([small(index + offset) for offset in sorted(flows)])
    vectors = torch.cat([flows[offset].vectors for offset in sorted(flows)])
    seen = resize(torch.cat([flows[offset].visibility for offset in sorted(flows)]), height, width)
    aligned = warp(resize(around, height, width), resize_flow(vectors, height, width))
    # Binned by the mean of all frames, not by one of them: its noise would pull its own bins.
    guide = (here + (seen * aligned).sum(dim=0)) / (1 + seen.sum(dim=0))
    return _binned(aligned - here, seen, guide)


def _binned(deviation: Tensor, seen: Tensor, guide: Tensor) -> Tensor:
    """Means of `deviation` [K, 3, h, w] over what is `seen` [K, 1, h, w], by value of `guide` [1, 3, h, w] and by place.

    Cells that hold little lean on the curve of the whole picture, and its thin bins on their neighbours and on its mean.
    """
    height, width = guide.shape[-2:]
    short = min(height, width)
    down = tents(height, max(1, round(_CELLS * height / short)), guide)
    across = tents(width, max(1, round(_CELLS * width / short)), guide)
    centres = torch.arange(_BINS, dtype=guide.dtype, device=guide.device)[None, :, None, None]
    by_value = (1 - (guide[0, :, None] * (_BINS - 1) - centres).abs()).clamp_min(0)
    share = seen[:, :, None] * by_value
    mass = down @ share @ across.T
    total = down @ (share * deviation[:, :, None]) @ across.T
    trust = _BORROW * height * width
    whole_mass, whole_total = (_smooth_bins(one.sum(dim=(3, 4), keepdim=True)) for one in (mass, total))
    mean = whole_total.sum(dim=2, keepdim=True) / whole_mass.sum(dim=2, keepdim=True).clamp_min(1e-6)
    curve = (whole_total + trust * mean) / (whole_mass + trust)
    return (total + trust * curve) / (mass + trust)


def _smooth_bins(curve: Tensor) -> Tensor:
    """Each bin of [K, 3, bins, 1, 1] with half of its neighbours."""
    padded = torch.cat((curve[:, :, :1], curve, curve[:, :, -1:]), dim=2)
    return 0.25 * padded[:, :, :-2] + 0.5 * curve + 0.25 * padded[:, :, 2:]


def _look_up(grid: Tensor, picture: Tensor) -> Tensor:
    """`grid` [3, bins, rows, columns] at each pixel's place and value: [1, 3, H, W].

    The grid is indexed by the value that comes out, so the second look-up uses the first one's result.
    """
    height, width = picture.shape[-2:]
    y = torch.linspace(1 / height - 1, 1 - 1 / height, height, device=picture.device)
    x = torch.linspace(1 / width - 1, 1 - 1 / width, width, device=picture.device)
    plane = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).expand(3, 1, -1, -1, -1)
    found = torch.zeros_like(picture)
    for _ in range(2):
        value = ((picture + found).clamp(0, 1) * (_BINS - 1) * 2 + 1) / _BINS - 1
        points = torch.cat((plane, value[0][:, None, ..., None]), dim=-1)
        found = F.grid_sample(grid[:, None], points, padding_mode="border", align_corners=False)[:, :, 0].transpose(0, 1)
    return found
