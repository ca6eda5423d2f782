"""The edited clip, lazy: shot by shot through the method, kept inside the mask, laid beside its source."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..methods import keys
from ..runs import PrefixedStore
from ..seams import ImageEditor, Method, Run
from ..types import Clip, Edit, Raw, to_raw
from .objects import of_shot
from .prepare import Prepared, sized

Anchor: TypeAlias = tuple[Tensor, Tensor]

_FEATHER = 4  # pixels over which the edge of a mask fades in, inside it


def render(prepared: Prepared, run: Run, *, anchor: Callable[[], Anchor | None] | None = None) -> Clip:
    """The result, frame for frame as long as `prepared.clip` and of its size. Frames are made when asked for.

    Shots are worked on one at a time, in `run`'s store under names of their own. `anchor` gives what `anchor_of` does where that
    is known.
    """
    clip, shots = prepared.clip, prepared.shots
    place_of = {index: place for place, shot in enumerate(shots) for index in shot}

    anchored = lru_cache(maxsize=1)(anchor or (lambda: anchor_of(prepared, run)))

    @lru_cache(maxsize=1)  # one shot's state at a time
    def edited(place: int) -> Clip:
        shot = shots[place]
        part = clip[shot.start : shot.stop]
        if shot in prepared.passed:
            return part
        return prepared.method(part, _edit(prepared, shot, anchored()), _of_shot(run, prepared, shot))

    def read(index: int) -> Raw:
        with prepared.timings.stage("edit"), prepared.policed(), prepared.threads():
            place = place_of[index]
            return edited(place).raw(index - shots[place].start)

    return clip.with_frames(masked(clip, read, prepared.mask) if prepared.mask is not None else read)


def first(prepared: Prepared, run: Run) -> tuple[Raw, Raw]:
    """The first frame as the method's editor edits it, and as the result shows it, inside the mask: raw [H, W, 3] both.

    They are made as `render` would let the method make them. Raises `InputError` for a method that has no editor and where a
    key frame stands in for it.
    """
    method, clip, shot = prepared.method, prepared.clip, prepared.shots[0]
    own = getattr(method, "first_frame", None)  # a method whose editor is told of objects
    if own is None:
        editor_of(method)  # refuses a method without one
    if 0 in prepared.keyframes:
        raise InputError(
            f"There is nothing to approve: frame {prepared.first} comes from a key frame. Leave --approve or that --keyframe out."
        )
    with prepared.timings.stage("edit"), prepared.policed(), prepared.threads():
        edit = _edit(prepared, shot, anchor_of(prepared, run))
        part, apart = clip[shot.start : shot.stop], _of_shot(run, prepared, shot)
        made: Tensor = own(part, edit, apart) if own else keys.edited(part, edit, editor_of(method), [0], apart)[0]
        picture = to_raw(made, clip.bits)
    return picture, picture if prepared.mask is None else masked(clip, lambda _: picture, prepared.mask)(0)


def editor_of(method: Method) -> ImageEditor:
    """The editor of pictures that `method` holds. Raises `InputError` where it holds none."""
    editor = getattr(method, "first_editor", getattr(method, "editor", None))
    if not isinstance(editor, ImageEditor):
        raise InputError(
            f"There is nothing to approve: {type(method).__name__} has no editor that makes the first frame. "
            "Name a look or an image model for a method that takes one, like analogy, or leave --approve out."
        )
    return editor


def _of_shot(run: Run, prepared: Prepared, shot: range) -> Run:
    """`run` for one shot, in a corner of its store."""
    return replace(run, store=PrefixedStore(run.store, f"shot {shot.start}: "), offset=prepared.first + shot.start)


def _edit(prepared: Prepared, shot: range, anchor: Anchor | None) -> Edit:
    """What is wanted of one shot, its frames counted from its own first."""
    job, mask = prepared.job, prepared.mask
    if mask is not None and len(mask) > 1:
        mask = mask[shot.start : shot.stop]
    return Edit(
        prompt=job.prompt,
        negative=job.negative,
        prompts={frame - shot.start: words for frame, words in prepared.prompts.items()},
        keyframes={index - shot.start: picture for index, picture in prepared.keyframes.items() if index in shot},
        mask=mask,
        anchor=anchor,
        colours=None if prepared.by is None else prepared.by[shot.start : shot.stop],
        strength=job.strength,
        keep_colors=job.keep_colors,
        finished=frozenset(index - shot.start for index in prepared.finished if index in shot),
        objects=of_shot(prepared.marked.objects, shot),
        new_object=prepared.marked.new_object,
        instruct=job.instruct,
        reference=prepared.marked.reference,
        sketch=prepared.marked.sketch,
        remove=job.remove,
        depth=None if prepared.marked.depth is None else prepared.marked.depth[shot.start : shot.stop],
    )


def anchor_of(prepared: Prepared, run: Run) -> Anchor | None:
    """The film's first frame before and after the edit, from which all shots take their colours; None for a single shot,
    for a method that takes none, and where words change from shot to shot."""
    editor = getattr(prepared.method, "editor", None)
    if not getattr(prepared.method, "takes_anchor", True):
        return None
    if len(prepared.shots) < 2 or prepared.prompts or not isinstance(editor, ImageEditor):
        return None
    source = prepared.clip.frame(0).to(run.device)
    wish = replace(_edit(prepared, prepared.shots[0], None), keyframes={}, mask=None)
    return source, editor(source, wish.at(0), run.generator())


# ---------------------------------------------------------------------------------------------------------------- masks


def masked(source: Clip, edited: Callable[[int], Raw], mask: Clip) -> Callable[[int], Raw]:
    """Reads `edited` where the mask is white and `source`, bit for bit, where it is black."""

    @lru_cache(maxsize=1)  # a still mask is worked out once
    def share(index: int) -> Tensor:
        return inner_edge(mask.frame(index)[:1])

    def read(index: int) -> Raw:
        kept = source.raw(index)
        weight = share(index if len(mask) > 1 else 0)[0, ..., None].numpy()
        if not weight.any():
            return kept
        made = edited(index)
        mixed = np.rint(kept + weight * (made.astype(np.float32) - kept)).astype(kept.dtype)
        return np.where(weight > 0, np.where(weight == 1, made, mixed), kept)

    return read


def inner_edge(mask: Tensor, feather: int = _FEATHER) -> Tensor:
    """How much of the edit shows, [1, H, W] in [0, 1]: 0 outside the mask [1, H, W], rising over `feather` pixels inside it."""
    inside = (mask >= 1 / 255).float()[None]
    rise = torch.zeros_like(inside)
    for _ in range(feather):
        rise += inside / feather
        inside = -F.max_pool2d(-inside, 3, stride=1, padding=1)  # erosion; the border of the frame is no edge
    return mask * rise[0].clamp(0.0, 1.0)


def side_by_side(source: Clip, result: Clip) -> Clip:
    """Source | result in one frame of twice the width."""
    return sized(
        source,
        lambda index: np.concatenate([source.raw(index), result.raw(index)], axis=1),
        height=source.height,
        width=2 * source.width,
    )
