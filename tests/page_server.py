"""A server with its page and one worker, as a process of its own: `serving(folder)` starts it and ends it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, *tokens: str) -> Iterator[str]:
    """The address of a server over the data in `folder`, from its first healthy answer on."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "flowpaint",
        "serve",
        "--port",
        str(port),
        "--data",
        str(folder),
        "--workers",
        "1",
        "--quiet",
    ]
    for token in tokens:
        command += ["--token", token]
    manners = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(command, env={**os.environ, **manners}, stdin=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended before it answered"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/healthz", trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not answer in 30 s")
