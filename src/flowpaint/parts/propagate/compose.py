"""One frame from one key frame: transfer everywhere for a global edit; for a local one transfer on the source's own surfaces,
layers over it, and the frame itself elsewhere.

A result has two parts. Its *base* is what the frame itself tells, once the edit is known: it has no history. Its *rest* comes
from the key frame along a match, and may be steadied by what the frame before showed.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...warp import grid_of
from .bank import Bank
from .layer import Carried
from .match import Match
from .raster import Sampler, enlarge, luma
from .regions import Regions
from .transfer import Transfer, Votes, padded

Rows = tuple[int, int]  # of a picture, from (even) and to


@dataclass(frozen=True)
class Shown:
    """A frame [1, 3, H, W] and its bank of features."""

    picture: Tensor

    @cached_property
    def bank(self) -> Bank:
        return Bank.of(self.picture)


@dataclass(frozen=True)
class Key:
    """An edited key frame and all that is measured on it once."""

    source: Tensor  # [1, 3, H, W]
    edited: Tensor  # [1, 3, H, W]
    small: Tensor  # [1, 3, h, w], the source at matching size
    described: Tensor  # [1, 5, h, w]
    regions: Regions
    transfer: Transfer

    @cached_property
    def layer(self) -> Sampler:
        """The edited picture, to be laid over frames."""
        return Sampler(self.edited)


@dataclass(frozen=True)
class Tracked:
    """A frame against a key frame, at matching size: where the frame is in the key, back again, how far to trust it, and
    where the parts of a local edit are (None for a global one).
    """

    match: Match
    back: Match
    trust: Tensor  # [1, 1, h, w] in [0, 1]
    carried: Carried | None

    @property
    def sure(self) -> Tensor:
        """How far to trust a result, [1, 1, h, w]: outside the edit there is nothing to get wrong."""
        if self.carried is None:
            return self.trust
        return torch.maximum(self.trust, 1 - torch.maximum(self.carried.surface, self.carried.layer))


@dataclass(frozen=True)
class Placed:
    """A `Tracked` at the frame's own size: displacements `padded`, the others [1, 1, H, W], None where nothing is there."""

    shift: Tensor  # of what is transferred
    sure: Tensor
    surface: Tensor | None  # None: everywhere
    layer: Tensor | None
    place: Tensor | None  # displacement of the layer, [1, 2, H, W]

    @classmethod
    def of(cls, track: Tracked, height: int, width: int) -> "Placed":
        """Return `track` for pictures of `height` x `width`."""
        sure, carried = enlarge(track.sure, height, width), track.carried
        if carried is None:
            return cls(padded(displacement(track.match.field, height, width)), sure, None, None, None)
        layer = enlarge(carried.layer, height, width) if carried.layer.max() > 0 else None
        place = None if layer is None else displacement(carried.place, height, width)
        surface = enlarge(carried.surface, height, width)
        return cls(padded(displacement(carried.field, height, width)), sure, surface, layer, place)


def displacement(field: Tensor, height: int, width: int) -> Tensor:
    """Return how far a field [1, 2, h, w] displaces the pixels of pictures of `height` x `width`: [1, 2, height, width]."""
    small_h, small_w = field.shape[-2:]
    scale = field.new_tensor([width / small_w, height / small_h])[None, :, None, None]
    return enlarge((field - grid_of(field)) * scale, height, width)


def filtered(key: Key, shown: Shown, coarse: tuple[Tensor, Tensor], rows: Rows) -> Tensor:
    """Return `rows` of the frame with the edit of `key` as far as it is a filter: [1, 3, h, W]."""
    return key.transfer.filter(shown.bank, coarse, rows)


def render(key: Key, placed: Placed, shown: Shown, base: Tensor, rows: Rows, votes: Votes) -> tuple[Tensor, Tensor]:
    """Return `rows` of the frame edited like `key`, [1, 3, h, W], as base and rest; `base` is `filtered`."""
    top, bottom = rows
    frame = shown.picture[..., top:bottom, :]
    rest = key.transfer.vote(luma(frame), placed.shift, votes, rows)
    if placed.surface is not None:
        surface = placed.surface[..., top:bottom, :]
        base, rest = torch.lerp(frame, base, surface), rest * surface
    if placed.layer is not None and placed.place is not None:
        layer, place = placed.layer[..., top:bottom, :], placed.place[..., top:bottom, :] + grid_of(frame)
        place[:, 1] += top
        base, rest = base * (1 - layer), torch.lerp(rest, key.layer(place), layer)
    return base, rest
