"""`flowpaint models`: which weights there are, their licences, fetching and verifying them."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from .options import Manners, Weights, grouped
from .talk import talking

models = typer.Typer(help="List, fetch and verify the weights of networks, and show their licences.", no_args_is_help=True)

_Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing, as ever: only `download` does.")]
_Commercial = Annotated[
    bool, typer.Option("--commercial-only", help="Only weights whose licence is known to allow commercial use.")
]


@grouped(manners=Manners)
def list_models(*, commercial_only: _Commercial = False, offline: _Offline = False, manners: Manners) -> None:
    """List the known weights: what they are for, whether they are here, licence, size. Nothing is fetched."""
    del offline  # it says what holds anyhow
    with talking(manners) as talk:
        from .. import api

        found = api.models(commercial_only=commercial_only)
        head = ("name", "role", "family", "here", "size", "licence", "source")
        talk.result({"models": found}, _table(head, [_row(one) for one in found]))


@grouped(weights=Weights, manners=Manners)
def download(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `flowpaint models list` gives.")],
    weights: Weights,
    manners: Manners,
) -> None:
    """Fetch weights: safetensors and settings alone. Their licence is said first."""
    with talking(manners) as talk:
        from .. import api

        found = api.download_model(name, policy=weights.policy())
        facts = [f"{what}: {found[what]}" for what in ("path", "source", "revision", "licence") if found[what]]
        talk.result(found, [*facts, *(f"{sha256}  {file}" for file, sha256 in found["sha256"].items())])


@grouped(manners=Manners)
def verify(
    *,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: all that are here.")] = None,
    offline: _Offline = False,
    manners: Manners,
) -> None:
    """Check the hashes of weights that are here, all or those called NAME. Exit code 3 where one is wrong."""
    del offline
    with talking(manners) as talk:
        from .. import api

        found = api.verify_models(name)
        talk.result(found, [f"{state:<9}  {one}: {file}" for one, files in found.items() for file, state in files.items()])
        if any(state == "wrong" for files in found.values() for state in files.values()):
            talk.say("Some files do not have the content that they should have. Delete these, and fetch or install them again.")
            raise typer.Exit(3)


@grouped(manners=Manners)
def licences(*, commercial_only: _Commercial = False, offline: _Offline = False, manners: Manners) -> None:
    """Show the licence of each set of weights, bundled and optional, and whether it allows commercial use."""
    del offline
    with talking(manners) as talk:
        from .. import api

        found = api.model_licences(commercial_only=commercial_only)
        rows = [(one["name"], one["licence"], _commercial(one), one["text"] or "-") for one in found]
        terms = {one["licence"]: one["terms"] for one in found if one["terms"]}
        notes = ["", *(f"{licence}: {said}." for licence, said in terms.items())] if terms else []
        talk.result({"licences": found}, [*_table(("name", "licence", "commercial use", "text"), rows), *notes])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    family = f"SD {one['family']}.x" if one["family"] else "-"
    here = "here" if one["here"] else "-"
    return one["name"], one["role"], family, here, _size(one["size"]), one["licence"], one["source"]


def _commercial(one: dict[str, Any]) -> str:
    if not one["commercial"]:
        return "no"
    return "on terms, below" if one["terms"] else "yes"


def _size(size: int) -> str:
    if not size:
        return "-"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with columns as wide as they must be."""
    wide = [max(len(str(row[place])) for row in (head, *rows)) for place in range(len(head))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True)).rstrip() for row in (head, *rows)]


for _name, _command in (("list", list_models), ("download", download), ("verify", verify), ("licences", licences)):
    models.command(_name)(_command)
