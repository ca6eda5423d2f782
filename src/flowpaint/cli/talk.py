"""What is said on the way: progress and warnings on stderr, results on stdout, errors as messages with an exit code."""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import INTERRUPTED, verdict
from .options import Manners

_EVERY = 5.0  # seconds between two lines of progress where stderr is no terminal

Tell = Callable[[str, int, int], None]


class Talk:
    """One command's voice. `run` is the folder from which an interrupted command can go on, once there is one."""

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.run: Path | None = None
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """A line on stderr, unless quiet."""
        if not self.manners.quiet:
            self.console.print(message, markup=False)

    def result(self, value: Mapping[str, object], lines: list[str]) -> None:
        """What came of it, on stdout: one JSON object, or lines."""
        if self.manners.as_json:
            typer.echo(json.dumps(value, ensure_ascii=False, default=str))
        else:
            for line in lines:
                typer.echo(line)

    @contextmanager
    def progress(self) -> Iterator[Tell]:
        """A function (stage, done, total) that shows how far each stage is."""
        if self.manners.quiet:
            yield lambda *_: None
        elif self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            )  # fmt: skip
            with Progress(*columns, console=self.console, transient=True) as bars:
                tasks: dict[str, TaskID] = {}

                def show(stage: str, done: int, total: int) -> None:
                    if stage not in tasks:
                        tasks[stage] = bars.add_task(stage, total=total)
                    bars.update(tasks[stage], completed=done, total=total)

                yield show
        else:
            yield self._lines()

    def _lines(self) -> Tell:
        begun: dict[str, tuple[float, int]] = {}
        last = monotonic()

        def show(stage: str, done: int, total: int) -> None:
            nonlocal last
            now = monotonic()
            since, first = begun.setdefault(stage, (now, done))
            if now - last < _EVERY:
                return
            last = now
            left = (total - done) * (now - since) / max(1, done - first)
            self.say(f"{stage} {done}/{total}, {left // 60:.0f}:{left % 60:02.0f} left")

        return show


class _Handler(logging.Handler):
    """The package's log as lines on stderr."""

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        self._talk.say(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def talking(manners: Manners) -> Iterator[Talk]:
    """A voice for one command. Whatever goes wrong inside ends the command with a message and the exit code that says so."""
    talk = Talk(manners)
    logger, handler = logging.getLogger("flowpaint"), _Handler(talk)
    level = logging.DEBUG if manners.debug else logging.INFO if manners.verbose else logging.WARNING
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield talk
    except (typer.Exit, SystemExit):
        raise
    except BaseException as error:
        if manners.debug:
            talk.console.print_exception()
        code, message = verdict(error)
        if talk.run is not None and (talk.run / "run.json").exists() and code in (1, 5, INTERRUPTED):
            message += f" `flowpaint resume {shlex.quote(str(talk.run))}` goes on from here."
        talk.console.print(message, markup=False, style="red" if code != INTERRUPTED else None)
        raise typer.Exit(code) from error
    finally:
        logger.removeHandler(handler)
        sys.stdout.flush()
