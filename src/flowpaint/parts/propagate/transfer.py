"""Transfer: what the edit did at the key frame, done to another frame.

    E_t(p) = H(S_t(p)) + R(m(p)),        R = E_0 - H(S_0)

H is what the edit is as a filter of the picture (`bank`); R is what it is beyond that, strokes, paper, a texture, carried along
the field m. An edit that is a recolouring, a smoothing or a drawing of edges is met by H alone, wherever m errs. R is averaged
over the places to which neighbouring pixels point (patch voting, as in Kwatra et al., SIGGRAPH 2005), each place counting by how
well its luma shows this pixel's own.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...labels import grey
from ...smoothing import extend, smooth_on_grid
from ...warp import grid_of
from .bank import Bank, Filter
from .raster import Sampler, luma

Votes = Literal[1, 5, 13]
_RING = ((0, 0), (-2, -2), (2, 2), (-2, 2), (2, -2))
_DISC = ((0, 0), (-1, -1), (1, 1), (-1, 1), (1, -1), (-2, 0), (2, 0), (0, 2), (0, -2), (-3, -3), (3, 3), (-3, 3), (3, -3))
_TAPS: dict[Votes, tuple[tuple[int, int], ...]] = {1: ((0, 0),), 5: _RING, 13: _DISC}
_REACH = 3  # pixels by which a tap is off at most
_ALIKE = 0.01  # squared difference of colour at which a place counts half


@dataclass(frozen=True)
class Transfer:
    """An edit measured at its key frame, ready to be done to other frames."""

    filter: Filter
    rest: Tensor  # R [1, 3, H, W]
    voters: Sampler  # R and the luma of S_0, [1, 4, H, W]

    @classmethod
    def measure(cls, source: Tensor, edited: Tensor, *, where: Tensor | None = None) -> "Transfer":
        """Return what turns `source` into `edited`, both [1, 3, H, W] in [0, 1].

        For a local edit, `where` [1, 1, H, W] tells how far each pixel shows it unmixed: those are measured, and what they
        say is carried outward.
        """
        bank = Bank.of(source)
        learnt = Filter.fit(bank, edited, where)
        rest = edited - learnt(bank, learnt.coarse(bank))
        if where is not None:
            unit = max(1.0, min(source.shape[-2:]) / 256)
            rest = torch.lerp(extend(rest, where, 3 * unit), rest, where)
        return cls(learnt, rest, Sampler(torch.cat([rest, luma(source)], dim=1)))

    def __call__(self, frame: Tensor, field: Tensor, votes: Votes = 5) -> Tensor:
        """Return `frame` [1, 3, H, W] edited likewise; `field` [1, 2, H, W] says where in the key frame each pixel is."""
        bank = Bank.of(frame)
        made = self.filter(bank, self.filter.coarse(bank))
        return made.add_(self.vote(luma(frame), padded(field - grid_of(field)), votes)).clamp_(0.0, 1.0)

    def vote(self, light: Tensor, shift: Tensor, votes: Votes, rows: tuple[int, int] | None = None) -> Tensor:
        """Return the `rows`, from and to, of R as the neighbours' matches see it: [1, 3, h, W].

        `light` [1, 1, h, W] is the luma of those rows; `shift` is the whole displacement, `padded`.
        """
        height, width = light.shape[-2:]
        top = rows[0] if rows else 0
        grid = grid_of(light)
        grid[:, 1] += top
        total = mass = torch.zeros(())
        for x, y in _TAPS[votes]:
            across, down = slice(_REACH + x, _REACH + x + width), slice(_REACH + y + top, _REACH + y + top + height)
            vote = self.voters(shift[..., down, across] + grid)
            if len(_TAPS[votes]) == 1:
                return vote[:, :3]
            weight = (vote[:, 3:] - light).square_().mul_(3.0).add_(_ALIKE).reciprocal_()
            total, mass = total + vote[:, :3].mul_(weight), mass + weight
        return total / mass


def features(picture: Tensor, unit: float) -> Tensor:
    """What a local regression may use, [1, 5, H, W]: colour, and luma blurred by 2 and 5 `unit`s (pixels at 256)."""
    light = grey(picture)
    return torch.cat([picture, smooth_on_grid(light, 2 * unit), smooth_on_grid(light, 5 * unit)], dim=1)


def padded(shift: Tensor) -> Tensor:
    """Return a displacement [1, 2, H, W] with a rim for `Transfer.vote`: beyond the border, neighbours are displaced alike."""
    return F.pad(shift, (_REACH,) * 4, mode="replicate")
