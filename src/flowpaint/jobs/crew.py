"""`Crew`: the workers of a server. It starts them, replaces those that die or hang, and keeps the store within its quota."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError, WorkError, verdict
from .cleaning import clean
from .pulse import GONE
from .queue import Queue
from .store import JobStore
from .work import lock_of

_LOOK = 0.5  # seconds between two looks at the workers
_HANGS = 60.0  # seconds without a sign after which a worker is killed
_CLEAN = 30.0  # seconds between two cleanings
_LEAVE = 5.0  # for workers to give back what they are at
_PAUSE = 2.0  # before a worker that did not live so long is replaced


@dataclass
class _Place:
    """A slot and the process in it."""

    slot: str
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    sign: int | None = None  # what its worker last showed
    seen: float = 0.0  # and when that was new here


@dataclass
class Crew:
    """`workers` processes that do the jobs of the store in `folder`; jobs that take longer than `seconds` fail, and so do
    those for which a worker wants more bytes than `memory` (on Linux).

    Files of ended jobs are cleared away, the oldest first, while all files take more than `quota` bytes. Workers that outlive
    their server finish what they are at, and leave then. Raises `ConfigError` for no workers.
    """

    folder: Path
    workers: int = 1
    seconds: float | None = None
    quota: int | None = None
    memory: int | None = None
    tell: Callable[[str], None] = lambda _: None
    _places: list[_Place] = field(default_factory=list)
    _leaving: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"{self.workers} workers do nothing. Give 1 or more.")

    def start(self) -> None:
        """Start the workers, and a thread that looks after them."""
        self._places = [_Place(f"worker-{number}") for number in range(self.workers)]
        self._thread = threading.Thread(target=self._look_after, name="crew", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the workers give back what they are at, and end them; no job is blamed for one that had to be killed."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()
        living = [one.process for one in self._places if one.process is not None]
        for process in living:
            process.terminate()
        until = time.monotonic() + _LEAVE
        for process in living:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with suppress(WorkError), JobStore(self.folder) as store:  # a full disk: the next worker of the slot does it
            self._give_back(Queue(store), {one.slot for one in self._places}, blame=False)

    def pids(self) -> list[int]:
        """The numbers of the processes that live."""
        return [one.process.pid for one in self._places if one.process is not None and one.process.poll() is None]

    def _look_after(self) -> None:
        cleaned = -_CLEAN
        while not self._leaving.is_set():
            try:
                for place in self._places:
                    self._fill(place)
                if time.monotonic() - cleaned > _CLEAN:
                    cleaned = time.monotonic()
                    self._tidy()
            except Exception as error:  # nothing may end this: without it no worker is replaced
                self.tell(verdict(error)[1])
            self._leaving.wait(_LOOK)

    def _tidy(self) -> None:
        """Queue again what workers had for whom there is no place any more, and clear away what is too much."""
        with JobStore(self.folder) as store:
            queue = Queue(store)
            self._give_back(queue, {job.worker for job in queue.running()} - {one.slot for one in self._places})
            clean(store, quota=self.quota)

    def _give_back(self, queue: Queue, slots: Collection[str], *, blame: bool = True) -> None:
        """Queue again the jobs of those slots whose workers are dead."""
        for slot in slots:
            with lock_of(self.folder, slot).tried() as is_dead:
                if is_dead:
                    queue.lose(slot, blame=blame)

    def _hanging(self, place: _Place) -> int | None:
        """The number of the process that has the slot and has given no sign for long; None where all is well."""
        lock, now = lock_of(self.folder, place.slot), time.monotonic()
        sign = lock.sign()
        if sign is None or sign != place.sign:
            place.sign, place.seen = sign, now
        return lock.holder() if now - place.seen > _HANGS else None

    def _fill(self, place: _Place) -> None:
        """A process in the place, where there is none; and none that hangs."""
        hanging = self._hanging(place)
        if hanging is not None:
            self.tell(f"{place.slot} ({hanging}) shows no sign of life, and is killed.")
            with suppress(ProcessLookupError, PermissionError):
                os.kill(hanging, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        if place.process is not None and place.process.poll() is None:
            return
        if place.process is not None and place.process.returncode != GONE:
            self.tell(f"{place.slot} ended with {place.process.returncode}, and is replaced.")
            if time.monotonic() - place.begun < _PAUSE:
                self._leaving.wait(_PAUSE)
        place.process = self._spawn(place.slot)
        place.begun = time.monotonic()

    def _spawn(self, slot: str) -> subprocess.Popen[bytes]:
        threads = max(1, (os.cpu_count() or 1) // max(1, self.workers))
        command = [sys.executable, "-P", "-m", "flowpaint.jobs", str(self.folder.absolute()), slot, str(os.getpid())]
        command += [] if self.seconds is None else ["--seconds", str(self.seconds)]
        command += [] if self.memory is None else ["--bytes", str(self.memory)]
        # Read when torch starts its threads: waiting ones must sleep, and all workers together have one for each core.
        manners = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}
        known = {name: value for name, value in os.environ.items() if name != "FLOWPAINT_TOKEN"}
        return subprocess.Popen(
            command,
            env={**known, **manners},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the server's terminal is the server's affair
        )
