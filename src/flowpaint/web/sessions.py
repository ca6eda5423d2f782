"""Who sends a request: a bearer token, or the cookie that a login with one gives. Nothing is kept on the server."""

import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie

from .settings import Settings

COOKIE = "flowpaint_session"
LASTS = 30 * 24 * 3600  # seconds


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
    found = None
    for token in settings.tokens:
        if hmac.compare_digest(_sign(token, begun).encode(), signature.encode("utf-8", "replace")):
            found = token
    age = (time.time() if now is None else now) - (int(begun) if begun.isdecimal() and begun.isascii() else 0)
    return found if -60 <= age <= LASTS else None


def _sign(token: str, begun: str) -> str:
    key = token.encode()
    return hmac.new(key, f"flowpaint session {begun}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def session_in(header: str) -> str | None:
    """The value of our cookie in a Cookie header, None without one."""
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(header)
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None
