"""Laying an edited picture back onto its source frame: image editors shift, zoom and stretch what they are given."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from .smoothing import box, gaussian, gradient
from .types import check_shape
from .warp import affine_motion, grid_of, length, resize, resize_flow, sample_at

_SIDE = 384  # the short side at which structure is compared
_ROUNDS = 3
_AGREEING = 0.35  # share of the structure that must move as one for a drift to be believed
_SMALLEST = 0.5  # pixels at that size: a smaller drift is left alone, since moving a picture softens it
_TOLERANCE = 1.5  # pixels at that size: sigma of the blur under which edges are compared


@dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """An edited picture in place: `picture` [3, H, W], the median misfit left (pixels of the frame), whether it was moved and by
    what.
    """

    picture: Tensor
    residual: float
    moved: bool
    message: str


def register(picture: Tensor, source: Tensor) -> Registration:
    """`picture` [3, H, W] laid onto `source` [3, H, W], both in [0, 1].

    Structure (gradient magnitude of luma over its local mean, which survives a change of look) is compared by dense flow; an
    affine drift that much of it shares is undone. What does not follow it is the edit itself, and stays.
    """
    check_shape(picture=(picture, "3 H W"), source=(source, "3 H W"))
    height, width = source.shape[-2:]
    scale = min(1.0, _SIDE / min(height, width))
    small = max(16, round(height * scale)), max(16, round(width * scale))
    reference, edited = resize(source[None].float().cpu(), *small), resize(picture[None].float().cpu(), *small)
    weight = _structure(reference) * box(_structure(reference), 9)
    drift = _drift(reference, edited, weight)
    span = length(drift).mean().item()
    moved = span > _SMALLEST
    placed = sample_at(edited, grid_of(edited) + drift) if moved else edited
    misfit = (length(_flow(reference, placed)) / scale).flatten()
    textured = weight.flatten() > weight.median()
    residual = misfit[textured].median().item() if textured.any() else 0.0
    if not moved:
        return Registration(picture=picture, residual=residual, moved=False, message="it lies where it should.")
    full = resize_flow(drift, height, width).to(picture)
    result = sample_at(picture[None], grid_of(full) + full)[0]
    return Registration(
        picture=result, residual=residual, moved=True, message=f"it had drifted by {span / scale:.1f} pixels on average."
    )


def agreement(picture: Tensor, source: Tensor) -> float:
    """How well the edges of `picture` lie on those of `source`, both [3, H, W] in [0, 1]: 0 not at all, 1 all of them.

    The correlation of two fields, at a short side of 384 pixels within about 2 pixels: how strong an edge is for its
    surroundings, and that times the cosine and sine of twice its angle (Bigün, Granlund, ICCV 1987), so that the sign of an edge
    does not count, nor whether it became a line. Below 0 is 0; where `source` has no edges there is nothing to miss: 1.
    """
    check_shape(picture=(picture, "3 H W"), source=(source, "3 H W"))
    height, width = source.shape[-2:]
    scale = min(1.0, _SIDE / min(height, width))
    size = max(16, round(height * scale)), max(16, round(width * scale))
    a, b = (_edges(resize(one[None].float().cpu(), *size)) for one in (picture, source))
    if not b.any():
        return 1.0
    product = (a.square().sum() * b.square().sum()).sqrt().clamp(min=1e-6)
    return max(0.0, ((a * b).sum() / product).item())


def _edges(picture: Tensor) -> Tensor:
    """Edges and twice their angles, less their mean: [1, 3, H, W]."""
    across, down = gradient(gaussian(picture.mean(dim=1, keepdim=True), 1.0)).split(1, dim=1)
    square = across.square() + down.square()
    angles = torch.cat([square, across.square() - down.square(), 2 * across * down], dim=1) / square.clamp(min=1e-8)
    spread = gaussian(_structure(picture) * angles, _TOLERANCE)
    return spread - spread.mean(dim=(-2, -1), keepdim=True)


def _drift(reference: Tensor, edited: Tensor, weight: Tensor) -> Tensor:
    """The affine motion from `reference` to `edited` that their structure shares, zero where too little of it agrees."""
    drift = torch.zeros_like(reference[:, :2])
    for _ in range(_ROUNDS):
        rest = _flow(reference, sample_at(edited, grid_of(edited) + drift))
        affine = affine_motion(rest, weight)
        agreeing = (weight * (length(rest - affine) < 1.0)).sum() / weight.sum().clamp(min=1e-6)
        if agreeing < _AGREEING:
            break
        drift = drift + affine
    return drift


def _structure(picture: Tensor) -> Tensor:
    """How strongly each pixel is an edge compared with its surroundings: [1, 1, H, W] in [0, 1]."""
    luma = gaussian(picture.mean(dim=1, keepdim=True), 1.0)
    across = torch.nn.functional.pad(luma[..., 2:] - luma[..., :-2], (1, 1, 0, 0))
    down = torch.nn.functional.pad(luma[..., 2:, :] - luma[..., :-2, :], (0, 0, 1, 1))
    edge = torch.sqrt(across.square() + down.square())
    return (edge / (2.5 * box(edge, 31) + 0.01)).clamp(0.0, 1.0)


def _flow(a: Tensor, b: Tensor) -> Tensor:
    """Dense flow between the structures of two pictures: [1, 2, H, W], pixels."""
    first, second = ((255 * _structure(one))[0, 0].byte().numpy() for one in (a, b))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = estimator.calc(first, second, np.zeros((*first.shape, 2), np.float32))
    return torch.from_numpy(found).permute(2, 0, 1)[None]
