"""Whether a job that came from somebody else may be done here: it must reach nothing that its sender did not bring."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..weights import is_known
from .job import PLACES, Job

_OUTWARD = {"url": "an address", "program": "a program"}  # fields of parts that reach beyond this process
_FILES = PLACES | {"picture"}
_NAMES = frozenset({"part", "kind"})


def trusted(job: Job, folder: Path) -> Job:
    """The job itself, where all that it reads is in `folder` or comes with flowpaint.

    A recipe can name programs, servers, files and weights. Raises `InputError` for those, except for known weights and files in
    `folder`.
    """
    root = folder.resolve()
    for name in (job.input, *job.files()):
        if not Path(name).resolve().is_relative_to(root):
            raise InputError(f"The job reads {Path(name).name!r}, which was not uploaded. Upload the file, and name its asset.")
    for field, value in _texts(job.method):
        if field in _OUTWARD:
            raise InputError(
                f"A part of the method names {_OUTWARD[field]} ({field}), which jobs sent to a server may not. "
                "Choose another part, or run it with the command line."
            )
        if field in _FILES:
            if value and not is_known(value) and not _within(value, root):
                raise InputError(
                    f"The weights {value!r} ({field}) are not in the list of known ones. `flowpaint models list` has it."
                )
        elif field not in _NAMES and _looks_like_a_path(value):
            raise InputError(f"The setting {field}={value!r} looks like a path. Jobs sent to a server may name none.")
    return job


def _texts(recipe: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Each text in a recipe, with the field that it is in; a field that reaches outward also where it is no text."""
    if isinstance(recipe, Mapping):
        for key, value in recipe.items():
            yield from _texts(value, key)
    elif isinstance(recipe, (list, tuple)):
        for value in recipe:
            yield from _texts(value, field)
    elif isinstance(recipe, str) or field in _OUTWARD:
        yield field, str(recipe)


def _within(value: str, root: Path) -> bool:
    path = Path(value)
    return path.is_absolute() and path.resolve().is_relative_to(root)


def _looks_like_a_path(value: str) -> bool:
    return value.startswith(("~", ".")) or any(sign in value for sign in ("/", "\\", "\0"))
