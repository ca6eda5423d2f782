"""`JobStore`: assets and jobs as those who own them see them. What it has answered is on the disk."""

import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import InputError, WorkError
from ..runs import synced
from .database import Database
from .records import ENDED, Asset, Event, Record, State, Unknown

_PLACES = ("assets", "jobs", "incoming")


def check_data_folder(folder: Path) -> None:
    """Raise `InputError` where a new store would share `folder` with files of others, which tidying it could take for strays."""
    if (folder / "jobs.db").is_file() or not folder.is_dir():
        return
    for one in sorted(folder.iterdir()):
        is_empty_place = one.name in _PLACES and one.is_dir() and not any(one.iterdir())
        if not is_empty_place and one.suffix not in (".lock", ".pid"):
            raise InputError(f"{folder} holds other files ({one.name}). Choose a new or an empty folder with --data.")


class JobStore:
    """The jobs and assets in a folder, which several processes may have open. `close` it, or use it in a `with` block.

    Every call names an owner and sees that one's things only: others' are `Unknown`. All calls raise `WorkError` where the disk
    is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for place in (folder, *(folder / name for name in _PLACES)):
            try:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise WorkError(f"The data folder {place} cannot be made ({error.strerror}). Choose another.") from error
        self.database = Database(folder / "jobs.db")

    def close(self) -> None:
        """Close the store's connections to its database."""
        self.database.close()

    def __enter__(self) -> "JobStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ---------------------------------------------------------------------------------------------------------- assets

    def add_asset(self, owner: str, name: str, file: Path, kind: str, facts: Mapping[str, Any]) -> Asset:
        """The asset that `file`, somewhere on the same disk, has become: it is moved into the store."""
        key = secrets.token_hex(12)
        path = self.folder / "assets" / key / f"file{file.suffix}"
        path.parent.mkdir(mode=0o700)
        synced(file)
        file.replace(path)
        row = (key, owner, name, kind, path.stat().st_size, time.time(), path.name, json.dumps(dict(facts)))
        try:
            with self.database.writing() as tables:
                tables.execute("INSERT INTO assets VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        return self.asset(owner, key)

    def asset(self, owner: str, key: str) -> Asset:
        """One asset. Raises `Unknown`."""
        with self.database.reading() as tables:
            row = tables.execute("SELECT * FROM assets WHERE id = ? AND owner = ?", (key, owner)).fetchone()
        if row is None:
            raise Unknown(f"There is no asset {key!r}. Upload the file first, or list what is there.")
        return self._asset(row)

    def assets(self, owner: str) -> list[Asset]:
        """All assets of an owner, the newest first."""
        with self.database.reading() as tables:
            rows = tables.execute("SELECT * FROM assets WHERE owner = ? ORDER BY created DESC, id", (owner,)).fetchall()
        return [self._asset(row) for row in rows]

    def remove_asset(self, owner: str, key: str) -> None:
        """Delete an asset. Raises `Unknown`, and `InputError` while an unfinished job reads it."""
        asset = self.asset(owner, key)
        with self.database.writing() as tables:
            if any(_reads(row["job"], asset.path.parent) for row in _unfinished(tables)):
                raise InputError(f"The asset {key} is read by a job that has not ended. Cancel that job first.")
            tables.execute("DELETE FROM assets WHERE id = ?", (key,))
        shutil.rmtree(asset.path.parent, ignore_errors=True)

    def _asset(self, row: sqlite3.Row) -> Asset:
        plain = {name: row[name] for name in ("id", "owner", "name", "kind", "bytes", "created")}
        return Asset(path=self.folder / "assets" / row["id"] / row["file"], facts=json.loads(row["facts"]), **plain)

    # ------------------------------------------------------------------------------------------------------------ jobs

    def submit(
        self,
        owner: str,
        job: Mapping[str, Any],
        *,
        request: Mapping[str, Any],
        name: str,
        priority: int = 0,
        approve: bool = False,
        once: str | None = None,
        reads: Iterable[str] = (),
    ) -> Record:
        """The job, queued. Of those that wait, the one of the highest priority is taken, then the oldest.

        With `approve` it stops after its first frame, until that one is approved. What its owner asks for again under the same
        name `once` is the job that is there: whoever got no answer may ask again. Raises `Unknown` where an asset that it `reads`
        is not there (any more).
        """
        key = secrets.token_hex(12)
        with self.database.writing() as tables:
            if once is not None and (found := self._asked(tables, owner, once)) is not None:
                return record(found, self.folder)
            for one in reads:
                self.asset(owner, one)  # nobody can delete it now, before the job is there
            said = (json.dumps(dict(job)), json.dumps(dict(request)))
            tables.execute(
                "INSERT INTO jobs (id, owner, state, priority, created, name, approve, job, request, once) "
                "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
                (key, owner, priority, time.time(), name, int(approve), *said, once),
            )
            note(tables, key, "state", {"state": "queued"})
        return self.get(owner, key)

    def asked(self, owner: str, once: str) -> Record | None:
        """The job that an owner asked for under the name `once`, None without one."""
        with self.database.reading() as tables:
            row = self._asked(tables, owner, once)
        return None if row is None else record(row, self.folder)

    @staticmethod
    def _asked(tables: sqlite3.Connection, owner: str, once: str) -> sqlite3.Row | None:
        found: sqlite3.Row | None = tables.execute("SELECT * FROM jobs WHERE owner = ? AND once = ?", (owner, once)).fetchone()
        return found

    def get(self, owner: str, key: str) -> Record:
        """One job. Raises `Unknown`."""
        with self.database.reading() as tables:
            row = tables.execute("SELECT * FROM jobs WHERE id = ? AND owner = ?", (key, owner)).fetchone()
        if row is None:
            raise Unknown(f"There is no job {key!r}. List the jobs to see those that there are.")
        return record(row, self.folder)

    def jobs(self, owner: str, state: State | None = None, limit: int = 50, before: float | None = None) -> list[Record]:
        """Jobs of an owner, the newest first; of one state, or made before a time."""
        asked, values = "owner = ?", [owner]
        if state is not None:
            asked, values = f"{asked} AND state = ?", [*values, state]
        rest: list[Any] = [*values, time.time() + 1e9 if before is None else before, limit]
        with self.database.reading() as tables:
            rows = tables.execute(
                f"SELECT * FROM jobs WHERE {asked} AND created < ? ORDER BY created DESC, rowid DESC LIMIT ?", rest
            ).fetchall()
        return [record(row, self.folder) for row in rows]

    def counts(self, owner: str | None = None) -> dict[State, int]:
        """How many jobs there are in each state that has any: of one owner, or of all."""
        with self.database.reading() as tables:
            rows = tables.execute(
                "SELECT state, count(*) FROM jobs WHERE ?1 IS NULL OR owner = ?1 GROUP BY state", (owner,)
            ).fetchall()
        return {row[0]: row[1] for row in rows}

    def oldest_wait(self) -> float:
        """How many seconds ago the oldest of the queued jobs was asked for; 0 where none waits."""
        with self.database.reading() as tables:
            created = tables.execute("SELECT min(created) FROM jobs WHERE state = 'queued'").fetchone()[0]
        return 0.0 if created is None else max(0.0, time.time() - float(created))

    def cancel(self, owner: str, key: str) -> Record:
        """The job, cancelled now; whoever works on it will find out. One that has ended stays as it is. Raises `Unknown`."""
        with self.database.writing() as tables:
            changed = tables.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND owner = ? "
                "AND state IN ('queued', 'running', 'waiting')",
                (time.time(), key, owner),
            )
            if changed.rowcount:
                note(tables, key, "state", {"state": "cancelled"})
        return self.get(owner, key)

    def remove(self, owner: str, key: str) -> None:
        """Delete a job that has ended, with its files. Raises `Unknown`, and `InputError` for one that has not."""
        found = self.get(owner, key)
        with self.database.writing() as tables:
            gone = tables.execute(f"DELETE FROM jobs WHERE id = ? AND state IN ({_ENDED})", (key,))
            if not gone.rowcount:
                self.get(owner, key)  # another request may have removed it just now
                raise InputError(f"The job {key} has not ended. Cancel it first.")
            tables.execute("DELETE FROM events WHERE job = ?", (key,))
        shutil.rmtree(found.folder, ignore_errors=True)

    def approve(self, owner: str, key: str, *, seed: int | None = None, keyframe: Path | None = None) -> Record:
        """The job, queued again: with its first frame as it is, with another one by `seed`, or with the picture `keyframe`.

        Raises `Unknown`, and `InputError` for a job that waits for nothing.
        """
        with self.database.writing() as tables:
            row = tables.execute("SELECT * FROM jobs WHERE id = ? AND owner = ? AND state = 'waiting'", (key, owner)).fetchone()
            if row is None:
                state = self.get(owner, key).state
                raise InputError(f"The job {key} is {state}: it waits for no approval. Ask for one with `approve`.")
            if keyframe is not None and not keyframe.exists():
                raise Unknown("The picture was deleted just now. Upload it again.")
            if keyframe is not None and keyframe.is_relative_to(self.folder.absolute() / "assets"):
                self.asset(owner, keyframe.parent.name)  # it may have been deleted meanwhile
            job, first = json.loads(row["job"]), json.loads(row["first"])
            if seed is not None:
                job["seed"] = seed
            else:
                job["keyframes"] = {**job["keyframes"], str(first["frame"]): str(keyframe or first["path"])}
            tables.execute(
                "UPDATE jobs SET state = 'queued', approve = ?, job = ?, stage = '', done = 0, total = 0 WHERE id = ?",
                (int(seed is not None), json.dumps(job), key),
            )
            note(tables, key, "state", {"state": "queued"})
        return self.get(owner, key)

    def events(self, key: str, after: int = 0) -> list[Event]:
        """What happened to a job after event number `after`. Of progress and previews only the latest are kept."""
        with self.database.reading() as tables:
            rows = tables.execute("SELECT * FROM events WHERE job = ? AND seq > ? ORDER BY seq", (key, after)).fetchall()
        return [Event(seq=row["seq"], time=row["time"], kind=row["kind"], data=json.loads(row["data"])) for row in rows]

    def usage(self) -> int:
        """How many bytes all files of the store take."""
        return size_of(self.folder)

    # -------------------------------------------------------------------------------------------------------- cleaning

    def ended(self) -> list[Record]:
        """Jobs of all owners that have ended and still have files, the one that ended first before the others."""
        with self.database.reading() as tables:
            rows = tables.execute(
                f"SELECT * FROM jobs WHERE state IN ({_ENDED}) AND bytes IS NOT NULL ORDER BY finished, rowid"
            ).fetchall()
        return [record(row, self.folder) for row in rows]

    def clear(self, job: Record) -> int:
        """Delete the files of a job that has ended, and keep the rest of it: how many bytes they took."""
        taken = size_of(job.folder)
        shutil.rmtree(job.folder, ignore_errors=True)
        with self.database.writing() as tables:
            tables.execute("UPDATE jobs SET bytes = NULL WHERE id = ?", (job.id,))
        return taken

    def unread(self) -> list[Asset]:
        """Assets of all owners that no unfinished job reads, the oldest first."""
        with self.database.reading() as tables:
            rows = tables.execute("SELECT * FROM assets ORDER BY created, id").fetchall()
            unfinished = [row["job"] for row in _unfinished(tables)]
        found = [self._asset(row) for row in rows]
        return [one for one in found if not any(_reads(job, one.path.parent) for job in unfinished)]

    def is_known(self, folder: Path) -> bool:
        """Whether a folder among those of assets and jobs belongs to one."""
        table = "assets" if folder.parent.name == "assets" else "jobs"
        with self.database.reading() as tables:
            return tables.execute(f"SELECT 1 FROM {table} WHERE id = ?", (folder.name,)).fetchone() is not None


