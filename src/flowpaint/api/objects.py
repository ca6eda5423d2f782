"""What an edit says of objects: from a file, a click, a box or nothing to masks, and the pictures that go with the edit."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .. import seams, video
from ..errors import InputError
from ..types import Clip, from_raw
from .fit import ASPECT_SLACK
from .job import Job, marks_by_words

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_CLICK, _BOX = (re.compile(",".join([_NUMBER] * count)) for count in (2, 4))
_LOOKED_AT = 16  # frames in which an object is sought that nobody marked
_LEAST = 4  # pixels of an object

Warn = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Marked:
    """What of an edit is about objects: their masks, each a clip of one frame or of all, and pictures [3, H, W] in [0, 1]."""

    objects: tuple[Clip, ...] = ()
    new_object: Tensor | None = None
    reference: Tensor | None = None
    sketch: Tensor | None = None
    depth: Clip | None = None


def marked(job: Job, given: tuple[Clip, ...], whole: Clip, frames: range, warn: Warn) -> Marked:
    """The objects of `job`, and those `given` in memory, for the `frames` of the `whole` input; pictures read.

    Raises `InputError` for masks of another size or length, for points outside the picture and where nothing is found.
    """
    shape = None if job.new_object is None else _read(job.new_object, whole, frames, warn)
    return Marked(
        objects=(
            *(fitting(one, "A mask", whole, frames) for one in given),
            *(_object(one, whole, frames, warn) for one in job.objects),
        ),
        new_object=None if shape is None else (shape.frame(0)[:1] > 0.5).float(),
        reference=None if job.reference is None else from_raw(video.read_picture(job.reference)),
        sketch=None if job.sketch is None else from_raw(video.read_picture(job.sketch)),
        depth=None if job.depth is None else _depth(job.depth, whole, frames, warn),
    )


def _depth(path: str, whole: Clip, frames: range, warn: Warn) -> Clip:
    """The depth of `frames`, one picture for each. Raises `InputError` for another shape or length."""
    depth = video.read(path, warn=warn)
    if abs(depth.width * whole.height / (depth.height * whole.width) - 1) > ASPECT_SLACK:
        raise InputError(
            f"{path} is {depth.width}x{depth.height}, another shape than the video's {whole.width}x{whole.height}. "
            "Give the depth of whole frames; the size does not matter."
        )
    if len(depth) not in (len(frames), len(whole)):
        raise InputError(f"{path} has {len(depth)} frames where the video has {len(whole)}. Give a depth for each frame.")
    return depth if len(depth) == len(frames) else depth[frames.start : frames.stop]


def _object(text: str, whole: Clip, frames: range, warn: Warn) -> Clip:
    """The masks that `text` means: a file, click:x,y, box:x0,y0,x1,y1 in the first of `frames`, or auto."""
    if not marks_by_words(text):
        return _read(text, whole, frames, warn)
    kind, _, numbers = text.partition(":")
    if kind == "auto":
        seen = whole[frames.start : min(frames.stop, frames.start + _LOOKED_AT)]
        return _found(seams.build("segmenter", "motion"), seen, text)
    pattern = _CLICK if kind == "click" else _BOX
    match = pattern.fullmatch(numbers)
    if match is None:
        raise InputError(f"The object {text!r} is not understood. Write click:X,Y or box:LEFT,TOP,RIGHT,BOTTOM, in pixels.")
    part = seams.build("segmenter", "grabcut", **{kind: [float(one) for one in match.groups()]})
    return _found(part, whole[[frames.start]], text)


def _found(part: Any, seen: Clip, text: str) -> Clip:
    mask = part(seen.frames)[:1]
    if float((mask > 0.5).sum()) < _LEAST:
        raise InputError(f"No object was found by {text!r}. Give a mask of it: --object mask.png, white where it is.")
    return Clip.from_array((mask > 0.5).float().expand(1, 3, -1, -1))


def _read(path: str, whole: Clip, frames: range, warn: Warn) -> Clip:
    """The masks in a file."""
    return fitting(video.read(path, warn=warn), path, whole, frames)


def fitting(mask: Clip, name: str, whole: Clip, frames: range) -> Clip:
    """The `mask` called `name` for `frames` of the `whole` input: one frame for all, or one for each. Raises `InputError`."""
    if (mask.height, mask.width) != (whole.height, whole.width):
        raise InputError(
            f"{name} is {mask.width}x{mask.height} where the video is {whole.width}x{whole.height}. Make it the same size."
        )
    if len(mask) == len(whole):
        return mask[frames.start : frames.stop]
    if len(mask) not in (1, len(frames)):
        raise InputError(
            f"{name} has {len(mask)} frames where the video has {len(whole)}. Give one picture, or a mask video as long as it."
        )
    return mask


def of_shot(objects: tuple[Clip, ...], shot: range) -> tuple[Clip, ...]:
    """The `objects` of a clip as they are in one `shot` of it: one mask alone is that of its first frame."""
    return tuple(one if len(one) == 1 else one[shot.start : shot.stop] for one in objects)


def check_shots(objects: tuple[Clip, ...], shots: tuple[range, ...], *, first: int) -> None:
    """Nothing, where every object is marked in each of the `shots`. Raises `InputError` where one is marked only in the first."""
    if len(shots) < 2 or all(len(one) > 1 for one in objects):
        return
    listed = "; ".join(f"frames {shot.start + first} to {shot[-1] + first}" for shot in shots)
    raise InputError(
        f"The object is marked in one frame, and the video has {len(shots)} shots ({listed}). Give one of them with --start and "
        "--end, or masks for all frames."
    )
