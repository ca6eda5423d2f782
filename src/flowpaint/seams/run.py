"""`Run`: where and with what manners a method works, the store of its finished pieces, and its notes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch


class Store(Protocol):
    """Named results of finished work. What is there was written whole."""

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays stored under `key`, or None."""
        ...

    def put(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Store `arrays` under `key`, replacing what was there."""
        ...

    def drop(self, key: str) -> None:
        """Forget `key`, if it is there."""
        ...


class MemoryStore:
    """A store that ends with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, npt.NDArray[Any]]] = {}

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        return self._kept.get(key)

    def put(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._kept[key] = {name: np.asarray(array) for name, array in arrays.items()}

    def drop(self, key: str) -> None:
        self._kept.pop(key, None)

    def __reduce__(self) -> str:
        raise TypeError("a store in memory ends with its process")  # a copy elsewhere would swallow what is put there


@dataclass
class Notes:
    """What a run has to say afterwards: warnings for people, and a row of numbers for each frame."""

    warnings: list[str] = field(default_factory=list)
    frames: dict[int, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def warn(self, message: str) -> None:
        """Add a warning once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def frame(self, index: int, **numbers: float) -> None:
        """Add numbers to the row of frame `index`."""
        self.frames.setdefault(index, {}).update(numbers)


def _silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """*Where* and with what manners a method works: device, seed, store, progress, notes."""

    device: str = "cpu"
    seed: int = 0
    quality: str = "normal"  # draft, normal or best: read by parts that can trade time for quality
    store: Store = field(default_factory=MemoryStore)
    notes: Notes = field(default_factory=Notes)
    progress: Callable[[str, int, int], None] = _silent  # (stage, done, total)
    chunk: int = 48  # frames between checkpoints, and in one encoded segment
    offset: int = 0  # number in the whole clip of this clip's frame 0; shots are planned alone

    def generator(self, frame: int = 0, step: int = 0) -> torch.Generator:
        """Randomness keyed by (seed, frame, step), drawn on CPU: window size, device and resume do not change it."""
        key = (self.seed * 1_000_003 + frame) * 1_009 + step
        return torch.Generator().manual_seed(key % (2**63))
