"""Stand-ins for servers that edit pictures: they read multipart as a server does, note what came, and answer as they are told.

Both paint `painted(picture)`: the picture's negative inside the mask. `say(...)` puts an answer before the good ones: a function
of the request's handler, or a status with a body.
"""

import base64
import contextlib
import email
import email.policy
import io
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image


@dataclass
class Got:
    """A request as it came: `fields` by name, `files` as (name, file name, content)."""

    method: str
    path: str
    query: dict
    headers: dict
    body: bytes
    fields: dict = field(default_factory=dict)
    files: list = field(default_factory=list)

    def pictures(self, name):
        """The pictures that were sent under `name`, arrays [H, W, channels]."""
        return [np.array(Image.open(io.BytesIO(content))) for key, _, content in self.files if key == name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        got = Got(self.command, parts.path, parse_qs(parts.query, keep_blank_values=True), dict(self.headers), body)
        _read_form(got)
        server = self.server.stand_in
        with server.lock:
            server.got.append(got)
            said = server.said.pop(0) if server.said else server.answer
        with contextlib.suppress(ConnectionError):
            said(self, got)

    do_GET = do_POST = _serve

    def reply(self, status, content, kind="application/json", **headers):
        content = json.dumps(content).encode() if not isinstance(content, (bytes, str)) else content
        content = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


def _read_form(got):
    """Fields and files of a multipart body, by the standard library's reader of mail."""
    kind = got.headers.get("Content-Type", "")
    if not kind.startswith("multipart/form-data"):
        return
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + got.body, policy=email.policy.HTTP)
    for part in message.iter_parts():
        name, file = part.get_param("name", header="content-disposition"), part.get_filename()
        content = part.get_payload(decode=True)
        if file is None:
            got.fields[name] = content.decode()
        else:
            got.files.append((name, file, content))


