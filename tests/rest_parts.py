"""A web server for tests: the real application over a real store, its children's tasks done in this process or in real ones."""

import json
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
from anyio.from_thread import start_blocking_portal
from PIL import Image
from starlette.testclient import TestClient

from flowpaint.jobs.queue import Queue
from flowpaint.web.app import create_app
from flowpaint.web.child import outcome
from flowpaint.web.children import settle
from flowpaint.web.settings import Limits, Settings
from video_files import make, smooth

HOME = "http://127.0.0.1:7860"


_LOOP = ExitStack()


@cache
def _portal():
    """One event loop for all clients: a new one for each request would cost more than most requests do."""
    return _LOOP.enter_context(start_blocking_portal())


class Direct:
    """Does the tasks of children at once, in this process: what it gives is the same, without the safety."""

    def __init__(self):
        self.asked = []
        self.is_ready = True

    def start(self):
        pass

    def ready(self):
        return self.is_ready

    def ask(self, task, **values):
        self.asked.append(task)
        future = Future()
        settle(future, outcome(task, values))
        return future

    def close(self):
        pass


_OPEN = []  # what `client` has made and `close_all` has not closed: no lifespan of the application is run here


def close_all():
    """Close the servers of all clients, and their event loop."""
    while _OPEN:
        _OPEN.pop().close()
    _LOOP.close()
    _portal.cache_clear()


def client(folder, *, asks=None, base=HOME, raises=True, **said):
    """A browserless client of a server with its data in `folder`."""
    limits = Limits(**said.pop("limits", {}))
    app = create_app(Settings(data=Path(folder) / "data", limits=limits, **said), asks=asks or Direct())
    _OPEN.append(app.state.service)
    made = TestClient(app, base_url=base, raise_server_exceptions=raises)
    made.portal = _portal()
    made.service = app.state.service
    made.queue = Queue(made.service.store)
    return made


def a_video(folder, name="clip.mp4", frames=6, size=(48, 64), **said):
    """A small real video."""
    return make(Path(folder) / name, [smooth(*size, index) for index in range(frames)], **said)


def a_picture(folder, name="hat.png", size=(48, 64)):
    """A small real picture."""
    path = Path(folder) / name
    Image.fromarray(np.tile(smooth(*size), 1)).save(path)
    return path


def upload(on, path, name=None, **said):
    """The asset that a file has become."""
    answer = on.post("/v1/assets", files={"file": (name or path.name, path.read_bytes())}, **said)
    assert answer.status_code == 201, answer.text
    return answer.json()


def ask(on, asset, **said):
    """The job that was asked for."""
    answer = on.post("/v1/jobs", json={"input": asset["id"], "prompt": "van gogh", **said})
    assert answer.status_code == 202, answer.text
    return answer.json()


def is_problem(answer, status, *words, code=2):
    """Whether an answer is a problem as the document has it."""
    body = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.keys() == {"type", "title", "status", "detail", "code"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"].count(". ") >= 1 and body["detail"].endswith((".", ").")), body["detail"]
    for word in words:
        assert word in body["detail"], body["detail"]
    return True


def waiting(on, asset):
    """A job that waits for the approval of its first frame, as its owner sees it."""
    job = ask(on, asset, approve=True)
    record = on.queue.claim("w")
    first = record.run / "first.png"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"picture")
    on.queue.wait(record, json.dumps({"frame": 0, "path": str(first)}))
    return on.get(f"/v1/jobs/{job['id']}").json()
