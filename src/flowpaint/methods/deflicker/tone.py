"""Stage 1: brightness, contrast and colour that breathe, taken out by a pointwise map.

The map is a grid of curves, coarse in space and in value (the bilateral grid of Chen, Paris and Durand, SIGGRAPH 2007), one
for each channel: any gain, gamma or tint, and one that differs from corner to corner. Being smooth, it moves tones and leaves
detail as it is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...types import Flow
from ...warp import resize, resize_flow, warp
from .motion import Motion

_BINS = 16  # of value
_CELLS = 4  # along the short side
_SHORT_SIDE = 96  # of the pictures that are compared: tones need no pixels
_BORROW = 0.008  # share of a picture's pixels at which a cell believes itself as much as the whole picture
_OUTLIER = 5  # times the swing: no flicker, another light
_SURE = 2.5  # times the swing: a slope or bend of that size is half believed
_FLOOR = 0.8 / 255  # deviation that flow and grain leave in the cells of a clean clip


def steady_tone(picture: Tensor, motion: Motion, index: int, radius: int) -> Tensor:
    """`picture`, frame `index` [1, 3, H, W], in the tones that the frames within `radius` agree upon, in [0, 1]."""
    flows = motion.around(index, radius)
    if not flows:
        return picture
    offsets = torch.tensor(sorted(flows), dtype=picture.dtype, device=picture.device)
    correction = trend_gap(offsets, _tone_series(motion, index, flows))
    return (picture + _look_up(correction, picture)).clamp(0, 1)


def _tone_series(motion: Motion, index: int, flows: dict[int, Flow]) -> Tensor:
    """How much brighter than frame `index` each frame that `flows` lead to is, in order: [K, 3, bins, rows, columns]."""
    small = motion.small(index)
    scale = min(1.0, _SHORT_SIDE / min(small.shape[-2:]))
    height, width = (round(length * scale) for length in small.shape[-2:])
    here = resize(small, height, width)
    around = torch.cat([motion.small(index + offset) for offset in sorted(flows)])
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
    down = _tents(height, max(1, round(_CELLS * height / short)), guide)
    across = _tents(width, max(1, round(_CELLS * width / short)), guide)
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


def _tents(length: int, cells: int, like: Tensor) -> Tensor:
    """Weights [cells, length] that sum to 1 at each pixel: linear interpolation between the centres of the cells."""
    at = (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) * cells / length - 0.5
    centres = torch.arange(cells, dtype=like.dtype, device=like.device)
    return (1 - (at.clamp(0, cells - 1) - centres[:, None]).abs()).clamp_min(0)


def _smooth_bins(curve: Tensor) -> Tensor:
    """Each bin of [K, 3, bins, 1, 1] with half of its neighbours."""
    padded = torch.cat((curve[:, :, :1], curve, curve[:, :, -1:]), dim=2)
    return 0.25 * padded[:, :, :-2] + 0.5 * curve + 0.25 * padded[:, :, 2:]


def trend_gap(offsets: Tensor, deviation: Tensor) -> Tensor:
    """How far frame 0 is from where the frames around it put it: [...], in the unit of `deviation` [K, ...].

    `deviation` holds frame k minus frame 0 for the K `offsets`, neighbours of 0 and of each other. The trend is a parabola
    through the frames that flicker can explain: beyond a step, none. A gap where nothing swings to and fro is none.
    """
    times = torch.cat((offsets, offsets.new_zeros(1)))
    order = times.argsort()
    times, series = times[order], torch.cat((deviation, torch.zeros_like(deviation[:1])))[order]
    noise = _swing(series)
    usual = _usual(times, series)
    far = (series - usual) / (_OUTLIER * noise.clamp_min(_FLOOR))
    gap = _trend_at_zero(times, series, 1 / (1 + far**8), noise)
    evidence = noise.square() + usual.square()
    return gap * (1 - _FLOOR**2 / evidence.clamp_min(1e-12)).clamp_min(0)


def _swing(series: Tensor) -> Tensor:
    """Standard deviation of independent noise in `series` [N, ...], blind to parabolas, to one step and to one odd frame."""
    if len(series) < 4:
        return torch.zeros_like(series[0])
    bends = torch.diff(series, n=2, dim=0)
    spread = (bends - bends.median(dim=0).values).abs().median(dim=0).values
    return spread / (0.6745 * 6**0.5)  # a bend of unit noise has variance 1 + 4 + 1


def _usual(times: Tensor, series: Tensor) -> Tensor:
    """What the nearest frames before and after agree upon, against frame 0's nought: the smaller if of one sign, else 0."""
    sides = [series[part] for part in ((times < 0) & (times >= -2), (times > 0) & (times <= 2))]
    if not all(len(side) for side in sides):
        return torch.zeros_like(series[0])
    before, after = (side.mean(dim=0) for side in sides)
    return torch.where(before * after > 0, torch.where(before.abs() < after.abs(), before, after), torch.zeros_like(before))


def _trend_at_zero(times: Tensor, series: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
    """The weighted least-squares parabola through `series` [N, ...] at time 0; slope and bend count as far as noise allows."""
    here = int((times == 0).nonzero())
    value = torch.zeros_like(noise)
    basis: list[Tensor] = []
    for power in range(3):
        column = (times**power).reshape(-1, *[1] * noise.ndim) * torch.ones_like(series)
        for earlier in basis:
            column = column - (weights * column * earlier).sum(dim=0) * earlier
        column = column / (weights * column.square()).sum(dim=0).sqrt().clamp_min(1e-3)
        basis.append(column)
        part = (weights * column * series).sum(dim=0)
        doubt = (_SURE * noise / part.abs().clamp_min(1e-9)) ** 4 if power else torch.zeros_like(part)
        value = value + part * column[here] / (1 + doubt)
    return value


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
