"""Clips of depth with what is behind an object: the truth that a completer of depth is to find, known because layers are apart.

What StableV2V's refiner was trained on, holes by lot beside the saliency of the *source* object, is not what it is shown in use:
the hole that a removed object leaves beside an object of another shape. Here both kinds are made (see `drawn`).
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..scenes import Scene, edit, relief, sample_scene
from ..smoothing import dilate
from ..types import check_shape
from .shards import Sample, ShardWriter

Progress = Callable[[str, int, int], None]

_LEAST = 0.01  # share of the picture below which an object is too small to leave a hole
_GROWN = 2  # pixels: holes reach so far beyond the object (StableV2V's code: 5 x 5)
_LOBES = range(2, 6)  # harmonics of a blob's outline
_FASTEST = 3 / 384  # sides a frame, of holes by lot that move (FGT's generator: up to 3 pixels of 384)
_NARROW, _WIDE = 0.12, 0.3  # sides: radii of holes by lot
_KIND = {"depth": np.float16, "behind": np.float16, "object": np.uint8, "swapped": np.uint8}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Removal:
    """An object that leaves, and the shape of another one that comes: all [T, 1, H, W], depth in [0, 1], masks 0 or 1.

    `depth` with the object, `behind` without it; `object` where it is seen; `swapped` where the other one, which moves and lies
    as it does, is seen instead.
    """

    depth: Tensor
    behind: Tensor
    object: Tensor
    swapped: Tensor

    def __post_init__(self) -> None:
        check_shape(**{name: (getattr(self, name), "T 1 H W") for name in _KIND})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hole:
    """What a completer is told, and the truth: `depth`, `hole`, `truth` [T, 1, H, W], `shape` [1, 1, H, W]."""

    depth: Tensor
    hole: Tensor
    shape: Tensor
    truth: Tensor


# -------------------------------------------------------------------------------------------------------------------- made


def removal(seed: int, *, length: int, size: int) -> Removal:
    """A procedural scene of which one object leaves, the same for the same arguments: `length` frames of `size` pixels."""
    for trial in range(1000):
        rng = np.random.default_rng([117, seed, trial])
        scene = sample_scene(int(rng.integers(2**31)), float(rng.uniform(0.2, 1.0)))
        edited = edit(scene, "swap", int(rng.integers(2**31)))
        number = next(place for place, layer in enumerate(scene.layers) if layer != edited.layers[place])
        start, step = float(rng.uniform(0, 60)), float(rng.choice((0.5, 1.0, 2.0)))
        times = [start + step * place for place in range(length)]
        found = _removal(scene, edited, number, times, size)
        enough = _LEAST * size * size
        if found.object[0].sum() >= enough and found.swapped[0].sum() >= enough and found.object.sum() >= enough * length:
            return found
    raise AssertionError(f"no scene of seed {seed} shows an object")  # of a thousand, about half do


def _removal(scene: Scene, edited: Scene, number: int, times: Sequence[float], size: int) -> Removal:
    without = replace(scene, layers=scene.layers[:number] + scene.layers[number + 1 :])
    shown, changed, left = (
        [torch.stack(one) for one in zip(*(relief(seen, time, (size, size)) for time in times), strict=True)]
        for seen in (scene, edited, without)
    )
    return Removal(depth=shown[0], behind=left[0], object=(shown[1] == number).float(), swapped=(changed[1] == number).float())


def removals(count: int, *, length: int, size: int, seed: int) -> Iterator[dict[str, bytes]]:
    """The files of `count` samples: one `.npy` [T, 1, H, W] for each field of `Removal`, and `json`."""
    for number in range(seed, seed + count):
        found = removal(number, length=length, size=size)
        arrays = {f"{name}.npy": _bytes(getattr(found, name).numpy().astype(kind)) for name, kind in _KIND.items()}
        yield {**arrays, "json": json.dumps({"origin": "scene", "seed": number}).encode()}


def synth_holes(output: Path, *, count: int, length: int, size: int, seed: int, progress: Progress) -> int:
    """The number of samples written to `output`: see `removals`."""
    with ShardWriter(output, size=64) as shards:
        for number, files in enumerate(removals(count, length=length, size=size, seed=seed)):
            shards.write(files)
            progress("holes", number + 1, count)
    return count


def read_removal(sample: Sample) -> Removal:
    """The removal of a sample. Raises ValueError, OSError or KeyError where it is broken."""
    read = {name: np.load(io.BytesIO(sample.files[f"{name}.npy"]), allow_pickle=False) for name in _KIND}
    return Removal(**{name: torch.from_numpy(one.astype(np.float32)) for name, one in read.items()})


def _bytes(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


# ------------------------------------------------------------------------------------------------------------------- drawn


def swapped(row: Removal) -> Hole:
    """The hole that the object leaves where the other one, pasted flat at its mean depth, leaves open (StableV2V, Eq. 8)."""
    count = row.object.sum(dim=(1, 2, 3), keepdim=True)
    mean = (row.depth * row.object).sum(dim=(1, 2, 3), keepdim=True) / count.clamp(min=1)
    last = mean[0]
    for frame, seen in enumerate(count.flatten() > 0):  # a mean of nothing: the last that was measured
        last = mean[frame] if seen else last
        mean[frame] = last
    pasted = torch.where(row.swapped > 0, mean, row.depth)
    hole = (1 - row.swapped) * dilate(row.object, _GROWN)
    truth = torch.where(hole > 0, row.behind, pasted)
    return Hole(depth=pasted, hole=hole, shape=row.swapped[:1], truth=truth)


def removed(row: Removal, *, comes: bool = False) -> Hole:
    """The hole that the object leaves, whole: where nothing comes instead, or, with `comes`, what comes is pasted only later."""
    hole = dilate(row.object, _GROWN)
    shape = row.swapped[:1] if comes else torch.zeros_like(hole[:1])
    return Hole(depth=row.depth, hole=hole, shape=shape, truth=torch.where(hole > 0, row.behind, row.depth))


def blotted(row: Removal, generator: torch.Generator) -> Hole:
    """A hole by lot, half of the time moving, that has nothing to do with the object; the shape is the object's, as upstream."""
    hole = blobs(len(row.depth), row.depth.shape[-2:], generator)
    return Hole(depth=row.depth, hole=hole, shape=row.object[:1], truth=row.depth)


