"""Following the mask of an object from frame to frame, at working size.

Three things say which pixels are the object's: what they resemble in frame 0 and in the frame before, laid over the frame by
flow and by the motion of the object as a whole; its colours; and its edges. Where it is seen no more, it is
sought near where its motion would have brought it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...labels import Labelled, describe, recognise
from ...seams import FlowEstimator
from ...smoothing import box, dilate, erode
from ...warp import grid_of, sample_at, warp
from .colours import Colours
from .search import Found, search, shifted

_SURE = 0.01  # cost of a match at which it is believed to a third
_OUTWARD = 5  # pixels by which the object may stand out from what it was taken for
_INWARD = 2  # pixels from a rim in which nothing is sure
_SMALL = 200  # pixels of an object of which none is surely recognised by itself
_WHOLE = 0.8  # of the largest area seen: from there on a view is worth remembering
_GONE = 0.02  # of that area, below which nothing is left to follow
_REACH = 0.12  # of the short side: how far the object's motion may change in a frame
_WANDER = 0.2  # of the short side: how far from where its motion says it may return, and as much as it moved since
_LIKE = 3.0  # times what it cost to find it a frame later: what it may cost to find it again
_LEAST = 2e-3  # and this more
_BELIEVED = 0.5  # share of a returning object that must be found where it is thought to be


@dataclass(frozen=True)
class View:
    """A frame [1, 3, h, w] with the object's mask [1, 1, h, w], 0 or 1, and the points of frame 0 it shows, [1, 2, h, w]."""

    picture: Tensor
    mask: Tensor
    field: Tensor


