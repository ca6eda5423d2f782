"""A benchmark: every task by every method, judged; what is finished is on disk and is not done again.

FOLDER/rows/TASK--METHOD.json   one row: the card, or why there is none, and what it was made from
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import FlowpaintError, InputError
from ..moments import Case
from ..outputs import make_folder
from ..runs import write_json
from ..types import Clip
from ..video import Progress, Warn, shots
from .card import Card
from .task import Task, Tasks, file_name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What a method made of a task: `result` is as long and as large as the task's source.

    `peak_memory` is in bytes, `result_mask` 1 where the edited object is in the result, `recipe` how it was made.
    """

    result: Clip
    seconds_per_frame: float | None = None
    peak_memory: int | None = None
    result_mask: Clip | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)


Make = Callable[[Task, str], Made]  # (task, method)
Judge = Callable[[Case, str], Card]  # (case, label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of a task by a method: a card, or the error that stopped it. `made_from` is all that it depends on."""

    task: str
    group: str
    method: str
    card: Card | None = None
    error: str = ""
    seconds: float = 0.0  # making and judging
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The row as values that JSON holds."""
        names = ("task", "group", "method", "error", "seconds", "made_from")
        return {**{name: getattr(self, name) for name in names}, "card": self.card and self.card.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Row":
        """The row that `to_dict` described. Raises `InputError` for what is none."""
        try:
            card = None if values["card"] is None else Card.from_dict(values["card"])
            row = cls(**{**values, "card": card})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"This is no row of a benchmark: {error!r}. Run the benchmark again.") from error
        if (row.card is None) == (not row.error):
            raise InputError("A row of a benchmark has either a card or an error. Run the benchmark again.")
        return row


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The rows of a benchmark in the order of its tasks and methods."""

    rows: tuple[Row, ...]

    @cached_property
    def cards(self) -> dict[str, dict[str, Card]]:
        """The cards by task and method. A task that failed by every method is there, with none."""
        found: dict[str, dict[str, Card]] = {row.task: {} for row in self.rows}
        for row in self.rows:
            if row.card is not None:
                found[row.task][row.method] = row.card
        return found

    @property
    def groups(self) -> dict[str, dict[str, dict[str, Card]]]:
        """The cards by group, task and method. Tasks that could not be opened belong to none."""
        found: dict[str, dict[str, dict[str, Card]]] = {}
        for row in self.rows:
            if row.group:
                found.setdefault(row.group, {})[row.task] = self.cards[row.task]
        return found

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows without a card."""
        return tuple(row for row in self.rows if row.card is None)

    def summary(self) -> str:
        """How many rows there are, how many failed by each method, and the commonest reason, in a sentence or two."""
        begun = f"{len(self.rows)} results of {len(self.cards)} tasks"
        if not self.failures:
            return f"{begun}, none failed."
        counts = Counter(row.method for row in self.failures)
        told = ", ".join(f"{method} {count}" for method, count in counts.items())
        reason, _ = Counter(row.error for row in self.failures).most_common(1)[0]
        return f"{begun}, {len(self.failures)} failed ({told}). Most often: {reason}"


def _silent(*_: object) -> None:
    """Nobody is told."""


def benchmark(
    tasks: Iterable[Task],
    methods: Mapping[str, Mapping[str, Any]],
    *,
    make: Make,
    judge: Judge,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = _silent,
    warn: Warn = _silent,
) -> Benchmark:
    """Every task made by every method and judged; rows that were finished before are read from `folder`.

    `methods` are recipes by the names that `make` and the page know them by, `settings` what the judge was built from (its
    metrics, their fields), both values that JSON holds. A row is done again when its recipe, the settings, the task or the
    version of flowpaint have changed, and when it failed. A `FlowpaintError` becomes a row with that error, told to `warn`,
    and the others go on; a task that cannot be opened fails by every method. `progress` counts rows. Raises `InputError` where
    tasks or methods share a name or there are none, `WorkError` where rows cannot be written.
    """
    lined = Tasks.of(tasks)
    if not lined or not methods:
        raise InputError(f"A benchmark of {len(lined)} tasks and {len(methods)} methods has no rows. Give one or more of each.")
    _check_methods(methods)
    make_folder(folder / "rows")
    desk = _Desk(folder=folder, methods=methods, make=make, judge=judge, settings=settings or {}, warn=warn)
    rows: list[Row] = []
    total = len(lined) * len(methods)
    for number, name in enumerate(lined.names):
        try:
            task: Task | FlowpaintError = lined[number]
        except FlowpaintError as error:
            task = error
        for row in (desk.row(name, task, method) for method in methods):
            rows.append(row)
            progress("benchmark", len(rows), total)
        desk.leave()
    return Benchmark(rows=tuple(rows))


def read_rows(folder: Path) -> Benchmark:
    """All rows that `folder` holds, by the names of their files. Raises `InputError` for one that cannot be read."""
    rows = []
    for path in sorted((folder / "rows").glob("*.json")):
        try:
            rows.append(Row.from_dict(json.loads(path.read_text("utf-8"))))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}). Remove it and run the benchmark again.") from error
    return Benchmark(rows=tuple(rows))


def row_file(folder: Path, task: str, method: str) -> Path:
    """Where the row of a task by a method lies: its own file, whatever signs the names hold."""
    return folder / "rows" / f"{file_name(task)}--{file_name(method)}.json"


def _check_methods(methods: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in methods:
        if name.casefold() in seen:
            raise InputError(f"Two methods are called {seen[name.casefold()]!r} and {name!r}. Give each its own name.")
        seen[name.casefold()] = name


@dataclass(kw_only=True)
class _Desk:
    """Where rows are made, one after the other."""

    folder: Path
    methods: Mapping[str, Mapping[str, Any]]
    make: Make
    judge: Judge
    settings: Mapping[str, Any]
    warn: Warn
    cuts: frozenset[int] | None = None  # of the task at work, once somebody looked

    def leave(self) -> None:
        """Be done with a task."""
        self.cuts = None

    def row(self, name: str, task: Task | FlowpaintError, method: str) -> Row:
        """The row of a task, or of the error that opening it raised, from the folder or made now."""
        started = time.perf_counter()
        if isinstance(task, FlowpaintError):
            return self._unopened(Row(task=name, group="", method=method, error=_told(task)))
        made_from = self._made_from(task, method)
        kept = self._kept(name, method, made_from)
        if kept is not None:
            return replace(kept, group=task.group)
        row = Row(task=name, group=task.group, method=method, made_from=made_from)
        try:
            row = replace(row, card=self._card(task, method))
            _plain(f"The card of {name} by {method}", row.to_dict())
        except FlowpaintError as error:
            row = replace(row, card=None, error=_told(error))
        return self._finished(replace(row, seconds=time.perf_counter() - started))

    def _card(self, task: Task, method: str) -> Card:
        made = self.make(task, method)
        if self.cuts is None:
            self.cuts = frozenset(shot.start for shot in shots(task.source) if shot.start) if task.cuts is None else task.cuts
        case = Case(
            source=task.source,
            result=made.result,
            prompt=task.prompt,
            source_prompt=task.source_prompt,
            mask=task.mask,
            result_mask=made.result_mask,
            reference=task.reference,
            reference_frames=task.reference_frames,
            cuts=self.cuts,
            seconds_per_frame=made.seconds_per_frame,
            peak_memory=made.peak_memory,
        )
        card = self.judge(case, method)
        return card if card.recipe else replace(card, recipe=made.recipe)

    def _made_from(self, task: Task, method: str) -> dict[str, Any]:
        """All that a row depends on, as JSON gives it back."""
        source = task.source
        about = {
            "frames": len(source),
            "size": [source.width, source.height],
            "prompt": task.prompt,
            "source_prompt": task.source_prompt,
            "keyframes": sorted(task.keyframes),
            "mask": task.mask is not None,
            "reference": task.reference is not None,
            "reference_frames": None if task.reference_frames is None else sorted(task.reference_frames),
            "reference_picture": task.reference_picture is not None,
            "facts": dict(task.facts),
        }
        parts = {"task": about, "recipe": self.methods[method], "settings": self.settings, "flowpaint": _version()}
        return _plain(f"The recipe of {method!r}, or the settings,", parts)

    def _kept(self, name: str, method: str, made_from: Mapping[str, Any]) -> Row | None:
        """The row as it was finished, unless it was made from something else."""
        row = self._read(name, method)
        return row if row is not None and row.made_from == made_from else None

    def _read(self, name: str, method: str) -> Row | None:
        """The row on disk, if it has a card. One that cannot be read is none."""
        path = row_file(self.folder, name, method)
        try:
            row = Row.from_dict(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.warn(f"{path} cannot be read ({error}). The row is made anew.")
            return None
        return row if row.card is not None and (row.task, row.method) == (name, method) else None

    def _unopened(self, row: Row) -> Row:
        """The failed row. It takes no finished row's place: a disk that is not there today must not cost yesterday's work."""
        return self._finished(row, write=self._read(row.task, row.method) is None)

    def _finished(self, row: Row, *, write: bool = True) -> Row:
        if write:
            write_json(row_file(self.folder, row.task, row.method), row.to_dict())
        if row.error:
            self.warn(f"{row.task} by {row.method} failed. {row.error}")
        return row


def _told(error: FlowpaintError) -> str:
    return str(error) or type(error).__name__


def _plain(what: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as JSON gives them back. Raises `InputError` for what it does not hold."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} cannot be kept ({error}). Give finite numbers, texts, lists and mappings.") from error
    return plain


def _version() -> str:
    try:
        return version("flowpaint")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"
