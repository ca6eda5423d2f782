"""`Lock`: a file that one living process holds. Whoever is killed lets go of it, since the system does that for it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PAUSE = 0.2  # seconds between two tries


class Lock:
    """A lock file, and beside it the number of the process that holds it; its time says when that one last showed itself."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)
        self._holder = path.with_suffix(".pid")

    @contextmanager
    def tried(self) -> Iterator[bool]:
        """Whether the lock is held inside: nobody is waited for."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            self._lock.release()

    @contextmanager
    def waited_for(self, wanted: Callable[[], bool]) -> Iterator[bool]:
        """Whether the lock is held inside: it is waited for as long as it is `wanted`. Its holder's number is noted."""
        while wanted():
            with self.tried() as is_ours:
                if is_ours:
                    with suppress(OSError):  # a full disk: then nobody can tell that it hangs
                        self._holder.write_text(str(os.getpid()))
                    yield True
                    return
            time.sleep(_PAUSE)
        yield False

    def show(self) -> None:
        """Say that its holder lives."""
        with suppress(OSError):
            os.utime(self._holder)

    def sign(self) -> int | None:
        """A number that changes whenever its holder shows itself; None where nobody holds it."""
        with suppress(OSError), self.tried() as is_free:
            return None if is_free else self._holder.stat().st_mtime_ns
        return None

    def holder(self) -> int | None:
        """The number of the process that holds it, as far as it could say so."""
        with suppress(OSError, ValueError):
            return int(self._holder.read_text())
        return None
