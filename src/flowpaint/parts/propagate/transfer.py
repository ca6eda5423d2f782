"""Transfer: what the edit did at the key frame, done to another frame.

    E_t(p) = G(S_t(p)) + R(m(p)) + A(m(p)) (f_t(p) - f_0(m(p))),        R = E_0 - G(S_0)

G is what the edit is as a function of colour alone; R is what it is beyond that, carried along the field m; A is the local
regression of R on source features f (colour, and luma at two blurs): a multi-channel guided filter (He, Sun, Tang, ECCV 2010)
that repairs small errors of m. An edit that is a recolouring is met by G alone, wherever m errs. R and S_0 are averaged over
the places to which neighbouring pixels point (patch voting, as in Kwatra et al., SIGGRAPH 2005), each place counting by how
well it shows this pixel's own colour.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...labels import grey
from ...regression import ColourMap, regress
from ...smoothing import box, extend, smooth_on_grid
from ...warp import grid_of, resize, sample_at
from .match import rescale

Votes = Literal[1, 5, 13]
_RING = ((0, 0), (-2, -2), (2, 2), (-2, 2), (2, -2))
_DISC = ((0, 0), (-1, -1), (1, 1), (-1, 1), (1, -1), (-2, 0), (2, 0), (0, 2), (0, -2), (-3, -3), (3, 3), (-3, 3), (3, -3))
_TAPS: dict[Votes, tuple[tuple[int, int], ...]] = {1: ((0, 0),), 5: _RING, 13: _DISC}
_SLOPES_SIDE = 512  # short side at which slopes are kept: they are smooth over a window anyway


def features(picture: Tensor, unit: float) -> Tensor:
    """What the local regression may use, [1, 5, H, W]: colour, and luma blurred by 2 and 5 `unit`s (pixels at 256)."""
    luma = grey(picture)
    return torch.cat([picture, smooth_on_grid(luma, 2 * unit), smooth_on_grid(luma, 5 * unit)], dim=1)


@dataclass(frozen=True)
class Transfer:
    """An edit measured at its key frame, ready to be done to other frames."""

    colours: ColourMap
    voted: Tensor  # [1, 6, H, W]: R and S_0
    sampled: Tensor  # [1, 2 + 15, h, w], at a short side of 512 at most: blurred lumas of S_0, slopes A
    unit: float  # one pixel at short side 256, in this picture's pixels

    @classmethod
    def measure(cls, source: Tensor, edited: Tensor, *, ridge: float, where: Tensor | None = None) -> "Transfer":
        """What turns `source` into `edited`, both [1, 3, H, W] in [0, 1].

        For a local edit, `where` [1, 1, H, W] tells how far each pixel shows it unmixed: those are measured, and what they
        say is carried outward.
        """
        unit = max(1.0, min(source.shape[-2:]) / 256)
        scale = min(1.0, _SLOPES_SIDE / min(source.shape[-2:]))
        size = round(source.shape[-2] * scale), round(source.shape[-1] * scale)
        small = resize(source, *size)
        colours = ColourMap.fit(small, resize(edited, *size), None if where is None else resize(where, *size))
        rest = edited - colours(source)
        if where is not None:
            rest = torch.lerp(extend(rest, where, 3 * unit), rest, where)
        seen = features(small, unit * scale)
        slopes = regress(seen, resize(rest, *size), 11, ridge).flatten(1, 2)
        return cls(colours, torch.cat([rest, source], dim=1), torch.cat([seen[:, 3:], box(slopes, 9)], dim=1), unit)

    def __call__(self, frame: Tensor, field: Tensor, votes: Votes = 5) -> Tensor:
        """`frame` [1, 3, H, W] edited likewise; `field` [1, 2, H, W] says where in the key frame each pixel is. [1, 3, H, W]."""
        voted = self._vote(frame, field, _TAPS[votes])
        sampled = self._sample(field)
        change = features(frame, self.unit) - torch.cat([voted[:, 3:], sampled[:, :2]], dim=1)
        slopes = sampled[:, 2:].unflatten(1, (3, -1))
        result = self.colours(frame).add_(voted[:, :3])
        for place in range(change.shape[1]):  # one feature at a time: all products at once would be the largest tensor here
            result.addcmul_(slopes[:, :, place], change[:, place : place + 1])
        return result.clamp_(0.0, 1.0)

    def _sample(self, field: Tensor) -> Tensor:
        """Blurred lumas and slopes where `field` points: [1, 17, H, W]."""
        height, width = field.shape[-2:]
        small = self.sampled.shape[-2:]
        return resize(sample_at(self.sampled, rescale(field, *small)), height, width)

    def _vote(self, frame: Tensor, field: Tensor, taps: tuple[tuple[int, int], ...]) -> Tensor:
        """R and S_0 as the neighbours' matches see them here, weighted by likeness of colour: [1, 6, H, W]."""
        height, width = field.shape[-2:]
        reach = max(abs(step) for tap in taps for step in tap)
        # At the border neighbours beyond it are thought to be displaced alike.
        shift = field - grid_of(field)
        padded = F.pad(shift, (reach,) * 4, mode="replicate") if reach else shift
        total, mass = torch.zeros_like(self.voted[..., :1, :1]), torch.zeros_like(field[:, :1])
        for x, y in taps:
            theirs = padded[..., reach + y : reach + y + height, reach + x : reach + x + width]
            vote = sample_at(self.voted, theirs + grid_of(field))
            weight = 1.0 / (0.01 + (vote[:, 3:] - frame).square().sum(dim=1, keepdim=True))
            total, mass = total + weight * vote, mass + weight
        voted: Tensor = total / mass
        return voted
