"""What lives in Ray's processes: the worker, and the keeper of the driver's store with the proxy that workers see of it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import FlowpaintError
from .outcome import Item, Made, attempt, sent

if TYPE_CHECKING:
    from ...seams import Store

Arrays = Mapping[str, npt.NDArray[Any]]


class Worker:
    """One process of a pool. It is warm: what it has loaded, it keeps for the next item."""

    def __init__(self, threads: int) -> None:
        # Before the work is unpickled, which loads torch: it reads these when it starts its threads. Waiting ones must sleep.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

    def ready(self) -> int:
        """The number of the process, once it runs."""
        return os.getpid()

    def do(self, work: Callable[[Item], Made], item: Item, name: str) -> Made | FlowpaintError:
        """What `work` makes of `item`, or the error that names it."""
        return sent(attempt(work, item, name))


class Keeper:
    """The driver's store, on the driver's machine, for workers elsewhere: one call after the other."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | FlowpaintError | None:
        """The arrays under `key`, None, or the error of the store."""
        try:
            return self._store.get(key)
        except FlowpaintError as error:
            return sent(error)

    def put(self, key: str, arrays: Arrays) -> FlowpaintError | None:
        """Store `arrays`; None, or the error of the store, such as a full disk."""
        try:
            self._store.put(key, arrays)
        except FlowpaintError as error:
            return sent(error)
        return None

    def drop(self, key: str) -> None:
        """Forget `key`."""
        self._store.drop(key)


@dataclass(frozen=True)
class DriverStore:
    """A store that is another one, on the driver's machine. Arrays travel through Ray's object store."""

    keeper: Any  # the handle of a `Keeper`

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays under `key`, or None. Raises what the driver's store raises."""
        found: Arrays | None = _answer(self.keeper.get.remote(key))
        # Copies: what Ray hands out is read-only and holds its memory.
        return None if found is None else {name: np.array(array) for name, array in found.items()}

    def put(self, key: str, arrays: Arrays) -> None:
        """Store `arrays` under `key`; it is safe when this returns. Raises what the driver's store raises."""
        _answer(self.keeper.put.remote(key, dict(arrays)))

    def drop(self, key: str) -> None:
        """Forget `key`, if it is there."""
        _answer(self.keeper.drop.remote(key))


def _answer(asked: Any) -> Any:
    import ray

    outcome = ray.get(asked)
    if isinstance(outcome, FlowpaintError):
        raise outcome
    return outcome
