"""Where in a frame a masked piece of another frame is seen: comparing the two at every shift (block matching)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .colours import window_of

_CELLS = 6  # cells across the object, at least, where it has as many pixels
_COARSEST = 4
_PRICE = 1e-3  # of the whole reach, in the unit of the cost: of two that look alike, the nearer one
_LEAST_SEEN = 0.12  # share of the object that must be in the picture


@dataclass(frozen=True)
class Found:
    """A shift (x, y) in pixels and what it costs: mean squared difference of colours over the piece."""

    shift: tuple[float, float]
    cost: float


def search(piece: Tensor, mask: Tensor, frame: Tensor, *, expected: tuple[float, float], reach: float) -> Found | None:
    """The shift in whole pixels, at most `reach` from the `expected` one, at which `frame` [1, 3, h, w] looks most like
    `piece` [1, 3, h, w] under `mask` [1, 1, h, w]. None where less than an eighth of it would lie in the picture.
    """
    step = int(max(1, min(_COARSEST, (mask.sum().item() ** 0.5) // _CELLS)))
    found = _best(piece, mask, frame, step=step, expected=expected, reach=reach)
    if found is None or step == 1:
        return found
    return _best(piece, mask, frame, step=1, expected=found.shift, reach=step) or found


def _best(piece: Tensor, mask: Tensor, frame: Tensor, *, step: int, expected: tuple[float, float], reach: float) -> Found | None:
    """The best shift in steps of `step` pixels."""
    # Cells are whole, or shifts would not be whole multiples of them.
    odd = (0, -frame.shape[-1] % step, 0, -frame.shape[-2] % step)
    small, other = (F.avg_pool2d(F.pad(one, odd, mode="replicate"), step) for one in (piece, frame))
    weight = F.avg_pool2d(F.pad(mask, odd), step)
    height, width = weight.shape[-2:]
    window = window_of((weight > 0).float())
    small, weight = small[(..., *window)], weight[(..., *window)]
    tall, wide = weight.shape[-2:]
    x, y = (torch.arange(math.ceil((at - reach) / step), math.floor((at + reach) / step) + 1) for at in expected)
    # No shift that leaves nothing of it in the picture is worth a comparison.
    x = x[(x + window[1].start > -wide) & (x + window[1].start < width)]
    y = y[(y + window[0].start > -tall) & (y + window[0].start < height)]
    if len(x) == 0 or len(y) == 0:
        return None
    left, top = int(x[0]) + window[1].start, int(y[0]) + window[0].start
    right, bottom = int(x[-1]) + window[1].start + wide, int(y[-1]) + window[0].start + tall
    # Beyond the picture nothing is known and nothing is compared.
    pad = (-left, right - width, -top, bottom - height)
    inside, other = F.pad(torch.ones_like(other[:, :1]), pad), F.pad(other, pad)
    mass = F.conv2d(inside, weight)
    total = F.conv2d(inside, weight * small.square().sum(dim=1, keepdim=True))
    total = total - 2 * F.conv2d(other, weight * small) + F.conv2d(other.square().sum(dim=1, keepdim=True), weight)
    cost = (total / mass.clamp_min(1e-6) / 3).clamp_min(0)[0, 0]
    far = ((step * x[None, :] - expected[0]).square() + (step * y[:, None] - expected[1]).square()).to(mass)
    priced = torch.where(mass[0, 0] >= _LEAST_SEEN * weight.sum(), cost + _PRICE * far / max(reach, 1.0) ** 2, torch.inf)
    row, column = divmod(int(priced.argmin()), len(x))
    if not priced[row, column].isfinite():
        return None
    return Found(shift=(float(step * x[column]), float(step * y[row])), cost=float(cost[row, column]))


def shifted(picture: Tensor, shift: tuple[float, float]) -> Tensor:
    """`picture` [1, C, h, w] moved by whole pixels (x, y); what comes in from beyond is 0."""
    across, down = round(shift[0]), round(shift[1])
    height, width = picture.shape[-2:]
    moved = torch.zeros_like(picture)
    rows, columns = slice(max(0, down), min(height, height + down)), slice(max(0, across), min(width, width + across))
    if rows.start < rows.stop and columns.start < columns.stop:
        source = slice(rows.start - down, rows.stop - down), slice(columns.start - across, columns.stop - across)
        moved[..., rows, columns] = picture[..., source[0], source[1]]
    return moved
