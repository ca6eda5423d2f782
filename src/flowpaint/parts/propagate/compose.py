"""One frame from one key frame: transfer everywhere for a global edit; for a local one transfer on the source's own surfaces,
layers over it, and the frame itself elsewhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...smoothing import dilate
from ...warp import resize, sample_at
from .beside import echo, restore
from .layer import Carried
from .match import Match, rescale
from .regions import Regions
from .transfer import Transfer, Votes


@dataclass(frozen=True)
class Key:
    """An edited key frame and all that is measured on it once."""

    source: Tensor  # [1, 3, H, W]
    edited: Tensor  # [1, 3, H, W]
    small: Tensor  # [1, 3, h, w], the source at matching size
    described: Tensor  # [1, 5, h, w]
    regions: Regions
    transfer: Transfer
    same: Tensor | None  # [1, 1, H, W], where the edit left it as it was (`beside.untouched`)


@dataclass(frozen=True)
class Tracked:
    """A frame against a key frame, at matching size: where the frame is in the key, back again, how far to trust it, and
    where the parts of a local edit are (None for a global one).
    """

    match: Match
    back: Match
    trust: Tensor  # [1, 1, h, w] in [0, 1]
    carried: Carried | None


def render(key: Key, track: Tracked, frame: Tensor, votes: Votes, fading: float) -> tuple[Tensor, Tensor]:
    """`frame` [1, 3, H, W] edited like `key`, and how far to trust it [1, 1, H, W]; `fading` is `beside.fading`."""
    height, width = frame.shape[-2:]
    carried = track.carried
    if carried is None:
        field = rescale(track.match.field, height, width)
        picture, own = restore(key.transfer(frame, field, votes), frame, key.same, field)
        return picture, torch.maximum(resize(track.trust, height, width), own)
    surface, layer = (resize(one, height, width) for one in (carried.surface, carried.layer))
    result = frame
    if fading > 0:
        quiet = track.trust * (1 - sample_at(dilate(key.regions.mask, 4), track.match.field))
        share = fading * resize(quiet, height, width)
        result = echo(frame, key.source, key.edited, rescale(track.match.field, height, width), share)
    if surface.max() > 0:
        result = torch.lerp(result, key.transfer(frame, rescale(carried.field, height, width), votes), surface)
    if layer.max() > 0:
        picture = sample_at(key.edited, rescale(carried.place, height, width))
        result = torch.lerp(result, picture, layer)
    # Outside the edit there is nothing to get wrong.
    return result, torch.maximum(resize(track.trust, height, width), 1 - torch.maximum(surface, layer))
