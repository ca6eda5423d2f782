"""Edges of depth for a loss: Canny (PAMI 1986) on batches, in torch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..smoothing import dilate, gaussian

_AXES = ((0, 1), (1, 1), (1, 0), (1, -1))  # (down, across) of the neighbours at 0, 45, 90, 135 degrees


def depth_edges(depth: Tensor, *, sigma: float, low: float = 0.1, high: float = 0.2) -> Tensor:
    """1 on edges of `depth` [N, 1, H, W] in [0, 1], else 0, the same shape.

    `sigma` is that of a Gaussian in pixels; `low` and `high` are thresholds of Sobel's gradient, a unit of depth a pixel being 8
    (as StableV2V, suppl. A, sets them: sigma 2 at 384 pixels, 0.1, 0.2).
    """
    smooth = gaussian(depth, sigma)
    across = smooth.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    dx, dy = F.conv2d(padded, torch.stack((across, across.T))[:, None]).split(1, dim=1)
    strength = (dx.square() + dy.square()).sqrt()
    kept = _crests(strength, dx, dy)
    edges = (kept > high).float()
    weak = (kept > low).float()
    while True:  # what is weak is an edge where it hangs together with a strong one
        grown = dilate(edges, 1) * weak
        if torch.equal(grown, edges):
            return edges
        edges = grown


def _crests(strength: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """`strength` where it is the highest across its edge, else 0."""
    height, width = strength.shape[-2:]
    around = F.pad(strength, (1, 1, 1, 1))
    sector = (torch.atan2(dy, dx) / (torch.pi / 4)).round().long() % 4
    kept = torch.zeros_like(strength)
    for number, (down, right) in enumerate(_AXES):
        ahead = around[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        behind = around[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        crest = (sector == number) & (strength >= ahead) & (strength > behind)
        kept = torch.where(crest, strength, kept)
    return kept
