"""The command that serves the page and the REST interface."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, MissingExtraError
from .options import Manners, grouped
from .talk import talking


def _home() -> Path:
    """Where data of programs belongs."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "flowpaint"


@grouped(manners=Manners)
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on. Others than this machine need a --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 7860,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where uploads, jobs and results are kept.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Jobs that are worked on at a time.")] = 1,
    token: Annotated[
        list[str] | None,
        typer.Option(envvar="FLOWPAINT_TOKEN", help="Who brings it may use the server; may be repeated, each has its own jobs."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="What is too much: upload_bytes, seconds, pixels, ...")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Let jobs fetch known weights that are not here.")] = False,
    commercial_only: Annotated[
        bool, typer.Option("--commercial-only", help="Refuse weights not known to allow commercial use.")
    ] = False,
    manners: Manners,
) -> None:
    """Serve the web page and the REST interface: `flowpaint serve`, then open http://127.0.0.1:7860."""
    with talking(manners) as talk:
        try:
            from .. import web
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"{error.name} is not installed. Run: pip install 'flowpaint[serve]'.") from error
        settings = web.Settings(
            data=(data or _home()).absolute(),
            host=host,
            port=port,
            tokens=tuple(token or ()),
            limits=web.Limits.of(_numbers(limit or [])),
            offline=not online,
            commercial_only=commercial_only,
        )
        web.serve(settings, workers=workers, tell=talk.say)


def _numbers(given: list[str]) -> dict[str, float]:
    """What `--limit NAME=NUMBER` says. Raises `InputError` for what is no such thing."""
    found: dict[str, float] = {}
    for one in given:
        name, equals, value = one.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"The limit {one!r} is no NAME=NUMBER. Write it like seconds=600.")
    return found
