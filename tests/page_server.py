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

SCRIPT = """
import sys
from pathlib import Path
import uvicorn
from flowpaint.jobs.crew import Crew
from flowpaint.web.app import create_app
from flowpaint.web.settings import Settings
folder, port, tokens = Path(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3:])
app = create_app(Settings(data=folder, port=port, tokens=tokens))
crew = Crew(folder, workers=1)
crew.start()
try:
    uvicorn.run(app, port=port, log_level="warning")
finally:
    crew.stop()
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, *tokens: str) -> Iterator[str]:
    """The address of a server over the data in `folder`, from its first healthy answer on."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    manners = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(port), *tokens],
        env={**os.environ, **manners},
        stdin=subprocess.DEVNULL,
    )
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
