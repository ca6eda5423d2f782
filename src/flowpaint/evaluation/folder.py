"""A folder of videos as tasks, with a table of what is wanted of them.

The table is CSV with a head line, or TOML with a `[[task]]` for each row. Its columns, of which only `video` must be there:

video           file, or folder of pictures
prompt          what is wanted; without one, the prompt given for all
source_prompt   what the video shows
mask            picture, folder of pictures or video: where the edit may show
keyframe        picture: the first frame, edited, in the video's size
group           what averages are taken over; without one, the folder's name

Names of files count from the folder of the videos.
"""

import csv
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from ..errors import InputError, nearest
from ..types import Clip, from_raw
from ..video import read, read_picture
from .files import check_size, hash_of, mask, pictures_in, videos_in
from .task import Pictures, Task, Tasks, file_name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    video: str
    prompt: str = ""
    source_prompt: str = ""
    mask: str = ""
    keyframe: str = ""
    group: str = ""


_COLUMNS = tuple(one.name for one in fields(_Row))
_FILES = ("video", "mask", "keyframe")


def videos(root: Path, *, table: Path | None = None, prompt: str = "") -> Tasks:
    """One task for each row of `table` (see this module), or, without one, for every video of the folder.

    Raises `InputError` for a table with unknown columns or without rows, naming the nearest column, and for a file that it
    names and that is not there; taking a task raises it where a mask or key frame does not fit its video.
    """
    if table is None:
        rows = [_Row(video=file.name) for file in videos_in(root)]
        if not rows:
            raise InputError(f"{root} holds no videos. Give a folder of videos, or a table of what is wanted.")
    else:
        rows = list(_rows(root, table))
        if not rows:
            raise InputError(f"{table} has no rows. Give one for each task, with a video and a prompt.")
    return Tasks((name, partial(_task, root, row, name, prompt)) for name, row in _named(rows).items())


def _named(rows: list[_Row]) -> dict[str, _Row]:
    """The rows by their videos' names, numbered from the second row of a name on."""
    found: dict[str, _Row] = {}
    taken: set[str] = set()
    for row in rows:
        stem = file_name(Path(row.video).stem)
        name, count = stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.casefold())
        found[name] = row
    return found


def _task(root: Path, row: _Row, name: str, prompt: str) -> Task:
    source = read(root / row.video)
    keyframe = root / row.keyframe if row.keyframe else None
    if keyframe is not None:
        check_size(keyframe, source)
    return Task(
        name=name,
        group=row.group or root.resolve().name or "videos",
        source=source,
        prompt=row.prompt or prompt,
        source_prompt=row.source_prompt,
        keyframes={} if keyframe is None else Pictures([0], lambda _: from_raw(read_picture(keyframe))),
        mask=_optional_mask(root, row, source),
        facts={key: hash_of(*_files(root / getattr(row, key))) for key in _FILES if getattr(row, key)},
    )


def _optional_mask(root: Path, row: _Row, source: Clip) -> Clip | None:
    return mask(root / row.mask, source) if row.mask else None


def _files(path: Path) -> list[Path]:
    return pictures_in(path) if path.is_dir() else [path]


# -------------------------------------------------------------------------------------------------------------- tables


def _rows(root: Path, table: Path) -> Iterator[_Row]:
    for where, cells in _tables(table):
        for column in cells:
            if column not in _COLUMNS:
                raise InputError(f"{table} has an unknown column {column!r}. Nearest: {nearest(column, _COLUMNS)}.")
        row = _Row(**{"video": "", **cells})
        if not row.video:
            raise InputError(f"{table}, {where}, names no video. Fill in the column 'video'.")
        for column in _FILES:
            named = getattr(row, column)
            if named and not (root / named).exists():
                raise InputError(f"{root / named} does not exist ({table}, {where}, {column}). Check the name and the folder.")
        yield row


def _tables(table: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Where a row stands, and its cells by column."""
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table} cannot be read ({error}). Give a table as UTF-8 text.") from error
    match table.suffix.lower():
        case ".csv":
            yield from _csv(table, text)
        case ".toml":
            yield from _toml(table, text)
        case other:
            raise InputError(f"{table} ends in {other!r}, which is no table. Give a .csv or a .toml.")


def _csv(table: Path, text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    reader = csv.reader(text.splitlines(keepends=True), skipinitialspace=True)
    head = [cell.strip() for cell in next(reader, [])]
    if len(set(head)) < len(head):
        raise InputError(f"{table} repeats a column: {', '.join(head)}. Name each one once.")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"line {reader.line_num}"
        if len(cells) > len(head):
            raise InputError(f"{table}, {where}, has {len(cells)} cells for {len(head)} columns. Put quotes around commas.")
        yield where, {column: cell.strip() for column, cell in zip(head, cells, strict=False)}


def _toml(table: Path, text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    try:
        found = tomllib.loads(text)
    except ValueError as error:
        raise InputError(f"{table} is no TOML ({error}). Write a [[task]] for each row.") from error
    for key in found:
        if key != "task":
            raise InputError(f"{table} has an unknown key {key!r}. Write a [[task]] for each row.")
    rows = found.get("task", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{table} has a 'task' that is no list of tables. Write a [[task]] for each row.")
    for number, row in enumerate(rows, 1):
        for key, value in row.items():
            if not isinstance(value, str):
                raise InputError(f"{table}, task {number}, has {value!r} as its {key}. Put it in quotes.")
        yield f"task {number}", row
