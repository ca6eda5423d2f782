"""Local edits: which part of the picture was edited, and carrying what was put there as a layer of its own.

Matching a frame to the key frame pixel by pixel tears a replaced object at its rim: what the edit added beyond the source's
outline lies over *background* and would move with it. So each edited region gets one motion of its own, measured inside it on
the key frame's grid, smoothed and carried outward, and its picture is laid over the frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...smoothing import box, dilate, erode, extend, gaussian
from ...warp import grid_of, pixel_grid, sample_at
from .transfer import features, regress

_GLOBAL_SHARE = 0.6  # more edited pixels than this: the whole picture was edited
_SMALLEST = 0.001  # of the picture: smaller regions are noise
_RECOLOURED = 0.75  # share of a region's variance that the source explains: above it the surface is the source's own
_SHAPE_SHARE = 0.03  # of the edited area: more uncovered background than this means another outline


@dataclass(frozen=True)
class Regions:
    """Where an edit is, at matching size.

    `mask` [1, 1, h, w]: 1 where edited; `recoloured` [1, 1, h, w]: the part of it where the source's own surface was given
    another look; `layers` [L, 1, h, w]: the parts where something else was put, one region each.
    """

    mask: Tensor
    recoloured: Tensor
    layers: Tensor
    is_global: bool
    changes_shape: bool

    @classmethod
    def find(cls, source: Tensor, edited: Tensor, fitted: Tensor) -> "Regions":
        """Compare `edited` [1, 3, h, w] with `fitted`, the source under the edit's global colour change."""
        difference = gaussian((edited - fitted).abs().amax(dim=1, keepdim=True), 1.5)
        if (difference > 0.07).float().mean() > _GLOBAL_SHARE:
            ones = torch.ones_like(difference)
            return cls(ones, ones, ones[:0], is_global=True, changes_shape=False)
        # Editors disturb fine texture everywhere: what counts as edited must stand out from that.
        threshold = min(0.2, max(0.07, 3 * difference.median().item()))
        mask = _clean((difference > threshold).float())
        parts = _parts(mask)
        explained = _explained(source, edited)
        is_layer = [((explained * part).sum() / part.sum()).item() < _RECOLOURED for part in parts]
        layers = parts[torch.tensor(is_layer, dtype=torch.bool)]
        recoloured = mask - layers.sum(dim=0, keepdim=True)
        shape = _uncovered(edited, fitted, mask) > _SHAPE_SHARE * mask.sum().item()
        return cls(mask, recoloured, layers, is_global=False, changes_shape=shape)


