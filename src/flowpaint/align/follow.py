"""Objects followed from the anchor, the edited frame, to frame after frame (StableV2V, section 3.2 "motion simulation")."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..seams import FlowEstimator
from ..smoothing import dilate, erode, gaussian, gradient
from ..types import check_shape
from ..warp import grid_of, inside, length, sample_at
from .motion import MotionModel, fit, outlined
from .placement import Placement, lookup

_GROUND: MotionModel = "affine"  # the ground has no outline
_RIM = 2  # pixels at an object's rim whose flow is also that of what is beside it
_ENOUGH = 0.3  # of an object that must be left without its rim
_TEXTURE, _AROUND = 0.04, 2.0  # slope, of black to white over two pixels, by which motion is told; how far around it
_LEFT = 0.02  # of its first area up to which an object counts as gone
_STILL = 0.15  # pixels: motion of the ground below this is none; a still background stays sharp
_OVERLAP = 0.2  # of an object that must be seen in both frames to compare them
_NEAR = 3.0  # pixels: a larger drift is no drift but a wrong match
_BETTER = 0.98  # of the misfit that must be left after a drift is undone
_WHOLE = 0.85  # of the expected silhouette that must be seen for its outline to be the object's own
_CLEARLY = 0.01  # of overlap that an outline must gain to be followed
_NO_WORSE, _GRAIN = 1.1, 0.005  # how much worse the surface may fit then
_LEAST_AREA = 1.0  # pixels of a silhouette that has a middle
_MOVES = 8  # of a silhouette that is laid onto another one


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """One object in one frame: its `mask` [1, 1, h, w], the `step` that leads from this frame's points to those of the frame
    before, the `place` that leads to the anchor's, and the `pace` [2] in pixels that is held while the object is not seen.
    """

    mask: Tensor
    step: Placement
    place: Placement
    pace: Tensor
    seen: bool = True


@dataclass(kw_only=True, eq=False)
class Follower:
    """Follows objects, and the ground they stand on, away from the `anchor` frame [1, 3, h, w], one neighbouring frame at a time.

    `masks` are the objects' in the anchor, [1, 1, h, w] each. The place of an object is chained from the flow between
    neighbours under its mask, by `model`, and compared with the anchor itself, so that it does not drift. An object that is not
    seen goes on as it went; one that returns is laid onto its mask.
    """

    flow: FlowEstimator
    model: MotionModel
    anchor: Tensor
    masks: Sequence[Tensor]
    correct: bool = True
    before: Tensor = field(init=False)
    objects: list[Followed] = field(init=False)
    ground: Followed = field(init=False)
    free: Tensor = field(init=False)  # of the anchor, what no object covers, [1, 1, h, w]
    backward: Tensor = field(init=False)  # flow of the last frame to the one before, [1, 2, h, w]

    def __post_init__(self) -> None:
        for mask in self.masks:
            check_shape(anchor=(self.anchor, "1 3 h w"), mask=(mask, "1 1 h w"))
        self.before = self.anchor
        self.backward = torch.zeros_like(self.anchor[:, :2])
        self.objects = [_begun(mask) for mask in self.masks]
        self.free = _ground(self.masks, self.anchor)
        self.ground = _begun(self.free)

    def advance(self, frame: Tensor, masks: Sequence[Tensor]) -> None:
        """Go on to the next `frame` [1, 3, h, w], in which the objects have `masks`."""
        check_shape(frame=(frame, "1 3 h w"))
        found = self.flow(frame, self.before)
        self.backward = found.vectors
        seen = (0.05 + found.visibility * inside(found.vectors)) * (0.02 + _textured(frame))
        self.objects = [
            self._next(frame, old, mask, seen, anchor=anchor, model=self.model)
            for old, mask, anchor in zip(self.objects, masks, self.masks, strict=True)
        ]
        ground = self._next(frame, self.ground, _ground(masks, frame), seen, anchor=self.free, model=_GROUND)
        self.ground = _steadied(ground, self.ground)
        self.before = frame

    def _next(self, frame: Tensor, old: Followed, mask: Tensor, seen: Tensor, *, anchor: Tensor, model: MotionModel) -> Followed:
        """An object one frame on."""
        gone = float(mask.sum()) <= _LEFT * float(anchor.sum())
        step = None if gone else fit(model, self.backward, _inner(mask) * seen)
        if step is None:
            step = Placement.shift(old.pace)
            return Followed(mask=mask, step=step, place=old.place.after(step), pace=old.pace, seen=False)
        place = old.place.after(step)
        if not old.seen:
            place = place.after(_laid(lookup(anchor, place.points(*mask.shape[-2:])), mask))
        if self.correct:
            place = self._corrected(frame, place, mask, anchor, model)
            if model != _GROUND:
                place = self._outlined(frame, place, mask, anchor)
        if old.seen and place.bend is None and old.place.bend is None:
            step = old.place.inverse().after(place)
        return Followed(mask=mask, step=step, place=place, pace=_pace(step, mask))

    def _outlined(self, frame: Tensor, place: Placement, mask: Tensor, anchor_mask: Tensor) -> Placement:
        """`place` by which the anchor's outline lies on the object's, where that fits clearly better and looks no worse."""
        size = mask.shape[-2], mask.shape[-1]
        if float(mask.sum()) < _WHOLE * float(lookup(anchor_mask, place.points(*size)).sum()):
            return place  # something hides a part of it
        better = place.after(outlined(anchor_mask, mask, place))
        points = [one.points(*size) for one in (place, better)]
        silhouettes = [lookup(anchor_mask, one) for one in points]
        if _overlap(silhouettes[1], mask) < _overlap(silhouettes[0], mask) + _CLEARLY:
            return place
        both = mask * (silhouettes[0] > 0.5) * (silhouettes[1] > 0.5)
        if float(both.sum()) < _LEAST_AREA:
            return better
        left = [_misfit(frame, sample_at(self.anchor, one), both) for one in points]
        return better if left[1] < _NO_WORSE * left[0] + _GRAIN else place

    def _corrected(self, frame: Tensor, place: Placement, mask: Tensor, anchor_mask: Tensor, model: MotionModel) -> Placement:
        """`place` without what it drifted, where the anchor laid onto the `frame` then fits better."""
        points = place.points(*frame.shape[-2:])
        both = _inner(mask) * (lookup(anchor_mask, points) > 0.5) * inside(points - grid_of(points))
        if float(both.sum()) < _OVERLAP * float(mask.sum()):
            return place
        carried = sample_at(self.anchor, points)
        drift = fit(model, self.flow(frame, carried).vectors, both)
        if drift is None:
            return place
        vectors = drift.points(*frame.shape[-2:]) - grid_of(frame)
        if float((length(vectors) * both).sum() / both.sum()) > _NEAR:
            return place
        better = place.after(drift)
        left = [_misfit(frame, sample_at(self.anchor, one), both) for one in (points, better.points(*frame.shape[-2:]))]
        return better if left[1] < _BETTER * left[0] else place


def _begun(mask: Tensor) -> Followed:
    here = Placement.here()
    return Followed(mask=mask, step=here, place=here, pace=torch.zeros(2, dtype=torch.float64), seen=True)


def _ground(masks: Sequence[Tensor], like: Tensor) -> Tensor:
    """What no object covers."""
    free = torch.ones_like(like[:, :1])
    for mask in masks:
        free = free * (1 - dilate(mask, _RIM))
    return free


def _textured(frame: Tensor) -> Tensor:
    """How much there is to measure motion by: [1, 1, h, w] in [0, 1]."""
    slopes = gaussian(gradient(frame.mean(dim=1, keepdim=True)).square().sum(dim=1, keepdim=True), _AROUND)
    return slopes / (slopes + _TEXTURE**2)


def _inner(mask: Tensor) -> Tensor:
    """`mask` without its rim, where enough of it is left."""
    core = erode(mask, _RIM)
    return core if float(core.sum()) >= _ENOUGH * float(mask.sum()) else mask


def _pace(step: Placement, mask: Tensor) -> Tensor:
    vectors = step.points(*mask.shape[-2:]) - grid_of(mask)
    return ((vectors * mask).sum(dim=(0, 2, 3)) / mask.sum()).double().cpu()


def _overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two masks."""
    return float(torch.minimum(a, b).sum() / torch.maximum(a, b).sum().clamp_min(1.0))


