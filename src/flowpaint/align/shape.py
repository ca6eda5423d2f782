"""The new object's shape: its mask in the edited picture, divided among the objects that it stands for."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..colour import apply_affine, fit_affine
from ..errors import InputError
from ..smoothing import dilate, erode, gaussian
from ..types import check_shape, to_raw
from ..warp import resize

_SIDE = 384  # short side at which shapes are found
_LEAST_CHANGE, _MOST_CHANGE = 0.05, 0.2  # difference of colour that counts as a change
_NEAR = 0.5  # of an object's extent: changes farther from it are other edits
_CRUMB = 0.02  # of the shape: smaller pieces and holes are noise
_BESIDE = 8  # pixels within which a piece belongs to the object
_AROUND = 20  # pixels around what may be the object that teach what its ground looks like
_RIM = 2  # pixels about a change that are changed, too
_SMOOTH = 1.5  # pixels: finer teeth of an outline are those of the cut
_SURELY = 0.1  # of the candidate that must be left for a cut to be believed
_ROUNDS = 4


def new_shape(source: Tensor, edited: Tensor, objects: Sequence[Tensor]) -> Tensor:
    """The mask [1, 1, H, W], 0 or 1, of what `edited` shows in place of the `objects` of `source`.

    Both pictures are [3, H, W] in [0, 1], the objects [1, 1, H, W]. What an edit leaves of an object is the new one's. What it
    changes is new object, or ground that an object covered before: GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) tells by
    the colours around. Nothing is left where the objects were removed. Raises `InputError` where the edit changed nothing.
    """
    check_shape(source=(source, "3 H W"), edited=(edited, "3 H W"))
    height, width = source.shape[-2:]
    scale = min(1.0, _SIDE / min(height, width))
    size = max(8, round(height * scale)), max(8, round(width * scale))
    before, after = (resize(one[None], *size) for one in (source, edited))
    old = (resize(torch.cat([one.amax(dim=0, keepdim=True) for one in objects]).amax(dim=0, keepdim=True), *size) > 0.5).to(
        before
    )
    changed = _changed(before, after, old)
    if not changed.any():
        raise InputError("The edited picture is the frame as it was: nothing changed where the object is. Give another one.")
    kept = old * (1 - dilate(changed, _RIM))  # what the editor left of the old object is there still
    found = _touching(_whole(_cut(after, torch.maximum(changed, old), changed)), dilate(old, _BESIDE))
    found = (gaussian(torch.maximum(found, erode(dilate(kept, 1), 1)), _SMOOTH) > 0.5).to(found)
    return (resize(found, height, width) > 0.5).to(source)


def shares(shape: Tensor, objects: Sequence[Tensor]) -> list[Tensor]:
    """The new `shape` [1, 1, H, W] divided among several `objects` [1, 1, H, W]: each pixel goes to the nearest of them."""
    if len(objects) == 1:
        return [shape]
    far = torch.cat([_distance(one) for one in objects])
    nearest = far.argmin(dim=0, keepdim=True)
    return [shape * (nearest == number).to(shape) for number in range(len(objects))]


def _changed(before: Tensor, after: Tensor, old: Tensor) -> Tensor:
    """Where the edit changed the picture in and about the object `old`: 0 or 1."""
    near = dilate(old, max(4, round(_NEAR * _extent(old))))
    around = (1 - dilate(old, 4))[0]
    # An editor may shift the tones of everything: what that does not explain is the edit.
    toned = apply_affine(before, fit_affine(before[0], after[0], around + 1e-3))
    difference = gaussian((after - toned).abs().amax(dim=1, keepdim=True), 1.0)
    noise = float(difference[around[None] > 0.5].median()) if (around > 0.5).any() else 0.0
    limit = min(_MOST_CHANGE, max(_LEAST_CHANGE, 4 * noise))
    return _whole((difference > limit).to(before)) * near


def _extent(mask: Tensor) -> float:
    rows, columns = (mask[0, 0].amax(dim=axis).nonzero().flatten() for axis in (1, 0))
    return float(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)


def _cut(picture: Tensor, candidate: Tensor, changed: Tensor) -> Tensor:
    """The object of `picture` [1, 3, h, w] within `candidate`, told from the ground around by colour: 0 or 1."""
    possible = dilate(candidate, 2)[0, 0].cpu().numpy() > 0.5
    labels = np.full(possible.shape, cv2.GC_BGD, np.uint8)
    labels[possible] = cv2.GC_PR_FGD
    window = _window(dilate(candidate, _AROUND)[0, 0].cpu().numpy() > 0.5)
    inner = labels[window].copy()
    if (inner != cv2.GC_BGD).all():
        return candidate  # nothing around it to learn the ground from
    pixels = np.ascontiguousarray(to_raw(picture[0])[window][..., ::-1]).astype(np.uint8)
    ground, thing = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its clusters start by chance
    cv2.grabCut(pixels, inner, (0, 0, 1, 1), ground, thing, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = np.zeros(possible.shape, np.float32)
    found[window] = inner & 1  # both kinds of foreground are odd
    cut = torch.from_numpy(found).to(candidate)[None, None]
    return cut if float(cut.sum()) >= _SURELY * float(changed.sum()) else torch.zeros_like(candidate)


def _whole(mask: Tensor) -> Tensor:
    """`mask` with its gaps closed, crumbs dropped and small holes filled."""
    closed = erode(dilate(mask, 2), 2)
    full = closed[0, 0].byte().cpu().numpy()
    for value in (1, 0):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((full == value).astype(np.uint8), connectivity=8)
        small = [one for one in range(1, count) if stats[one, cv2.CC_STAT_AREA] < _CRUMB * max(1, int(full.sum()))]
        full[np.isin(labels, small)] = 1 - value
    return torch.from_numpy(full).to(mask)[None, None]


def _touching(mask: Tensor, near: Tensor) -> Tensor:
    """The pieces of `mask` that reach into `near`: what stands apart from the object is another edit."""
    _, labels = cv2.connectedComponents(mask[0, 0].byte().cpu().numpy())
    reached = set(np.unique(labels[near[0, 0].cpu().numpy() > 0.5])) - {0}
    return torch.from_numpy(np.isin(labels, list(reached))).to(mask)[None, None]


def _distance(mask: Tensor) -> Tensor:
    """How far each pixel is from `mask` [1, 1, H, W]: the same shape, pixels."""
    far = cv2.distanceTransform((mask[0, 0] < 0.5).byte().cpu().numpy(), cv2.DIST_L2, 5)
    return torch.from_numpy(np.asarray(far)).to(mask)[None, None]


def _window(where: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
