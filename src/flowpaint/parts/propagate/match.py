"""Correspondence: which point of the key frame does each pixel of a frame show?

A *field* m [1, 2, H, W] holds that point, (x, y) in pixels, for every pixel. Candidates come from the previous frame's
finished field carried along the flow between neighbours, from the field's own smooth trend and, now and then, from direct
flow and from an exhaustive match at an eighth of the size; the lowest cost around a pixel wins. What dense inverse search
still finds between the frame and the key frame as that field shows it is added: a smooth correction, by fractions of a pixel.
No random search takes part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...smoothing import gaussian, smooth_on_grid
from ...warp import grid_of, length, pixel_grid, sample_at
from .raster import Sampler, box, luma

_STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1))
_COARSE = 8  # the exhaustive match sees the picture at one eighth
_WINDOW = 9  # pixels around a pixel that are compared
_ROUNDING = 1e-6  # on a flat surface all costs are nearly 0, and none is better than another


@dataclass(frozen=True, slots=True)
class Match:
    """A field [1, 2, H, W] and its cost [1, 1, H, W]: mean squared difference of descriptors over a window."""

    field: Tensor
    cost: Tensor

    def better(self, other: "Match", margin: float = 1.0) -> "Match":
        """Per pixel `other` where its cost is below `margin` times this one's, by more than rounding."""
        wins = other.cost + _ROUNDING < margin * self.cost
        return Match(torch.where(wins, other.field, self.field), torch.where(wins, other.cost, self.cost))


@dataclass(frozen=True)
class Matcher:
    """Compares one frame with one key frame, both described: [1, 5, H, W]."""

    frame: Tensor
    key: Tensor

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.key)

    def __call__(self, candidates: Sequence[Tensor], *, search: bool, margin: float = 0.8) -> Match:
        """The best field from `candidates`. The first one is left only for a cost below `margin` of its own: a field that
        stays where it was does not flicker. `search` adds the exhaustive match.
        """
        best = self._judge(candidates[0])
        kept = Match(best.field, margin * best.cost)
        for candidate in candidates[1:]:
            kept = kept.better(self._judge(candidate))
        for sigma in (4.0, 16.0):
            kept = kept.better(self._judge(self._trend(kept, sigma)))
        if search:
            found = self._descend(self._judge(self._exhaustive(kept.field)), (4, 2, 1))
            kept = kept.better(found, margin=0.9)
        return kept.better(self._judge(self._polish(kept.field)))

    def pick(self, candidates: Sequence[Tensor]) -> Match:
        """The better of the candidates as they are."""
        best = self._judge(candidates[0])
        for candidate in candidates[1:]:
            best = best.better(self._judge(candidate))
        return best

    def _judge(self, field: Tensor) -> Match:
        miss = self._sampler(field).sub_(self.frame)
        total = miss[:, :1].square()
        for place in range(1, miss.shape[1]):
            total.addcmul_(miss[:, place : place + 1], miss[:, place : place + 1])
        return Match(field, box(total, _WINDOW))

    def _polish(self, field: Tensor) -> Tensor:
        """The field with what dense flow finds between the frame and the key frame as the field shows it."""
        grid = grid_of(field)
        place = grid + _dense(luma(self.frame[:, :3]), luma(self._sampler(field)[:, :3]))
        return place + sample_at(field - grid, place)

    def _trend(self, match: Match, sigma: float) -> Tensor:
        """The field smoothed by its confidence: heals islands that agree with nothing around them."""
        grid = grid_of(match.field)
        weight = torch.exp(-match.cost / 0.004) + 1e-4
        mass = smooth_on_grid(weight, sigma)
        return grid + smooth_on_grid((match.field - grid) * weight, sigma) / mass

    def _descend(self, match: Match, strides: Sequence[int]) -> Match:
        for stride in strides:
            for x, y in _STEPS:
                step = match.field.new_tensor([x * stride, y * stride])[None, :, None, None]
                match = match.better(self._judge(match.field + step))
        return match

    def _exhaustive(self, field: Tensor) -> Tensor:
        """The best match of every 5x5 block of eighth-size pixels among all of the key frame's, as one matrix product.
        A small price on the distance to `field` settles repeating patterns.
        """
        height, width = self.frame.shape[-2:]
        blocks, key_blocks = _blocks(self.frame), _blocks(self.key)
        squares = blocks.square().sum(dim=0)[:, None] + key_blocks.square().sum(dim=0)[None]
        price = (squares - 2 * blocks.T @ key_blocks) / 25
        places = _centres(self.key)
        expected = F.avg_pool2d(_whole_cells(field), _COARSE)
        here = expected[0].flatten(1)
        price = price + 1e-3 * torch.cdist(here.T, places.T) / _COARSE
        shift = (places[:, price.argmin(dim=1)] - here).unflatten(1, expected.shape[-2:])[None]
        shift = F.interpolate(shift, scale_factor=_COARSE, mode="nearest")
        return field + shift[..., :height, :width]


