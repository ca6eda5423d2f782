"""The SQLite file behind the store: its tables, its connections, and transactions."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import WorkError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  state TEXT NOT NULL,
  priority INTEGER NOT NULL,
  created REAL NOT NULL,
  started REAL,
  finished REAL,
  not_before REAL NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0,
  refusals INTEGER NOT NULL DEFAULT 0,
  worker TEXT NOT NULL DEFAULT '',
  heartbeat REAL,
  name TEXT NOT NULL,
  approve INTEGER NOT NULL,
  first TEXT,
  stage TEXT NOT NULL DEFAULT '',
  done INTEGER NOT NULL DEFAULT 0,
  total INTEGER NOT NULL DEFAULT 0,
  code INTEGER,
  error TEXT NOT NULL DEFAULT '',
  bytes INTEGER DEFAULT 0,
  job TEXT NOT NULL,
  request TEXT NOT NULL,
  once TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (state, priority DESC, created);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_once ON jobs (owner, once);
CREATE INDEX IF NOT EXISTS jobs_owned ON jobs (owner, created);
CREATE TABLE IF NOT EXISTS assets (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  created REAL NOT NULL,
  file TEXT NOT NULL,
  facts TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS assets_owned ON assets (owner, created);
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  job TEXT NOT NULL,
  time REAL NOT NULL,
  kind TEXT NOT NULL,
  data TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_of ON events (job, seq);
"""
_VERSION = 1
_PAUSE = 0.05
_KEPT = 8  # connections that stay open while nobody uses them
_WAIT_MS = 20_000  # for another process's transaction; all of ours are short


class Unavailable(WorkError):
    """The store cannot be written now, but may be later: the disk is full, or others have it."""


class Database:
    """One SQLite file. One thread at a time uses a connection; afterwards it is kept for the next one, until `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False
        self._local = threading.local()
        try:
            with _disk(path):
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Make the file and its tables. Raises `WorkError` for the file of another version."""
        with suppress(OSError):  # SQLite then says why
            self._path.touch(mode=0o600)  # the folder may be open to others
        self._idle.append(self._first_connection())
        with self._connection() as connection:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, _VERSION):
                raise WorkError(f"{self._path} was written by another version of flowpaint ({found}). Use another --data folder.")
            if found != _VERSION:  # else nothing is written: a store can be opened on a full disk
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _first_connection(self) -> sqlite3.Connection:
        """A connection to a file that another process may be making at the same time, which SQLite does not wait for."""
        until = time.monotonic() + _WAIT_MS / 1000
        while True:
            try:
                return self._opened()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_WAIT_MS / 1000, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk before it is answered for, so that power loss takes back nothing that was promised.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread uses meanwhile. A block inside another one has the same connection."""
        held: sqlite3.Connection | None = getattr(self._local, "held", None)
        if held is not None:
            yield held
            return
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        connection = idle or self._opened()
        self._local.held = connection
        try:
            yield connection
        finally:
            self._local.held = None
            with self._lock:
                is_kept = not self._is_closed and len(self._idle) < _KEPT
                if is_kept:
                    self._idle.append(connection)
            if not is_kept:
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from: each statement sees what was committed before it. Raises `WorkError` as `writing` does."""
        with _disk(self._path), self._connection() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other one overlaps: all of it is kept, or nothing where the block raises.

        Raises `WorkError` where the disk is full or cannot be written.
        """
        with _disk(self._path), self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close all connections: those in use as soon as they are not. What is called later opens one for itself alone."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            raise Unavailable(f"The job store {path} has been busy for long. Try again.") from error
        if code == sqlite3.SQLITE_FULL:
            raise Unavailable(f"The disk is full: {path} could not be written. Make room and try again.") from error
        raise WorkError(f"The job store {path} cannot be used ({error}). Check the disk and the folder.") from error
