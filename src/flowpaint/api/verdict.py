"""`Verdict`: what judging found, ready to be read, printed or written as a page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..evaluation.aggregate import Summary
from ..evaluation.card import Card
from ..evaluation.page import Report, check_name, to_dict, write_report
from ..evaluation.strips import strips, worst
from ..moments import Case, Pass
from ..outputs import check_file
from ..report import versions

Row = tuple[str, tuple[str, ...], str, bool | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """One card a result, by label; for a benchmark summaries of many, all cases first. `cases` and `through` are for pictures."""

    title: str
    subtitle: str = ""
    cards: Mapping[str, Card] = field(default_factory=dict)
    cases: Mapping[str, Case] = field(default_factory=dict)
    through: Pass | None = None
    videos: Mapping[str, Path] = field(default_factory=dict)
    summaries: tuple[Summary, ...] = ()
    notes: tuple[str, ...] = ()

    def write(self, path: str | Path, *, command: str = "", overwrite: bool = True) -> tuple[Path, Path, Path]:
        """The files written: the page at `path` (.html), with pictures, and its numbers beside it as .json and .csv.

        Raises as `check_report` does, and `WorkError` where they cannot be written.
        """
        return write_report(Path(path), self._report(command), overwrite=overwrite)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as values that JSON holds."""
        return to_dict(self._bare())

    def table(self) -> tuple[tuple[str, ...], list[Row]]:
        """Labels of the columns, and for each measure with a number: title, a text a column, unit, whether higher is better."""
        if self.summaries:
            whole = self.summaries[0]
            means = {(one.measure, one.method): one.mean for one in whole.averages}
            found = [(m, [means.get((m.name, label)) for label in whole.methods]) for m in whole.measures.values()]
            labels = whole.methods
        else:
            labels = tuple(self.cards)
            measures = {name: one for card in self.cards.values() for name, one in card.measures.items()}
            found = [(m, [card.values.get(m.name) for card in self.cards.values()]) for m in measures.values()]
        rows: list[Row] = [
            (m.title, tuple("-" if one is None else f"{one:.{m.digits}f}" for one in values), m.unit, m.higher_is_better)
            for m, values in found
            if any(one is not None for one in values)
        ]
        return labels, rows

    def _bare(self, command: str = "") -> Report:
        return Report(
            title=self.title,
            subtitle=self.subtitle,
            cards=tuple(self.cards.values()),
            summaries=self.summaries,
            videos=self.videos,
            recipes={label: card.recipe for label, card in self.cards.items() if card.recipe},
            command=command,
            versions=versions(),
            notes=self.notes,
        )

    def _report(self, command: str) -> Report:
        bare = self._bare(command)
        if not self.cases or self.through is None:
            return bare
        through = self.through
        marked = [worst(self.cases[label], card, through=through) for label, card in self.cards.items() if label in self.cases]
        return replace(bare, strips=strips(self.cases), worst=tuple(one for several in marked for one in several))


def check_report(path: Path | None, *, overwrite: bool = False, renew: bool = False) -> None:
    """Raise `InputError` where a report cannot be written to `path`, or would replace what is there.

    With `renew` a report of flowpaint's may be replaced, with `overwrite` any regular file.
    """
    if path is None:
        return
    check_name(path)
    overwrite = overwrite or (renew and _is_report(path))
    for file in (path, path.with_suffix(".json"), path.with_suffix(".csv")):
        check_file(file, overwrite=overwrite)


def _is_report(path: Path) -> bool:
    """Whether the numbers beside the page at `path` say that flowpaint wrote it."""
    numbers = path.with_suffix(".json")
    try:
        return numbers.is_file() and json.loads(numbers.read_text("utf-8"))["format"].startswith("flowpaint report")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
