"""What there is to choose from, and the small services: looks, parts, shots of a video, key frames taken out."""

import dataclasses
import inspect
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from .. import scenes, seams, timecode, video
from ..errors import ConfigError, nearest
from ..outputs import check_file, make_folder
from ..parts import editors
from ..types import Clip
from . import toml
from .job import Job, recipe_of
from .prepare import read_input

_log = logging.getLogger("flowpaint")


class Source(TypedDict, total=False):
    """How an input is read: `fps` of a folder of pictures, `allow_damaged` and `tonemap` of a video."""

    fps: str
    allow_damaged: bool
    tonemap: bool


def looks() -> list[tuple[str, tuple[str, ...], str]]:
    """Name, aliases and a word on what it shows, for every built-in look."""
    return editors.catalogue()


def look_sheet(out: str | Path, *, picture: str | Path | None = None, overwrite: bool = False) -> Path:
    """Where a page with every look on `picture` was written: on a picture, the first frame of a video, or a rendered scene."""
    out = Path(out)
    check_file(out, overwrite=overwrite)
    clip = video.read(picture) if picture is not None else scenes.clip(scenes.sample_scene(8), 1, (360, 640))
    video.write_picture(out, editors.sheet(clip.frame(0)), overwrite=overwrite)
    return out


def shots(path: str | Path, **source: Unpack[Source]) -> list[dict[str, Any]]:
    """The shots of a video: first and last frame, and the clock times at which each begins and ends."""
    clip = _read(path, **source)
    start, ends = clip.times[0], (*clip.times, clip.end)
    return [
        {
            "first": shot.start,
            "last": shot[-1],
            "frames": len(shot),
            "from": timecode.clock(ends[shot.start] - start),
            "to": timecode.clock(ends[shot.stop] - start),
        }
        for shot in video.shots(clip)
    ]


def take_frames(
    path: str | Path, at: Sequence[int | str], folder: str | Path, *, overwrite: bool = False, **source: Unpack[Source]
) -> dict[int, Path]:
    """The frames of a video at some times, written to `folder` as `%06d.png`: frame number to file.

    Raises `InputError` for times outside the video, for files that exist, and for what is no regular file or no folder.
    """
    clip = _read(path, **source)
    numbers = sorted({timecode.frame_at(time, clip) for time in at})
    folder = Path(folder)
    if folder.absolute().parent.is_dir():
        make_folder(folder)
    files = {number: folder / f"{number:06d}.png" for number in numbers}
    for file in files.values():
        check_file(file, overwrite=overwrite)
    for number, file in files.items():
        video.write_picture(file, clip.raw(number), overwrite=overwrite)
    return files


def _read(path: str | Path, **source: Unpack[Source]) -> Clip:
    return read_input(Job(input=str(path), **source), _log.warning)


# ---------------------------------------------------------------------------------------------------------------- parts


def parts(kind: str | None = None) -> dict[str, list[str]]:
    """Every kind of part with its names, or those of one kind. Raises `ConfigError` for an unknown kind."""
    kinds = [kind] if kind is not None else sorted(seams.table())
    return {one: seams.names(one) for one in kinds}


def describe(name: str) -> list[dict[str, Any]]:
    """The parts called `name`: kind, docstring, fields with types and defaults, and a recipe to start from.

    Raises `ConfigError` for a name that no kind has.
    """
    found = [kind for kind, rows in seams.table().items() if name in rows]
    if not found:
        known = {one for rows in seams.table().values() for one in rows}
        raise ConfigError(f"There is no part called {name!r}. Nearest: {nearest(name, known)}.")
    return [_described(kind, name) for kind in found]


def _described(kind: str, name: str) -> dict[str, Any]:
    cls = seams.part_class(kind, name)
    return {
        "kind": kind,
        "name": name,
        "doc": inspect.getdoc(cls) or "",
        "fields": list(_fields(cls)),
        "recipe": _recipe(kind, name),
    }


def _fields(cls: type[Any]) -> Iterator[dict[str, Any]]:
    for one in dataclasses.fields(cls):
        default = one.default if one.default is not dataclasses.MISSING else None
        if one.default_factory is not dataclasses.MISSING:
            default = recipe_of(one.default_factory()) or repr(one.default_factory())
        needed = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        yield {"name": one.name, "type": inspect.formatannotation(one.type), "default": default, "required": needed}


def _recipe(kind: str, name: str) -> str:
    """The part with its defaults as TOML; where a field has no default, its name alone."""
    try:
        return toml.dumps(seams.to_dict(seams.build(kind, name)))
    except ConfigError:
        return toml.dumps({"kind": kind, "part": name})
