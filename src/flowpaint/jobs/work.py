"""A worker: a process that takes jobs from the store one after another, until it is told to stop or its parent is gone.

    python -m flowpaint.jobs DATA SLOT PARENT [--seconds N] [--bytes N]

There is one living worker to a slot, for it holds the slot's lock as long as it lives. So whoever gets that lock knows that the
slot's former worker is dead, and that the job it was at can be given to another.
"""

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TypeVar

from ..errors import WorkError, is_full, verdict
from ..runs import synced, write_json
from .cleaning import sweep
from .database import Unavailable
from .locks import Lock
from .pulse import Pulse
from .queue import Queue
from .records import Record
from .store import JobStore, size_of

_IDLE = 0.2  # seconds between two looks at an empty queue
_RETRY = 1.0  # between two tries to write into the store while the disk is full
_NICE = 10  # below whatever answers people

Said = TypeVar("Said")


class Stopped(BaseException):
    """The worker is to stop, and to give back what it is at."""


def lock_of(folder: Path, slot: str) -> Lock:
    """The lock of a slot."""
    return Lock(folder / f"{slot}.lock")


def serve(folder: Path, slot: str, alive: Callable[[], bool], *, seconds: float | None = None) -> None:
    """Do jobs from the store in `folder` while `alive()`, as the worker of `slot`, each for `seconds` at most.

    Waits where another one still has the slot.
    """
    lock = lock_of(folder, slot)
    with JobStore(folder) as store, lock.waited_for(alive) as is_ours:
        queue = Queue(store)
        if is_ours:
            _insisted(lambda: queue.lose(slot), lock.show)
            _insisted(lambda: sweep(queue.store), lock.show)
        while is_ours and alive():
            lock.show()
            job = _insisted(lambda: queue.claim(slot), lock.show)
            if job is None:
                time.sleep(_IDLE)
            else:
                attempt(queue, job, show=lock.show, seconds=seconds)


def attempt(queue: Queue, job: Record, *, show: Callable[[], None] = lambda: None, seconds: float | None = None) -> None:
    """Do one job that was claimed, and say in the store what came of it. `show` is called all the time, to say that it lives.

    The process ends where the job is cancelled, given to another worker, or takes longer than `seconds`.
    """
    try:
        try:
            with Pulse(queue, job, show=show, seconds=seconds) as pulse, _logged(queue, job):
                end = _do(queue, job, pulse)
        except Exception as error:
            end = _failing(queue, job, error)
        if _insisted(end, show):
            _tidy(queue, job)
    except Stopped:
        _insisted(lambda: queue.give_back(job), show)
        raise


def _do(queue: Queue, job: Record, pulse: Pulse) -> Callable[[], bool]:
    """Do the job, as far as its first frame where that is to be approved; what then has to be said to the store."""
    from .. import api

    job.folder.mkdir(mode=0o700, exist_ok=True)
    report = api.Files.of(job.output).report
    if _is_whole(job, report):  # its worker died between writing the report, which is the last thing, and saying so
        return _finished(queue, job, report)
    task = replace(api.Job.from_dict(job.job), output=str(job.output))
    result = api.Result(task)
    if job.approve:
        first = result.approve(run=job.run, fresh=True)
        shutil.copyfile(first.path, job.folder / first.path.name)  # for its owner: the run folder goes in the end
        told = json.dumps({"frame": first.frame, "path": str(first.path)})
        return lambda: queue.wait(job, told)
    result.save(run=job.run, overwrite=True, keep_run=True, progress=pulse.told, shown=pulse.seen)
    return _finished(queue, job, report)


def _is_whole(job: Record, report: Path) -> bool:
    """Whether the job's video and a report that can be read are there."""
    try:
        return job.output.stat().st_size > 0 and "output" in json.loads(report.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _finished(queue: Queue, job: Record, report: Path) -> Callable[[], bool]:
    """What has to be said of a job that is done, whose report then tells nothing of where the store is."""
    text = report.read_text("utf-8")
    if (shown := text.replace(f"{queue.store.folder.absolute()}{os.sep}", "")) != text:
        write_json(report, json.loads(shown))
    for file in (path for path in job.folder.iterdir() if path.is_file()):
        synced(file)
    size = size_of(job.folder) - size_of(job.run)
    return lambda: queue.finish(job, size)


def _failing(queue: Queue, job: Record, error: Exception) -> Callable[[], bool]:
    """What has to be said to the store of a job that ended with `error`."""
    code, message = verdict(error)
    if is_full(error):
        return lambda: queue.turn_away(job, message)
    return lambda: queue.fail(job, code, message)


def _tidy(queue: Queue, job: Record) -> None:
    """Delete the run folder of a job that has ended."""
    if queue.state(job.id) in ("done", "failed"):
        shutil.rmtree(job.run, ignore_errors=True)


def _insisted(call: Callable[[], Said], show: Callable[[], None]) -> Said:
    """What `call` to the store returns; while the disk is full it is made again: what was done must not be forgotten."""
    while True:
        try:
            return call()
        except Unavailable:
            show()
            time.sleep(_RETRY)


class _Log(logging.Handler):
    """What the package logs while a job is at work, as events of the job."""

    def __init__(self, queue: Queue, job: Record) -> None:
        super().__init__(logging.INFO)
        self._queue, self._job = queue, job

    def emit(self, record: logging.LogRecord) -> None:
        """Add one record; a full disk loses it."""
        try:
            self._queue.say(self._job, "log", {"level": record.levelname.lower(), "message": record.getMessage()})
        except WorkError:
            return


@contextmanager
def _logged(queue: Queue, job: Record) -> Iterator[None]:
    logger, handler = logging.getLogger("flowpaint"), _Log(queue, job)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Stopped


def main() -> None:
    """Work until told to stop (SIGTERM), or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m flowpaint.jobs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("slot")
    parser.add_argument("parent", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--bytes", type=int)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    if given.bytes is not None and sys.platform == "linux":  # elsewhere no limit of this kind is kept
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (given.bytes, given.bytes))
    try:
        serve(given.folder, given.slot, lambda: os.getppid() == given.parent, seconds=given.seconds)
    except WorkError as error:  # the store cannot be opened; the crew tries again
        sys.exit(str(error))
    except Stopped:
        return
