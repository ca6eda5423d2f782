"""Frames of which each leans on the one before, readable in any order."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...seams import Run
from ...types import Clip, Raw

State: TypeAlias = dict[str, npt.NDArray[np.generic]]
KEPT = 3  # checkpoints: the writer may be behind by one segment when a run is killed


def check_keyframes(clip: Clip, keyframes: Mapping[int, object]) -> None:
    """Raise `InputError` unless there are key frames and all of them are in the clip."""
    if not keyframes:
        raise InputError("No key frame was given. Edit at least one frame of the shot.")
    outside = sorted(index for index in keyframes if not 0 <= index < len(clip))
    if outside:
        raise InputError(f"Key frames {outside} are not in {clip}. Give frames 0..{len(clip) - 1}.")


class Chain:
    """Calls `advance(index, state) -> (frame, state)` in order and remembers the state at every `run.chunk`th frame of the film.

    Reading onward continues; reading back, or after a killed run, starts at the last checkpoint before. Since `advance` is a
    function of its arguments, the frames are the same either way.
    """

    def __init__(self, advance: Callable[[int, State], tuple[Raw, State]], run: Run, name: str) -> None:
        self._advance = advance
        self._run = run
        self._name = name
        self._next = 0
        self._state: State = {}
        self._last: Raw | None = None

    def read(self, index: int) -> Raw:
        """Frame `index`."""
        if self._last is not None and index == self._next - 1:
            return self._last.copy()
        if self._last is None or index < self._next:
            self._restart(index)
        while self._next <= index:
            self._checkpoint()
            self._last, self._state = self._advance(self._next, self._state)
            self._next += 1
        assert self._last is not None
        return self._last.copy()  # the next frame may lean on this one: what is given out is the caller's

    def state(self, index: int) -> State:
        """What frame `index` handed on to the next one."""
        self.read(index)
        return self._state

    def _is_checkpoint(self, index: int) -> bool:
        return index > 0 and (index + self._run.offset) % self._run.chunk == 0

    def _key(self, index: int) -> str:
        return f"{self._name}/{index}"

    def _checkpoint(self) -> None:
        if not self._is_checkpoint(self._next):
            return
        self._run.store.put(self._key(self._next), self._state)
        self._run.store.drop(self._key(self._next - KEPT * self._run.chunk))

    def _restart(self, index: int) -> None:
        self._last = None
        for start in range(index, 0, -1):
            if self._is_checkpoint(start):
                found: Mapping[str, npt.NDArray[np.generic]] | None = self._run.store.get(self._key(start))
                if found is not None:
                    self._next, self._state = start, dict(found)
                    return
        self._next, self._state = 0, {}
