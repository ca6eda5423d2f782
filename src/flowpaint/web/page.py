"""`mount`: the web page beside the REST routes, its framework imported when the page is first wanted.

The page's framework takes seconds to import, so the server answers before it is there and says that the page is coming. Of the
routes that it brings, only those that the page needs are reachable: none of them takes or gives out files, those go through REST.
"""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import MissingExtraError
from .problems import Refusal

# What the page's policy is without its nonce. Styles are inline in the framework; scripts are not: each has the nonce or a file.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; "
    "media-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_OWN = {"/page/page.js": "text/javascript", "/page/brush.js": "text/javascript", "/page/page.css": "text/css"}
_ASKED = "/gradio_api/run/predict"
_FRAMEWORK = frozenset({"/", "/theme.css", "/manifest.json", "/favicon.ico", _ASKED})
_FRAMEWORK_FOLDERS = ("/assets/", "/static/")
_HEAD_START = 1.0  # seconds in which the server can answer its first requests before the import takes a core
_COMING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>flowpaint</title></head>
<body style="font: 1.1rem system-ui, sans-serif; margin: 20vh auto; max-width: 24rem; text-align: center">
<h1 style="font-size: 1.4rem">flowpaint</h1><p role="status">The page is on its way. This takes a few seconds.</p>
</body></html>"""


def mount(app: FastAPI, settings: Any) -> None:
    """Nothing; from now on `app` has the page at `/`. `settings` are those of `create_app`.

    Nothing heavy is imported here: that begins a second after the server's start or with the first visit.
    """
    late = _Late(app, settings)
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(outer: FastAPI) -> AsyncIterator[Any]:
        async with before(outer) as state:
            warming = asyncio.create_task(late.warm())
            try:
                yield state
            finally:
                warming.cancel()
                await late.close()

    app.router.lifespan_context = lifespan
    app.router.routes.append(_Route(late))


class _Route(BaseRoute):
    """The paths of the page and no others, so that every other path is answered as without it."""

    def __init__(self, late: "_Late") -> None:
        self._late = late

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope.get("path", "")
        ours = path in _FRAMEWORK or path in _OWN or path.startswith(_FRAMEWORK_FOLDERS)
        return (Match.FULL if scope["type"] == "http" and ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = _OWN.get(scope["path"])
        if own is not None:
            file = Path(__file__).with_name(Path(scope["path"]).name)
            await FileResponse(file, media_type=own, headers={"Cache-Control": "no-cache"})(scope, receive, send)
        else:
            await self._late(scope, receive, send)


class _Late:
    """The framework's own application, made in a thread when it is first wanted; its life ends with that of the server."""

    def __init__(self, app: FastAPI, settings: Any) -> None:
        self._app, self._settings = app, settings
        self._life: asyncio.Task[None] | None = None
        self._made: asyncio.Future[ASGIApp]
        self._end: asyncio.Event

    async def warm(self) -> None:
        """Start to make it, after the server has had a moment for itself."""
        await asyncio.sleep(_HEAD_START)
        if find_spec("gradio") is not None:
            self._begin()

    async def close(self) -> None:
        """End its life, if it has begun."""
        if self._life is not None:
            self._end.set()
            await asyncio.wait([self._life])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if find_spec("gradio") is None:
            missing = MissingExtraError("The page needs gradio, which is not installed. Run: pip install 'flowpaint[serve]'.")
            await PlainTextResponse(str(missing), status_code=503)(scope, receive, send)
            return
        self._begin()
        if scope["path"] == "/" and not self._made.done():
            coming = HTMLResponse(_COMING, headers={"Content-Security-Policy": CSP, "Cache-Control": "no-store"})
            await coming(scope, receive, send)
            return
        if scope["path"] == _ASKED and scope["method"] == "POST":
            scope, receive = await _without_files(scope, receive)
        inner = await asyncio.shield(self._made)
        if scope["path"] == "/" and scope["method"] == "GET":
            answer = await _whole(inner, scope, receive)
            await _with_nonce(answer)(scope, receive, send)
        else:
            await inner(scope, receive, send)

    def _begin(self) -> None:
        if self._life is None:
            self._made, self._end = asyncio.get_running_loop().create_future(), asyncio.Event()
            self._made.add_done_callback(lambda made: made.cancelled() or made.exception())  # seen, if nobody waits for it
            self._life = asyncio.create_task(self._live())

    async def _live(self) -> None:
        try:
            inner = await asyncio.to_thread(self._build)
            async with inner.router.lifespan_context(inner):
                self._made.set_result(inner)
                await self._end.wait()
        except Exception as error:
            if self._made.done():
                raise
            self._made.set_exception(error)

    def _build(self) -> FastAPI:
        if getattr(self._settings, "offline", True):
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from .page_layout import application

        async def laid_out() -> FastAPI:
            return application(self._app)

        return asyncio.run(laid_out())  # where no loop runs, the framework makes several, and closes none


async def _without_files(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """The same request, if it holds plain values alone. Raises `Refusal` for others.

    What looks like a file to the framework, it copies into a folder that all may read, from any path of this machine, or fetches
    from any address. Nothing on the page sends one.
    """
    try:
        asked = json.loads(await Request(scope, receive).body())
        is_plain = isinstance(asked, dict) and _is_plain(asked.get("data", []))
    except (ValueError, RecursionError):
        is_plain = False
    if not is_plain:
        raise Refusal(422, "The page was asked with something that is no plain value. Reload it.")
    body = json.dumps(asked).encode()  # as it was understood here, for another reader may understand it otherwise
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    headers = [one for one in scope["headers"] if one[0] != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}, again


def _is_plain(value: Any) -> bool:
    return not isinstance(value, dict) and all(_is_plain(one) for one in (value if isinstance(value, list) else ()))


async def _whole(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """The answer of `app` in one piece, not compressed."""
    plain = {**scope, "headers": [one for one in scope["headers"] if one[0] != b"accept-encoding"]}
    answer, body = Response(), bytearray()

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status_code = message["status"]
            answer.raw_headers = [one for one in message["headers"] if one[0].lower() != b"content-length"]
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    await app(plain, receive, keep)
    answer.body = bytes(body)
    return answer


def _with_nonce(page: Response) -> Response:
    """The same page, its scripts marked with a nonce that nobody can guess, and the policy that lets only these run."""
    nonce = secrets.token_urlsafe(18)
    body = bytes(page.body).replace(b"<script", f'<script nonce="{nonce}"'.encode())
    marked = HTMLResponse(body, status_code=page.status_code)
    marked.headers["Content-Security-Policy"] = CSP.replace("script-src 'self'", f"script-src 'self' 'nonce-{nonce}'")
    marked.headers["Cache-Control"] = "no-store"
    return marked
