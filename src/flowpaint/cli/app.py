"""The commands and their names."""

from typing import Annotated

import typer

from . import edits, judging, services, training
from .batch import batch
from .models import models
from .serve import serve

app = typer.Typer(
    help="Edit a whole video: give it a look by name, or carry frames that you edited yourself to all the others.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import flowpaint

        typer.echo(f"flowpaint {flowpaint.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    del version  # its callback has printed it


for _command in (edits.edit, edits.propagate, edits.deflicker, edits.colorize, edits.resume):
    app.command()(_command)
for _command in (services.frames, services.shots, services.looks, services.doctor, services.show):
    app.command()(_command)
for _command in (judging.evaluate, judging.compare, judging.benchmark, judging.vote):
    app.command()(_command)
app.command()(batch)
app.command()(training.train)
app.command()(serve)
app.add_typer(training.data, name="data")
app.command("list")(services.list_parts)
app.add_typer(models, name="models")
