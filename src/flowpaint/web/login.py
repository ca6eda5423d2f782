"""Logging in with a token, for browsers: a form without scripts, and a cookie that no script can read."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError

from . import problems, sessions
from .document import LOGIN
from .models import Token
from .problems import Refusal, documented
from .service import Here, media_type

router = APIRouter(tags=["server"])
_STYLE = """
:root{color-scheme:light dark} body{font:1rem/1.5 system-ui,sans-serif;max-width:22rem;margin:15vh auto;padding:0 1rem}
input,button{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;margin:.3rem 0}
"""
_POLICY = (  # that style, and nothing else
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>flowpaint</title><style>{style}</style><h1>flowpaint</h1><form method="post" action="/login?next={next}">
<label for="token">Token</label><input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button></form></html>"""
Next = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/login", response_class=HTMLResponse, responses=documented(422))
def form(next_: Next = "/") -> HTMLResponse:
    """The form."""
    page = _PAGE.format(style=_STYLE, next=escape(_ours(next_), quote=True))
    return HTMLResponse(page, headers={"content-security-policy": _POLICY})


@router.post("/login", status_code=204, responses=documented(413, 415, 422), openapi_extra=LOGIN)
async def login(request: Request, service: Here, next_: Next = "/") -> Response:
    """Give a browser a session for a token: a cookie, HttpOnly and SameSite=Strict."""
    body = await request.body()
    kind = media_type(request)
    is_form = kind == "application/x-www-form-urlencoded"
    if is_form:
        given = _field(body)
    elif kind == "application/json":
        try:
            given = Token.model_validate_json(body).token
        except ValidationError as error:
            raise problems.invalid(error) from None
    else:
        raise Refusal(415, f"A body of type {kind!r} is not taken. Send application/json, or the form.")
    token = sessions.known_token(given, service.settings)
    if token is None:
        raise Refusal(401, "The token is not known here. Look at what the server was started with.")
    answer: Response = RedirectResponse(_ours(next_), status_code=303) if is_form else Response(status_code=204)
    answer.set_cookie(
        sessions.cookie_name(service.settings),
        sessions.session_for(token),
        max_age=sessions.LASTS,
        httponly=True,
        samesite="strict",
        secure="https" in (request.url.scheme, request.headers.get("origin", "").partition(":")[0]),  # TLS may end before us
    )
    return answer


@router.post("/logout", status_code=204, responses=documented())
def logout(service: Here) -> Response:
    """Take the session from a browser."""
    answer = Response(status_code=204)
    answer.delete_cookie(sessions.cookie_name(service.settings), httponly=True, samesite="strict")
    return answer


def _field(body: bytes) -> str:
    """The token in a form."""
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=10).get("token", [""])[0]
    except ValueError as error:
        raise Refusal(422, f"The form cannot be read ({error}). Send `token` alone.") from error


def _ours(path: str) -> str:
    """A path on this server to go on to: never another site's."""
    is_path = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_path else "/"
