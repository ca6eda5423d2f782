"""The shots of one film as independent work: each is made somewhere else, and its frames come back through the run's store.

A worker opens the job itself, takes one shot through the method as `render` does, with the run's store as its own, and puts
finished frames there chunk by chunk, as integers. So a shot whose worker died goes on from its last chunk, and so does a film
whose command was killed. The film's own process reads the frames in order, encodes them and forgets them.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import seams
from ..errors import FlowpaintError, InputError, WorkError
from ..report import Timings
from ..runs import fingerprint
from ..seams import Executor, Notes, Run, Store
from ..types import Clip, Raw
from .job import Job
from .prepare import Given, Prepared, prepare
from .render import Anchor, anchor_of, render

_ROOM = 256 << 20  # bytes of frames that a chunk may have: it is held whole

_Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A shot that is to be made: the frames from `begin` on, counted in the clip; those before it are encoded already."""

    shot: range
    begin: int
    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ShotWork:
    """The work on one shot, wherever it is done. The paths in `job` are absolute; `files` are fingerprints of all it reads."""

    job: Job
    files: Mapping[str, str]
    shots: tuple[range, ...]
    anchor: Anchor | None
    chunk: int
    store: Store

    def __call__(self, wanted: Wanted) -> dict[str, Any]:
        """What it cost: seconds by stage, and how many chunks were made, after all frames of the shot are in the store.

        Raises `InputError` where this machine does not see the files that the film's own process sees.
        """
        opened = _opened(self)
        prepared = replace(opened, notes=Notes(), timings=Timings())
        job = self.job
        run = Run(
            device=prepared.device, seed=job.seed, quality=job.quality, notes=prepared.notes, store=self.store, chunk=self.chunk
        )
        anchor = None if self.anchor is None else (self.anchor[0].to(run.device), self.anchor[1].to(run.device))
        clip, made = render(prepared, run, anchor=lambda: anchor), 0
        for frames in _chunks(wanted, chunk_size(clip)):
            if self.store.get(_told(frames.start)) is None:
                self.store.put(_shown(frames.start), {"pictures": np.stack([clip.raw(index) for index in frames])})
                self.store.put(_told(frames.start), _packed(prepared, opened.notes.warnings, frames))
                made += 1
        return {"seconds": dict(prepared.timings.seconds), "chunks": made}