def _whole_cells(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % _COARSE, 0, -height % _COARSE), mode="replicate")


def _blocks(described: Tensor) -> Tensor:
    """Every 5x5 block of the eighth-size picture as a column: [C * 25, cells]."""
    coarse = F.avg_pool2d(_whole_cells(described), _COARSE)
    return F.unfold(F.pad(coarse, (2, 2, 2, 2), mode="replicate"), 5)[0]


def _centres(described: Tensor) -> Tensor:
    """Where the cells of the eighth-size picture lie in full-size pixels: [2, cells]."""
    height, width = (-(-side // _COARSE) for side in described.shape[-2:])
    grid = pixel_grid(height, width, described.device)
    return (grid * _COARSE + (_COARSE - 1) / 2)[0].flatten(1)


def _dense(a: Tensor, b: Tensor) -> Tensor:
    """Flow a to b of lumas [1, 1, H, W] by dense inverse search (Kroeger et al., ECCV 2016): [1, 2, H, W], pixels."""
    height, width = a.shape[-2:]
    # Small pictures are enlarged by repeating their edge: the search wants some pixels.
    pad = (0, max(0, 32 - width), 0, max(0, 32 - height))
    first, second = (
        np.ascontiguousarray(F.pad(one.clamp(0, 1), pad, mode="replicate")[0, 0].mul(255).round().byte().cpu().numpy())
        for one in (a, b)
    )
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = search.calc(first, second, np.zeros((*first.shape, 2), np.float32))
    return torch.from_numpy(found[:height, :width].copy()).permute(2, 0, 1)[None].to(a.device)


def rescale(field: Tensor, height: int, width: int) -> Tensor:
    """A field found at one size, for pictures of `height` x `width`: its displacement scaled and interpolated."""
    small_h, small_w = field.shape[-2:]
    if (small_h, small_w) == (height, width):
        return field
    # A pixel's centre lies half a pixel in: x_full = (x_small + 0.5) * scale - 0.5.
    scale = field.new_tensor([width / small_w, height / small_h])[None, :, None, None]
    shift = (field - pixel_grid(small_h, small_w, field.device)) * scale
    shift = F.interpolate(shift, size=(height, width), mode="bilinear", align_corners=False)
    return pixel_grid(height, width, field.device) + shift


def returns_to(there: Tensor, back: Tensor, slack: float) -> Tensor:
    """How nearly the field `there`, followed by the field `back`, returns to each pixel: [1, 1, h, w], 1 = exactly."""
    miss = length(sample_at(back, there) - grid_of(there))
    return torch.exp(-(miss / slack).square())


def confidence(match: Match, back: Tensor) -> Tensor:
    """How far a match can be trusted, [1, 1, H, W] in [0, 1]: low cost, and `back` (the key frame's field into this frame)
    returns within about two pixels.
    """
    return gaussian(returns_to(match.field, back, 3.0) * torch.exp(-match.cost / 0.02), 1.0)
