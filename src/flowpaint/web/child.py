"""The process that children come from: it has flowpaint loaded, and forks one child for each task.

It reads tasks as lines of JSON from stdin, {"id", "task", "values", "sort", "seconds", "bytes"}, and writes answers as such
lines to stdout, where nothing else that prints can write: {"id", "value"} or {"id", "problem": {"type", "message", "code"}}.
What is light, heavy and slow has places of its own. A child has a session of its own and limits on memory, processor time and
the clock; what breaks them is killed with all that it started. It ends when its stdin does.
"""

import json
import os
import resource
import selectors
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FlowpaintError, ResourceError, WorkError, verdict

_MOST = 16 << 20  # bytes of an answer
_LIGHT = 4  # children at a time that open no upload


@dataclass
class _Child:
    """A task under way: the process, the pipe from it and what came through, and when it has to be done."""

    task: dict[str, Any]
    pid: int
    pipe: int
    until: float
    said: bytearray = field(default_factory=bytearray)
    killed: str = ""


class Parent:
    """The loop that takes tasks and hands out answers."""

    def __init__(self, most: int, output: int) -> None:
        self._most = {"light": _LIGHT, "heavy": most, "slow": most}
        self._output = output
        self._waiting: dict[str, deque[dict[str, Any]]] = {sort: deque() for sort in self._most}
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._input = b""

    def run(self) -> None:
        """Nothing, when stdin has ended and every child with it."""
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._say({"ready": True})
        try:
            while self._turn():
                pass
        finally:
            for child in self._children.values():
                _kill(child.pid)

    def _turn(self) -> bool:
        nearest = min((child.until for child in self._children.values()), default=None)
        for key, _ in self._selector.select(None if nearest is None else max(0.0, nearest - time.monotonic())):
            if key.fd == sys.stdin.fileno():
                if not self._read():
                    return False
            else:
                self._hear(self._children[key.fd])
        for child in [one for one in self._children.values() if one.until <= time.monotonic()]:
            self._stop(child, "took too long")
        self._start()
        return True

    def _read(self) -> bool:
        data = os.read(sys.stdin.fileno(), 1 << 16)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            task = json.loads(line)
            self._waiting[task["sort"]].append(task)
        return bool(data)

    def _start(self) -> None:
        for sort, waiting in self._waiting.items():
            while waiting and sum(one.task["sort"] == sort for one in self._children.values()) < self._most[sort]:
                self._fork(waiting.popleft())

    def _fork(self, task: dict[str, Any]) -> None:
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            os.close(self._output)
            _live(task, theirs)
        os.close(theirs)
        self._children[ours] = _Child(task, pid, ours, time.monotonic() + task["seconds"])
        self._selector.register(ours, selectors.EVENT_READ)

    def _hear(self, child: _Child) -> None:
        data = os.read(child.pipe, 1 << 16)
        child.said += data
        if len(child.said) > _MOST:
            self._stop(child, "said too much")
        elif not data:
            self._stop(child)

    def _stop(self, child: _Child, why: str = "") -> None:
        """End a child, and all that it started, and pass on what it said."""
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        del self._children[child.pipe]
        _kill(child.pid)
        _, status = os.waitpid(child.pid, 0)
        try:
            if why:
                raise ValueError(why)
            answer = json.loads(child.said)
        except ValueError:
            code = os.waitstatus_to_exitcode(status)
            why = why or {-signal.SIGXCPU: "took too long", -signal.SIGKILL: "took too much memory"}.get(code, "broke off")
            message = f"What was read of the file {why}. Send another one, shorter or smaller, or convert it first."
            answer = {"problem": {"type": "VideoError", "message": message, "code": 4}}
        self._say({"id": child.task["id"], **answer})

    def _say(self, answer: dict[str, Any]) -> None:
        said = json.dumps(answer).encode() + b"\n"
        while said:
            said = said[os.write(self._output, said) :]


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        except PermissionError:  # it has no group of its own yet
            continue


def _live(task: dict[str, Any], pipe: int) -> None:
    """The whole life of a child. It never returns."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        _limit(task)
        said = json.dumps(outcome(task["task"], task["values"])).encode()
        while said:
            said = said[os.write(pipe, said) :]
        code = 0
    finally:
        os._exit(code)


def _limit(task: dict[str, Any]) -> None:
    sizes = Path("/proc/self/statm")
    if sizes.exists():  # elsewhere than on Linux, memory is limited by the machine alone
        now = int(sizes.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + task["bytes"],) * 2)
    seconds = int(task["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (2 * seconds, 2 * seconds + 1))
    signal.alarm(seconds + 1)  # whoever would stop it by the clock may be gone
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20,) * 2)


def outcome(task: str, values: dict[str, Any]) -> dict[str, Any]:
    """What a task gives, or the problem that it has."""
    from . import work

    try:
        call = work.warm if task == "warm" else work.TASKS[task]
        return {"value": call(**values)}
    except FlowpaintError as error:
        return {"problem": {"type": type(error).__name__, "message": str(error), "code": error.exit_code}}
    except Exception as error:
        code, message = verdict(error)
        kind: type[FlowpaintError] = ResourceError if code == ResourceError.exit_code else WorkError
        return {"problem": {"type": kind.__name__, "message": message, "code": code}}


def main() -> None:
    """Run until stdin ends. The argument is how many children of each sort may open uploads at a time."""
    os.setsid()
    os.nice(5)  # whoever waits for an answer of the server goes first
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what prints, as plug-ins may
    os.write(output, b"\n")  # ends what was printed until now
    outcome("warm", {})
    Parent(int(sys.argv[1]), output).run()


if __name__ == "__main__":
    main()
