"""One frame from one key frame: transfer everywhere for a global edit; for a local one transfer on the source's own surfaces,
layers over it, and the frame itself elsewhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...warp import resize, sample_at
from .layer import carry, widen
from .match import Tracked, rescale
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


def render(key: Key, track: Tracked, frame: Tensor, small: Tensor, votes: Votes) -> tuple[Tensor, Tensor]:
    """`frame` [1, 3, H, W] (`small` at matching size) edited like `key`, and how far to trust it [1, 1, H, W]."""
    height, width = frame.shape[-2:]
    if key.regions.is_global:
        picture = key.transfer(frame, rescale(track.match.field, height, width), votes)
        return picture, resize(track.trust, height, width)
    carried = carry(key.regions, track, small)
    surface, layer, bare = (resize(one, height, width) for one in (carried.surface, carried.layer, carried.bare))
    result = frame
    if surface.max() > 0:
        result = torch.lerp(result, key.transfer(frame, rescale(carried.field, height, width), votes), surface)
    if layer.max() > 0:
        picture = sample_at(key.edited, rescale(carried.place, height, width))
        # Where the source's object peeps out beside its layer, the layer is widened.
        result = torch.lerp(result, widen(picture, layer), bare)
        result = torch.lerp(result, picture, layer)
    # Outside the edit there is nothing to get wrong.
    return result, torch.maximum(resize(track.trust, height, width), 1 - torch.maximum(surface, layer))
