"""`LocalExecutor`: independent work in this process, or in several of this machine."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from ..errors import ConfigError, FlowpaintError, WorkError
from ..seams import Item, Made


@dataclass(frozen=True, kw_only=True)
class LocalExecutor:
    """Work in `workers` processes; 1: in this one, each piece when it is asked for. Raises `ConfigError` for none.

    What is sent to other processes (work, items, results) must pickle.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"{self.workers} workers do nothing. Give 1 or more.")

    def map(self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]) -> Iterator[Made]:
        """What `work` makes of each of `items`, in their order. Raises `WorkError` that names the item by `key`."""
        if self.workers == 1:
            yield from (_done(work, item, key(item)) for item in items)
            return
        # Not by fork: threads of torch and OpenCV would be left behind in the middle of things.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(self.workers, max(len(items), 1)), mp_context=context) as pool:
            waiting = [pool.submit(_done, work, item, key(item)) for item in items]
            try:
                for future in waiting:
                    yield future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _done(work: Callable[[Item], Made], item: Item, name: str) -> Made:
    try:
        return work(item)
    except FlowpaintError:
        raise
    except Exception as error:  # whatever a foreign library raises
        raise WorkError(
            f"The work on {name} failed: {type(error).__name__}: {error}. Look at that item, or leave it out."
        ) from error