def encoded(picture, form="PNG"):
    """An array [H, W, channels] as a picture file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form)
    return file.getvalue()


def painted(picture, mask=None):
    """The negative of a picture [H, W, 3], inside `mask` [H, W] where there is one."""
    return np.where(True if mask is None else mask[..., None], 255 - picture, picture).astype(np.uint8)


class StandIn:
    """A server on this machine: `url`, `got`, `say`."""

    prefix = ""

    def __init__(self):
        self.got, self.said, self.lock, self.stopped = [], [], threading.Lock(), threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._http.stand_in = self
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *reason):
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def say(self, *answers):
        """Give these answers first, each once."""
        self.said += [one if callable(one) else _reply(*one) for one in answers]

    def of(self, path):
        """The requests for a path."""
        return [one for one in self.got if one.path == self.prefix + path]

    # --------------------------------------------------------------------------------------------------------- bad answers

    def hang(self, handler, got):
        """No answer until the test is over."""
        self.stopped.wait(10)
        handler.close_connection = True

    def cut(self, handler, got):
        """Half of an answer, then nothing."""
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"data": [')
        handler.close_connection = True

    def cut_at_once(self, handler, got):
        """Not even a status."""
        handler.close_connection = True

    def endless(self, handler, got):
        """A body that does not end."""
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while not self.stopped.is_set():
            handler.wfile.write(b" " * 2**16)

    def trickle(self, handler, got):
        """A byte now and then, so that no single wait is a long one."""
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while not self.stopped.wait(0.03):
            handler.wfile.write(b" ")
            handler.wfile.flush()


def _reply(status, content, headers=None):
    return lambda handler, got: handler.reply(status, content, **(headers or {}))


class OpenAi(StandIn):
    """`POST /v1/images/edits`: the negative of the picture where the mask is transparent."""

    prefix = "/v1"

    def __init__(self, *, by_url=False, size=None, form="PNG"):
        super().__init__()
        self.by_url, self.size, self.form, self.files = by_url, size, form, {}

    def answer(self, handler, got):
        if got.path.startswith("/files/"):
            return handler.reply(200, self.files[got.path], "image/png")
        if (got.method, got.path) != ("POST", "/v1/images/edits"):
            return handler.reply(404, {"error": {"message": f"no route {got.path}"}})
        picture = (got.pictures("image") or got.pictures("image[]"))[0]
        masks = got.pictures("mask")
        made = painted(picture, masks[0][..., 3] == 0 if masks else None)
        if self.size is not None:
            made = np.array(Image.fromarray(made).resize(self.size))
        file = encoded(made, self.form)
        if not self.by_url:
            return handler.reply(200, {"created": 1, "data": [{"b64_json": base64.b64encode(file).decode()}]})
        name = f"/files/{len(self.files)}.png"
        self.files[name] = file
        return handler.reply(200, {"created": 1, "data": [{"url": f"http://127.0.0.1:{self.port}{name}?sig=1"}]})


class ComfyUi(StandIn):
    """The four routes of ComfyUI that an editor needs. A job is done when it was asked for `polls` times.

    Its workflow is `WORKFLOW`: the negative of the picture inside the mask. `alpha` is the transparency [H, W] of what it saves.
    """

    def __init__(self, *, polls=2, alpha=None, size=None):
        super().__init__()
        self.polls, self.alpha, self.size, self.kept, self.jobs, self.asked = polls, alpha, size, {}, {}, {}
        self.history = None

    def answer(self, handler, got):
        route = got.path.split("/")[1]
        known = {"upload": self._upload, "prompt": self._prompt, "history": self._history, "view": self._view}
        return known[route](handler, got) if route in known else handler.reply(404, "no such route")

    def _upload(self, handler, got):
        ((_, name, content),) = got.files
        self.kept[f"mine/{name}"] = content
        handler.reply(200, {"name": name, "subfolder": "mine", "type": got.fields["type"]})

    def _prompt(self, handler, got):
        nodes = json.loads(got.body)["prompt"]
        loaded = [one["inputs"]["image"] for one in nodes.values() if one["class_type"].startswith("LoadImage")]
        lost = [name for name in loaded if name not in self.kept]
        if lost:
            errors = [{"type": "custom_validation_failed", "message": "Invalid image file", "details": lost[0]}]
            wrong = {"1": {"errors": errors, "dependent_outputs": ["9"], "class_type": "LoadImage"}}
            return handler.reply(400, {"error": {"message": "Prompt outputs failed validation"}, "node_errors": wrong})
        number = f"job {len(self.jobs)}/x"
        self.jobs[number] = nodes
        return handler.reply(200, {"prompt_id": number, "number": len(self.jobs), "node_errors": {}})

    def _history(self, handler, got):
        number = list(self.jobs)[-1]
        assert got.path == "/history/" + number.replace(" ", "%20").replace("/", "%2F")
        self.asked[number] = self.asked.get(number, 0) + 1
        if self.asked[number] < self.polls:
            return handler.reply(200, {})
        if self.history is not None:
            return handler.reply(200, {number: self.history})
        shown = {"filename": "out 1.png", "subfolder": "a/b", "type": "output"}
        preview = {"filename": "preview.png", "subfolder": "", "type": "temp"}
        status = {"status_str": "success", "completed": True, "messages": [["execution_start", {}]]}
        outputs = {"4": {"images": [preview]}, "9": {"images": [shown]}}
        return handler.reply(200, {number: {"prompt": [], "outputs": outputs, "status": status}})

    def _view(self, handler, got):
        if got.query != {"filename": ["out 1.png"], "subfolder": ["a/b"], "type": ["output"]}:
            return handler.reply(404, "")
        nodes = self.jobs[list(self.jobs)[-1]]
        picture, mask = (np.array(Image.open(io.BytesIO(self.kept[nodes[key]["inputs"]["image"]]))) for key in ("1", "2"))
        made = painted(picture[..., :3], mask[..., 3] == 0)
        if self.alpha is not None:
            made = np.concatenate([made, self.alpha[..., None]], axis=-1)
        if self.size is not None:
            made = np.array(Image.fromarray(made).resize(self.size))
        return handler.reply(200, encoded(made), "image/png")


WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "%image%"}, "_meta": {"title": "%image%"}},
    "2": {"class_type": "LoadImageMask", "inputs": {"image": "%mask%", "channel": "red"}},
    "3": {"class_type": "KSampler", "inputs": {"seed": "%seed%", "steps": 4, "model": ["5", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "photo of %prompt%, sharp", "clip": ["5", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "%negative%", "clip": ["5", 1]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "run-%seed%"}},
}


def seconds(work):
    """How long `work` takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
