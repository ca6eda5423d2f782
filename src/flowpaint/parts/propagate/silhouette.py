"""Following an object's silhouette from frame to frame.

Each pixel near it takes the label of what it resembles in pictures whose labels are known: the key frame and the frame
before. (Non-local means, Buades, Coll, Morel, CVPR 2005; as label propagation in video, Wang, Jabri, Efros, CVPR 2019.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from ...smoothing import box, dilate, erode, gaussian, gradient, smooth_on_grid
from ...warp import sample_at
from .match import describe

_REACH = 6  # pixels around its own place where a pixel looks for what it resembles
_PER_SQUARE = 5e-4  # price of a pixel's distance squared, in the unit of a match's cost
_LIKE = 2e-3  # difference of cost that tells one resemblance from another
_UNSURE = 3  # pixels by which an outline that was found may be off
_RIM = 10.0  # pixels from an outline within which it moves what is near it
_BEND = 12.0  # pixels by which it may
_SPREADS = (24.0, 24.0, 16.0, 16.0, 10.0, 10.0, 10.0)  # pixels over which the bend is smooth, round by round
_DAMPING = 0.05  # share of the outline's say with which it holds back motion along itself
_STAY = 0.005  # and what holds back all else


@dataclass(frozen=True)
class Labelled:
    """A `picture` [1, 3, h, w] laid over a frame, and its `label` [1, 1, h, w] in [0, 1]."""

    picture: Tensor
    label: Tensor


def resemble(frame: Tensor, known: Sequence[Labelled], matched: Tensor, cost: Tensor) -> Tensor:
    """The labels of `frame` [1, 3, h, w], [1, 1, h, w] in [0, 1]: of what each pixel resembles in the `known` pictures, or
    of its match in the key frame, labelled `matched` [1, 1, h, w] at a `cost` [1, 1, h, w]. Far from any label it is 0.
    """
    window = _around(torch.cat([one.label for one in known]).amax(dim=0, keepdim=True))
    here = _cut(describe(frame), window)
    costs, labels = [_cut(cost, window)], [_cut(matched, window)]
    for one in known:
        for square, shifted in _shifts(_cut(torch.cat([describe(one.picture), one.label], dim=1), window), _REACH):
            difference = (here - shifted[:, :-1]).square().sum(dim=1, keepdim=True)
            costs.append(box(difference, 5) + _PER_SQUARE * square)
            labels.append(shifted[:, -1:])
    return _paste(_vote(costs, labels), window, matched)


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


def meet(place: Tensor, body: Tensor, seen: Tensor, held: Tensor) -> Tensor:
    """`place` [1, 2, h, w], the points of a key frame that a frame shows, bent so that the outline of the key frame's `body`
    [1, 1, h, w] falls on that of what is `seen` of it in the frame: limbs so get a motion of their own, that no match
    inside a plain or repeating surface tells. Where `held` [1, 1, h, w] is 1, `place` is right already, and stays.

    An outline tells only how far it moved across itself; the motion that agrees best with all of it nearby is found by
    least squares, over ever smaller neighbourhoods (Lucas, Kanade, IJCAI 1981, on the distance to the outline).
    """
    if not (body > 0.5).any() or not (seen > 0.5).any():
        return place
    here, there = signed_distance(seen), gaussian(signed_distance(body), 1.0)
    slope = gradient(there) / 2
    near = torch.exp(-(here / _RIM).square())
    for spread in _SPREADS:
        miss = (here - sample_at(there, place)).clamp(-_BEND, _BEND)
        across = sample_at(slope, place)
        x, y = across[:, :1], across[:, 1:]
        sums = smooth_on_grid(near * torch.cat([x * x, x * y, y * y, miss * x, miss * y, torch.ones_like(x)], dim=1), spread)
        rest = smooth_on_grid(held, spread)
        xx, xy, yy, mx, my, mass = sums.split(1, dim=1)
        damping = _DAMPING * mass + rest + _STAY
        xx, yy = xx + damping, yy + damping
        step = torch.cat([yy * mx - xy * my, xx * my - xy * mx], dim=1) / (xx * yy - xy * xy)
        place = place + step
    return place


def signed_distance(mask: Tensor) -> Tensor:
    """Distance in pixels to the rim of `mask` [1, 1, h, w], positive inside: [1, 1, h, w]."""
    full = (mask[0, 0] > 0.5).byte().cpu().numpy()
    inner, outer = (cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in (full, 1 - full))
    return torch.from_numpy(inner - outer).to(mask)[None, None]
