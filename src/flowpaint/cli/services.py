"""The commands that look things up, and `frames`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .options import Input, Manners, grouped
from .talk import talking

_Video = Annotated[Path, typer.Argument(metavar="INPUT", help="A video, or a folder of pictures.")]


@grouped(source=Input, manners=Manners)
def frames(
    *,
    video: _Video,
    at: Annotated[str, typer.Option("--at", metavar="TIMES", help="Times with commas between: 0,3.5s.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing pictures.")] = False,
    source: Input,
    manners: Manners,
) -> None:
    """Take frames out, to edit them in any program: `flowpaint frames in.mp4 --at 0,3.5s -o keys/`."""
    with talking(manners) as talk:
        from .. import api

        times: list[int | str] = [time for time in at.split(",") if time.strip()]
        if not times:
            raise InputError("--at names no time. Write frame numbers or times with commas between, like 0,3.5s.")
        files = api.take_frames(video, times, output, overwrite=overwrite, **vars(source))
        keys = " ".join(f"--keyframe {number}={shlex.quote(str(path))}" for number, path in files.items())
        talk.say(f"Edit them, then: flowpaint propagate {shlex.quote(str(video))} {keys} -o out.mp4")
        talk.result({"frames": {str(number): str(path) for number, path in files.items()}}, [str(one) for one in files.values()])


@grouped(source=Input, manners=Manners)
def shots(*, video: _Video, source: Input, manners: Manners) -> None:
    """List the shots of a video."""
    with talking(manners) as talk:
        from .. import api

        found = api.shots(video, **vars(source))
        lines = [f"{one['first']:>7} {one['last']:>7}  {one['from']}  {one['to']}" for one in found]
        talk.result({"shots": found}, ["  first    last  from          to", *lines])


@grouped(manners=Manners)
def looks(
    *,
    sheet: Annotated[Path | None, typer.Option(help="Write a page with every look to this picture.")] = None,
    on: Annotated[Path | None, typer.Option(help="The picture or video that the page shows.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
    manners: Manners,
) -> None:
    """List the built-in looks, or show them all on one page."""
    with talking(manners) as talk:
        from .. import api

        if sheet is not None:
            path = api.look_sheet(sheet, picture=on, overwrite=overwrite)
            talk.result({"sheet": str(path)}, [str(path)])
            return
        known = api.looks()
        width = max(len(name) for name, _, _ in known)
        lines = [f"{name:<{width}}  {shows}{_also(aliases)}" for name, aliases, shows in known]
        talk.result({"looks": [{"name": n, "aliases": list(a), "shows": s} for n, a, s in known]}, lines)


def _also(aliases: tuple[str, ...]) -> str:
    return f" (also: {', '.join(aliases)})" if aliases else ""


@grouped(manners=Manners)
def doctor(*, manners: Manners) -> None:
    """Say what this installation can do."""
    with talking(manners) as talk:
        from .. import api

        found = api.doctor()
        talk.result(found, [f"{name}: {_shown(value)}" for name, value in found.items()])
        if not found["ok"]:
            raise typer.Exit(3)


@grouped(manners=Manners)
def list_parts(*, kind: Annotated[str | None, typer.Argument(help="method, editor, flow, ...")] = None, manners: Manners) -> None:
    """List the parts that can be chosen, or those of one kind."""
    with talking(manners) as talk:
        from .. import api

        found = api.parts(kind)
        lines = found[kind] if kind is not None else [f"{one}: {', '.join(names)}" for one, names in found.items()]
        talk.result(found, lines)


@grouped(manners=Manners)
def show(*, name: Annotated[str, typer.Argument(help="A name that `flowpaint list` gives.")], manners: Manners) -> None:
    """Show a part: what it does, its fields with their defaults, and a recipe to start from."""
    with talking(manners) as talk:
        from .. import api

        found = api.describe(name)
        lines: list[str] = []
        for one in found:
            fields = [f"  {each['name']}: {each['type']} = {_default(each)}" for each in one["fields"]]
            lines += [f"{one['kind']} {one['name']}", "", one["doc"], "", *fields, "", one["recipe"]]
        talk.result({"parts": found}, lines)


def _default(field: dict[str, Any]) -> str:
    value = field["default"]
    if field["required"]:
        return "(needed)"
    return str(value["part"]) if isinstance(value, dict) else repr(value)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
