"""Labels of pixels, given to them for what they resemble in pictures whose labels are known.

(Non-local means, Buades, Coll, Morel, CVPR 2005; as label propagation in video, Wang, Jabri, Efros, CVPR 2019.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .smoothing import box, dilate, erode, gradient

_LUMA = (0.299, 0.587, 0.114)
_REACH = 6  # pixels around its own place where a pixel looks for what it resembles
_PER_SQUARE = 5e-4  # price of a pixel's distance squared, in the unit of a match's cost
_LIKE = 2e-3  # difference of cost that tells one resemblance from another
_UNSURE = 3  # pixels by which an outline that was found may be off


def grey(picture: Tensor) -> Tensor:
    """Rec. 601 luma [1, 1, H, W] of [1, 3, H, W]."""
    return (picture * picture.new_tensor(_LUMA)[None, :, None, None]).sum(dim=1, keepdim=True)


def describe(picture: Tensor) -> Tensor:
    """What is compared: colour, and the gradient of luma counted twice. [1, 5, H, W] of [1, 3, H, W]."""
    return torch.cat([picture, gradient(grey(picture))], dim=1)


@dataclass(frozen=True)
class Labelled:
    """A `picture` [1, 3, h, w] laid over a frame, and its `label` [1, 1, h, w] in [0, 1]."""

    picture: Tensor
    label: Tensor


def resemble(frame: Tensor, known: Sequence[Labelled], matched: Tensor, cost: Tensor) -> Tensor:
    """The labels of `frame` [1, 3, h, w], [1, 1, h, w] in [0, 1]: of what each pixel resembles in the `known` pictures, or
    of its match in the key frame, labelled `matched` [1, 1, h, w] at a `cost` [1, 1, h, w]. Far from any label it is 0.
    """
    return recognise(frame, known, matched, cost)[0]


def recognise(frame: Tensor, known: Sequence[Labelled], matched: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """`resemble`, and how unlike the likest is: its cost [1, 1, h, w], 0 = the same; 0 far from any label, too."""
    window = _around(torch.cat([one.label for one in known]).amax(dim=0, keepdim=True))
    here = _cut(describe(frame), window)
    costs, labels = [_cut(cost, window)], [_cut(matched, window)]
    for one in known:
        for square, shifted in _shifts(_cut(torch.cat([describe(one.picture), one.label], dim=1), window), _REACH):
            difference = (here - shifted[:, :-1]).square().sum(dim=1, keepdim=True)
            costs.append(box(difference, 5) + _PER_SQUARE * square)
            labels.append(shifted[:, -1:])
    least = torch.cat(costs, dim=1).amin(dim=1, keepdim=True)
    return _paste(_vote(costs, labels), window, matched), _paste(least, window, matched)


def refine(frame: Tensor, label: Tensor) -> Tensor:
    """`label` [1, 1, h, w], 0 or 1, of `frame` [1, 3, h, w], with each pixel near its rim labelled anew, by what it
    resembles farther from the rim: soft, [1, 1, h, w] in [0, 1].
    """
    window = _around(label)
    here, old = _cut(frame, window), _cut(label, window)
    unsure = dilate(old, _UNSURE) - erode(old, _UNSURE)
    costs, labels = [], []
    for square, shifted in _shifts(torch.cat([here, old, unsure], dim=1), _UNSURE + _REACH):
        difference = (here - shifted[:, :3]).square().sum(dim=1, keepdim=True)
        costs.append(box(difference, 3) + 0.2 * _PER_SQUARE * square + shifted[:, 4:])
        labels.append(shifted[:, 3:4])
    return _paste(torch.lerp(old, _vote(costs, labels), unsure), window, label)


def _shifts(picture: Tensor, reach: int) -> Iterator[tuple[int, Tensor]]:
    """`picture` [1, C, h, w] shifted to every place within `reach` pixels, and the square of the distance."""
    height, width = picture.shape[-2:]
    padded = F.pad(picture, (reach,) * 4, mode="replicate")
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            square = (x - reach) ** 2 + (y - reach) ** 2
            if square <= reach**2:
                yield square, padded[..., y : y + height, x : x + width]


def _vote(costs: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    alike = torch.softmax(-torch.cat(list(costs), dim=1) / _LIKE, dim=1)
    return (alike * torch.cat(list(labels), dim=1)).sum(dim=1, keepdim=True)


def _cut(picture: Tensor, window: tuple[slice, slice]) -> Tensor:
    return picture[..., window[0], window[1]]


def _paste(picture: Tensor, window: tuple[slice, slice], like: Tensor) -> Tensor:
    out = torch.zeros_like(like)
    out[..., window[0], window[1]] = picture
    return out


def _around(label: Tensor) -> tuple[slice, slice]:
    """The window that holds what may be labelled: at least one pixel."""
    near = dilate(label, 2 * _REACH)[0, 0] > 0.1
    rows, columns = near.any(dim=1).nonzero().flatten(), near.any(dim=0).nonzero().flatten()
    if len(rows) == 0:
        return slice(0, 1), slice(0, 1)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def signed_distance(mask: Tensor) -> Tensor:
    """Distance in pixels to the rim of `mask` [1, 1, h, w], positive inside: [1, 1, h, w]."""
    full = (mask[0, 0] > 0.5).byte().cpu().numpy()
    inner, outer = (cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in (full, 1 - full))
    return torch.from_numpy(np.asarray(inner - outer)).to(mask)[None, None]