_ENDED = ", ".join(f"'{state}'" for state in sorted(ENDED))


def note(tables: sqlite3.Connection, key: str, kind: str, data: Mapping[str, Any]) -> None:
    """Add an event to a job, inside a transaction."""
    if kind in ("progress", "preview"):
        tables.execute("DELETE FROM events WHERE job = ? AND kind = ?", (key, kind))
    tables.execute(
        "INSERT INTO events (job, time, kind, data) VALUES (?, ?, ?, ?)", (key, time.time(), kind, json.dumps(dict(data)))
    )


def record(row: sqlite3.Row, folder: Path) -> Record:
    """The job in a row of the table."""
    values = {name: row[name] for name in row.keys() if name not in ("not_before", "refusals", "once")}  # noqa: SIM118  # a Row is no mapping
    values["approve"] = bool(values["approve"])
    for name in ("job", "request", "first"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return Record(folder=folder / "jobs" / row["id"], **values)


def _unfinished(tables: sqlite3.Connection) -> list[sqlite3.Row]:
    return tables.execute(f"SELECT id, job FROM jobs WHERE state NOT IN ({_ENDED})").fetchall()


def _reads(job: str, folder: Path) -> bool:
    """Whether a stored job names a file in `folder`, the name of which is random."""
    return folder.name in job


def size_of(folder: Path) -> int:
    """How many bytes the files in a folder take, at any depth."""
    taken = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # removed while we walk
                taken += Path(place, name).lstat().st_size
    return taken
