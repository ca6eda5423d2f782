"""Shards of pictures in the built-in looks, made from nothing or from a folder of photographs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from .. import seams
from ..seams import SpatialCondition
from .family import CONDITIONS, LOOKS
from .pictures import Photograph, in_look, photographs, picture, to_bytes
from .shards import ShardWriter

Progress = Callable[[str, int, int], None]


def synth_pictures(
    output: Path,
    *,
    photos: Path | None,
    count: int,
    looks: Sequence[str] = LOOKS,
    each: int = 0,
    size: int = 256,
    seed: int = 0,
    progress: Progress,
) -> int:
    """The number of samples written to `output`: `count` pictures, each plain and in `each` looks by lot (0: in all of them).

    A sample is `picture.webp`, the control maps of the plain picture (`softedge.webp`, `canny.webp`) and `json`: subject, look
    ("" for none), origin, seed.
    """
    known = photographs(photos) if photos is not None else ()
    written = 0
    with ShardWriter(output) as shards:
        for number in range(count):
            for files in _samples(seed + number, known, looks, each, size):
                shards.write(files)
                written += 1
            progress("pictures", number + 1, count)
    return written


def _samples(seed: int, photos: Sequence[Photograph], looks: Sequence[str], each: int, size: int) -> list[dict[str, bytes]]:
    plain = picture(seed, photos, size)
    rng = np.random.default_rng([109, seed])
    chosen = list(looks) if not each else [str(one) for one in rng.choice(list(looks), size=min(each, len(looks)), replace=False)]
    maps = {f"{name}.webp": to_bytes(_control(name, plain.rgb)) for name in CONDITIONS}
    samples = []
    for look in ("", *chosen):
        told = {"subject": plain.subject, "look": look, "origin": plain.origin, "seed": seed}
        painted = in_look(plain.rgb, look, seed) if look else plain.rgb
        samples.append({"picture.webp": to_bytes(painted), **maps, "json": json.dumps(told).encode()})
    return samples


def _control(name: str, rgb: Tensor) -> Tensor:
    condition: SpatialCondition = seams.build("condition", name)
    return condition(rgb[None])[0, :1]
