"""FRESCO-aware feature optimisation (CVPR 2024, section 3.3): a few Adam steps on decoder features, then their old statistics."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...types import check_shape
from .background import smooth_features
from .losses import source_energy, spatial_loss, temporal_loss
from .ring import Ring
from .switches import Switches

_EPS = 1e-5


def optimised(
    features: Tensor,
    ring: Ring,
    source: Tensor | None = None,
    *,
    switches: Switches,
    background: Tensor | None = None,
) -> Tensor:
    """Features that agree along the flow and keep the source's self-similarity: a new tensor [S N, C, h, w] as `features`.

    `ring` at any size; `source`, unit tokens [S N, h w, C] of the reference pass, or None to leave the spatial loss out;
    `background` [N, 1, H, W] in [0, 1], 1 = smoothed along the flow afterwards. Computed in float32, also under `no_grad` and
    `inference_mode`. With both losses left out nothing is optimised and nothing renormalised.
    """
    check_shape(features=(features, "B C h w"))
    with torch.inference_mode(False):
        start = features.detach().float().clone()
        near = ring.to(start).at(*features.shape[-2:])
        loss = objective(near, None if source is None else source.to(start), switches)
        if loss is not None and switches.iterations:
            moved, _ = descend(start, loss, iterations=switches.iterations, lr=switches.lr)
            start = renormalised(moved, start, eps=switches.adain_eps)
        if background is not None:
            start = smooth_features(start, near, background.to(start))
    return start.to(features.dtype)


def objective(ring: Ring, source: Tensor | None, switches: Switches) -> Callable[[Tensor], Tensor] | None:
    """The weighted sum of both losses of features [S N, C, h, w]; None if neither counts. `ring` must have their size."""
    temporal = switches.temporal_weight > 0
    spatial = switches.spatial_weight > 0 and source is not None
    if not (temporal or spatial):
        return None
    energy = source_energy(source) if source is not None and spatial and switches.spatial_norm == "l2sq" else None

    def loss(features: Tensor) -> Tensor:
        total = features.new_zeros(())
        if temporal:
            apart = temporal_loss(features, ring, cyclic=switches.cyclic_pairs, both=switches.both_directions)
            total = total + switches.temporal_weight * apart
        if spatial and source is not None:
            apart = spatial_loss(features, source, norm=switches.spatial_norm, energy=energy)
            total = total + switches.spatial_weight * apart
        return total

    return loss


def descend(start: Tensor, loss: Callable[[Tensor], Tensor], *, iterations: int, lr: float) -> tuple[Tensor, Tensor]:
    """Where Adam (betas 0.9, 0.999, eps 1e-8) gets from `start`, and the loss before each of its steps [iterations]."""
    with torch.enable_grad():
        at = start.detach().clone().requires_grad_()
        adam = torch.optim.Adam([at], lr=lr)
        curve = []
        for _ in range(iterations):
            adam.zero_grad()
            value = loss(at)
            value.backward()
            adam.step()
            curve.append(value.detach())
    return at.detach(), torch.stack(curve) if curve else start.new_empty(0)


def renormalised(features: Tensor, like: Tensor, *, eps: float) -> Tensor:
    """`features` [B, C, h, w] with mean and deviation of `like`, per row and channel (AdaIN, Huang and Belongie, ICCV 2017).

    Variances are unbiased; 1e-5 is added to that of `features`, `eps` to that of `like`: the released FRESCO adds 1 and so
    raises the contrast of flat channels.
    """
    check_shape(features=(features, "B C h w"), like=(like, "B C h w"))
    mean, deviation = _statistics(features, _EPS)
    wanted_mean, wanted_deviation = _statistics(like, eps)
    return (features - mean) / deviation * wanted_deviation + wanted_mean


def _statistics(features: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the cells, [B, C, 1, 1] each. One cell has no deviation."""
    cells = features.shape[-2] * features.shape[-1]
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=min(1, cells - 1), keepdim=True)
    return mean, (variance + eps).sqrt()
