"""Who sends a request: a bearer token, or the cookie that a login with one gives. Nothing is kept on the server."""

import hashlib
import hmac
import time

from starlette.requests import cookie_parser

from .settings import Settings

LASTS = 30 * 24 * 3600  # seconds


def cookie_name(settings: Settings) -> str:
    """What our cookie is called: a browser sends it to every port of a host, and another server of ours may be there."""
    return f"flowpaint_session_{settings.port}"


def known_token(given: str, settings: Settings) -> str | None:
    """The token that `given` is, None where it is none of them; every one is compared, so that the time taken says nothing."""
    found = None
    for token in settings.tokens:
        if hmac.compare_digest(token.encode(), given.encode("utf-8", "replace")):
            found = token
    return found


def bearer(header: str) -> str | None:
    """The token in an Authorization header, None without one."""
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def session_for(token: str, now: float | None = None) -> str:
    """The value of a cookie that stands for a token; the token cannot be found from it."""
    begun = str(int(time.time() if now is None else now))
    return f"{begun}.{_sign(token, begun)}"


def token_of(session: str, settings: Settings, now: float | None = None) -> str | None:
    """The token that a cookie's value stands for, None where it stands for none, or did for too long."""
    begun, _, signature = session.partition(".")
    if not (begun.isascii() and begun.isdecimal() and len(begun) < 16):  # Python reads no numbers of thousands of digits
        return None
    found = None
    for token in settings.tokens:
        if hmac.compare_digest(_sign(token, begun).encode(), signature.encode("utf-8", "replace")):
            found = token
    age = (time.time() if now is None else now) - int(begun)
    return found if -60 <= age <= LASTS else None


def _sign(token: str, begun: str) -> str:
    key = token.encode()
    return hmac.new(key, f"flowpaint session {begun}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def session_in(header: str, settings: Settings) -> str | None:
    """The value of our cookie in a Cookie header, None without one; what else is in it may be malformed."""
    return cookie_parser(header).get(cookie_name(settings))
