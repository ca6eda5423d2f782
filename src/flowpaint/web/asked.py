"""From a request to a job: its body read, the ids in it turned into files, its words checked in a child."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from ..errors import InputError
from ..jobs.records import Asset, Record, Unknown
from . import assets, problems, uploads
from .models import Asked
from .problems import Refusal
from .service import Service, in_thread, media_type, tidy

ONE = ("input", "style", "by", "mask", "new_object", "reference", "sketch", "depth")  # fields that name one asset
_PARTS = {"video": "input"} | {field: field for field in ONE if field != "input"}
_KEYFRAME = "keyframe:"
_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A job that may be submitted: `flowpaint.api.Job` in plain values, and its files' names by path."""

    job: dict[str, Any]
    command: str
    name: str
    names: Mapping[str, str]


async def read(request: Request, service: Service, owner: str, before: Record | None = None) -> tuple[Asked, dict[str, Any]]:
    """What is asked for, and that as it was posted; files that came with it are assets then.

    Where it is asked for again, `before` is the job that is there, and no file becomes another asset. Raises `Refusal` for a
    body that does not fit, or is another one than `before`, and `VideoError` for files that are none.
    """
    kind = media_type(request)
    if kind == "application/json":
        asked, posted = _checked(await request.body())
        if before is not None and posted != before.request:
            raise _other()
        return asked, posted
    if kind != "multipart/form-data":
        raise Refusal(415, f"A body of type {kind!r} is not taken. Send application/json or multipart/form-data.")
    with uploads.place(service.store.folder / "incoming") as folder:
        form = await uploads.receive(request, folder, service.settings.limits)
        return await _of_form(form, service, owner, before)


async def _of_form(form: uploads.Form, service: Service, owner: str, before: Record | None) -> tuple[Asked, dict[str, Any]]:
    if form.texts.keys() - {"job"}:
        raise Refusal(422, f"The form has a text {min(form.texts.keys() - {'job'})[:100]!r}. Send `job` and files.")
    try:
        body = json.loads(form.texts.get("job", "{}"))
    except (ValueError, RecursionError) as error:
        raise Refusal(422, f"The part `job` is no JSON ({error}). Send an object.") from error
    if not isinstance(body, dict) or ("input" in body) == ("video" in form.files):
        raise Refusal(
            422, "The form has no job, or its video not once. Send an object as `job`, and `video`, or `input` in the job."
        )
    for part in form.files:
        if part not in _PARTS and not part.startswith(_KEYFRAME):
            raise Refusal(422, f"The form has a file {part[:100]!r}. Files are {', '.join(_PARTS)} and {_KEYFRAME}TIME.")
    _checked(_filled(body, dict.fromkeys(form.files, "later")))  # before files are read
    if before is not None:
        return await in_thread(_again, body, form, service, before)
    taken = {part: (await assets.take(service, owner, file)).id for part, file in form.files.items()}
    return _checked(_filled(body, taken))


def _filled(body: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """The job of a form, with assets in place of its files."""
    one = {_PARTS[part]: key for part, key in files.items() if part in _PARTS}
    keyframes = {part.removeprefix(_KEYFRAME): key for part, key in files.items() if part not in _PARTS}
    given = body.get("keyframes", {})
    more = {"keyframes": {**given, **keyframes}} if keyframes and isinstance(given, dict) else {}
    return json.dumps({**body, **one, **more})


def _again(body: Mapping[str, Any], form: uploads.Form, service: Service, before: Record) -> tuple[Asked, dict[str, Any]]:
    """What was asked for before, where a form asks for it again: the same but for ids, its files as long as the assets."""
    posted = before.request
    named = {part: posted[field] for part, field in _PARTS.items() if field in posted}
    named |= {f"{_KEYFRAME}{time}": key for time, key in posted.get("keyframes", {}).items()}
    if not form.files.keys() <= named.keys():
        raise _other()
    keys: dict[str, str] = {part: named[part] for part in form.files}
    asked, again = _checked(_filled(body, keys))
    if again != posted:
        raise _other()
    for part, file in form.files.items():
        with suppress(Unknown):  # deleted since
            if service.store.asset(before.owner, keys[part]).bytes != file.bytes:
                raise _other()
    return asked, again


def _other() -> Refusal:
    return Refusal(422, "Another job was asked for with this Idempotency-Key. Take a new key for each job.")


def _checked(body: bytes | str) -> tuple[Asked, dict[str, Any]]:
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as error:
        raise problems.invalid(error) from None
    return asked, asked.model_dump(mode="json", exclude_unset=True)


async def planned(asked: Asked, service: Service, owner: str) -> Planned:
    """The job that is asked for. Raises `Unknown` for assets that are not there, and what `flowpaint.api.plan_job` raises."""
    name = _output_name(asked.name)
    known = await in_thread(_assets, asked, service, owner)
    names = {str(one.path): one.name for one in known.values()}
    settings = service.settings
    found = await service.work(
        "job",
        names,
        asked=_options(asked, {key: str(one.path) for key, one in known.items()}),
        policy={"offline": settings.offline, "commercial_only": settings.commercial_only},
        known=names,
        folder=str(settings.data.absolute()),
        output=name,
    )
    return Planned(job=found["job"], command=found["commands"][0], name=name, names=names)


def _output_name(name: str) -> str:
    """The name of the result: only its suffix counts. Raises `InputError` for one that is no video's."""
    shown = tidy(name, "result.mp4")
    if PurePath(shown).suffix.lower() not in _SUFFIXES:
        raise InputError(f"{shown!r} is no name of a video that can be written. Use one of {', '.join(_SUFFIXES)}.")
    return shown


def _is_asset(mark: str) -> bool:
    return mark != "auto" and ":" not in mark


def _assets(asked: Asked, service: Service, owner: str) -> dict[str, Asset]:
    """The assets that are named, by id. Their paths are absolute."""
    one = [key for key in (getattr(asked, field) for field in ONE) if key is not None]
    keys = {*one, *(mark for mark in asked.objects if _is_asset(mark)), *asked.keyframes.values()}
    found = {key: service.store.asset(owner, key) for key in sorted(keys)}
    return {key: replace(one, path=one.path.absolute()) for key, one in found.items()}


def _options(asked: Asked, paths: Mapping[str, str]) -> dict[str, Any]:
    """What `flowpaint.api.plan_job` takes, with paths in place of ids."""
    options = asked.model_dump(exclude={"name", "priority", "approve"})
    for field in ONE:
        options[field] = paths[options[field]] if options[field] is not None else None
    options["objects"] = [paths[mark] if _is_asset(mark) else mark for mark in asked.objects]
    options["keyframes"] = {time: paths[key] for time, key in asked.keyframes.items()}
    options["settings"] = {path: str(one).lower() if isinstance(one, bool) else str(one) for path, one in asked.settings.items()}
    options["encoding"] = asked.encoding.model_dump(exclude_none=True)
    options["fps"] = str(asked.fps)
    return options
