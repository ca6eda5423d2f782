"""Whatever a test opens is closed: a plugin of pytest that fails where a file, a socket, a database or a process is left open.

Python says itself where a file, a socket or a process is forgotten, and pytest makes that an error of the test. Added here:

- what is forgotten in a cycle of references, as every SQLite connection is, is looked for after the test that opened it;
- a forgotten SQLite connection is said, which Python does from 3.13 on only;
- what somebody still holds when all tests are done: files, sockets and pipes that were not open before the first test, and
  processes. The error names the test after which each was first seen.

What is open is read from /proc; on other systems than Linux the first and the last are missing.
"""

import gc
import sqlite3
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_PATIENCE = 3.0  # seconds for threads and processes that were told to end
_OPEN = Path("/proc/self/fd")
_OURS = ("socket:", "pipe:", "/")  # targets of descriptors that count: not those of the kernel's own, such as epoll's
_SYSTEM = ("/dev/", "/proc/")


class Watched(sqlite3.Connection):
    """A connection that warns where it is forgotten, as every one does from Python 3.13 on."""

    is_open = False

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self.is_open = True

    def close(self) -> None:
        """Close the connection."""
        self.is_open = False
        super().close()

    def __del__(self) -> None:
        if self.is_open:
            warnings.warn(f"unclosed database in {self!r}", ResourceWarning, stacklevel=1, source=self)


@pytest.fixture(scope="session", autouse=True)
def databases_are_watched() -> Iterator[None]:
    """Makes Python before 3.13 say where a database is forgotten."""
    if sys.version_info >= (3, 13):
        yield
        return
    connect = sqlite3.connect

    def watched(*values: Any, **named: Any) -> sqlite3.Connection:
        return connect(*values, **{"factory": Watched, **named})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", watched)
        yield


def opened() -> set[str]:
    """The open descriptors and the children of this process: `3 -> /a/file`, `child 77: python -m this`."""
    found = set()
    for one in _OPEN.iterdir() if _OPEN.is_dir() else ():
        try:
            target = str(one.readlink())
        except OSError:  # that of this listing
            continue
        if target.startswith(_OURS) and not target.startswith(_SYSTEM):
            found.add(f"{one.name} -> {target}")
    for children in Path("/proc/self/task").glob("*/children"):
        try:
            found |= {f"child {number}: {_command(number)}" for number in children.read_text().split()}
        except OSError:  # the thread has ended
            continue
    return found


def _command(number: str) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip() or "ended"
    except OSError:
        return "ended"


class _Seen:
    """What was open before the first test, and, of what is open now, the test after which it was first seen."""

    def __init__(self) -> None:
        self.before = opened()
        self.after: dict[str, str] = {}

    def is_more(self, test: str) -> bool:
        """Look at what is open after `test`: whether something is that was not when this was last asked."""
        now = opened() - self.before
        more = now - self.after.keys()
        self.after = {name: self.after.get(name, test) for name in now}
        return bool(more)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_open() -> Iterator[_Seen]:
    """Fails where, after the last test, something is open that was not open before the first one."""
    seen = _Seen()
    yield seen
    until = time.monotonic() + _PATIENCE
    while left := sorted(opened() - seen.before):
        gc.collect()
        if time.monotonic() > until:
            told = "\n".join(f"  {name} (first seen after {seen.after.get(name, 'all tests')})" for name in left)
            pytest.fail(f"Left open when all tests were done:\n{told}", pytrace=False)
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def what_is_forgotten_is_said_at_once(request: pytest.FixtureRequest, nothing_is_left_open: _Seen) -> Iterator[None]:
    """Collects what is in cycles, after a test that leaves something open: what it has forgotten is that test's error."""
    yield
    if nothing_is_left_open.is_more(request.node.nodeid):
        gc.collect()
