"""What children of the web server do: everything that opens a file of a user's, or needs the whole of flowpaint.

Each task is a function of plain values that gives plain values; `TASKS` names them. They run in a process of their own
(`child`), which is why the whole of flowpaint is imported here.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import api
from ..errors import ConfigError, FlowpaintError, InputError, nearest

Values = dict[str, Any]


def facts(*, path: str, limits: Mapping[str, Any]) -> Values:
    """What is in an upload: see `flowpaint.api.facts`."""
    return api.facts(path, **limits)


def frame(*, path: str, number: int, side: int, out: str) -> Values:
    """Nothing; the frame is then in the file `out`."""
    api.take_frame(path, number, side=side, out=out)
    return {}


def shots(*, path: str) -> Values:
    """The shots of a video."""
    return {"shots": api.shots(path, tonemap=True, allow_damaged=True)}


def job(*, asked: Mapping[str, Any], policy: Mapping[str, bool], known: Mapping[str, str], folder: str, output: str) -> Values:
    """The job that is asked for, as `flowpaint.api.Job.to_dict` has it, its words checked, and its command line.

    `known`, names by paths in `folder`, are all files that it may read. Raises `InputError` where it would read another one.
    """
    options = dict(asked)
    method, there = options["method"], api.parts("method")["method"]
    if method is not None and method not in there:
        raise ConfigError(f"There is no method called {method!r}. Nearest: {nearest(method, there)}.")
    kind = options.pop("kind")
    if kind in ("deflicker", "colorize"):
        options["method"] = kind
    made, _ = api.plan_job(kind, options.pop("input"), **{**options, **policy})
    _check_something(made)
    api.trusted(made, Path(folder))
    for path in made.files():
        if path not in known:  # somebody else's, in the same folder
            raise InputError(f"The job reads {Path(path).name!r}, which was not uploaded for it. Name the asset instead.")
    return {"job": made.to_dict(), **commands(jobs=[{**made.to_dict(), "output": output}], known=known)}


def _check_something(job: api.Job) -> None:
    """Nothing, where a job names what it is to do. Raises `InputError` otherwise, as the edit would once it has begun."""
    if job.kind == "colorize" and not job.by:
        raise InputError("There is no video to take colours from. Name one with `by`.")
    makes_none = job.method.get("editor") is None and not job.remove
    if job.kind not in ("edit", "propagate") or job.keyframes or not makes_none or job.prompt.strip() or job.prompts:
        return
    if job.kind == "edit":
        raise InputError("The prompt is empty. Name a look (/v1/looks lists them), or give `style` or `keyframes`.")
    raise InputError("There is no key frame to propagate. Take a frame, edit it, upload it, and name it in `keyframes`.")


def plan(*, job: Mapping[str, Any], output: str) -> Values:
    """What `flowpaint edit --dry-run` says of a job that would write to `output`."""
    task = replace(api.Job.from_dict(job), output=output)
    return api.plan(api.Result(task, dry=True), overwrite=True)


def commands(*, jobs: list[Mapping[str, Any]], known: Mapping[str, str]) -> Values:
    """The command line of each job, with its files under the names (by path) that their owner gave them."""

    def name(path: str) -> str:
        return known.get(path, Path(path).name)

    def line(job: Mapping[str, Any]) -> str:
        try:
            return api.command(api.Job.from_dict(job), name)
        except FlowpaintError:  # of another version of flowpaint: the list of jobs is shown all the same
            return ""

    return {"commands": [line(one) for one in jobs]}


def methods() -> Values:
    """The methods that there are."""
    found = [next(one for one in api.describe(name) if one["kind"] == "method") for name in api.parts("method")["method"]]
    return {"methods": [{field: one[field] for field in ("name", "doc", "fields")} for one in found]}


def looks() -> Values:
    """The looks that there are."""
    return {"looks": [{"name": name, "aliases": list(aliases), "shows": shows} for name, aliases, shows in api.looks()]}


def models(*, commercial_only: bool) -> Values:
    """The weights that flowpaint knows. Where they are is nobody's business but this machine's: whether is said."""
    found = api.models(commercial_only=commercial_only)
    return {"models": [{name: value for name, value in one.items() if name != "path"} for one in found]}


def warm() -> Values:
    """Nothing; what most jobs need is then loaded, so that children, who inherit it, have it at once."""
    made, _ = api.plan_job("edit", "video.mp4", prompt=api.looks()[0][0])
    api.command(made)
    api.command(replace(made, kind="propagate"))
    return {}


TASKS: Mapping[str, Callable[..., Values]] = {
    one.__name__: one for one in (facts, frame, shots, job, plan, commands, methods, looks, models)
}
