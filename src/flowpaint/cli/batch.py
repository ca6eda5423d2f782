"""The command that does a whole table of jobs."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .options import Machines, Manners, grouped
from .talk import Talk, talking

if TYPE_CHECKING:
    from ..jobs.batch import Outcome

_AHEAD = 1000  # rows a worker: what comes back of a row is small, and a slow one should keep nobody waiting


@grouped(machines=Machines, manners=Manners)
def batch(
    *,
    table: Annotated[Path, typer.Argument(metavar="JOBS", help="A .csv, .toml or .jsonl file, one row a video.")],
    output_dir: Annotated[
        str | None, typer.Option(help="For outputs without a folder. Default: beside JOBS.", metavar="DIR")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write what became of each row.", metavar="FILE.csv|json")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that were made otherwise.")] = False,
    machines: Machines,
    manners: Manners,
) -> None:
    """Edit many videos: `flowpaint batch jobs.csv`. Run again, it does only what is missing."""
    with talking(manners) as talk:
        from .. import api
        from ..jobs import batch as work
        from ..jobs.remote import is_url
        from ..jobs.rows import read_rows

        if summary is not None:
            work.check_summary(summary, overwrite=overwrite)
            if summary.exists() and summary.samefile(table):
                raise InputError(f"{summary} is the table of jobs. Write the summary to another file.")
        outputs = output_dir if output_dir is None or is_url(output_dir) else str(Path(output_dir).absolute())
        cache = work.cache_folder()
        executor, rows = (
            machines.chosen(ahead=_AHEAD) or api.executor(),
            read_rows(table, output_dir=outputs, cache=cache / "fetched"),
        )
        done: list[Outcome] = []

        def told(outcome: "Outcome") -> None:
            done.append(outcome)
            talk.say(f"{len(done)}/{len(rows)} row {outcome.row}: {_words(outcome)}")

        try:
            work.run_batch(rows, work.Batch(cache=cache, overwrite=overwrite), executor, told=told)
        finally:
            if summary is not None:
                work.write_summary(summary, done, overwrite=overwrite)
        _say(done, talk)
        if any(one.state == "failed" for one in done):
            raise typer.Exit(1)


def _words(outcome: "Outcome") -> str:
    if outcome.state == "failed":
        return f"failed. {outcome.message}"
    time = f" in {outcome.seconds:.1f} s" if outcome.state == "done" else ""
    return f"{outcome.state}, {outcome.output}, {outcome.frames} frames{time}"


def _say(outcomes: "list[Outcome]", talk: Talk) -> None:
    """The summary, on stdout."""
    from ..jobs.batch import shortened

    counts = Counter(one.state for one in outcomes)
    head = ("row", "state", "frames", "seconds", "output", "message")
    rows = [
        (str(one.row), one.state, str(one.frames), f"{one.seconds:.1f}", one.output, one.message)
        for one in map(shortened, outcomes)
    ]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
    total = {name: counts[name] for name in ("done", "kept", "failed")}
    talk.result({"rows": [asdict(one) for one in outcomes], **total}, lines)
    talk.say(", ".join(f"{count} {name}" for name, count in total.items()) + ".")
