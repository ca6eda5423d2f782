"""StableV2V: the object of a video takes another shape (Liu et al., arXiv 2411.11045; IEEE TCSVT 2025)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from ..align import first
from ..align.depth import Paste
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
CANDIDATES, _FIRST = "candidates", "first frame"  # names in the run's store: the sheet of all, and what was taken


@dataclass(frozen=True, kw_only=True)
class StableV2V:
    """The first frame is edited, by hand or by `editor`; the new object takes the motion and the depth of the one that it stands
    for, and `generate` makes the other frames from that.

    The objects are those of `Edit.objects`, followed by `segment`; an edit without one changes no shape, and is carried by
    `propagate`. An editor is asked `candidates` times; number `candidate`, or 0 for the one that lies best on its source, is
    taken. Motion is measured by `flow` and simulated by the model `motion` (`align.motion.fit`), at a short side of `side` pixels
    (0: by quality). `depth` measures depth for the parts that look at it; without one there is pseudo-depth from the masks alone
    (`align.depth.layered`). `paste` says how deep the new object is, `complete` fills what the old one leaves. With `match`
    colours are led to the edited frame's, with `composite` the source stays around the object; both are for networks.
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

    def __post_init__(self) -> None:
        if not 0 <= self.candidate <= self.candidates or self.candidates < 1 or 0 < self.side < _LEAST_SIDE or self.side < 0:
            raise ConfigError(
                f"Candidate {self.candidate} of {self.candidates}, at {self.side} pixels, cannot be. Give 1 or more candidates, "
                f"one of them or 0 for the best, and 0 or {_LEAST_SIDE} pixels and more."
            )

    def first_frame(self, clip: Clip, edit: Edit, run: Run) -> Tensor:
        """The edited first frame [3, H, W] in [0, 1], as a run would make it. Raises `InputError` without an editor."""
        bare = replace(edit, keyframes={})
        if not edit.objects:
            return keys.edited(clip, bare, self._editor(edit), [0], run)[0]
        return self._first(clip, bare, 0, self._masks(clip, edit, run), run).picture

    @torch.no_grad()
    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy: a frame is made when it is asked for.

        Raises `InputError` for objects that are not there, without an edited frame or an editor, and with several edited frames.
        """
        at = _edited_frame(edit)
        if not edit.objects:
            return self._whole(clip, at, edit, run)
        masks = self._masks(clip, edit, run)
        check_marked(edit.objects, clip, at=at)
        if edit.remove and not edit.keyframes and self.editor is None:
            gone = [torch.zeros_like(one) for one in self._old(clip, edit, at, masks)]
            scene = self._scene(clip, at, None, gone, masks, run)
            return self._rendered(clip, at, scene.layers(at).background[0].cpu(), self._teller(scene), edit, run)
        made = self._first(clip, edit, at, masks, run)
        shapes = shares(made.shape, self._old(clip, edit, at, masks))
        scene = self._scene(clip, at, made.picture, shapes, masks, run)
        return self._rendered(clip, at, made.picture.cpu(), self._teller(scene), edit, run)

    # -------------------------------------------------------------------------------------------------------- first frame

    def _editor(self, edit: Edit) -> ImageEditor:
        """The editor, which must be able to do what is asked. Raises `InputError`."""
        if self.editor is None:
            raise InputError(
                f"There is no editor for {edit.prompt!r}. Name one with --editor (`flowpaint list editor`), or give an edited "
                "first frame with --keyframe 0=PICTURE."
            )
        return self.editor

    def _first(self, clip: Clip, edit: Edit, at: int, masks: Sequence[Masks], run: Run) -> first.First:
        """The edited frame `at`, given or made, and where its new objects are."""
        source, old = clip.frame(at), self._old(clip, edit, at, masks)
        if edit.keyframes:
            return first.placed(keys.given(clip, edit)[at], source, edit, old, shape=edit.new_object)
        kept = run.store.get(_FIRST)
        if kept is not None:
            return first.First.unpacked(kept)
        editor, wish = self._editor(edit), edit.at(at)
        made = [
            first.first_frame(editor, source.to(run.device), wish, old, run.generator(step=number))
            for number in range(self.candidates)
        ]
        chosen = first.best_of(made, self.candidate)
        if len(made) > 1:
            run.notes.facts["candidates"] = {"scores": [round(one.score, 3) for one in made], "chosen": chosen + 1}
            run.store.put(CANDIDATES, {"picture": to_raw(first.sheet(source.to(run.device), made, chosen))})
        run.store.put(_FIRST, made[chosen].packed())
        return made[chosen]

    def _old(self, clip: Clip, edit: Edit, at: int, masks: Sequence[Masks]) -> list[Tensor]:
        """The objects' masks in frame `at`, at the clip's size: [1, 1, H, W], 0 or 1."""
        found = []
        for marked, carried in zip(edit.objects, masks, strict=True):
            if at == 0 or len(marked) == len(clip):
                found.append((marked.frame(at)[None, :1] > 0.5).float())
            else:
                found.append((resize(carried.of(at), clip.height, clip.width) > 0.5).float().cpu())
        return found

    # -------------------------------------------------------------------------------------------------------------- scene

    def _size(self, clip: Clip, run: Run) -> tuple[int, int]:
        scale = min(1.0, (self.side or _SIDES[run.quality]) / min(clip.height, clip.width))
        return max(1, round(clip.height * scale)), max(1, round(clip.width * scale))

    def _masks(self, clip: Clip, edit: Edit, run: Run) -> list[Masks]:
        size = self._size(clip, run)
        return [
            Masks(clip=clip, marked=marked, segmenter=self.segment, size=size, name=f"object {number}", run=run)
            for number, marked in enumerate(edit.objects)
        ]

    def _scene(
        self, clip: Clip, at: int, edited: Tensor | None, shapes: Sequence[Tensor], masks: Sequence[Masks], run: Run
    ) -> Scene:
        depth_of = self._depth_of(clip, run) if self.generate.uses_depth or self.depth is not None else None
        relief = None
        if depth_of is not None and self.paste == "relief" and edited is not None:
            relief = depth_of(resize(edited[None].to(run.device), *self._size(clip, run)))
        return Scene(
            clip,
            at=at,
            edited=edited,
            shapes=[one.to(run.device) for one in shapes],
            masks=masks,
            flow=self.flow,
            model=self.motion,
            completer=self.complete,
            run=run,
            depth_of=depth_of,
            relief=relief,
        )

    def _depth_of(self, clip: Clip, run: Run) -> DepthOf | None:
        """The depth [T, 1, h, w] of frames [T, 3, h, w] at the scale of the whole clip."""
        if self.depth is None:
            return None
        condition = fitted(self.depth, clip, range(len(clip)), self._size(clip, run), run.device)
        return lambda frames: condition(frames)[:, :1]

    # -------------------------------------------------------------------------------------------------------------- video

    def _teller(self, scene: Scene) -> Tell:
        return partial(scene.aligned, with_depth=self.generate.uses_depth)

    def _rendered(self, clip: Clip, at: int, begun: Tensor, tell: Tell, edit: Edit, run: Run, *, composite: bool = True) -> Clip:
        """The clip whose frame `at` is `begun`."""
        chunks = Chunks(
            clip=clip,
            at=at,
            first=begun,
            generate=self.generate,
            tell=tell,
            edit=edit,
            run=run,
            match=self.match,
            composite=self.composite and composite,
        )
        return clip.with_frames(lambda index: to_raw(chunks.picture(index), clip.bits))

    def _whole(self, clip: Clip, at: int, edit: Edit, run: Run) -> Clip:
        """An edit that changes no shape: the source's own depth holds, and its own motion."""
        edited = keys.given(clip, edit) if edit.keyframes else keys.edited(clip, edit, self._editor(edit), [at], run)
        base = self.propagate(clip, edited, edit, run)
        if not self.generate.uses_depth:
            return base
        size, depth_of = self._size(clip, run), self._depth_of(clip, run)
        if depth_of is None:
            raise InputError(
                "Without an object there is no pseudo-depth. Give one with --object, or measure with --set depth=depth."
            )

        def tell(begun: Tensor, frames: Sequence[int]) -> Aligned:
            whole = clip.height, clip.width
            source = source_frames(clip, frames, whole, run.device)
            return Aligned(
                first=begun,
                source=source,
                background=source_frames(base, frames, whole, run.device),
                anchor=edited[at].to(source),
                place=grid_of(source).expand(len(source), -1, -1, -1),
                mask=torch.zeros_like(source[:, :1]),
                depth=resize(depth_of(source_frames(clip, frames, size, run.device)), *whole),
                frames=tuple(frames),
            )

        return self._rendered(clip, at, edited[at], tell, edit, run, composite=False)


def _edited_frame(edit: Edit) -> int:
    """The frame that was edited, or is to be. Raises `InputError` where there are several."""
    if len(edit.keyframes) > 1 and edit.objects:
        raise InputError(
            f"{len(edit.keyframes)} edited frames of one shot would be {len(edit.keyframes)} shapes. Give one of them, or use "
            "--method analogy, which takes any number."
        )
    return min(edit.keyframes, default=0)
