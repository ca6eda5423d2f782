"""Local edits: which parts of the picture were edited, and how.

A part is *recoloured* where the source's own surface was given another look (a red shirt), and a *layer* where something else
was put (a costume, a hat).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...colour import apply_affine, fit_affine
from ...regression import regress
from ...smoothing import box, dilate, erode, extend, gaussian
from ...types import Extent
from .extent import Decision, changed, decide
from .outline import Outline
from .transfer import features

_SEED, _SEED_MOST = 0.07, 0.2  # a difference that begins a region, whatever the noise; and the most that it may take
_FAINT = 0.012  # what a region has more than the noise around it, where it ends
_SMALLEST = 0.001  # of the picture: smaller regions are noise
_RECOLOURED = 0.75  # share of a region's variance that the source explains: above it the surface is the source's own
_SHAPE_SHARE = 0.03  # of the edited area: more uncovered background than this means another outline


@dataclass(frozen=True)
class Region:
    """One connected edited part: `mask` [1, 1, h, w], and the source's object under it, where there is one: its `body`
    [1, 1, h, w] and what its `outline` looks like.
    """

    mask: Tensor
    is_layer: bool
    body: Tensor
    outline: Outline | None

    @classmethod
    def learn(cls, source: Tensor, mask: Tensor, explained: Tensor) -> "Region":
        """The part of an edit of `source` [1, 3, h, w] under `mask`; `explained` [1, 1, h, w] as `_explained` tells."""
        outline = Outline.learn(source, mask)
        is_layer = ((explained * mask).sum() / mask.sum()).item() < _RECOLOURED
        body = mask
        if outline:
            # What was recoloured is the object itself, and the mask errs by little; a layer may cover more, or less, of it.
            body = outline.find(source, mask) * mask if is_layer else outline.find(source, mask, outward=0, inward=2)
        return cls(mask, is_layer, body, outline)


@dataclass(frozen=True)
class Regions:
    """Where an edit of `source` [1, 3, h, w] is, at matching size: everywhere, or in `mask` [1, 1, h, w], which `parts`
    divide.
    """

    source: Tensor
    mask: Tensor
    parts: tuple[Region, ...]
    is_global: bool
    changes_shape: bool
    decision: Decision

    def clean(self) -> Tensor:
        """Where recoloured surfaces were recoloured beyond doubt, [1, 1, h, w] in [0, 1]: away from the edit's soft rim."""
        surfaces = [erode(part.mask * part.body, 3) for part in self.parts if not part.is_layer]
        return gaussian(torch.cat([torch.zeros_like(self.mask), *surfaces]).amax(dim=0, keepdim=True), 1.0)

    @classmethod
    def find(cls, source: Tensor, edited: Tensor, extent: Extent) -> "Regions":
        """Find where `edited` [1, 3, h, w] differs from `source`; "auto" finds out if the whole picture or a part was edited."""
        if extent == "global":
            return cls._whole(source, Decision(False, "as was asked for", changed(source, edited)))
        fitted = _without_drift(source, edited)
        mask = _differing((edited - fitted).abs().amax(dim=1, keepdim=True))
        decision = decide(source, edited, mask) if extent == "auto" else Decision(True, "as was asked for", mask.mean().item())
        if not decision.is_local:
            return cls._whole(source, decision)
        explained = _explained(source, edited)
        parts = tuple(Region.learn(source, part, explained) for part in _connected(mask))
        shape = _uncovered(edited, fitted, mask) > _SHAPE_SHARE * mask.sum().item()
        return cls(source, mask, parts, is_global=False, changes_shape=shape, decision=decision)

    @classmethod
    def _whole(cls, source: Tensor, decision: Decision) -> "Regions":
        return cls(source, torch.ones_like(source[:, :1]), (), is_global=True, changes_shape=False, decision=decision)


def _without_drift(source: Tensor, edited: Tensor) -> Tensor:
    """Return `source` [1, 3, h, w] with the drift of all colours that most of `edited` shows."""
    # Editors disturb fine texture everywhere, but by zero on average: tones tell where something was changed.
    toned = gaussian(edited - source, 6.0).abs().amax(dim=1, keepdim=True)
    return apply_affine(source, fit_affine(source[0], edited[0], (toned[0] < 0.05).float() + 1e-3))


def _differing(rest: Tensor) -> Tensor:
    """Return where a difference `rest` [1, 1, h, w] is more than the noise: regions that begin where it is clearly so, and go on
    to where they end (hysteresis: Canny, TPAMI 1986), to the pixel where there is no noise.
    """
    smooth = gaussian(rest, 1.5)
    seeds = _clean((smooth > min(_SEED_MOST, max(_SEED, 3 * smooth.median().item()))).float())
    around = dilate(seeds, 12) == 0
    if not seeds.any() or not around.any():
        return seeds
    least = torch.quantile(smooth[around], 0.95).item() + _FAINT
    near = [part for part in _connected(_clean((smooth > least).float())) if (part * seeds).any()]
    grown = torch.cat([seeds, *near]).amax(dim=0, keepdim=True)
    # Smoothing carried them three pixels beyond where they end.
    sharp = (rest > torch.quantile(rest[around], 0.95).item() + _FAINT / 2).float()
    return _clean(grown * erode(dilate(sharp, 3), 3))


def _clean(mask: Tensor) -> Tensor:
    """Gaps closed, specks dropped, small holes filled."""
    closed = dilate(erode(erode(dilate(mask, 3), 3), 1), 1)
    full = closed[0, 0].byte().cpu().numpy()
    for value, least in ((1, _SMALLEST), (0, 5 * _SMALLEST)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((full == value).astype(np.uint8), connectivity=8)
        small = [index for index in range(1, count) if stats[index, cv2.CC_STAT_AREA] < least * full.size]
        full[np.isin(labels, small)] = 1 - value
    return torch.from_numpy(full).to(mask)[None, None]


def _connected(mask: Tensor) -> list[Tensor]:
    """The connected parts of a mask: [1, 1, h, w] each."""
    count, labels = cv2.connectedComponents(mask[0, 0].byte().cpu().numpy())
    return [torch.from_numpy(labels == index).to(mask)[None, None] for index in range(1, count)]


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
