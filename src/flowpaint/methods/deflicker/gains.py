"""How the light changed from one frame to the next, over the picture: a factor for each row, each column and each cell.

Light multiplies what it falls on. Its change between two frames that are laid onto each other is therefore fitted as a gain, a
sum of smooth fields: rows (the bands of a rolling shutter), columns (the same, of a camera held upright), and coarse and fine
cells (a lamp, a window). What changed everywhere alike, as a curve over the values, is fitted as well and left to the
stage of tones. The fit is robust (iteratively re-weighted least squares with Cauchy's weights): motion that flow got wrong and
things that come into view are outliers.
"""

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

_BINS = 16  # of value, for the curve of the whole picture
_CELLS = 3, 8  # along the short side
_ROWS = 48
_ROUNDS = 5
_OUTLIER = 2.0  # times the median misfit: such a pixel counts a half
_CLIPPED = 0.985  # values above do not show how much light there was
_RIDGE = 1e-4  # share of the picture's pixels, all white, at which a field is half believed
_APART = 128.0, 256.0  # pixels that err together: in cells, in rows and columns


def measure(here: Tensor, after: Tensor, seen: Tensor) -> Tensor:
    """Return the gains from `here` to `after`, laid onto it, both [1, 3, h, w] in [0, 1], where it is `seen` [1, 1, h, w].

    [2, 3, N]: logarithms of gains, then their variance, for each channel in all N rows, columns and cells (`sizes`).
    """
    guide, change = (here + after)[0] / 2, (after - here)[0]
    fields = [_Field(rows, columns, guide) for rows, columns in sizes(*guide.shape[-2:])]
    values = _shares(guide)
    usable = seen[0] * (torch.maximum(here, after)[0] < _CLIPPED)
    weight, gain, miss = usable, torch.zeros_like(guide), change
    for _ in range(_ROUNDS):
        curve = _curve(values, change - gain * guide, weight)
        for field in fields:
            gain = gain - field.spread()
            field.fit(change - curve - gain * guide, guide, weight)
            gain = gain + field.spread()
        miss = change - curve - gain * guide
        weight = usable * _trust(miss, usable)
    return torch.cat([field.result(miss, guide, weight) for field in fields], dim=2)


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return the rows and columns of each field of gains of a picture."""
    short = min(height, width)
    coarse, fine = ((max(1, round(cells * height / short)), max(1, round(cells * width / short))) for cells in _CELLS)
    return [coarse, (min(_ROWS, max(1, height // 2)), 1), (1, min(_ROWS, max(1, width // 2))), fine]


def at_pixels(gains: Tensor, fields: list[tuple[int, int]], height: int, width: int) -> Tensor:
    """Return the sum of the `fields` (`sizes`) of `gains` [3, N] at each pixel of a picture: [3, height, width]."""
    ends = list(accumulate(rows * columns for rows, columns in fields))
    found = gains.new_zeros(3, height, width)
    for (rows, columns), end in zip(fields, ends, strict=True):
        values = gains[:, end - rows * columns : end].view(3, rows, columns)
        found += tents(height, rows, gains).T @ values @ tents(width, columns, gains)
    return found


class _Field:
    """A smooth field of gains: linear between the centres of rows x columns cells."""

    def __init__(self, rows: int, columns: int, like: Tensor) -> None:
        height, width = like.shape[-2:]
        self._down, self._across = tents(height, rows, like), tents(width, columns, like)
        self._ridge = _RIDGE * height * width
        self._apart = _APART[1 if 1 in (rows, columns) else 0]
        self._values = like.new_zeros(3, rows, columns)

    def spread(self) -> Tensor:
        """Return the gain at each pixel: [3, h, w]."""
        return self._down.T @ self._values @ self._across

    def fit(self, change: Tensor, guide: Tensor, weight: Tensor) -> None:
        """Fit the field to `change` [3, h, w] as a gain on `guide`: weighted least squares of each cell by itself."""
        self._values = self._gathered(weight * guide * change) / (self._gathered(weight * guide.square()) + self._ridge)

    def result(self, miss: Tensor, guide: Tensor, weight: Tensor) -> Tensor:
        """Return the gains and their variance [2, 3, rows * columns], as the misfit `miss` [3, h, w] tells it."""
        information = self._gathered(weight * guide.square()) + self._ridge
        variance = self._apart * self._gathered((weight * guide * miss).square()) / information.square()
        return torch.stack((self._values, variance)).flatten(2)

    def _gathered(self, values: Tensor) -> Tensor:
        return self._down @ values @ self._across.T


def _trust(miss: Tensor, usable: Tensor) -> Tensor:
    """Return a weight [1, h, w] for each pixel, smaller the farther it is from the fit."""
    square = miss.square().sum(dim=0, keepdim=True)
    known = square[usable.amax(dim=0, keepdim=True) > 0]
    median = known.median() if len(known) else square.new_tensor(1.0)
    return 1 / (1 + square / (_OUTLIER**2 * median + 1e-5))


def _shares(guide: Tensor) -> Tensor:
    """Return how much each pixel of `guide` [3, h, w] belongs to each bin of value: [3, bins, h * w]."""
    centres = torch.arange(_BINS, dtype=guide.dtype, device=guide.device)[None, :, None]
    return (1 - (guide.flatten(1)[:, None] * (_BINS - 1) - centres).abs()).clamp_min(0)


def _curve(shares: Tensor, change: Tensor, weight: Tensor) -> Tensor:
    """Return the mean `change` [3, h, w] of the pixels of like value, at each pixel."""
    given = weight.expand_as(change).flatten(1)[..., None]
    mass = _smooth(shares @ given)
    total = _smooth(shares @ (given * change.flatten(1)[..., None]))
    mean = total.sum(dim=1, keepdim=True) / mass.sum(dim=1, keepdim=True).clamp_min(1e-6)
    trust = 0.004 * given.shape[1]  # bins that hold less lean on the mean
    curve = (total + trust * mean) / (mass + trust)
    return (curve.transpose(1, 2) @ shares).view_as(change)


def _smooth(curve: Tensor) -> Tensor:
    """Return each bin of [3, bins, 1] with half of its neighbours."""
    padded = F.pad(curve.transpose(1, 2), (1, 1), mode="replicate").transpose(1, 2)
    return 0.25 * padded[:, :-2] + 0.5 * curve + 0.25 * padded[:, 2:]


def tents(length: int, cells: int, like: Tensor) -> Tensor:
    """Return weights [cells, length] that sum to 1 at each pixel: linear interpolation between the centres of the cells."""
    at = (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) * cells / length - 0.5
    centres = torch.arange(cells, dtype=like.dtype, device=like.device)
    return (1 - (at.clamp(0, cells - 1) - centres[:, None]).abs()).clamp_min(0)
