"""StableV2V: the object of a video takes another shape (Liu et al., arXiv 2411.11045; IEEE TCSVT 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import ClassVar

import torch
from torch import Tensor

from ..align.depth import Paste
from ..align.dump import dump
from ..align.first import First, best_of, first_frame, placed, sheet
from ..align.masks import Masks, check_marked
from ..align.motion import MotionModel
from ..align.scene import DepthOf, Scene
from ..align.shape import shares
from ..diffusion.translate import fitted, source_frames
from ..errors import ConfigError, InputError
from ..seams import (
    DepthCompleter,
    FlowEstimator,
    ImageEditor,
    ImageToVideo,
    Propagator,
    Run,
    Segmenter,
    SpatialCondition,
    default,
)
from ..types import Aligned, Clip, Edit, to_raw
from ..warp import grid_of, resize
from . import keys
from .chunks import Chunks, Tell

_SIDES = {"draft": 192, "normal": 256, "best": 384}
_LEAST_SIDE = 64
CANDIDATES = "candidates"  # name in the run's store of the sheet of them


@dataclass(frozen=True, kw_only=True)
class StableV2V:
    """The first frame is edited, by hand or by `editor`; the new object takes the motion and the depth of the one that it stands
    for, and `generate` makes the other frames from that.

    The objects are those of `Edit.objects`, followed by `segment`; an edit without one changes no shape, and is carried by
    `propagate`. An editor is asked `candidates` times; number `candidate`, or 0 for the one that lies best on its source, is
    taken. Motion is measured by `flow` and simulated by the model `motion` (`align.motion.fit`), at a short side of `side`
    pixels (0: by quality). Depth is `Edit.depth`, or what `depth` measures; without either there is pseudo-depth from the
    masks alone (`align.depth.layered`), which knows of nothing that stands before an object. `paste` says how deep the new
    object is, `complete` fills what the old one leaves. With `match` colours are led to the edited frame's, with `composite`
    the source stays around the object; both are for networks. `dump` is a folder for masks, backgrounds and depth as
    pictures.
    """

    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    candidates: int = 1
    candidate: int = 0
    segment: Segmenter = default("segmenter", "carried")
    flow: FlowEstimator = default("flow", "dis")
    motion: MotionModel = "similarity"
    side: int = 0
    depth: SpatialCondition | None = field(default=None, metadata={"kind": "condition"})
    paste: Paste = "mean"
    complete: DepthCompleter = default("completer", "harmonic")
    generate: ImageToVideo = default("image-to-video", "flow-warp")
    propagate: Propagator = default("propagator", "analogy")
    match: bool = True
    composite: bool = True
    dump: str = ""
    takes_objects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.candidate <= self.candidates or self.candidates < 1 or 0 < self.side < _LEAST_SIDE or self.side < 0:
            raise ConfigError(
                f"Candidate {self.candidate} of {self.candidates}, at {self.side} pixels, cannot be. Give 1 or more candidates, "
                f"one of them or 0 for the best, and 0 or {_LEAST_SIDE} pixels and more."
            )

    def first_frame(self, clip: Clip, edit: Edit, run: Run) -> Tensor:
        """The edited first frame [3, H, W] in [0, 1], as a run would make it. Raises `InputError` without an editor."""
        work = _Shot(method=self, clip=clip, edit=replace(edit, keyframes={}), run=run)
        return work.first.picture if edit.objects else work.whole[0]

    def check(self) -> None:
        """Raises `ConfigError` where the new object's relief is asked for and nothing measures depth."""
        if self.paste == "relief" and self.depth is None:
            raise ConfigError("A relief is measured in the edited frame, and nothing measures depth. Add --set depth=depth.")

    @torch.no_grad()
    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy: a frame is made when it is asked for.

        Raises `InputError` for objects that are not there, without an edited frame or an editor, and with several edited frames.
        """
        work = _Shot(method=self, clip=clip, edit=edit, run=run)
        return work.reshaped() if edit.objects else work.restyled()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shot:
    """One shot at work: what `method` makes of `clip`."""

    method: StableV2V
    clip: Clip
    edit: Edit
    run: Run

    def reshaped(self) -> Clip:
        """The clip whose objects take another shape, or are gone."""
        check_marked(self.edit.objects, self.clip, at=self.at)
        if self.edit.remove and not self.edit.keyframes and self.method.editor is None:
            scene = self._scene(None, [torch.zeros_like(one) for one in self._old])
            begun = scene.layers(self.at).background[0]
        else:
            begun = self.first.picture
            scene = self._scene(begun, shares(self.first.shape, self._old))

        def tell(begun: Tensor, frames: Sequence[int]) -> Aligned:
            told = scene.aligned(begun, frames, with_depth=self.method.generate.uses_depth or bool(self.method.dump))
            if self.method.dump:
                dump(told, self.method.dump)
            return told

        return self._rendered(begun.cpu(), tell, composite=self.method.composite)

    def restyled(self) -> Clip:
        """The clip of an edit that changes no shape: the source's own depth holds, and its own motion."""
        base = self.method.propagate(self.clip, self.whole, self.edit, self.run)
        if not self.method.generate.uses_depth:
            return base
        if self._depth_of is None:
            raise InputError(
                "Without an object there is no pseudo-depth. Mark one with --object, give a video of the source's depth with "
                "--depth, or measure it with --set depth=depth."
            )
        return self._rendered(self.whole[self.at], partial(self._still, base), composite=False)

    @property
    def at(self) -> int:
        """The frame that was edited, or is to be. Raises `InputError` where there are several and objects change."""
        if len(self.edit.keyframes) > 1 and self.edit.objects:
            raise InputError(
                f"{len(self.edit.keyframes)} edited frames of one shot would be as many shapes. Give one of them, or use "
                "--method analogy, which takes any number."
            )
        return min(self.edit.keyframes, default=0)

    # -------------------------------------------------------------------------------------------------------- first frame

    @property
    def _editor(self) -> ImageEditor:
        if self.method.editor is None:
            raise InputError(
                f"There is no editor for {self.edit.prompt!r}. Name one with --editor (`flowpaint list editor`), or give an "
                "edited first frame with --keyframe 0=PICTURE."
            )
        return self.method.editor

    @cached_property
    def whole(self) -> Mapping[int, Tensor]:
        """The edited frames, wherever they were edited."""
        if self.edit.keyframes:
            return keys.given(self.clip, self.edit)
        return keys.edited(self.clip, self.edit, self._editor, [self.at], self.run)

    @cached_property
    def first(self) -> First:
        """The edited frame, given or made, in place, and where its new objects are."""
        source = self.clip.frame(self.at)
        if self.edit.keyframes:
            picture = keys.given(self.clip, self.edit)[self.at]
            found = placed(picture, source, self.edit, self._old, shape=self.edit.new_object)
        else:
            found = self._best(source.to(self.run.device))
        if found.overlap == 0:
            self.run.notes.warn(
                "The new object lies nowhere on the old one. Was another thing marked? Check the mask, or give --new-object."
            )
        return found

    def _best(self, source: Tensor) -> First:
        """The candidate that was asked for, or that lies best on its source."""
        made = [self._candidate(number, source) for number in range(self.method.candidates)]
        chosen = best_of(made, self.method.candidate)
        if len(made) > 1:
            self.run.notes.facts["candidates"] = {"scores": [round(one.score, 3) for one in made], "chosen": chosen + 1}
            self.run.store.put(CANDIDATES, {"picture": to_raw(sheet(source, made, chosen))})
        return made[chosen]

    def _candidate(self, number: int, source: Tensor) -> First:
        """What the editor makes of the frame the `number`-th time. It is kept, for it may have been paid for."""
        name = f"candidate {number}"
        kept = self.run.store.get(name)
        if kept is not None:
            return First.unpacked(kept)
        made = first_frame(self._editor, source, self.edit.at(self.at), self._old, self.run.generator(step=number))
        self.run.store.put(name, made.packed())
        return made

    @cached_property
    def _old(self) -> list[Tensor]:
        """The objects' masks in the edited frame, at the clip's size: [1, 1, H, W], 0 or 1."""
        found = []
        for marked, carried in zip(self.edit.objects, self._masks, strict=True):
            if self.at == 0 or len(marked) == len(self.clip):
                found.append((marked.frame(self.at)[None, :1] > 0.5).float())
            else:
                found.append((resize(carried.of(self.at), self.clip.height, self.clip.width) > 0.5).float().cpu())
        return found

    # -------------------------------------------------------------------------------------------------------------- scene

    @cached_property
    def _size(self) -> tuple[int, int]:
        """Height and width at which motion and depth are measured."""
        height, width = self.clip.height, self.clip.width
        scale = min(1.0, (self.method.side or _SIDES[self.run.quality]) / min(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    @cached_property
    def _masks(self) -> list[Masks]:
        segmenter, size = self.method.segment, self._size
        return [
            Masks(clip=self.clip, marked=marked, segmenter=segmenter, size=size, name=f"object {number}", run=self.run)
            for number, marked in enumerate(self.edit.objects)
        ]

    def _scene(self, edited: Tensor | None, shapes: Sequence[Tensor]) -> Scene:
        method, relief = self.method, None
        self.run.notes.facts["depth"] = self._depth_is
        if self._measure is not None and method.paste == "relief" and edited is not None:
            relief = self._measure(resize(edited[None].to(self.run.device), *self._size))[:, :1]
        return Scene(
            self.clip,
            at=self.at,
            edited=edited,
            shapes=[one.to(self.run.device) for one in shapes],
            masks=self._masks,
            flow=method.flow,
            model=method.motion,
            completer=method.complete,
            run=self.run,
            depth_of=self._depth_of,
            paste=method.paste,
            relief=relief,
        )

    @property
    def _depth_is(self) -> str:
        """Where depth comes from, for the report."""
        if self.edit.depth is not None:
            return "given"
        return "layered pseudo-depth from masks" if self.method.depth is None else "measured"

    @cached_property
    def _depth_of(self) -> DepthOf | None:
        """The depth [1, 1, h, w] of a frame, where it is given or measured."""
        given, measure = self.edit.depth, self._measure
        if given is not None:
            return lambda index: resize(given.frame(index)[None, :1].to(self.run.device), *self._size)
        if measure is None:
            return None
        return lambda index: measure(source_frames(self.clip, [index], self._size, self.run.device))[:, :1]

    @cached_property
    def _measure(self) -> SpatialCondition | None:
        """What measures depth, at the scale of the whole clip."""
        if self.method.depth is None:
            return None
        return fitted(self.method.depth, self.clip, range(len(self.clip)), self._size, self.run.device)

    def _still(self, base: Clip, begun: Tensor, frames: Sequence[int]) -> Aligned:
        """What is known of `frames` where nothing changes its shape: `base` shows the edit carried by correspondence."""
        assert self._depth_of is not None, "who asks has it"
        full = self.clip.height, self.clip.width
        source = source_frames(self.clip, frames, full, self.run.device)
        return Aligned(
            first=begun,
            source=source,
            background=source_frames(base, frames, full, self.run.device),
            anchor=self.whole[self.at].to(source),
            place=grid_of(source).expand(len(source), -1, -1, -1),
            mask=torch.zeros_like(source[:, :1]),
            depth=resize(torch.cat([self._depth_of(one) for one in frames]), *full),
            frames=tuple(frames),
        )

    def _rendered(self, begun: Tensor, tell: Tell, *, composite: bool) -> Clip:
        """The clip whose edited frame is `begun`."""
        chunks = Chunks(
            clip=self.clip,
            at=self.at,
            first=begun,
            generate=self.method.generate,
            tell=tell,
            edit=self.edit,
            run=self.run,
            match=self.method.match,
            composite=composite,
        )
        return self.clip.with_frames(lambda index: to_raw(chunks.picture(index), self.clip.bits))