class Follower:
    """The object of a clip, followed: `step` takes one frame after the other. `mask` is what was last found."""

    def __init__(self, picture: Tensor, mask: Tensor, flow: FlowEstimator) -> None:
        self._flow = flow
        self._first = self._last = self._best = View(picture, (mask > 0.5).float(), grid_of(picture))
        self._colours = Colours.learn(picture, self._first.mask) if self._first.mask.any() else None
        self._largest = self._first.mask.sum().item()
        self._speed = 0.0, 0.0  # pixels a frame
        self._away = 0.0, 0.0  # from where it was in the best view
        self._missing = 0  # frames since it was seen
        self._usual = _LEAST  # what it costs to find it a frame later

    @property
    def mask(self) -> Tensor:
        """The object in the last frame: [1, 1, h, w], 0 or 1."""
        return self._last.mask

    def step(self, frame: Tensor) -> Tensor:
        """The object's mask [1, 1, h, w], 0 or 1, in the next `frame` [1, 3, h, w] in [0, 1]."""
        if torch.equal(frame, self._last.picture):
            return self._last.mask
        none = torch.zeros_like(self._last.mask)
        seen = None
        if self._largest > 0:
            seen = self._again(frame) if self._missing else self._on(frame)
        if seen is None:
            self._missing += 1
            self._away = self._away[0] + self._speed[0], self._away[1] + self._speed[1]
            self._last = View(frame, none, self._last.field)
            return none
        self._missing = 0
        self._last = seen
        area = seen.mask.sum().item()
        self._largest = max(self._largest, area)
        if area >= _WHOLE * self._largest:
            self._best, self._away = seen, (0.0, 0.0)
        return seen.mask

    def _on(self, frame: Tensor) -> View | None:
        """The object a frame later."""
        last, grid = self._last, grid_of(frame)
        back = self._flow(frame, last.picture).vectors
        field = sample_at(last.field - grid, grid + back) + grid + back
        field, cost = self._mended(frame, field)
        laid = [Labelled(sample_at(self._first.picture, field), sample_at(self._first.mask, field))]
        laid.append(Labelled(warp(last.picture, back), warp(last.mask, back)))
        found = self._credible(last, frame, self._speed, _REACH)
        if found is not None:
            laid.append(_moved(last, found))
            self._speed = found.shift
            self._usual = 0.7 * self._usual + 0.3 * found.cost
        self._away = self._away[0] + self._speed[0], self._away[1] + self._speed[1]
        # After an occlusion all of it is there again at once.
        whole = self._credible(self._best, frame, self._away, _REACH) if self._best is not last else None
        if whole is not None:
            laid.append(_moved(self._best, whole))
            self._away = whole.shift
        mask = self._body(frame, laid, sample_at(self._first.mask, field), cost)
        return View(frame, mask, field) if mask.sum() >= max(4.0, _GONE * self._largest) else None

    def _credible(self, view: View, frame: Tensor, expected: tuple[float, float], reach: float) -> Found | None:
        """Where the object of `view` is seen in `frame`, at most `reach` of the short side from where it is expected."""
        found = search(view.picture, view.mask, frame, expected=expected, reach=reach * min(frame.shape[-2:]))
        return found if found is not None and found.cost < _LIKE * self._usual + _LEAST else None

    def _mended(self, frame: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        """The field into frame 0 without the drift it gathered, and the cost of its matches [1, 1, h, w]."""
        grid, first = grid_of(frame), self._first.picture
        laid = sample_at(first, field)
        rest = self._flow(frame, laid).vectors
        other = sample_at(field - grid, grid + rest) + grid + rest
        old, new = _unlike(frame, laid), _unlike(frame, sample_at(first, other))
        better = new < 0.9 * old
        return torch.where(better, other, field), torch.where(better, new, old)

    def _again(self, frame: Tensor) -> View | None:
        """The object where it is seen again after it was away; None while it is not."""
        best = self._best
        moved = self._missing * max(abs(self._speed[0]), abs(self._speed[1])) / min(frame.shape[-2:])
        found = self._credible(best, frame, self._away, _WANDER + moved)
        if found is None:
            return None
        laid = _moved(best, found)
        shift = frame.new_tensor(found.shift).round()[None, :, None, None]
        field = sample_at(best.field, grid_of(frame) - shift)
        field, cost = self._mended(frame, field)
        mask = self._body(frame, [laid], sample_at(self._first.mask, field), cost)
        if (mask * laid.label).sum() < max(4.0, _BELIEVED * laid.label.sum().item()):
            return None
        self._away = found.shift
        self._speed = 0.0, 0.0
        return View(frame, mask, field)

    def _body(self, frame: Tensor, laid: list[Labelled], matched: Tensor, cost: Tensor) -> Tensor:
        """The mask [1, 1, h, w], 0 or 1, of what resembles the object, has its colours, and holds together."""
        label, least = recognise(frame, laid, matched, cost)
        sure = torch.exp(-least / _SURE)
        if self._colours is None:
            # What is like nothing known came into sight beside the object rather than on it.
            return _joined((label * sure.sqrt() > 0.5).float(), label)
        certain = erode(((label > 0.9) & (sure > 0.3)).float(), _INWARD)
        if laid[-1].label.sum() < _SMALL:  # every window of it holds ground that changed: only as a whole is it like itself
            certain = torch.maximum(certain, erode((laid[-1].label > 0.5).float(), 1))
        possible = dilate((label > 0.1).float(), _OUTWARD) > 0.5
        mask = self._colours.cut(frame, possible=possible, sure=certain > 0.5)
        return _joined(mask * (dilate((label > 0.1).float(), 1)), label)


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    return box((describe(a) - describe(b)).square().sum(dim=1, keepdim=True), 5)


def _moved(view: View, found: Found) -> Labelled:
    return Labelled(shifted(view.picture, found.shift), shifted(view.mask, found.shift))


def _joined(mask: Tensor, label: Tensor) -> Tensor:
    """`mask` [1, 1, h, w] without the pieces of which nothing resembles the object."""
    full = mask[0, 0].byte().cpu().numpy()
    count, pieces = cv2.connectedComponents(full, connectivity=8)
    sizes = np.bincount(pieces.ravel(), minlength=count)
    like = np.bincount(pieces.ravel(), weights=label[0, 0].cpu().numpy().ravel(), minlength=count)
    kept = like > 0.3 * sizes
    kept[0] = False
    return torch.from_numpy(kept[pieces].astype(np.float32)).to(mask)[None, None]
