"""The texture that a result kept: compared with frames that the editor paints once more, or with the key frames."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import seams
from ..errors import ConfigError, FlowpaintError
from ..methods import keys
from ..methods.baselines import FrameByFrame
from ..report import Timings
from ..runs import PrefixedStore
from ..seams import QUICK, ImageEditor, RepeatableEditor, Run, Store
from ..texture import PARTS, Field, Mask, Reference, Samples, edited_part, motion, on_grid, texture_energy, warp
from ..types import Clip, Edit, Raw, to_raw
from .job import Job
from .prepare import Prepared
from .render import masked, render

_BY_ITSELF, _KEY_FRAME = "the same frames edited by themselves", "the nearest key frames, where they show the same"
_LEAST = 0.01  # of a frame: a smaller part in common with a key frame says nothing

_Find = Callable[[int], Reference | None]


def texture_kept(prepared: Prepared, samples: Samples, store: Store) -> dict[str, Any]:
    """Return what the report says of the texture that the result kept: `fast`, `still`, the `frames` compared, `compared_with`.

    A built-in look or a style paints the sampled frames once more. Where the editor is slow, on a server or a person, the key
    frames nearest in time are the reference, at the pixels that they show as well. What is not known is None, and `missing`
    says why.
    """
    again = frame_by_frame(prepared)
    with_keys = again is None and (bool(prepared.keyframes) or getattr(prepared.method, "editor", None) is not None)
    against = _BY_ITSELF if again is not None else _KEY_FRAME if with_keys else None
    find = _edited_again(prepared, again) if again is not None else _nearest_key(prepared, store)
    try:
        found = samples.texture(find if against else lambda _: None)
    except FlowpaintError as error:  # the video is finished: a measurement must not lose it
        return {**dict.fromkeys(PARTS), "frames": [], "compared_with": against, "missing": str(error)}
    missing = None
    if against is None:
        missing = "the method has neither an editor of pictures nor key frames to compare with"
    elif not found["frames"]:
        missing = "no frame has two neighbours and texture to compare"
    elif found["fast"] is None:
        missing = "nothing moves, or what moves is flat"
    values = {name: None if found[name] is None else round(found[name], 4) for name in PARTS}
    frames = [index + prepared.first for index in found["frames"]]
    return {**values, "frames": frames, "compared_with": against, "missing": missing}


def frame_by_frame(prepared: Prepared) -> Clip | None:
    """Return the clip with every frame edited by itself, lazy, where the editor may be run again for that; else None."""
    editor = getattr(prepared.method, "editor", None)
    if not may_repeat(editor):
        return None
    apart = replace(prepared, method=FrameByFrame(editor=editor), keyframes={}, finished=frozenset(), timings=Timings())
    run = Run(device=prepared.device, seed=prepared.job.seed, quality=prepared.job.quality)
    return render(apart, run, anchor=lambda: None)


def may_repeat(editor: ImageEditor | None) -> bool:
    """Return whether running `editor` for a measurement costs little."""
    return isinstance(editor, RepeatableEditor) and editor.repeats_after <= QUICK


def frame_by_frame_of(recipe: Job, clip: Clip, mask: Clip | None, device: str) -> Clip | None:
    """Return `clip` with every frame edited by itself as the job `recipe` asks, lazy; None where that cannot be done at once.

    The editor must be quick (`seams.QUICK`), the files that it reads must be here, and so must the `mask` of a job that has one.
    """
    named: Mapping[str, Any] | None = recipe.method.get("editor")
    try:
        editor = None if named is None else seams.from_dict({"kind": "editor", **named})
    except ConfigError:
        return None
    if not may_repeat(editor) or not Path(getattr(editor, "picture", ".")).exists() or (recipe.mask and mask is None):
        return None
    wish = Edit(prompt=recipe.prompt, strength=recipe.strength, keep_colors=recipe.keep_colors)
    made = FrameByFrame(editor=editor)(clip, wish, Run(device=device, seed=recipe.seed, quality=recipe.quality))
    return made if mask is None else clip.with_frames(masked(clip, made.raw, mask))


# ------------------------------------------------------------------------------------------------------------- references


def _edited_again(prepared: Prepared, again: Clip) -> _Find:
    def find(index: int) -> Reference | None:
        if any(index in shot for shot in prepared.passed):
            return None  # it was not edited
        return Reference(on_grid(texture_energy(again.raw(index))), _inside(prepared, index))

    return find


def _nearest_key(prepared: Prepared, store: Store) -> _Find:
    def find(index: int) -> Reference | None:
        shot = next(shot for shot in prepared.shots if index in shot)
        near = sorted(shot, key=lambda other: abs(other - index))
        for other in near if shot not in prepared.passed else ():
            picture = _key_picture(prepared, store, shot, other)
            if picture is not None:
                return None if other == index else _seen_from(prepared, index, other, picture)
        return None

    return find


def _key_picture(prepared: Prepared, store: Store, shot: range, index: int) -> Raw | None:
    """The key picture of a frame that was given, as the edit asks for it, or that the run made; None where there is none."""
    job, clip = prepared.job, prepared.clip
    if index in prepared.keyframes:
        wish = Edit(
            keyframes={index: prepared.keyframes[index]},
            strength=job.strength,
            keep_colors=job.keep_colors,
            finished=prepared.finished & {index},
        )
        return to_raw(keys.given(clip, wish)[index], clip.bits)
    kept = PrefixedStore(store, f"shot {shot.start}: ").get(f"key {index - shot.start}")
    return None if kept is None else kept["picture"]


def _seen_from(prepared: Prepared, index: int, key: int, picture: Raw) -> Reference | None:
    """What frame `index` shares with the key frame `key`: the energy of its picture, where the motion between them returns."""
    there, here = prepared.clip.raw(key), prepared.clip.raw(index)
    moved = motion(there, here)
    energy: Field = on_grid(warp(texture_energy(picture), moved.back))
    where: Mask = on_grid(moved.returns & (warp(edited_part(there, picture), moved.back) > 0.5))
    inside = _inside(prepared, index)
    where = where if inside is None else where & inside
    return Reference(energy, where) if where.mean() >= _LEAST else None


def _inside(prepared: Prepared, index: int) -> Mask | None:
    """Where the mask lets the edit show, on the grid of samples; None without a mask."""
    mask = prepared.mask
    if mask is None:
        return None
    found: Mask = on_grid(mask.raw(index if len(mask) > 1 else 0)[..., 0] > 0)
    return found
