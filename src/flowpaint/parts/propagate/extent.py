"""Was a part of the picture edited, or the whole of it? A local edit must be earned; in doubt an edit is global.

A filter may leave much of a picture as it is: what is dark, what is smooth, what is grey. Taken for a local edit it would be cut
into layers and dragged along. So an edit is local only if its changes form few compact regions, if around them the
picture is still, and if no filter of the whole picture explains them, as far as can be told: elsewhere the same colours and the
same detail were left alone, or what was put there is nothing that a filter makes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...labels import grey
from ...regression import ColourMap
from ...smoothing import box, dilate, gaussian, gradient
from ...warp import pixel_grid

_CHANGED = 0.02  # difference from which on a pixel counts as changed, in what is reported
_REGIONS = 8  # regions that may hold nine tenths of a local edit
_COMPACT = 0.35  # mean depth of the regions, 1 for discs of their size
_TONES = 0.25  # change of tone around a local edit, as a share of the change in it
_STILL = 0.35  # and change of detail
_EXPLAINED = 0.98  # of the change in the regions: where a filter of the whole picture explains so much, it is one
_PARTLY = 0.6  # and so much, where nothing contradicts
_LEFT_ALONE = 0.25  # of the change: this contradicts, that so much was left alone where the picture looks alike
_LIKE = 0.08  # distance of look, colours in 0..1, up to which two pixels are alike
_SAMPLES = 3000  # pixels that are compared
_SPILL = 12  # pixels around the regions that belong to neither side
_RIDGE = 1e-6  # per pixel


@dataclass(frozen=True)
class Decision:
    """Whether an edit is local, `why`, and the `share` of the picture that it changed, 0 to 1."""

    is_local: bool
    why: str
    share: float

    def __str__(self) -> str:
        return f"{'local' if self.is_local else 'global'} ({self.why}); {self.share:.1%} of the picture changed"


def decide(source: Tensor, edited: Tensor, mask: Tensor) -> Decision:
    """Return whether `edited` [1, 3, h, w] is an edit of the part of `source` under `mask` [1, 1, h, w], or of all of it."""
    share = changed(source, edited)
    if not mask.any():
        why = "nothing changed" if share == 0 else "no region changed clearly"
        return Decision(share == 0, why, share)
    for doubt in (_scattered(mask), _restless(edited - source, mask), _filtered(source, edited, mask)):
        if doubt:
            return Decision(False, doubt, share)
    return Decision(True, "few regions changed, as nothing else in the picture did", mask.mean().item())


def changed(source: Tensor, edited: Tensor) -> float:
    """Return the share of the pixels of `source` [1, 3, h, w] that `edited` changed visibly, 0 to 1."""
    difference = gaussian((edited - source).abs().amax(dim=1, keepdim=True), 1.5)
    return (difference > _CHANGED).float().mean().item()


def _scattered(mask: Tensor) -> str:
    """Say that the changed regions are many or no compact ones; "" if they are few and compact."""
    full = mask[0, 0].byte().cpu().numpy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(full, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(float)
    largest = np.sort(areas)[::-1].cumsum()
    needed = int(np.searchsorted(largest, 0.9 * largest[-1])) + 1
    if needed > _REGIONS:
        return f"the changed places are scattered over {needed} regions and more"
    depth = cv2.distanceTransform(full, cv2.DIST_L2, 3)
    # A disc of area A has a mean depth of sqrt(A / pi) / 3.
    discs = [depth[labels == index].mean() / (np.sqrt(areas[index - 1] / np.pi) / 3) for index in range(1, count)]
    compact = float((np.array(discs) * areas).sum() / areas.sum())
    return "" if compact >= _COMPACT else f"the changed regions are thin: {compact:.2f} as deep as discs"


def _restless(difference: Tensor, mask: Tensor) -> str:
    """Say that the picture changed around the regions, too; "" if it did not."""
    around = 1 - dilate(mask, _SPILL)
    if not around.any():
        return "the changed regions fill the picture"
    tone = gaussian(difference, 6.0)
    tones = tone.abs().amax(dim=1, keepdim=True)
    tone_share = torch.quantile(tones[around > 0], 0.9) / torch.quantile(tones[mask > 0], 0.75).clamp(min=1e-4)
    outside = ((difference - tone).square().mean(dim=1, keepdim=True) * around).sum() / around.sum()
    inside = (difference.square().mean(dim=1, keepdim=True) * mask).sum() / mask.sum()
    detail_share = (outside / inside.clamp(min=1e-8)).sqrt()
    if tone_share <= _TONES and detail_share <= _STILL:
        return ""
    return f"around the changed regions it is changed {max(tone_share.item(), detail_share.item()):.0%} as much"


def _filtered(source: Tensor, edited: Tensor, mask: Tensor) -> str:
    """Say that a filter of the whole picture may have changed what is under the mask; "" if none did."""
    rest = edited - ColourMap.fit(source, edited)(source)
    rest = rest - _filter(source, rest)
    left = (rest.square() * mask).sum() / ((edited - source).square() * mask).sum().clamp(min=1e-8)
    explained = 1 - left.item()
    if explained >= _EXPLAINED:
        return f"a filter of colour, detail and place explains {explained:.1%} of the change"
    if explained >= _PARTLY and (alone := _left_alone(source, edited, mask)) < _LEFT_ALONE:
        return f"a filter may explain it: the like of {1 - alone:.0%} of what changed is nowhere left alone"
    return ""


def _left_alone(source: Tensor, edited: Tensor, mask: Tensor) -> float:
    """Return for which share of the change under the mask there are pixels elsewhere that look alike and did not change so.

    Pixels are compared by their colour and by how much detail is around them: each of the changed ones with the three others
    that are likest.
    """
    changes = box((edited - source).square().mean(dim=1, keepdim=True), 5).flatten()
    looks = _look(source)[0].flatten(1).T
    drawn = torch.Generator().manual_seed(0)
    inside, outside = ((one.flatten() > 0).nonzero().flatten() for one in (mask, 1 - dilate(mask, 6)))
    inside, outside = (_some(one, count, drawn) for one, count in ((inside, _SAMPLES), (outside, 3 * _SAMPLES)))
    if len(outside) < 3:
        return 0.0
    apart, likest = torch.cdist(looks[inside], looks[outside]).topk(3, largest=False)
    more = (changes[inside] - changes[outside][likest].mean(dim=1)).clamp(min=0)
    return ((more * (apart[:, -1] < _LIKE)).sum() / changes[inside].sum().clamp(min=1e-8)).item()


def _look(picture: Tensor) -> Tensor:
    """Return colour, and the strength of fine and of coarser detail: [1, 5, h, w]."""
    fine, coarse = gaussian(picture, 1.0), gaussian(picture, 3.0)
    finest = box((picture - fine).square().mean(dim=1, keepdim=True), 5)
    middle = box((fine - coarse).square().mean(dim=1, keepdim=True), 7)
    return torch.cat([fine, 3 * finest.sqrt(), 3 * middle.sqrt()], dim=1)


def _some(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return at most `count` of the indices, sampled at random."""
    return indices[torch.randperm(len(indices), generator=generator)[:count].to(indices.device)]


def _filter(source: Tensor, wanted: Tensor) -> Tensor:
    """Return what of `wanted` [1, 3, h, w] linear filters of `source` give: of its details, and of its light by place."""
    height, width = source.shape[-2:]
    luma = grey(source)
    finest, fine, middle = (gaussian(source, sigma) for sigma in (1.0, 2.0, 5.0))
    details = [source - finest, finest - fine, fine - middle, gradient(luma)]
    bends = [grey(one).abs() for one in (source - finest, finest - fine)]
    place = pixel_grid(height, width, source.device) / max(height, width) - 0.5
    x, y = place[:, :1], place[:, 1:]
    light = [one * two for one in (x, y, x * x, x * y, y * y) for two in (torch.ones_like(luma), source)]
    columns = torch.cat([*details, *bends, *light, torch.ones_like(luma)], dim=1)[0].flatten(1).T
    ridge = _RIDGE * len(columns) * torch.eye(columns.shape[1], device=columns.device)
    fitted: Tensor = columns @ torch.linalg.solve(columns.T @ columns + ridge, columns.T @ wanted[0].flatten(1).T)
    return fitted.T.reshape(wanted.shape)
