"""The web server's side of `child`: tasks go out, answers come back as futures. It loads nothing heavy itself."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from .. import errors
from ..errors import FlowpaintError, WorkError
from .settings import Limits

_SORTS = {"facts": "heavy", "frame": "heavy", "shots": "slow", "plan": "slow"}  # they open what users sent; the rest is light
_LONGER = {"slow": 10.0}  # those go through all of a file: so many times the seconds
_PRIVATE = {"FLOWPAINT_TOKEN"}  # of the environment: nothing for a process that opens strangers' files
_log = logging.getLogger("flowpaint.web")


class Asks(Protocol):
    """Whoever does tasks: `Children`, or something that does them here."""

    def ask(self, task: str, **values: Any) -> "Future[dict[str, Any]]":
        """What the task will give, or the error of ours that it will raise."""
        ...

    def start(self) -> None:
        """Begin to be ready."""
        ...

    def ready(self) -> bool:
        """Whether tasks would be begun at once."""
        ...

    def close(self) -> None:
        """End all that is under way."""
        ...


@dataclass(frozen=True, eq=False)
class _Begun:
    """A process that was started, what it was asked and has not answered, and lines on their way to it; None ends those."""

    process: "subprocess.Popen[bytes]"
    asked: dict[int, "Future[dict[str, Any]]"] = field(default_factory=dict)
    lines: "SimpleQueue[bytes | None]" = field(default_factory=SimpleQueue)

    def write(self) -> None:
        """Write the lines. A thread of its own does: while the process is busy, pipes are full, and nobody else may wait."""
        assert self.process.stdin is not None
        with suppress(OSError):  # lost just now: its reader tells all who wait
            for line in iter(self.lines.get, None):
                self.process.stdin.write(line)
                self.process.stdin.flush()
        with suppress(OSError):
            self.process.stdin.close()


class Children:
    """Tasks done in children, begun by a process that is started when it is first needed, and again if it was lost."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()  # never held while anything is read or written
        self._begun: _Begun | None = None
        self._count, self._is_ready, self._closed = 0, False, False

    def start(self) -> None:
        """Begin to be ready."""
        with self._lock:
            self._running()

    def ready(self) -> bool:
        """Whether the process is there and has loaded what it needs."""
        return self._is_ready

    def ask(self, task: str, **values: Any) -> "Future[dict[str, Any]]":
        """What the task will give, or the error that it will raise. Raises `WorkError` after `close`."""
        future: Future[dict[str, Any]] = Future()
        limits = self._limits
        sort = _SORTS.get(task, "light")
        said = {"task": task, "values": values, "sort": sort, "bytes": limits.child_bytes}
        with self._lock:
            begun = self._running()
            self._count += 1
            begun.asked[self._count] = future
            said |= {"id": self._count, "seconds": limits.child_seconds * _LONGER.get(sort, 1.0)}
        begun.lines.put(json.dumps(said).encode() + b"\n")
        return future

    def close(self) -> None:
        """End the process, and with it every child. What was under way raises `WorkError`."""
        with self._lock:
            self._closed = True
            begun = self._begun
        if begun is None:
            return
        begun.lines.put(None)
        try:
            begun.process.wait(5)
        except subprocess.TimeoutExpired:
            begun.process.kill()
            begun.process.wait()

    def _running(self) -> _Begun:
        if self._closed:
            raise WorkError("The server is shutting down. Send the request again when it is back.")
        if self._begun is None or self._begun.process.poll() is not None:
            self._is_ready = False
            few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flowpaint.web.child", str(self._limits.children)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={
                    **{name: value for name, value in os.environ.items() if name not in _PRIVATE},
                    **few,
                    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)]),
                },
            )
            self._begun = _Begun(process)
            threading.Thread(target=self._begun.write, name="children-ask", daemon=True).start()
            threading.Thread(target=self._listen, args=(self._begun,), name="children", daemon=True).start()
        return self._begun

    def _listen(self, begun: _Begun) -> None:
        assert begun.process.stdout is not None
        try:
            with begun.process.stdout as lines:
                for line in lines:
                    self._hear(begun, line)
        finally:
            self._lose(begun)

    def _hear(self, begun: _Begun, line: bytes) -> None:
        answer = parsed(line)
        if not line.strip():
            return
        if answer is None:
            _log.warning("The process that reads files said %r, which is no answer. It is passed over.", line[:200])
        elif "ready" in answer:
            self._is_ready = True
        else:
            with self._lock:
                future = begun.asked.pop(answer["id"], None)
            if future is not None and future.set_running_or_notify_cancel():
                settle(future, answer)

    def _lose(self, begun: _Begun) -> None:
        """Tell all who wait that the process is lost; whoever asks next has another one."""
        begun.process.kill()  # it has ended, but where its answers could not be read
        begun.process.wait()
        begun.lines.put(None)
        with self._lock:
            if self._begun is begun:
                self._begun, self._is_ready = None, False
            lost = list(begun.asked.values())  # nothing more is asked of it
        for future in lost:
            if future.set_running_or_notify_cancel():
                future.set_exception(WorkError("The process that reads files was lost. Send the request again."))


def parsed(line: bytes) -> dict[str, Any] | None:
    """The answer in a line, None for a line that is none: a plug-in may print as it is imported."""
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    problem = answer.get("problem", {"type": "", "message": ""})
    is_whole = isinstance(answer.get("id"), int) and ("value" in answer) != ("problem" in answer)
    is_whole = is_whole and isinstance(problem, dict) and problem.keys() >= {"type", "message"}
    return answer if is_whole or answer == {"ready": True} else None


def settle(future: "Future[dict[str, Any]]", answer: dict[str, Any]) -> None:
    """Give a future what a task gave, or the error that it tells of."""
    problem = answer.get("problem")
    if problem is None:
        future.set_result(answer["value"])
        return
    kind = getattr(errors, problem["type"], WorkError)
    future.set_exception(kind(problem["message"]) if issubclass(kind, FlowpaintError) else WorkError(problem["message"]))


async def answer(asks: Asks, task: str, **values: Any) -> dict[str, Any]:
    """What a task gives; the event loop goes on meanwhile. Raises the error of ours that it has."""
    return await asyncio.wrap_future(asks.ask(task, **values))
