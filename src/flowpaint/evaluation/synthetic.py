"""Procedural scenes as tasks: their edits have a known answer in every frame."""

from collections.abc import Sequence
from functools import partial
from typing import get_args

from ..errors import ConfigError, InputError, nearest
from ..scenes import clip, edit, edit_mask, render, sample_scene
from ..scenes.edits import Kind
from ..types import Raw, to_raw
from .task import Pictures, Task, Tasks, remembering

KINDS: tuple[Kind, ...] = get_args(Kind)


def scene_edits(
    seeds: Sequence[int],
    kinds: Sequence[Kind] = KINDS,
    *,
    frames: int = 24,
    size: tuple[int, int] = (256, 448),
    difficulty: float = 0.5,
) -> Tasks:
    """One task for each scene and kind of edit, `scene-SEED-KIND`, its group the kind: frame 0 is given edited.

    `size` is height and width in pixels. Raises `ConfigError` for an unknown kind and `InputError` for fewer than two frames;
    taking a task raises it where a scene does not allow the edit.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"There is no edit called {kind!r}. Nearest: {nearest(kind, KINDS)}.")
    if frames < 2:
        raise InputError(f"With {frames} frames nothing is left to ask for: frame 0 is given. Ask for 2 or more.")
    return Tasks(
        (f"scene-{seed}-{kind}", partial(_task, seed, kind, frames=frames, size=size, difficulty=difficulty))
        for seed in seeds
        for kind in kinds
    )


def _task(seed: int, kind: Kind, *, frames: int, size: tuple[int, int], difficulty: float) -> Task:
    scene = sample_scene(seed, difficulty)
    edited = edit(scene, kind, seed)
    source = remembering(clip(scene, frames, size))

    def shown(index: int) -> Raw:
        return to_raw(edit_mask(scene, edited, float(index), size).expand(3, -1, -1))

    return Task(
        name=f"scene-{seed}-{kind}",
        group=kind,
        source=source,
        keyframes=Pictures([0], lambda _: render(edited, 0.0, size).rgb),
        mask=remembering(source.with_frames(shown)),
        reference=remembering(clip(edited, frames, size)),
        reference_frames=frozenset(range(1, frames)),
        cuts=frozenset(),
        facts={"seed": seed, "difficulty": difficulty},
    )
