"""What went wrong, as application/problem+json (RFC 9457): the message and the code are those of the command line."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..errors import ConfigError, FlowpaintError, InputError, LicenceError, ResourceError, WeightsError, is_full

MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "The request is malformed",
    401: "Not logged in",
    403: "Refused",
    404: "Not found",
    405: "Method not allowed",
    409: "In conflict with what is there",
    413: "Too large",
    415: "Of a kind that is not taken",
    416: "No such range",
    422: "The request does not fit",
    429: "Too many requests",
    500: "Failed",
    503: "Not ready",
    507: "No room",
}
_FULL = "The disk is full"  # how such messages of ours begin
_log = logging.getLogger("flowpaint.web")


class Problem(BaseModel):
    """A problem: `detail` is what the command line would say, `code` the exit code that it would leave."""

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    code: int = Field(ge=1, le=130)


class Refusal(Exception):
    """An answer with an error that belongs to HTTP: its status, message, and exit code."""

    def __init__(self, status: int, detail: str, *, code: int = 2, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.code, self.headers = status, detail, code, dict(headers or {})


def status_of(error: FlowpaintError) -> int:
    """The status for an error of ours."""
    by_type = ((WeightsError, 409), (LicenceError, 403), ((InputError, ConfigError), 422), (ResourceError, 500))
    return next((status for types, status in by_type if isinstance(error, types)), 500)


def answer(status: int, detail: str, *, code: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem as a response."""
    problem = Problem(title=_TITLES.get(status, "Failed"), status=status, detail=detail, code=code)
    return JSONResponse(problem.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer with these problems, and with those that every route can."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 401, 403, 429, 500})
    }


def add_handlers(app: FastAPI, unknown: type[Exception]) -> None:
    """Answer all that routes raise with problems; `unknown` is what the store raises for ids that it does not know."""

    def not_known(request: Request, error: Exception) -> JSONResponse:
        del request
        return answer(404, str(error), code=2)

    app.add_exception_handler(unknown, not_known)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(FlowpaintError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _refused(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, Refusal)
    return answer(error.status, error.detail, code=error.code, headers=error.headers)


def _ours(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, FlowpaintError)
    full = is_full(error) or str(error).startswith(_FULL)  # a database says so in a way of its own
    return answer(507 if full else status_of(error), str(error), code=error.exit_code)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    return answer(422, said(error.errors()), code=2)


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = {
        404: f"There is nothing at {request.url.path}. /openapi.json lists what there is.",
        405: f"{request.url.path} cannot be asked with {request.method}. /openapi.json lists what there is.",
    }.get(error.status_code, f"{error.detail}. Send what /openapi.json asks for.")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:  # the router names the methods of the first route alone
        headers["allow"] = ", ".join(_methods(request))
    return answer(error.status_code, detail, code=2, headers=headers)


def _methods(request: Request) -> list[str]:
    """The methods with which the path of a request can be asked."""
    routes = [one for one in request.app.state.routes if one.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for one in routes for method in one.methods or ()})


def unexpected(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error that nobody foresaw; what it was goes to the log, for it may hold names of files."""
    if is_full(error):
        return answer(507, "The disk is full. Make room and send the same request again.", code=1)
    if isinstance(error, MemoryError):
        return answer(500, "There is not enough memory. Send a smaller video.", code=5)
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(500, f"This should not have happened: {type(error).__name__}. The server's log says more.", code=1)


def said(errors: Sequence[Any]) -> str:
    """One message for what pydantic found: the first field that does not fit, and how many more."""
    first = errors[0]
    where = ".".join(str(one) for one in first["loc"] if one not in ("body", "query", "path", "header"))
    more = f" {len(errors) - 1} more do not fit." if len(errors) > 1 else ""
    return f"{where or 'The request'} does not fit: {first['msg']}.{more} /openapi.json says what it can be."


def invalid(error: ValidationError) -> Refusal:
    """What to raise where pydantic refuses a body that was read by hand."""
    return Refusal(422, said(error.errors(include_url=False, include_input=False, include_context=False)))