def chunk_size(clip: Clip) -> int:
    """How many frames of `clip` go through the store at once: 48, fewer where they are large."""
    return max(1, min(48, _ROOM // (clip.height * clip.width * 3 * clip.bits // 8)))


def _shown(start: int) -> str:
    return f"spread frames {start}"


def _told(start: int) -> str:
    return f"spread told {start}"  # small, and written last: what says that the frames are there


def _chunks(wanted: Wanted, size: int) -> Iterator[range]:
    """The chunks of a shot, from the one that holds its first wanted frame on."""
    shot = wanted.shot
    for start in range(shot.start, shot.stop, size):
        if start + size > wanted.begin:
            yield range(start, min(start + size, shot.stop))


def _packed(prepared: Prepared, before: list[str], frames: range) -> _Arrays:
    """What is to be said of a chunk and of the shot so far."""
    notes, numbers = prepared.notes, range(frames.start + prepared.first, frames.stop + prepared.first)
    value = {
        "frames": {number: notes.frames[number] for number in numbers if number in notes.frames},
        "warnings": [*before, *notes.warnings],
        "facts": notes.facts,
        "weights": prepared.ledger.to_list(),
    }
    return {"json": np.frombuffer(json.dumps(value, default=str).encode(), np.uint8)}


def _opened(work: ShotWork) -> Prepared:
    """The job of `work` with its inputs opened: the film that this process works on stays so, its next shot begins at once."""
    return _prepared(json.dumps([work.job.to_dict(), dict(work.files), [(shot.start, shot.stop) for shot in work.shots]]))


@lru_cache(maxsize=1)
def _prepared(work: str) -> Prepared:
    job, files, shots = json.loads(work)
    for path, digest in files.items():
        try:
            same = fingerprint(Path(path)) == digest
        except OSError as error:
            raise InputError(f"A worker cannot read {path} ({error.strerror}). Put it where all machines see it.") from error
        if not same:
            raise InputError(f"A worker sees another {path} than the command. Put the same file on all machines.")
    return prepare(
        Job.from_dict(job), Given(), notes=Notes(), timings=Timings(), shots=tuple(range(begin, end) for begin, end in shots)
    )


class Spread:
    """A film whose shots are made by an executor: `clip` shows the frames, in order, as they come."""

    def __init__(self, prepared: Prepared, run: Run, executor: Executor, *, files: Mapping[str, str]) -> None:
        self._prepared, self._run, self._executor, self._files = prepared, run, executor, files
        self._size = chunk_size(prepared.clip)
        self._place_of = {index: place for place, shot in enumerate(prepared.shots) for index in shot}
        self._coming: Generator[tuple[Wanted, Any], None, None] | None = None
        self._there: set[range] = set()
        self._weights: list[Any] = []
        self._dropped = 0
        self._chunk = lru_cache(maxsize=1)(self._taken)
        self.clip: Clip = prepared.clip.with_frames(self._read)
        self.told: dict[str, Any] = {"executor": seams.to_dict(executor), "shots": 0, "chunks": 0, "seconds": {}}

    def encoded(self, done: int) -> None:
        """Forget the frames before `done`, which are safe in the file."""
        for shot in self._prepared.shots:
            for start in range(shot.start, shot.stop, self._size):
                if self._dropped < min(start + self._size, shot.stop) <= done:
                    self._run.store.drop(_told(start))
                    self._run.store.drop(_shown(start))
        self._dropped = max(self._dropped, done)

    def close(self) -> None:
        """Let the workers go."""
        if self._coming is not None:
            self._coming.close()

    def _read(self, index: int) -> Raw:
        with self._prepared.timings.stage("edit"):
            shot = self._prepared.shots[self._place_of[index]]
            if shot in self._prepared.passed:
                return self._prepared.clip.raw(index)
            self._wait_for(shot, index)
            start = shot.start + (index - shot.start) // self._size * self._size
            made: Raw = self._chunk(start)[index - start]
            return made

    def _taken(self, start: int) -> Raw:
        """The pictures of the chunk that starts at a frame, and what was told with them noted. Raises `WorkError`."""
        store, prepared = self._run.store, self._prepared
        told, shown = store.get(_told(start)), store.get(_shown(start))
        if told is None or shown is None:
            store.drop(_told(start))
            raise WorkError(f"The frames from {start + prepared.first} on are gone from the run folder. Run the command again.")
        said = json.loads(told["json"].tobytes())
        prepared.notes.frames.update({int(number): row for number, row in said["frames"].items()})
        for message in said["warnings"]:
            prepared.notes.warn(message)
        prepared.notes.facts.update(said["facts"])
        prepared.ledger.recall([one for one in said["weights"] if one not in self._weights])
        self._weights += [one for one in said["weights"] if one not in self._weights]
        pictures: Raw = shown["pictures"]
        return pictures

    def _wait_for(self, shot: range, index: int) -> None:
        """Return when a shot has been made. Raises the error of one that could not be, after all the others have been made."""
        if self._coming is None:
            self._coming = self._begun(index)
        failed: dict[str, FlowpaintError] = {}
        for wanted, outcome in self._coming if shot not in self._there else ():
            if isinstance(outcome, FlowpaintError):
                failed[wanted.name] = outcome
            else:
                self._there.add(wanted.shot)
                self._count(outcome)
            if wanted.shot == shot and not failed:
                return
        if failed:
            raise _failure(failed)

    def _begun(self, index: int) -> Generator[tuple[Wanted, Any], None, None]:
        """Each shot from the one of frame `index` on with its outcome."""
        prepared = self._prepared
        with prepared.policed():
            anchor = anchor_of(prepared, self._run)
        work = ShotWork(
            job=prepared.job.named(lambda path: str(Path(path).absolute())),
            files=self._files,
            shots=prepared.shots,
            anchor=None if anchor is None else (anchor[0].cpu(), anchor[1].cpu()),
            chunk=self._run.chunk,
            store=self._run.store,
        )
        wanted = [self._wanted(shot, index) for shot in prepared.shots if shot not in prepared.passed and shot.stop > index]
        with closing(self._executor.tried(work, wanted, lambda one: one.name)) as outcomes:
            for number, (one, outcome) in enumerate(zip(wanted, outcomes, strict=True), start=1):
                self._run.progress("shots", number, len(wanted))
                yield one, outcome

    def _wanted(self, shot: range, index: int) -> Wanted:
        first = self._prepared.first
        name = f"shot {self._place_of[shot.start] + 1}, frames {shot.start + first} to {shot[-1] + first}"
        return Wanted(shot=shot, begin=max(shot.start, index), name=name)

    def _count(self, outcome: Mapping[str, Any]) -> None:
        self.told["shots"] += 1
        self.told["chunks"] += outcome["chunks"]
        for stage, seconds in outcome["seconds"].items():
            self.told["seconds"][stage] = round(self.told["seconds"].get(stage, 0.0) + seconds, 3)


def _failure(failed: Mapping[str, FlowpaintError]) -> FlowpaintError:
    """One error for shots that could not be made, of the kind of the first."""
    first = next(iter(failed.values()))
    told = [f"{name}: {error}" if name not in str(error) else str(error) for name, error in failed.items()]
    others = " All other shots are finished and stay in the run folder."
    try:
        return type(first)("\n".join(told) + others)
    except TypeError:  # a class with a constructor of its own
        return WorkError("\n".join(told) + others)


def watched(spread: "Spread | None", told: Callable[[str, int, int], None], chunk: int) -> Callable[[str, int, int], None]:
    """`told` that also has frames forgotten, one segment of `chunk` frames late: the last one is not closed when it is full."""
    if spread is None:
        return told

    def both(stage: str, done: int, total: int) -> None:
        told(stage, done, total)
        if stage == "write" and done % chunk == 0:
            spread.encoded(done - chunk)

    return both
