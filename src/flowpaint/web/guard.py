"""What every request has to pass, for the page as for programs: host, origin, token, rate and size; and what every answer says.

Without tokens the server listens on loopback alone; there the danger is a page of another site in the same browser, by a name
that it has pointed here (so the Host has to be a loopback name) or by posting across sites (so the Origin has to be ours).
"""

import asyncio
import time
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import problems, sessions
from .metrics import Meter
from .problems import Refusal
from .settings import Settings, is_loopback

OPEN = {"/healthz", "/readyz", "/login"}  # whoever asks
_PATIENCE = 60.0  # seconds for a body, or for the next piece of an upload
_SAFE = {"GET", "HEAD", "OPTIONS"}
_PROGRAMS = ("/v1/", "/openapi.json", "/healthz", "/readyz", "/metrics")
_STRICT = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# For the files of the page. HTML with styles or scripts in it has a policy of its own.
_PAGE = (
    "default-src 'self'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none, browsers send the Origin of our own login form as null
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Rates:
    """How often each client did something in this minute."""

    def __init__(self) -> None:
        self._minute, self._counts = 0, dict[tuple[str, str], int]()

    def check(self, client: str, what: str, most: int) -> None:
        """Count one more. Raises `Refusal` (429) where that is more than `most`."""
        minute, seconds = divmod(int(time.time()), 60)
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        count = self._counts[client, what] = self._counts.get((client, what), 0) + 1
        if count > most:
            wait = str(60 - seconds)
            raise Refusal(
                429, f"More than {most} {what} came in a minute. Wait {wait} s and go on.", headers={"retry-after": wait}
            )


class Guard:
    """The application `app` behind all checks. `scope["state"]["owner"]` says whose request it is."""

    def __init__(self, app: ASGIApp, settings: Settings, meter: Meter) -> None:
        self._app, self._settings, self._meter = app, settings, meter
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _dress(message, scope["path"])
            await send(message)

        try:
            await self._pass(scope, receive, tell)
        finally:
            self._meter.request(scope, status, time.perf_counter() - begun)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, started = Headers(scope=scope), False

        async def track(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            scope.setdefault("state", {})["owner"] = self._admitted(scope, headers)
            await self._app(scope, self._limited(scope, headers, receive), track)
        except Refusal as refusal:
            if started:
                raise
            await self._refuse(scope, headers, refusal)(scope, receive, send)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            await problems.unexpected(Request(scope), error)(scope, receive, send)

    def _refuse(self, scope: Scope, headers: Headers, refusal: Refusal) -> Response:
        """The answer to a request that is not let in: a browser that is not logged in is led to where it can."""
        wants_page = scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", "")
        if refusal.status == 401 and wants_page and not scope["path"].startswith(_PROGRAMS):
            return RedirectResponse(f"/login?next={quote(scope['path'])}", status_code=303)
        return problems.answer(refusal.status, refusal.detail, code=refusal.code, headers=refusal.headers)

    # ------------------------------------------------------------------------------------------------------- who, from where

    def _admitted(self, scope: Scope, headers: Headers) -> str:
        """Whose request it is. Raises `Refusal` for what may not pass."""
        client = (scope.get("client") or ("unknown", 0))[0]
        if not self._settings.tokens and not is_loopback(_hostname(headers.get("host", ""))):
            raise Refusal(403, f"The host {headers.get('host', '')!r} is not this machine's own. Use http://127.0.0.1.")
        given = sessions.bearer(headers.get("authorization", ""))
        _check_origin(scope, headers, has_token=given is not None and bool(self._settings.tokens))
        if not self._settings.tokens:
            self._count(scope, client)
            return ""
        session = sessions.session_in(headers.get("cookie", ""), self._settings)
        token = sessions.known_token(given, self._settings) if given is not None else None
        if token is None and given is None and session is not None:
            token = sessions.token_of(session, self._settings)
            if token is not None and not _is_safe(scope) and not _is_ours(headers):
                raise Refusal(403, "A browser's request did not say that it comes from this page. Send the token instead.")
        self._count(scope, client if token is None else self._settings.owner(token))
        if token is None and scope["path"] not in OPEN:
            raise Refusal(
                401, "There is no token, or it is not known here. Send `Authorization: Bearer TOKEN`, or log in at /login.",
                headers={"www-authenticate": "Bearer"},
            )  # fmt: skip
        return self._settings.owner(token or "")

    def _count(self, scope: Scope, client: str) -> None:
        limits = self._settings.limits
        if scope["path"] in ("/healthz", "/readyz"):
            return
        self._rates.check(client, "requests", limits.requests_a_minute)
        if scope["type"] == "http" and scope["method"] == "POST":
            if scope["path"] == "/login":
                self._rates.check(client, "logins", limits.logins_a_minute)
            if _is_multipart(Headers(scope=scope)):
                self._rates.check(client, "uploads", limits.uploads_a_minute)

    # ------------------------------------------------------------------------------------------------------------- how much

    def _limited(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """`receive`, which raises `Refusal` as soon as a body is larger than it may be (413), or nothing comes of it (408)."""
        limits, is_upload = self._settings.limits, _is_multipart(headers)
        most = limits.upload_bytes + limits.body_bytes if is_upload else limits.body_bytes
        said = headers.get("content-length", "")
        too_large = Refusal(
            413, f"The request is larger than {most:,} bytes. Send a smaller file.", headers={"connection": "close"}
        )
        if said.isdecimal() and int(said) > most:
            raise too_large
        seen, has_more, begun = 0, True, time.monotonic()

        async def limited() -> Message:
            nonlocal seen, has_more
            if not has_more:
                return await receive()  # until the asker has gone
            now = time.monotonic()
            try:  # an upload may last, all else has to be there soon
                message = await asyncio.wait_for(receive(), _PATIENCE if is_upload else max(0.0, begun + _PATIENCE - now))
            except TimeoutError:
                raise Refusal(
                    408, f"Nothing came for {_PATIENCE:.0f} s. Send the request again.", headers={"connection": "close"}
                ) from None
            has_more = message.get("more_body", False)
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > most:
                    raise too_large
            return message

        return limited if scope["type"] == "http" else receive


def _check_origin(scope: Scope, headers: Headers, *, has_token: bool) -> None:
    """Nothing, where a request may come from where it does. Raises `Refusal` for a page of another site that changes things."""
    if has_token or _is_safe(scope):  # what is safe changes nothing, and another site cannot read the answer
        return
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if (origin is not None and not _is_of(origin, headers.get("host", ""))) or site in ("cross-site", "same-site"):
        raise Refusal(403, f"The request comes from another site ({origin or site}). Send it from this server's own page.")


def _is_of(origin: str, host: str) -> bool:
    """Whether an Origin is that of a host; "null", which pages in a sandbox send, is of none."""
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no address at all
        return False


def _is_ours(headers: Headers) -> bool:
    """Whether a browser says that a request comes from our page; that it is from no other was checked before."""
    return "origin" in headers or headers.get("sec-fetch-site") == "same-origin"


def _is_safe(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in _SAFE


def _is_multipart(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/")


def _hostname(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _dress(message: Message, path: str) -> None:
    """Add the headers that keep a browser from doing more with an answer than show it."""
    headers = MutableHeaders(scope=message)
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    headers.setdefault("content-security-policy", _STRICT if path.startswith(_PROGRAMS) else _PAGE)
    if path.startswith("/v1/"):
        headers.setdefault("cache-control", "no-store")
