"""`Events`: what the page does when something is chosen or pressed. It asks the REST routes and makes pieces of what they say."""

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ..errors import InputError
from . import page_html as html
from . import page_result as results
from .page_client import Rest

_OUR_MODELS = "flowpaint"  # the source of those that come with it
_IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_SEEDS = 1 << 31
_SHOWN = 30  # jobs in the list
_REMEMBERED = 64  # reports, shortened
RESTORED = (  # of the form, all but the look, which a job has among its words, and the edited pictures, which have a list
    "prompt", "kind", "by", "strength", "keep_colors", "quality", "start", "end", "side_by_side", "method", "model", "negative",
    "seed", "style", "mask", "other_shots", "extent", "allow_damaged", "tonemap", "settings",
)  # fmt: skip
_WEIGHTS = "model.weights"
_NEED_NO_LOOK = frozenset({"propagate", "deflicker", "colorize"})
_NEED_NO_PICTURES = frozenset({"deflicker", "colorize"})

Values = Mapping[Any, Any]
Handler = Callable[[Mapping[str, Any], gr.Request], Awaitable[tuple[Any, ...]]]


class Events:
    """The handlers of the page over the REST routes of `app`. None of them raises: what is refused is said on the page."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._reports: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()

    def with_names(self, names: Mapping[int, str], handler: Handler) -> Any:
        """`handler` for a form: it gets the values by the names of a job's fields instead of by component."""

        async def named(values: Values, request: gr.Request) -> tuple[Any, ...]:
            return await handler({names[one._id]: value for one, value in values.items()}, request)

        return named

    def _rest(self, request: gr.Request) -> Rest:
        return Rest(self._app, request)

    # ---------------------------------------------------------------------------------------------------------- step 1, 2

    async def choices(self, request: gr.Request) -> tuple[Any, ...]:
        """The looks, the methods and the image models to choose from: those that work here."""
        rest = self._rest(request)
        try:
            looks = (await rest.get("/v1/looks"))["looks"]
            methods = (await rest.get("/v1/methods"))["methods"]
            models = (await rest.get("/v1/models"))["models"]
        except InputError:
            return gr.skip(), gr.skip(), gr.skip()
        named = [(f"{one['name']} – {one['shows']}", one["name"]) for one in looks]
        ways = [(_way(one), one["name"]) for one in methods if one["name"] not in _NEED_NO_LOOK]
        return (
            gr.update(choices=[("As my words say", ""), *named]),
            gr.update(choices=[("Chosen for you", ""), *ways]),
            gr.update(choices=[("As the method has it", ""), *_nets(models)]),
        )

    async def arrive(self, request: gr.Request) -> tuple[Any, ...]:
        """The clip and the job that the address names, as it stands after a reload, and what was asked for.

        After these come the edited pictures, whether a second video is wanted, and the fields of `RESTORED`.
        """
        said, rest = request.query_params, self._rest(request)
        clip, job, asked, models = _identity(said.get("clip")), _identity(said.get("job")), {}, []
        if job:
            try:
                asked = dict((await rest.get(f"/v1/jobs/{job}"))["request"])
                clip = _identity(asked.get("input")) or clip
                if _WEIGHTS in (asked.get("settings") or {}):
                    models = [name for _, name in _nets((await rest.get("/v1/models"))["models"])]
            except InputError:
                job = "" if not asked else job
        form = restored(asked, models)
        lent = gr.update(visible=form.get("kind") == "colorize")
        return clip, job, json.dumps(asked.get("keyframes") or {}), lent, *(form.get(name, gr.skip()) for name in RESTORED)

    async def clip(self, identity: str | None, request: gr.Request) -> tuple[Any, ...]:
        """One clip to look at, and all that can be chosen."""
        rest, chosen, said, viewer = self._rest(request), _identity(identity), "", ""
        rows: list[tuple[str, str]] = []
        try:
            assets = (await rest.get("/v1/assets"))["assets"]
            rows = [(f"{one['name']} ({html.clock(one.get('seconds'))})", one["id"]) for one in assets if one["kind"] == "video"]
            if chosen:
                viewer = html.viewer(await rest.get(f"/v1/assets/{chosen}"))
        except InputError as error:
            chosen, said = "", str(error)
        known = chosen if any(value == chosen for _, value in rows) else None
        return chosen, gr.update(choices=rows, value=known), html.problem(said), viewer

    async def shots(self, identity: str | None, request: gr.Request) -> str:
        """The shots of the clip; finding them can take a while."""
        chosen = _identity(identity)
        if not chosen:
            return ""
        try:
            found = await self._rest(request).get(f"/v1/assets/{chosen}/shots")
        except InputError as error:
            return html.problem(str(error))
        return html.shots(found["shots"] if isinstance(found, dict) else found)

    async def keyframe(self, said: str, given: str, wanted: str) -> tuple[str, str]:
        """The edited pictures, with one more or one less: `said` is frame=asset, or frame= to take it away."""
        frame, _, asset = (said or "").partition("=")
        chosen = _pictures(given)
        if frame.isdecimal():
            chosen.pop(frame, None)
            if _identity(asset):
                chosen[frame] = _identity(asset)
        return json.dumps(chosen), html.keyframes(chosen, _numbers(wanted))

    async def suggestions(self, given: str, wanted: str) -> str:
        """The edited pictures given, and the frames at which more would help."""
        return html.keyframes(_pictures(given), _numbers(wanted))

    # ---------------------------------------------------------------------------------------------------------- step 3, 4

    async def plan(self, form: Mapping[str, Any], request: gr.Request) -> tuple[Any, ...]:
        """What the whole job would take, its command, and the frames whose pictures the user might edit."""
        try:
            found = await self._rest(request).post("/v1/plans", body(form))
        except InputError as error:
            return html.problem(str(error)), "", gr.skip(), "[]"
        return "", html.plan(found), command(found.get("command")), json.dumps(list(results.wanted(found, None)))

    async def run(self, form: Mapping[str, Any], request: gr.Request) -> tuple[Any, ...]:
        """A job for the whole clip."""
        return await self._submit(body(form), request)

    async def preview(self, form: Mapping[str, Any], request: gr.Request) -> tuple[Any, ...]:
        """A job for two seconds, small and quick."""
        return await self._submit({**body(form), "preview": "2s"}, request)

    async def first(self, form: Mapping[str, Any], request: gr.Request) -> tuple[Any, ...]:
        """A job that waits with its edited first frame."""
        said, job = await self._submit({**body(form), "approve": True}, request)
        return said or html.block("p", "It is being made; step 4 shows how far it is.", class_="fp-coming"), job

    async def _submit(self, asked: Mapping[str, Any], request: gr.Request) -> tuple[str, Any]:
        try:
            if not asked.get("input"):
                raise InputError("There is no clip yet. Upload a video or pick one in step 1.")
            if asked.get("kind") == "colorize" and not asked.get("by"):
                raise InputError("There is no video to take the colours from. Upload one under More choices.")
            made = await self._rest(request).post("/v1/jobs", asked)
        except InputError as error:
            return html.problem(str(error)), gr.skip()
        return "", str(made["id"])

    async def accept(self, job: str, request: gr.Request) -> str:
        """The first frame is good: the job goes on."""
        return await self._said(request, "POST", f"{_job(job)}/approve", {})

    async def another(self, job: str, request: gr.Request) -> str:
        """Another first frame, from another seed."""
        return await self._said(request, "POST", f"{_job(job)}/approve", {"seed": secrets.randbelow(_SEEDS)})

    async def own(self, job: str, picture: str, request: gr.Request) -> str:
        """The user's own first frame."""
        return await self._said(request, "POST", f"{_job(job)}/approve", {"keyframe": _identity(picture)})

    async def cancel(self, job: str, request: gr.Request) -> str:
        """The job stops at once."""
        return await self._said(request, "DELETE", _job(job))

    async def remove(self, job: str, shown: str, request: gr.Request) -> tuple[str, Any]:
        """A finished job and its files go; where it was the one shown, none is shown now."""
        said = await self._said(request, "DELETE", _job(job))
        return said, "" if _identity(job) == _identity(shown) and not said else gr.skip()

    async def _said(self, request: gr.Request, verb: str, path: str, asked: Mapping[str, Any] | None = None) -> str:
        rest = self._rest(request)
        try:
            await (rest.delete(path) if verb == "DELETE" else rest.post(path, asked or {}))
        except InputError as error:
            return html.problem(str(error))
        return ""

    # -------------------------------------------------------------------------------------------------------------- a job

    async def job(self, identity: str, given: str, request: gr.Request) -> tuple[Any, ...]:
        """Everything that is shown of one job, and the list of all."""
        rest, chosen = self._rest(request), _identity(identity)
        found: dict[str, Any] | None = None
        said, rows = "", []
        try:
            rows = (await rest.get("/v1/jobs", limit=_SHOWN))["jobs"]
            found = await rest.get(f"/v1/jobs/{chosen}") if chosen else None
        except InputError as error:
            said = html.problem(str(error))
        listed = html.jobs(rows, chosen)
        if found is None:
            nothing = gr.update(visible=False)
            return said, "", results.NOTHING, "", nothing, nothing, "", listed, "[]", html.keyframes(_pictures(given))
        report, source = await self._report(rest, found), await self._source(rest, found)
        waits, lives = found["state"] == "waiting", found["state"] in ("queued", "running", "waiting")
        wanted = results.wanted(None, report)
        return (
            results.progress(found),
            command(found.get("command")),
            results.result(found, source["id"] if source else None, report),
            results.weak(report) if report else "",
            gr.update(visible=lives),
            gr.update(visible=waits),
            results.first(found, source) if waits else "",
            listed,
            json.dumps(list(wanted)),
            html.keyframes(_pictures(given), wanted),
        )

    async def _report(self, rest: Rest, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is shown of a job's report. `job` came from the routes, so its visitor may see it; it is read only once."""
        file = next((one for one in job.get("artifacts") or () if one["name"] == "report"), None)
        if file is None:
            return None
        key = (str(job["id"]), job.get("attempt"), job.get("finished"), file.get("bytes"))
        if key not in self._reports:
            try:
                self._reports[key] = await rest.read(f"/v1/jobs/{job['id']}/artifacts/report", results.shortened)
            except (InputError, ValueError):
                return None
        self._reports.move_to_end(key)
        found = self._reports[key]
        while len(self._reports) > _REMEMBERED:
            self._reports.popitem(last=False)
        return found

    async def _source(self, rest: Rest, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """The job's clip, while it is still here."""
        source = _identity((job.get("request") or {}).get("input"))
        try:
            found: dict[str, Any] | None = await rest.get(f"/v1/assets/{source}") if source else None
        except InputError:
            return None
        return found


def body(form: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a job from the page's form: only what differs from what the routes take for granted."""
    kind = form.get("kind") or "edit"
    words, look = str(form.get("prompt") or "").strip(), str(form.get("look") or "")
    if look and look.casefold() not in words.casefold():
        words = f"{words}, {look}" if words else look
    plain = {
        "kind": None if kind == "edit" else kind,
        "input": _identity(form.get("input")),
        "prompt": words if kind == "edit" else "",
        "negative": str(form.get("negative") or "").strip(),
        "method": form.get("method") if kind == "edit" else None,
        "style": _identity(form.get("style")) if kind == "edit" else "",
        "mask": _identity(form.get("mask")),
        "by": _identity(form.get("by")) if kind == "colorize" else "",
        "keyframes": _pictures(form.get("keyframes")) if kind not in _NEED_NO_PICTURES else {},
        "start": str(form.get("start") or "").strip(),
        "end": str(form.get("end") or "").strip(),
        "side_by_side": bool(form.get("side_by_side")),
        "other_shots": "keep" if form.get("other_shots") else None,
        "allow_damaged": bool(form.get("allow_damaged")),
        "tonemap": bool(form.get("tonemap")),
        "settings": _settings(str(form.get("settings") or ""), str(form.get("model") or "")),
        "keep_colors": bool(form.get("keep_colors")) and kind != "colorize",
        "seed": int(form.get("seed") or 0),
        "extent": None if kind in _NEED_NO_PICTURES or form.get("extent") == "auto" else form.get("extent"),
        "quality": None if form.get("quality") == "normal" else form.get("quality"),
    }
    strength = 1.0 if form.get("strength") is None else float(form["strength"])
    return {name: value for name, value in plain.items() if value} | ({"strength": strength} if strength != 1.0 else {})


def command(line: str | None) -> str:
    """The equivalent command line, to copy."""
    if not line:
        return ""
    exact = escape(line).replace("\n", "&#10;")  # a blank line would end the piece
    told = html.block("code", exact, id="fp-command", tabindex="0")
    copy = html.block("button", "Copy", type="button", data_copy="fp-command")
    summary = html.block("summary", "The same on the command line")
    return html.block("details", summary + html.block("pre", told) + copy, open=True, class_="fp-command")


def _settings(lines: str, model: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines.splitlines() if line.strip())
    said = {name.strip(): value.strip() for name, _, value in pairs}
    return {_WEIGHTS: model} | said if model else said


def restored(asked: Mapping[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """The values of the form that ask for the same: `body` backwards. What is not asked for is left out.

    `models` are those that can be chosen; another one stays among the settings.
    """
    form = {name: asked[name] for name in RESTORED if asked.get(name) is not None}
    if form.get("method") in _NEED_NO_LOOK:
        del form["method"]  # the form has it as a kind
    if "other_shots" in form:
        form["other_shots"] = form["other_shots"] == "keep"
    settings = {name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in form.pop("settings", {}).items()}
    if settings.get(_WEIGHTS) in models:
        form["model"] = settings.pop(_WEIGHTS)
    lines = "\n".join(f"{name}={value}" for name, value in settings.items())
    return form | ({"settings": lines} if lines else {})


def _nets(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The image models that can be chosen, what each is called and its name."""
    here = [one for one in models if one["here"] and (one["role"] == "model" or one["source"] == _OUR_MODELS)]
    return [(f"{one['name']} – {_sentence(one['says'])}", one["name"]) for one in here]


def _way(method: Mapping[str, Any]) -> str:
    """A method with what it does, and whether it comes without a model of its own."""
    fields = {one["name"]: one["default"] for one in method["fields"]}
    has_none = isinstance(fields.get("model"), Mapping) and not fields["model"].get("weights")
    return f"{method['name']} – {_sentence(method['doc'])}" + (" (choose an image model, too)" if has_none else "")


def _sentence(doc: str) -> str:
    first = " ".join(doc.split()).partition(". ")[0].partition("; ")[0]
    return first.rstrip(".").replace("`", "")


def _identity(said: str | None) -> str:
    """An id as the server makes them, "" for anything else; what follows a # only tells one message from the next."""
    found = str(said or "").partition("#")[0]
    return found if _IDENTITY.fullmatch(found) else ""


def _job(said: str) -> str:
    return f"/v1/jobs/{_identity(said) or '-'}"


def _pictures(said: str | None) -> dict[str, str]:
    try:
        found = json.loads(said or "{}")
    except ValueError:
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(frame): str(asset) for frame, asset in pairs if str(frame).isdecimal() and _identity(str(asset))}


def _numbers(said: str | None) -> Sequence[int]:
    try:
        found = json.loads(said or "[]")
    except ValueError:
        return ()
    return [one for one in found if isinstance(one, int)] if isinstance(found, list) else ()