def _clean(mask: Tensor) -> Tensor:
    """Gaps closed, specks dropped, small holes filled."""
    closed = dilate(erode(erode(dilate(mask, 3), 3), 1), 1)
    full = closed[0, 0].byte().cpu().numpy()
    for value, least in ((1, _SMALLEST), (0, 5 * _SMALLEST)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((full == value).astype(np.uint8), connectivity=8)
        small = [index for index in range(1, count) if stats[index, cv2.CC_STAT_AREA] < least * full.size]
        full[np.isin(labels, small)] = 1 - value
    return torch.from_numpy(full).to(mask)[None, None]


def _parts(mask: Tensor) -> Tensor:
    """The connected parts of a mask: [L, 1, h, w]."""
    count, labels = cv2.connectedComponents(mask[0, 0].byte().cpu().numpy())
    parts = [torch.from_numpy(labels == index).to(mask) for index in range(1, count)]
    return torch.stack(parts)[:, None] if parts else mask[:0]


def _explained(source: Tensor, edited: Tensor) -> Tensor:
    """Share of the edit's local variance that a linear function of the source explains: [1, 1, h, w] in [0, 1]."""
    window = 11
    seen = features(source, 1.0)
    slopes = regress(seen, edited, window, 5e-4)
    centred = edited - box(edited, window)
    predicted = (slopes * (seen - box(seen, window))[:, None]).sum(dim=2)
    rest = box((centred - predicted).square().sum(dim=1, keepdim=True), window)
    return (1 - rest / (box(centred.square().sum(dim=1, keepdim=True), window) + 1e-5)).clamp(0, 1)


def _uncovered(edited: Tensor, fitted: Tensor, mask: Tensor) -> float:
    """Edited pixels that now show what lies around the region, where the source showed something else."""
    outside = 1 - dilate(mask, 2)
    around = extend(edited, outside, 6.0)
    spread = extend((edited - around).square().mean(dim=1, keepdim=True) * outside, outside, 6.0).clamp(min=1e-6).sqrt()
    limit = 1.5 * spread + 0.02
    now = (gaussian(edited, 1.0) - around).square().mean(dim=1, keepdim=True).sqrt()
    before = (gaussian(fitted, 1.0) - around).square().mean(dim=1, keepdim=True).sqrt()
    bare = mask * (now < limit) * (before > 2 * limit)
    return dilate(erode(bare, 2), 2).sum().item()


@dataclass(frozen=True)
class Carried:
    """Where the layers are in a frame, at matching size.

    `alpha` [1, 1, h, w] how much of a layer shows; `field` [1, 2, h, w] which point of the key frame it shows there;
    `surface` [1, 1, h, w], on the key frame's grid: 1 where the region's motion is the source's own there.
    """

    alpha: Tensor
    field: Tensor
    surface: Tensor


def carry(regions: Regions, there: Tensor, trust: Tensor) -> Carried:
    """The layers moved along `there` [1, 2, h, w], where each of the key frame's pixels is seen in the frame, believed as
    far as `trust` [1, 1, h, w] says.
    """
    grid = grid_of(there)
    motion = there - grid
    apart = _stands_apart(motion, trust * (1 - dilate(regions.mask, 4)))
    alpha, field = torch.zeros_like(trust), grid
    surface = regions.recoloured
    for part in regions.layers.split(1):
        weight = _depth(part).square() * trust
        # An added hat lies over background but follows the head: where part of a region moves with something in front,
        # that part leads.
        front = ((apart * weight).sum() / (weight.sum() + 1e-8) - 0.08) / 0.10
        leads = torch.lerp(torch.ones_like(apart), apart, front.clamp(0, 1))
        surface = torch.maximum(surface, part * leads)
        place = _invert(_region_motion(motion, weight * leads + 1e-6 * part))
        shows = sample_at(gaussian(dilate(part, 2), 1.0), place)
        field = torch.where(shows > alpha, place, field)
        alpha = torch.maximum(alpha, shows)
    return Carried(alpha, field, surface)


def _depth(part: Tensor) -> Tensor:
    """Distance to the region's edge, up to 12 pixels: [1, 1, h, w]."""
    distance = cv2.distanceTransform(part[0, 0].byte().cpu().numpy(), cv2.DIST_L2, 3)
    return torch.from_numpy(distance).to(part)[None, None].clamp(max=12.0)


def _stands_apart(motion: Tensor, background: Tensor) -> Tensor:
    """1 where the motion is not the background's affine one: soft, [1, 1, h, w]."""
    rest = (motion - _affine_motion(motion, background)).norm(dim=1, keepdim=True)
    return torch.sigmoid((box(rest, 5) - 1.5) / 0.4)


def _affine_motion(motion: Tensor, weight: Tensor) -> Tensor:
    """The affine motion nearest to `motion` under `weight`, outliers discounted (IRLS, Geman-McClure): [1, 2, h, w]."""
    height, width = motion.shape[-2:]
    grid = pixel_grid(height, width, motion.device)[0].flatten(1).T / max(height, width)
    basis = torch.cat([grid, torch.ones_like(grid[:, :1])], dim=1)
    wanted, given = motion[0].flatten(1).T, weight.flatten()[:, None] + 1e-6
    now = given
    for _ in range(10):
        normal = (basis * now).T @ basis + 1e-6 * now.sum() * torch.eye(3, device=motion.device)
        answer = torch.linalg.solve(normal, (basis * now).T @ wanted)
        rest = (basis @ answer - wanted).norm(dim=1, keepdim=True)
        now = given / (1 + rest.square()).square()
    return (basis @ answer).T.reshape(1, 2, height, width)


def _region_motion(motion: Tensor, weight: Tensor) -> Tensor:
    """A region's motion everywhere: its affine part, and as much of the smooth rest as the region's own pixels support."""
    affine = _affine_motion(motion, weight)
    rest = motion - affine
    # A match that went astray is an outlier of the region's motion, not part of it.
    agrees = weight / (1 + (rest.norm(dim=1, keepdim=True) / 4.0).square()).square()
    return affine + extend(rest, agrees, 6.0)


def _invert(motion: Tensor) -> Tensor:
    """The field p -> q with q + motion(q) = p, by fixed-point iteration."""
    grid = grid_of(motion)
    place = grid
    for _ in range(8):
        place = grid - sample_at(motion, place)
    return place
