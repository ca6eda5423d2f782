"""The OpenAPI document: what FastAPI finds in the routes, and bodies and answers that routes read and make by hand."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from .models import Approval, Asked, Token
from .problems import Problem
from .settings import Settings

_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_REF = "#/components/schemas/{model}"


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _REF.format(model=name)}


def _form(**parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": parts, "additionalProperties": False}


UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": {**_form(file=_FILE), "required": ["file"]}}},
    }
}
_PARTS = dict.fromkeys(("video", "style", "by", "mask", "new_object", "reference", "sketch", "depth"), _FILE)
ASKED = {
    "requestBody": {
        "required": True,
        "description": "As a form, files take the place of ids; key frames are parts called `keyframe:TIME`.",
        "content": {
            "application/json": {"schema": _ref("Asked")},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"job": {"type": "string", "contentMediaType": "application/json"}, **_PARTS},
                    "patternProperties": {"^keyframe:[0-9:.s]{1,32}$": _FILE},
                    "additionalProperties": False,
                    "required": ["job", "video"],
                }
            },
        },
    }
}
APPROVAL = {"requestBody": {"required": False, "content": {"application/json": {"schema": _ref("Approval")}}}}
LOGIN = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _ref("Token")},
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}
            },
        },
    },
    "responses": {"303": {"description": "Logged in by the form: on to the page"}},
}
_EVENT = {"type": "object", "properties": {"event": {"type": "string"}, "id": {"type": "string"}, "data": {"type": "string"}}}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The events", "content": {"text/event-stream": {"schema": _EVENT}}}
}
TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The figures", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
BINARY: dict[str, dict[int | str, dict[str, Any]]] = {
    "jpeg": {
        200: {"description": "The picture", "content": {"image/jpeg": {"schema": _FILE}}},
        206: {"description": "A part of it", "content": {"image/jpeg": {"schema": _FILE}}},
        304: {"description": "The asker has it"},
    }
}


def binary(*more: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that sends files of any kind."""
    said = {200: "The file", 206: "Ranges of it", 304: "The asker has it"}
    content = {"*/*": {"schema": _FILE}}
    found: dict[int | str, dict[str, Any]] = {}
    for status in (200, *more):
        found[status] = {"description": said[status], **({} if status == 304 else {"content": content})}
    return found


def describe(app: FastAPI, settings: Settings) -> None:
    """Let `app.openapi` give the whole document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _made(app: FastAPI, settings: Settings) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    extra = [(one, "validation") for one in (Asked, Approval, Token, Problem)]
    _, schemas = models_json_schema(extra, ref_template=_REF)  # type: ignore[arg-type]
    known = found.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in schemas["$defs"].items():
        known.setdefault(name, schema)
    if settings.tokens:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in ("/healthz", "/readyz", "/login"):
            for operation in found["paths"].get(path, {}).values():
                operation["security"] = []
    return found
