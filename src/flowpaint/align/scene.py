"""A clip whose objects take another shape: for each frame where the new ones are, what is behind them, and how deep it all is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ..seams import DepthCompleter, FlowEstimator, Run
from ..smoothing import box, dilate, erode, spread
from ..types import Aligned, Clip, from_raw, to_raw
from ..warp import resize
from .depth import Paste, hidden, hole, layered, mean_depth, pasted
from .follow import Follower
from .ground import PLATES, Ground, View
from .masks import Masks
from .motion import MotionModel
from .placement import Placement, lookup

_OFFSETS = (1, 2, 4, 8, 16, 32)  # frames away in which the ground behind an object may be seen
_WIDER = 4  # pixels of the working size by which an object is grown before it is taken away
_CLEAR = 8  # pixels from an object of another frame from which on it is believed to show the ground: masks err at their rims
_RIM = 2  # pixels at the new object's outline whose colours are mixed with what was beside it
_COARSE = 4  # of the working grid: bends are kept on every fourth point
_KEPT = 2  # frames whose layers are kept: a chunk begins with the last one of the chunk before
_DEPTHS = 48  # frames whose measured depth is kept

DepthOf = Callable[[int], Tensor]  # of a frame's number to its depth [1, 1, h, w], 1 = near


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracked:
    """Where the pixels of one frame are in the anchor: those of each object, and those of the ground."""

    objects: tuple[Placement, ...]
    ground: Placement


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """One frame, taken apart at the clip's size: the `source` and its `background` [1, 3, H, W], and the new objects' `mask`
    [1, 1, H, W] and `place` [1, 2, H, W] in the anchor, pixels.
    """

    source: Tensor
    background: Tensor
    mask: Tensor
    place: Tensor


class Scene:
    """`clip`, of which frame `at` was edited into `edited` [3, H, W] in [0, 1]: `shapes` [1, 1, H, W], 0 or 1, are the new
    objects in it, one for each of the old ones' `masks`; an empty one was removed. Without `edited` all of them are.

    Motion is measured by `flow` at the masks' size and simulated by `model`; `depth_of` tells the source's depth [1, 1, h, w] at
    that size, None for pseudo-depth from the masks (`align.depth.layered`), and `relief`, the edited frame's own depth
    [1, 1, h, w], makes the new objects more than flat. Everything is worked out when it is asked for, outward from frame `at`.
    """

    def __init__(
        self,
        clip: Clip,
        *,
        at: int,
        edited: Tensor | None,
        shapes: Sequence[Tensor],
        masks: Sequence[Masks],
        flow: FlowEstimator,
        model: MotionModel,
        completer: DepthCompleter,
        run: Run,
        depth_of: DepthOf | None = None,
        paste: Paste = "mean",
        relief: Tensor | None = None,
    ) -> None:
        self.clip, self.at, self.edited, self.shapes, self.masks = clip, at, edited, shapes, masks
        self.flow, self.model, self.completer, self.run = flow, model, completer, run
        self.depth_of, self.paste, self.relief = depth_of, paste, relief
        self.size = masks[0].size
        self.full = clip.height, clip.width
        self._ways = {1: self._follower(), -1: self._follower()}
        here = Placement.here()
        self._tracks = {at: Tracked(objects=(here,) * len(masks), ground=here)}
        self._lost: set[int] = set()
        self.layers = lru_cache(maxsize=_KEPT)(self._layers)
        self._plate = lru_cache(maxsize=PLATES)(self._read_plate)
        self._measured = lru_cache(maxsize=_DEPTHS)(self._measure)

    # ------------------------------------------------------------------------------------------------------------- motion

    def _follower(self) -> Follower:
        masks = [one.of(self.at) for one in self.masks]
        return Follower(flow=self.flow, model=self.model, anchor=self._small(self.at), masks=masks)

    def track(self, index: int) -> Tracked:
        """Where frame `index` is in the anchor, in pixels of the working size."""
        way = 1 if index >= self.at else -1
        follower = self._ways[way]
        while index not in self._tracks:
            now = (max if way > 0 else min)(self._tracks) + way
            follower.advance(self._small(now), [one.of(now) for one in self.masks])
            places = tuple(one.place.coarse(_COARSE) for one in follower.objects)
            self._tracks[now] = Tracked(objects=places, ground=follower.ground.place)
            self._warn_of_lost(now, follower)
            self.run.progress("align", len(self._tracks), len(self.clip))
        return self._tracks[index]

    def _warn_of_lost(self, index: int, follower: Follower) -> None:
        """Say once of each object in which frame it was lost from sight."""
        for number, one in enumerate(follower.objects):
            if not one.seen and number not in self._lost:
                self._lost.add(number)
                which = "The object" if len(follower.objects) == 1 else f"Object {number + 1}"
                self.run.notes.warn(
                    f"{which} is not seen in frame {self.run.offset + index}: where it is not, the new one goes on as it went. "
                    "If it is there, give masks for all frames."
                )

    def _small(self, index: int) -> Tensor:
        return resize(self._frame(index), *self.size)

    def _frame(self, index: int) -> Tensor:
        return self.clip.frame(index)[None].to(self.run.device)

    def _full(self, place: Placement) -> Placement:
        return place.resized(self.size, self.full)

    # ------------------------------------------------------------------------------------------------------------- layers

    def _layers(self, index: int) -> Layers:
        """Frame `index`, taken apart."""
        mask, place = self._new(index)
        source = self._frame(index)
        return Layers(source=source, background=self._background(index, source), mask=mask, place=place)

    def _new(self, index: int) -> tuple[Tensor, Tensor]:
        """The new objects' mask in frame `index`, nearer ones before farther ones, and their place in the anchor."""
        mask = torch.zeros_like(self.shapes[0])
        place: Tensor | None = None
        for number in self._order:
            points = self._full(self.track(index).objects[number]).points(*self.full)
            own = lookup(self._soft[number], points)
            place = points if place is None else torch.where(own > 0, points, place)
            mask = own + mask * (1 - own)
        assert place is not None, "there is an object"
        if self.depth_of is not None:  # pseudo-depth knows of nothing but the objects
            mask = mask * (1 - resize(self._hidden(index), *self.full))
        return mask, place

    @cached_property
    def _soft(self) -> list[Tensor]:
        """The new objects' masks in the anchor, soft at their rims."""
        return [box(one, 3) for one in self.shapes]

    @cached_property
    def _shape(self) -> Tensor:
        """The new objects' masks in the anchor as one: [1, 1, H, W], 0 or 1."""
        return torch.cat(list(self.shapes)).amax(dim=0, keepdim=True)

    @cached_property
    def anchor(self) -> Tensor:
        """The edited frame [3, H, W], the new objects' colours continued beyond their outlines."""
        union = self._shape
        edited = self._frame(self.at) if self.edited is None else self.edited[None].to(self.run.device)
        if not bool(union.any()):
            return edited[0]
        core = erode(union, _RIM)
        known = core if bool(core.any()) else union
        near = dilate(union, 2 * _RIM)
        return torch.where(near > 0, spread(edited, known), edited)[0]

    # --------------------------------------------------------------------------------------------------------- background

    def _background(self, index: int, source: Tensor) -> Tensor:
        """Frame `index` without its objects."""
        way = 1 if index >= self.at else -1
        order = list(range(self.at, index + way, way))
        done = next((place for place in reversed(range(len(order))) if self._plates(order[place]) is not None), -1)
        made = list(self._plates(order[done]) or ()) if done >= 0 else []
        ground = Ground(others=self._others, plates=[self._first_plate, *map(self._plate, made)])
        picture = source
        for one in order[done + 1 :] or [index]:
            count = len(ground.plates)
            frame, hole = source if one == index else self._frame(one), self._old(one, _WIDER)
            picture = ground.complete(one, frame, hole, self._full(self.track(one).ground))
            if len(ground.plates) > count:
                raw = to_raw(ground.plates[-1].picture[0], self.clip.bits)
                self.run.store.put(self._name("plate", one), {"picture": raw})
                ground.plates[-1] = self._plate(one)
                made.append(one)
            self.run.store.put(self._name("plates", one), {"frames": torch.tensor(made, dtype=torch.int64).numpy()})
        return picture

    def _name(self, what: str, index: int) -> str:
        return f"align {what} {self.run.offset + index}"

    def _plates(self, index: int) -> list[int] | None:
        """The frames whose background was completed on the way to `index`; None if it was not reached yet."""
        kept = self.run.store.get(self._name("plates", index))
        return None if kept is None else [int(one) for one in kept["frames"]]

    def _read_plate(self, index: int) -> View:
        """Frame `index`, whose background was completed, from the run's store."""
        kept = self.run.store.get(self._name("plate", index))
        assert kept is not None, "it was stored before it was named"
        picture = from_raw(kept["picture"])[None].to(self.run.device)
        return View(picture=picture, known=torch.ones_like(picture[:, :1]), place=self._full(self.track(index).ground))

    @cached_property
    def _first_plate(self) -> View:
        """The edited frame: what it shows beside the new object is how the editor wants it."""
        if self.edited is None:
            return self._view(self.at)
        picture = self.edited[None].to(self.run.device)
        return View(picture=picture, known=1 - dilate(self._shape, _RIM), place=Placement.here())

    def _old(self, index: int, margin: int) -> Tensor:
        """The old objects of frame `index` with a `margin` in pixels of the working size, at the clip's size: 0 or 1."""
        return (resize(dilate(self._union(index), margin), *self.full) > 0).float()

    def _union(self, index: int) -> Tensor:
        return torch.cat([one.of(index) for one in self.masks]).amax(dim=0, keepdim=True)

    def _others(self, index: int) -> list[Callable[[], View]]:
        """The frames around `index` that show what its objects hide, the one that shows the most first."""
        around = [index + way * offset for offset in _OFFSETS for way in (1, -1)]
        shares = {one: self._shown(index, one) for one in around if 0 <= one < len(self.clip)}
        best = sorted((one for one, share in shares.items() if share > 0), key=lambda one: -shares[one])
        return [lambda one=one: self._view(one) for one in best]  # type: ignore[misc]

    def _shown(self, index: int, other: int) -> float:
        """How many pixels that the objects of frame `index` hide are free in frame `other`."""
        hidden_here, hidden_there = dilate(self._union(index), _WIDER), dilate(self._union(other), _CLEAR)
        points = self.track(other).ground.inverse().after(self.track(index).ground).points(*self.size)
        return float((hidden_here * lookup(1 - hidden_there, points)).sum())

    def _view(self, index: int) -> View:
        return View(picture=self._frame(index), known=1 - self._old(index, _CLEAR), place=self._full(self.track(index).ground))

    # -------------------------------------------------------------------------------------------------------------- depth

    def depth(self, frames: Sequence[int]) -> Tensor:
        """The edited scene's depth in `frames`: [T, 1, h, w] in [0, 1] at the working size: the old objects' is completed, then
        the new ones are pasted.
        """
        measured = torch.cat([self._measured(one) for one in frames])
        holes = torch.cat([hole(self._union(one)) for one in frames])
        ground = self.completer(measured, holes, torch.cat(self._shapes).amax(dim=0, keepdim=True))
        return torch.cat([self._pasted(one, depth[None]) for one, depth in zip(frames, ground, strict=True)])

    def _pasted(self, index: int, depth: Tensor) -> Tensor:
        """The new objects in the completed `depth` [1, 1, h, w] of frame `index`, where nothing nearer hides them."""
        for number in self._order:
            near = self._near(number, index)
            mask = self._small_mask(number, index)
            mask = mask * (1 - hidden(self._measured(index), self._union(index), mask, near))
            depth = pasted(depth, mask, near, self._moved_relief(number, index))
        return depth

    @cached_property
    def _shapes(self) -> list[Tensor]:
        return [(resize(one, *self.size) > 0.5).to(one) for one in self.shapes]

    @cached_property
    def _order(self) -> list[int]:
        """The objects, from far to near."""
        return sorted(range(len(self.masks)), key=lambda number: self._near(number, self.at))

    def _small_mask(self, number: int, index: int) -> Tensor:
        points = self.track(index).objects[number].points(*self.size)
        return (lookup(self._shapes[number], points) > 0.5).to(points)

    def _measure(self, index: int) -> Tensor:
        """The source's depth in frame `index`."""
        if self.depth_of is None:
            return layered([one.of(index) for one in self.masks])
        return self.depth_of(index)

    def _near(self, number: int, index: int) -> float:
        """How near object `number` is in frame `index`, or was when it was last seen."""
        way = 1 if index >= self.at else -1
        for one in range(index, self.at - way, -way):
            found = mean_depth(self._measured(one), self.masks[number].of(one), None)
            if found is not None:
                return found
        return 0.0

    def _moved_relief(self, number: int, index: int) -> Tensor | None:
        shape = self._shapes[number]
        if self.paste == "mean" or self.relief is None or not bool(shape.any()):
            return None
        own = self.relief - float((self.relief * shape).sum() / shape.sum())
        return lookup(own * shape, self.track(index).objects[number].points(*self.size))

    def _hidden(self, index: int) -> Tensor:
        """What of the new objects something nearer hides in frame `index`, at the working size: 0 or 1."""
        found = torch.zeros_like(self._shapes[0])
        for number in self._order:
            new, near = dilate(self._small_mask(number, index), 1), self._near(number, index)  # its soft rim, too
            found = torch.maximum(found, hidden(self._measured(index), self._union(index), new, near))
        return found

    # ------------------------------------------------------------------------------------------------------------- chunks

    def aligned(self, first: Tensor, frames: Sequence[int], *, with_depth: bool) -> Aligned:
        """What is known of `frames` before any network paints, `first` [3, H, W] being the first of them as it was made."""
        layers = [self.layers(one) for one in frames]
        mask = torch.cat([one.mask for one in layers])
        depth = resize(self.depth(frames), *self.full) if with_depth else torch.zeros_like(mask)
        return Aligned(
            first=first,
            source=torch.cat([one.source for one in layers]),
            background=torch.cat([one.background for one in layers]),
            anchor=self.anchor,
            place=torch.cat([one.place for one in layers]),
            mask=mask,
            depth=depth,
            frames=tuple(frames),
        )
