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
from pathlib import Path
from typing import Any, Protocol

from .. import errors
from ..errors import FlowpaintError, WorkError
from .settings import Limits

_HEAVY = {"facts", "frame", "shots", "plan"}  # they open what users sent
_SLOW = {"shots": 10.0, "plan": 10.0}  # they go through all of it: so many times the seconds
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


class Children:
    """Tasks done in children, begun by a process that is started when it is first needed, and again if it was lost."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, Future[dict[str, Any]]] = {}
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
        said = {"task": task, "values": values, "heavy": task in _HEAVY, "bytes": limits.child_bytes}
        with self._lock:
            process = self._running()
            self._count += 1
            self._asked[self._count] = future
            said |= {"id": self._count, "seconds": limits.child_seconds * _SLOW.get(task, 1.0)}
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(said).encode() + b"\n")
                process.stdin.flush()
            except OSError:  # lost just now: its reader tells all who wait
                _log.warning("The process for files was lost; the next task starts another.")
        return future

    def close(self) -> None:
        """End the process, and with it every child. What was under way raises `WorkError`."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._closed:
            raise WorkError("The server is shutting down. Send the request again when it is back.")
        if self._process is None or self._process.poll() is not None:
            self._is_ready = False
            few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flowpaint.web.child", str(self._limits.children)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={
                    **os.environ,
                    **few,
                    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)]),
                },
            )
            threading.Thread(target=self._listen, args=(self._process,), name="children", daemon=True).start()
        return self._process

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                answer = json.loads(line)
                if "ready" in answer:
                    self._is_ready = True
                    continue
                with self._lock:
                    future = self._asked.pop(answer["id"], None)
                if future is not None and future.set_running_or_notify_cancel():
                    settle(future, answer)
        process.wait()
        with self._lock:
            if self._process is process:
                self._is_ready = False
                lost, self._asked = self._asked, {}
            else:
                lost = {}
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        for future in lost.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(WorkError("The process that reads files was lost. Send the request again."))


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
