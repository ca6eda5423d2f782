"""Edits whose result is known, because layers are apart: the edited scene renders the edited video, its flow and its depth."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, InputError, nearest
from .depths import Level
from .light import Light
from .placement import Size
from .render import render
from .sample import FASTEST, Random, random_motion, random_shape, random_texture
from .scene import Layer, Scene
from .textures import Colour, Flat, Styled, Texture

Kind = Literal["restyle", "recolour", "swap", "remove", "insert"]

_NARROWEST = 0.01  # gap of nearness that still takes a new layer


def edit(scene: Scene, kind: Kind, seed: int) -> Scene:
    """The edited scene, the same for the same arguments.

    `restyle` filters every texture; `recolour` turns the hue of one object; `swap` gives one object another shape and texture,
    its motion and depth kept; `remove` drops one object; `insert` adds one. Raises `ConfigError` for another kind and
    `InputError` where the scene has no object to edit or no depth left for a new one.
    """
    if kind not in get_args(Kind):
        raise ConfigError(f"There is no edit called {kind!r}. Nearest: {nearest(kind, get_args(Kind))}.")
    rng = np.random.default_rng([104, seed])
    if kind == "restyle":
        look = _look(rng)
        return replace(scene, layers=tuple(replace(one, texture=replace(look, texture=one.texture)) for one in scene.layers))
    if kind == "insert":
        return _insert(scene, rng)
    if len(scene.layers) == 1:
        raise InputError(f"A scene of a background alone has nothing to {kind}. Add an object or choose 'insert' or 'restyle'.")
    chosen = int(rng.integers(1, len(scene.layers)))
    before, layer, after = scene.layers[:chosen], scene.layers[chosen], scene.layers[chosen + 1 :]
    if kind == "remove":
        return replace(scene, layers=before + after)
    changed = _recoloured(layer, rng) if kind == "recolour" else _swapped(layer, rng)
    return replace(scene, layers=(*before, changed, *after))


def edit_mask(source: Scene, edited: Scene, time: float, size: Size) -> Tensor:
    """1 where the edit shows in frame `time`, however faintly: float32 [1, H, W]. Elsewhere both scenes render equal pixels."""
    if (source.camera, source.light) != (edited.camera, edited.light):
        return torch.ones(1, *size)
    kept = {layer.name for layer in source.layers if layer in edited.layers}
    return torch.maximum(_shown(source, kept, time, size), _shown(edited, kept, time, size))


def _shown(scene: Scene, kept: set[str], time: float, size: Size) -> Tensor:
    """1 where a layer that is not `kept` has any weight: those are painted white, all others black, and seen by the same lens."""
    white, black = Flat(colour=(1.0, 1.0, 1.0)), Flat(colour=(0.0, 0.0, 0.0))
    layers = tuple(replace(layer, texture=black if layer.name in kept else white) for layer in scene.layers)
    lens = Light(shutter=scene.light.shutter, shutter_samples=scene.light.shutter_samples, blur=scene.light.blur)
    return (render(replace(scene, layers=layers, light=lens), time, size).rgb[:1] > 0).float()


def _look(rng: Random) -> Styled:
    """A filter: colours drawn towards a tone, tones gathered in steps, shadows hatched. Its texture is a placeholder."""
    toned, tone = rng.uniform(0.4, 1.0), rng.uniform(0.7, 1.3, 3)
    luma = np.array([0.299, 0.587, 0.114])  # Rec. 601
    matrix = (1 - toned) * np.eye(3) + toned * np.outer(tone, luma)
    return Styled(
        texture=Flat(colour=(0.0, 0.0, 0.0)),
        matrix=_rows(matrix),
        levels=int(rng.integers(0, 6)),
        hatching=rng.uniform(0.0, 0.8),
        period=rng.uniform(0.03, 0.08),
        angle=rng.uniform(0, math.pi),
    )


def _recoloured(layer: Layer, rng: Random) -> Layer:
    turn = math.tau * rng.uniform(0.25, 0.75)
    # Rodrigues' formula for a turn about the grey axis; the offset colours what is grey.
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = math.cos(turn) * np.eye(3) + math.sin(turn) * cross + (1 - math.cos(turn)) * np.outer(axis, axis)
    red, green, blue = (0.12 * math.cos(turn + third * math.tau / 3) for third in range(3))
    return replace(layer, texture=Styled(texture=layer.texture, matrix=_rows(matrix), offset=(red, green, blue)))


def _rows(matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[Colour, Colour, Colour]:
    first, second, third = ((float(a), float(b), float(c)) for a, b, c in matrix)
    return first, second, third


def _swapped(layer: Layer, rng: Random) -> Layer:
    size = 0.18 if layer.shape is None else 0.8 * layer.shape.radius
    texture: Texture = random_texture(rng)
    return replace(layer, shape=random_shape(rng, size * rng.uniform(0.8, 1.2)), texture=texture)


def _insert(scene: Scene, rng: Random) -> Scene:
    edges = [(far.depth.band[1], near.depth.band[0]) for far, near in pairwise(scene.layers)]
    edges.append((scene.layers[-1].depth.band[1], 1.0))
    wide = [number for number, (low, high) in enumerate(edges) if high - low > _NARROWEST]
    if not wide:
        raise InputError("No two layers leave a gap of nearness for a new one. Spread their depths or remove one first.")
    gap = wide[int(rng.integers(len(wide)))]
    taken = {layer.name for layer in scene.layers}
    added = Layer(
        name=next(name for number in range(len(taken) + 1) if (name := f"inserted {number + 1}") not in taken),
        texture=random_texture(rng),
        depth=Level(nearness=sum(edges[gap]) / 2),
        shape=random_shape(rng, rng.uniform(0.12, 0.22)),
        motion=random_motion(rng, 0.3 * FASTEST, ripples=False),
    )
    return replace(scene, layers=(*scene.layers[: gap + 1], added, *scene.layers[gap + 1 :]))
