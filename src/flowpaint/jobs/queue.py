"""`Queue`: the store as workers see it. Who took a job may write of it only while it is still theirs.

Every taking of a job has a number, `attempt`. What a worker says of the job counts only while the job is running and has that
number: a worker that was thought dead, or whose job was cancelled, changes nothing any more.
"""

import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from .records import Record, State
from .store import JobStore, note, record

MAX_LOSSES = 5  # times that a worker may die over one job
MAX_REFUSALS = 6  # times that a full disk may turn it away: with the pauses, some five minutes
_PAUSE = 5.0  # seconds before a job that was turned away is tried again, doubled each time

_MINE = "id = ? AND attempt = ? AND state = 'running'"


class Queue:
    """What workers do with the jobs of a store. All calls raise `WorkError` where the disk is full."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._database = store.database

    def claim(self, worker: str) -> Record | None:
        """The next job, now running and `worker`'s; None where nothing waits."""
        now = time.time()
        with self._database.reading() as tables:  # most often nothing waits, and nobody need be locked out to see that
            if self._next(tables, now) is None:
                return None
        with self._database.writing() as tables:
            key = self._next(tables, now)
            if key is None:
                return None
            tables.execute(
                "UPDATE jobs SET state = 'running', attempt = attempt + 1, worker = ?, heartbeat = ?, "
                "started = coalesce(started, ?) WHERE id = ?",
                (worker, now, now, key),
            )
            row = tables.execute("SELECT * FROM jobs WHERE id = ?", (key,)).fetchone()
            note(tables, key, "state", {"state": "running", "attempt": row["attempt"]})
        return record(row, self.store.folder)

    @staticmethod
    def _next(tables: sqlite3.Connection, now: float) -> str | None:
        row = tables.execute(
            "SELECT id FROM jobs WHERE state = 'queued' AND not_before <= ? ORDER BY priority DESC, created, rowid LIMIT 1",
            (now,),
        ).fetchone()
        return None if row is None else str(row["id"])

    def owns(self, job: Record) -> bool:
        """Whether the job is still this worker's."""
        with self._database.reading() as tables:
            return tables.execute(f"SELECT 1 FROM jobs WHERE {_MINE}", (job.id, job.attempt)).fetchone() is not None

    def state(self, key: str) -> State | None:
        """The state of a job, None where it was removed."""
        with self._database.reading() as tables:
            row = tables.execute("SELECT state FROM jobs WHERE id = ?", (key,)).fetchone()
        return None if row is None else row["state"]

    def beat(self, job: Record, stage: str, done: int, total: int) -> bool:
        """Say that the worker lives and how far it is; whether the job is still its own."""
        far = (stage, done, total)
        with self._database.writing() as tables:
            before = tables.execute(f"SELECT stage, done, total FROM jobs WHERE {_MINE}", (job.id, job.attempt)).fetchone()
            mine = tables.execute(
                f"UPDATE jobs SET heartbeat = ?, stage = ?, done = ?, total = ? WHERE {_MINE}",
                (time.time(), *far, job.id, job.attempt),
            ).rowcount
            if mine and total and tuple(before) != far:
                note(tables, job.id, "progress", {"stage": stage, "done": done, "total": total})
        return bool(mine)

    def say(self, job: Record, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event to the job, if it is still the worker's."""
        with self._database.writing() as tables:
            if tables.execute(f"SELECT 1 FROM jobs WHERE {_MINE}", (job.id, job.attempt)).fetchone():
                note(tables, job.id, kind, data)

    def finish(self, job: Record, size: int) -> bool:
        """Call the job done, its files `size` bytes; whether it still was the worker's to call so."""
        return self._end(job, "done", bytes=size, code=None, error="")

    def fail(self, job: Record, code: int, message: str) -> bool:
        """Call the job failed; whether it still was the worker's to call so."""
        return self._end(job, "failed", code=code, error=message)

    def wait(self, job: Record, first: str) -> bool:
        """Let the job wait for the approval of its first frame, JSON as `Record.first` is; whether it still was the worker's."""
        return self._move(job, "waiting", first=first)

    def give_back(self, job: Record) -> bool:
        """Queue the job again because the worker is to stop; whether it still was the worker's."""
        return self._move(job, "queued")

    def turn_away(self, job: Record, message: str) -> bool:
        """Queue the job again for later because the disk is full; after some times it has failed. Whether it was the worker's."""
        with self._database.reading() as tables:
            refusals = tables.execute("SELECT refusals FROM jobs WHERE id = ?", (job.id,)).fetchone()
        if refusals is not None and refusals[0] + 1 >= MAX_REFUSALS:
            return self.fail(job, 1, message)
        later = time.time() + _PAUSE * 2 ** (0 if refusals is None else refusals[0])
        return self._move(job, "queued", not_before=later, refusals=0 if refusals is None else refusals[0] + 1)

    def lose(self, worker: str, *, blame: bool = True) -> list[str]:
        """Queue again what `worker`, known to be dead, was at: the jobs' ids.

        It is noted as the job's doing, unless somebody else is to blame; a job that has cost too many workers has failed.
        """
        with self._database.writing() as tables:
            rows = tables.execute("SELECT * FROM jobs WHERE state = 'running' AND worker = ?", (worker,)).fetchall()
            for row in rows:
                lost = record(row, self.store.folder)
                tables.execute("UPDATE jobs SET losses = losses + ? WHERE id = ?", (int(blame), row["id"]))
                if blame and lost.losses + 1 >= MAX_LOSSES:
                    why = f"Its worker died {lost.losses + 1} times. Try a smaller video, or a lower quality."
                    _settle(tables, lost, "failed", finished=time.time(), code=1, error=why)
                else:
                    _settle(tables, lost, "queued")
        return [row["id"] for row in rows]

    def running(self) -> list[Record]:
        """The jobs that workers are at."""
        with self._database.reading() as tables:
            rows = tables.execute("SELECT * FROM jobs WHERE state = 'running'").fetchall()
        return [record(row, self.store.folder) for row in rows]

    def _end(self, job: Record, state: str, **values: Any) -> bool:
        return self._move(job, state, finished=time.time(), **values)

    def _move(self, job: Record, state: str, **values: Any) -> bool:
        with self._database.writing() as tables:
            return _settle(tables, job, state, **values)


def _settle(tables: sqlite3.Connection, job: Record, state: str, **values: Any) -> bool:
    """Move a running job to another state, inside a transaction; whether it still was that attempt's."""
    named = {"state": state, "worker": "", **values}
    columns = ", ".join(f"{name} = ?" for name in named)
    moved = tables.execute(f"UPDATE jobs SET {columns} WHERE {_MINE}", (*named.values(), job.id, job.attempt)).rowcount
    if moved:
        told = {name: values[name] for name in ("code", "error") if values.get(name)}
        note(tables, job.id, "state", {"state": state, **told})
    return bool(moved)