def _misfit(frame: Tensor, carried: Tensor, weight: Tensor) -> float:
    return float(((frame - carried).abs().mean(dim=1, keepdim=True) * weight).sum() / weight.sum())


def _laid(silhouette: Tensor, mask: Tensor) -> Placement:
    """The shift of points by which a `silhouette` comes to lie on `mask`, both [1, 1, h, w] and cut by the frame."""
    total = torch.zeros(2, dtype=torch.float64)
    grid = grid_of(mask)
    for _ in range(_MOVES):
        now = lookup(silhouette, grid + total.float()[None, :, None, None])
        if float(now.sum()) < _LEAST_AREA:
            return Placement.here()
        total = total + _middle(now) - _middle(mask)
    return Placement.shift(total)


def _middle(mask: Tensor) -> Tensor:
    return ((grid_of(mask) * mask).sum(dim=(0, 2, 3)) / mask.sum()).double().cpu()


def _steadied(ground: Followed, before: Followed) -> Followed:
    """A ground that hardly moved stays exactly where it was."""
    size = ground.mask.shape[-2], ground.mask.shape[-1]
    drift = ground.place.points(*size) - before.place.points(*size)
    if float(length(drift).max()) >= _STILL:
        return ground
    return Followed(mask=ground.mask, step=Placement.here(), place=before.place, pace=torch.zeros(2, dtype=torch.float64))
