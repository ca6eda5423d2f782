"""Known edits: a filter of every frame is a true edited video. One filtered frame is given, the others are asked for.

No network is needed, the truth is exact, and doing nothing does not win. `joined` sets numbers of other programs, from a table,
beside ours.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np

from ..errors import ConfigError, InputError, nearest
from ..parts.metrics.known_filters import FILTERS, Picture, prepare, prepared_size
from ..parts.metrics.pictures import Truth
from ..types import Clip, Raw, from_raw, to_raw
from ..video import Warn, read
from .card import Card
from .files import hash_of, videos_in
from .task import Pictures, Task, Tasks, file_name, remembering

TIMES = (8, 16, 30)  # frames at which the truth counts
_KEYS = ("clip", "size", "filter", "t")
_PSNR, _SECONDS = "_psnr_db", "_seconds"
# Frozen frames of one clip score 0.05 to 0.11 dB apart when FFmpeg's scaler or our own code makes RGB of its YUV.
_ELSEWHERE = "was measured in another program: how it decodes video alone moves PSNR by about 0.1 dB"
_MEASURE = next(one for one in Truth.measures if one.name == "psnr_true")


def known_edits(
    videos: Path | Sequence[Path],
    *,
    filters: Sequence[str] = tuple(FILTERS),
    sizes: Sequence[int] = (256,),
    warn: Callable[[str], None] | None = None,
) -> Tasks:
    """One task for each video (of a folder, or those given), size of the short side and filter, the group `FILTER-SIZE`.

    Frame 0 is given, the truth counts at frames 8, 16 and 30 and no frame after them is used. Videos too short for the last
    of them are told to `warn`; taking a task raises `InputError` where a video has none. Raises `ConfigError` for an unknown
    filter and `InputError` where there are no videos or a size is under 16.
    """
    for name in filters:
        if name not in FILTERS:
            raise ConfigError(f"There is no filter called {name!r}. Nearest: {nearest(name, FILTERS)}.")
    for size in sizes:
        if size < 16:
            raise InputError(f"A short side of {size} pixels is too small to work on. Choose 256 or 512.")
    files = videos_in(videos) if isinstance(videos, Path) else list(videos)
    if not files:
        raise InputError(f"{videos} holds no videos. Give a folder of videos.")
    stems = [file.stem.casefold() for file in files]
    cases = [
        _Known(
            path=file,
            title=file.stem if stems.count(file.stem.casefold()) == 1 else file.name,
            size=size,
            filter=name,
        )
        for file in files
        for size in sizes
        for name in filters
    ]
    return Tasks((case.name, partial(case.task, warn)) for case in cases)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    path: Path
    title: str
    size: int
    filter: str

    @property
    def name(self) -> str:
        return case_name(self.title, self.size, self.filter)

    def task(self, warn: Warn | None) -> Task:
        """The task, with its video opened."""
        whole = read(self.path)
        times = [time for time in TIMES if time < len(whole)]
        if not times:
            raise InputError(f"{self.path} has {len(whole)} frames. Give one of {TIMES[0] + 1} or more.")
        if len(times) < len(TIMES) and warn is not None:
            warn(f"{self.path.name} has {len(whole)} frames. The truth counts at frames {', '.join(map(str, times))} only.")
        source = prepared(whole[: TIMES[-1] + 1], self.size)
        reference = edited(source, self.filter)
        return Task(
            name=self.name,
            group=f"{self.filter}-{self.size}",
            source=source,
            keyframes=Pictures([0], reference.frame),
            reference=reference,
            reference_frames=frozenset(times),
            facts={"video": hash_of(self.path), "filter": self.filter, "size": self.size},
        )


def case_name(clip: str, size: int, filter_name: str) -> str:
    """The name of the task of a clip (a file's name without suffix), a size and a filter."""
    return file_name(f"{clip}-{size}-{filter_name}")


def prepared(clip: Clip, size: int) -> Clip:
    """`clip` at a short side of `size`, 8 bit, sides cut to multiples of 8; lazy."""
    height, width = prepared_size(clip.height, clip.width, size)
    return remembering(
        Clip(
            lambda index: prepare(_eight_bit(clip.raw(index)), size),
            times=clip.times,
            end=clip.end,
            height=height,
            width=width,
            aspect=clip.aspect,
        )
    )


def edited(clip: Clip, filter_name: str) -> Clip:
    """`clip` with a filter on every frame; lazy."""
    made = FILTERS[filter_name]
    return remembering(clip.with_frames(lambda index: made(_eight_bit(clip.raw(index)))))


def _eight_bit(raw: Raw) -> Picture:
    return (to_raw(from_raw(raw)) if raw.dtype == np.uint16 else raw).astype(np.uint8, copy=False)


# ------------------------------------------------------------------------------------------------------- other programs


def joined(results: Mapping[str, Mapping[str, Card]], table: Path) -> dict[str, dict[str, Card]]:
    """`results` of known edits (cards by case and method) with the programs of a CSV as further methods.

    Columns: `clip` (the video's name without suffix), `size`, `filter`, `t` (frame), `PROGRAM_psnr_db` for each program and
    optionally `PROGRAM_seconds`. A program gets a card in the cases that the table knows; its number is missing, with the
    reason, where it is not of the same frames and size as ours. A program called like a method is told apart by the table's
    name. Raises `InputError` for a table that cannot be read so.
    """
    rows, programs = _table(table)
    found = {case: dict(cards) for case, cards in results.items()}
    for case, cards in found.items():
        ours = next(iter(cards.values()), None)
        if ours is None or case not in rows:
            continue
        ours_by = frozenset(cards)
        for program in programs:
            label = f"{program} in {table.name}" if program in ours_by else program
            cards[label] = replace(_card(program, rows[case], ours=ours, table=table), label=label)
    return found


def _card(program: str, rows: Mapping[int, Mapping[str, float]], *, ours: Card, table: Path) -> Card:
    """The card of a program: `rows` are the table's numbers by frame."""
    series = {time: row[program + _PSNR] for time, row in rows.items() if program + _PSNR in row}
    times = sorted(ours.series.get(_MEASURE.name, dict.fromkeys(TIMES)))
    size = int(next(iter(rows.values()))["size"])
    missing: dict[str, str] = {}
    if min(ours.width, ours.height) != size // 8 * 8:
        missing[_MEASURE.name] = f"{table.name} was measured at {size} pixels, the others at {min(ours.width, ours.height)}"
    elif lacking := [time for time in times if time not in series]:
        missing[_MEASURE.name] = f"{table.name} has no number for frame {', '.join(map(str, lacking))}"
    facts: dict[str, str | int | float] = {"table": table.name}
    seconds = [row[program + _SECONDS] for row in rows.values() if program + _SECONDS in row]
    if seconds:
        facts["seconds a frame, as in the table"] = mean(seconds)
    shown = {} if missing else {time: series[time] for time in times}
    return Card(
        label=program,
        frames=ours.frames,
        width=ours.width,
        height=ours.height,
        measures={_MEASURE.name: _MEASURE},
        values={_MEASURE.name: mean(shown.values())} if shown else {},
        series={_MEASURE.name: shown} if shown else {},
        missing=missing,
        facts=facts,
        warnings=(f"{table.name} {_ELSEWHERE}",),
        times=ours.times,
    )


def _table(table: Path) -> tuple[dict[str, dict[int, dict[str, float]]], list[str]]:
    """The numbers of a table by case and frame, and its programs."""
    try:
        reader = csv.DictReader(table.read_text("utf-8-sig").splitlines())
        columns = list(reader.fieldnames or [])
        _check_columns(table, columns)
        rows: dict[str, dict[int, dict[str, float]]] = {}
        for row in reader:
            numbers = {key: float(row[key]) for key in columns if key not in ("clip", "filter") and row[key]}
            if not all(map(math.isfinite, numbers.values())):
                raise ValueError(f"line {reader.line_num} holds a number that is not finite")
            case = case_name(row["clip"], int(row["size"]), row["filter"])
            rows.setdefault(case, {})[int(row["t"])] = numbers
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{table} cannot be read as a table of known edits ({error}). Check its numbers.") from error
    return rows, [column.removesuffix(_PSNR) for column in columns if column.endswith(_PSNR)]


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    for key in _KEYS:
        if key not in columns:
            raise InputError(f"{table} has no column {key!r}. Its columns: {', '.join(columns) or 'none'}.")
    for column in columns:
        if column not in _KEYS and not column.endswith((_PSNR, _SECONDS)):
            raise InputError(
                f"{table} has an unknown column {column!r}. Give {', '.join(_KEYS)}, and PROGRAM{_PSNR} or PROGRAM{_SECONDS}."
            )
