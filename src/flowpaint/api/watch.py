"""`Watch`: frames measured on their way to the file, and what was learnt of them kept for a run that goes on."""

import json
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from .. import video
from ..parallel import WorkQueue
from ..report import Measurements
from ..runs import RunFolder
from ..types import Clip, Raw
from .prepare import Prepared

Shown: TypeAlias = Callable[[int, Raw], None]

_LEDGER = "weights"  # key in the run's store of those that were used so far


class Watch:
    """Measures frames on their way to the file, in a thread of its own, and keeps what it learnt of each finished segment."""

    def __init__(
        self,
        prepared: Prepared,
        folder: RunFolder,
        *,
        chunk: int,
        measuring: WorkQueue,
        progress: video.Progress | None,
        shown: Shown | None,
    ) -> None:
        self._prepared, self._folder, self._chunk = prepared, folder, chunk
        self._measuring, self._progress, self._shown = measuring, progress, shown
        self.passing: Collection[str] = ()  # warnings that every part of the run says anew
        self.measurements = Measurements(prepared.clip, cuts=[shot.start for shot in prepared.shots])
        self._done = 0  # frames whose numbers are safe
        self._measured: dict[int, dict[str, Any]] = {}  # of segments that were made now, by their last frame
        if (kept := folder.store.get(_LEDGER)) is not None:
            prepared.ledger.recall(json.loads(kept["used"].tobytes()))

    def over(self, clip: Clip) -> Clip:
        """The same clip, watched."""

        def read(index: int) -> Raw:
            made = clip.raw(index)
            self._measuring.do(partial(self._measure, index, self._prepared.clip.raw(index), made))
            if self._shown is not None:
                self._shown(index, made)
            return made

        return clip.with_frames(read)

    def finish(self) -> None:
        """Return when all frames have been measured."""
        self._measuring.finish()

    def told(self, stage: str, done: int, total: int) -> None:
        """Progress of any stage; at the end of a segment its numbers are stored, or fetched where it was made earlier."""
        if stage == "write" and done > self._done and (done == total or done % self._chunk == 0):
            self._settle(range(self._done, done))
            self._done = done
        if self._progress is not None:
            self._progress(stage, done, total)

    def _measure(self, index: int, source: Raw, made: Raw) -> None:
        with self._prepared.timings.stage("measure"):
            self.measurements.see(index, source, made)
        if (index + 1) % self._chunk == 0 or index + 1 == len(self._prepared.clip):
            # Taken now: the next frame replaces what a run that goes on from here needs of this one.
            self._measured[index] = self.measurements.saved(range(index // self._chunk * self._chunk, index + 1))

    def _settle(self, frames: range) -> None:
        notes, store, key = self._prepared.notes, self._folder.store, f"measured {frames.start}"
        numbers = range(frames.start + self._prepared.first, frames.stop + self._prepared.first)
        self._measuring.finish()
        if (measured := self._measured.pop(frames[-1], None)) is not None:
            told = {number: notes.frames[number] for number in numbers if number in notes.frames}
            text = np.frombuffer(json.dumps(told).encode(), np.uint8)
            store.put(key, {**measured, "notes": text})
            store.put(_LEDGER, {"used": np.frombuffer(json.dumps(self._prepared.ledger.to_list()).encode(), np.uint8)})
            self._folder.keep_warnings([one for one in notes.warnings if one not in self.passing])
        elif (kept := store.get(key)) is not None:
            self.measurements.restore(frames, kept)
            rows: Mapping[str, dict[str, float]] = json.loads(kept["notes"].tobytes())
            notes.frames.update({int(number): row for number, row in rows.items()})