def blobs(num_frames: int, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """A smooth blob, half of the time still, else moving by up to 3 of 384 sides a frame: [T, 1, H, W], 1 in it."""
    height, width = size
    drawn = torch.rand(2 * len(_LOBES) + 6, generator=generator).tolist()
    radius = (_NARROW + (_WIDE - _NARROW) * drawn[0]) * min(height, width)
    x, y, moving, heading, speed = drawn[1], drawn[2], drawn[3] < 0.5, math.tau * drawn[4], drawn[5]
    pace = speed * _FASTEST * min(height, width) if moving else 0.0
    frame = torch.arange(num_frames)[:, None, None, None]
    dx = torch.arange(width)[None, None, None] - x * width - frame * pace * math.cos(heading)
    dy = torch.arange(height)[None, None, :, None] - y * height - frame * pace * math.sin(heading)
    angle, edge = torch.atan2(dy, dx), torch.ones(num_frames, 1, height, width)
    for order, depth, phase in zip(_LOBES, drawn[6::2], drawn[7::2], strict=True):
        edge = edge + 0.7 * depth / order * torch.cos(order * angle + math.tau * phase)
    inside: Tensor = (dx**2 + dy**2).sqrt() <= radius * edge
    return inside.float()


def cropped(row: Removal, size: int, generator: torch.Generator) -> Removal:
    """A square of `size` pixels about a place of the object in one of its frames, or about any where it is not seen."""
    height, width = row.depth.shape[-2:]
    frame = int(torch.randint(len(row.depth), (1,), generator=generator))
    places = row.object[frame, 0].nonzero()
    lot = torch.rand(3, generator=generator)
    centre = places[int(lot[0] * len(places))] if len(places) else (lot[1:] * torch.tensor([height, width])).long()
    shift = ((torch.rand(2, generator=generator) - 0.5) * size / 2).long()
    top, left = (
        min(max(int(at - size // 2), 0), most) for at, most in zip(centre + shift, (height - size, width - size), strict=True)
    )
    return changed(row, lambda one: one[..., top : top + size, left : left + size])


def turned(row: Removal, generator: torch.Generator) -> Removal:
    """The clip played backwards half of the time, and mirrored half of the time: all that belongs together, together."""
    lot = torch.rand(2, generator=generator)
    axes = [axis for axis, draw in zip((0, -1), lot, strict=True) if draw < 0.5]
    return changed(row, lambda one: one.flip(axes)) if axes else row


def stretched(row: Removal, generator: torch.Generator) -> Removal:
    """The same with depth in another part of [0, 1]: networks that measure it scale it by what a clip shows."""
    low, high = float(min(row.depth.min(), row.behind.min())), float(max(row.depth.max(), row.behind.max()))
    span = float(0.3 + 0.7 * torch.rand(1, generator=generator))
    floor = float((1 - span) * torch.rand(1, generator=generator))
    scale = span / max(high - low, 1e-3)
    return replace(row, depth=(row.depth - low) * scale + floor, behind=(row.behind - low) * scale + floor)


def changed(row: Removal, change: Callable[[Tensor], Tensor]) -> Removal:
    """The same with each tensor changed."""
    return Removal(**{name: change(getattr(row, name)) for name in _KIND})
