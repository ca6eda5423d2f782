"""`LocalExecutor`: independent work in this process, or in several of this machine."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError, FlowpaintError
from .outcome import Item, Made, attempt, died, raising, sent


@dataclass(frozen=True, kw_only=True)
class LocalExecutor:
    """Work in `workers` processes; 1: in this one, each piece when it is asked for. Raises `ConfigError` for none.

    What is sent to other processes (work, items, results) must pickle. At most `ahead` pieces for each worker are done before
    they are asked for: more where results are small, so that nobody waits for a slow one. A process that dies takes no other
    item with it.
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
        if self.workers == 1:
            return (attempt(work, item, key(item)) for item in items)
        return self._elsewhere(work, [(item, key(item)) for item in items])

    def _elsewhere(
        self, work: Callable[[Item], Made], named: list[tuple[Item, str]]
    ) -> Generator[Made | FlowpaintError, None, None]:
        waiting: deque[tuple[Item, str, Future[Made | FlowpaintError]]] = deque()
        left = deque(named)
        pool = _pool(min(self.workers, max(len(named), 1)))
        try:
            while left or waiting:
                while left and len(waiting) < self.ahead * self.workers:
                    item, name = left.popleft()
                    waiting.append((item, name, pool.submit(_attempt, work, item, name)))
                try:
                    outcome = waiting[0][2].result()
                except BrokenProcessPool:
                    pool.shutdown(wait=True, cancel_futures=True)
                    yield from _apart(work, waiting)
                    waiting.clear()
                    pool = _pool(self.workers)
                    continue
                except Exception as error:  # what cannot be sent: the work, the item or what was made of it
                    outcome = attempt(_raised, error, waiting[0][1])
                waiting.popleft()
                yield outcome
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    # Not by fork: threads of torch and OpenCV would be left behind in the middle of things.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _apart(
    work: Callable[[Item], Made], waiting: Sequence[tuple[Item, str, Future[Made | FlowpaintError]]]
) -> Generator[Made | FlowpaintError, None, None]:
    """The outcomes of the items under way when a process died; those not finished are done again, one process each, so that it
    is clear on which one it died."""
    for item, name, future in waiting:
        try:
            yield future.result()
        except BrokenProcessPool:
            with _pool(1) as alone:
                try:
                    yield alone.submit(_attempt, work, item, name).result()
                except BrokenProcessPool:
                    yield died(name, 2)


def _attempt(work: Callable[[Item], Made], item: Item, name: str) -> Made | FlowpaintError:
    return sent(attempt(work, item, name))


def _raised(error: Exception) -> Any:
    raise error
