"""`LocalExecutor`: independent work in this process, or in several of this machine."""

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigError, FlowpaintError
from .outcome import Item, Made, attempt, died, raising, sent


@dataclass(frozen=True, kw_only=True)
class LocalExecutor:
    """Work in `workers` processes; 1: in this one, each piece when it is asked for. Raises `ConfigError` for none.

    What is sent to other processes (work, items, results) must pickle. At most `ahead` pieces for each worker are done before
    they are asked for: more where results are small, so that nobody waits for a slow one. A process that dies takes no other
    item with it. Processes share the cores: each has as many threads as fall to it, unless OMP_NUM_THREADS says how many.
    """

    workers: int = 1
    ahead: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1 or self.ahead < 1:
            raise ConfigError(f"{self.workers} workers, {self.ahead} ahead, do nothing. Give 1 or more.")

    def map(self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]) -> Iterator[Made]:
        """What `work` makes of each of `items`, in their order. Raises `WorkError` that names the item by `key`."""
        with closing(self.tried(work, items, key)) as outcomes:
            yield from raising(outcomes)

    def tried(
        self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]
    ) -> Generator[Made | FlowpaintError, None, None]:
        """What `work` makes of each of `items`, in their order; in place of what failed, the error that `map` would raise."""
        if self.workers == 1 or not items:
            return (attempt(work, item, key(item)) for item in items)
        return self._elsewhere(work, [_Piece(place, item, key(item)) for place, item in enumerate(items)])

    def _elsewhere(self, work: Callable[[Any], Made], pieces: list["_Piece"]) -> Generator[Made | FlowpaintError, None, None]:
        waiting: deque[_Piece] = deque()
        left = deque(pieces)
        processes = _Processes(work, min(self.workers, len(pieces)), len(pieces))
        try:
            while left or waiting:
                while left and len(waiting) < self.ahead * self.workers:
                    waiting.append(left.popleft())
                    processes.begin(waiting[-1])
                try:
                    outcome = waiting[0].outcome.result()
                except BrokenProcessPool:
                    processes.replace(waiting)
                    continue
                except Exception as error:  # what cannot be sent: the work, the item or what was made of it
                    outcome = attempt(_raised, error, waiting[0].name)
                waiting.popleft()
                yield outcome
        finally:
            processes.close()


@dataclass(eq=False)
class _Piece:
    """An item, its place among all, and what will be its outcome."""

    place: int
    item: Any
    name: str
    outcome: Future[Any] = field(default_factory=Future)


class _Processes:
    """The processes of one call. When one dies its pool is gone with all that was to be done in it, so there is a next one."""

    def __init__(self, work: Callable[[Any], Any], workers: int, num_items: int) -> None:
        # Not by fork: threads of torch and OpenCV would be left behind in the middle of things.
        self._context = multiprocessing.get_context("spawn")
        self._work, self._workers = work, workers
        self._begun = self._context.RawArray("b", num_items)  # shared memory: it outlives the process that wrote to it
        self._pool = self._hired()

    def begin(self, piece: _Piece) -> None:
        """Have a piece done; its outcome is a `BrokenProcessPool` where a process has died already."""
        try:
            piece.outcome = self._pool.submit(_attempt, self._work, piece.item, piece.name, piece.place)
        except BrokenProcessPool as error:
            piece.outcome = Future()
            piece.outcome.set_exception(error)

    def replace(self, waiting: Sequence[_Piece]) -> None:
        """Begin anew what was lost with the pool. What was being done goes one at a time, so that it is clear on which it died;
        the rest goes on as before."""
        self.close()
        lost = [piece for piece in waiting if _is_lost(piece)]
        # A process may also die before its item is begun: then it was the first, and each time one is done with.
        suspects = [piece for piece in lost if self._begun[piece.place]] or lost[:1]
        self._pool = self._hired()
        for piece in suspects:
            self.begin(piece)
            if _is_lost(piece):
                piece.outcome = Future()
                piece.outcome.set_result(died(piece.name, 2))
                self.close()
                self._pool = self._hired()
        for piece in lost:
            if piece not in suspects:
                self.begin(piece)

    def close(self) -> None:
        """Let the processes go, once they are done with what they are at."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _hired(self) -> ProcessPoolExecutor:
        threads = max(1, (os.cpu_count() or 1) // self._workers)
        return ProcessPoolExecutor(self._workers, mp_context=self._context, initializer=_settle, initargs=(self._begun, threads))


def _is_lost(piece: _Piece) -> bool:
    """Whether a piece, once it is through, was lost with its pool."""
    return isinstance(piece.outcome.exception(), BrokenProcessPool)


# ------------------------------------------------------------------------------------------------------ in the processes

_begun: Any = None  # the array of `_Processes`, in a process of its pool


def _settle(begun: Any, threads: int) -> None:
    global _begun
    _begun = begun
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of threads that wait: they must sleep
    if "OMP_NUM_THREADS" in os.environ:
        return
    # Before the work is unpickled, which loads torch: it reads these when it starts its threads.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if torch := sys.modules.get("torch"):  # a program that loads it at once has it loaded here before this
        torch.set_num_threads(threads)


def _attempt(work: Callable[[Item], Made], item: Item, name: str, place: int) -> Made | FlowpaintError:
    _begun[place] = 1
    return sent(attempt(work, item, name))


def _raised(error: Exception) -> Any:
    raise error
