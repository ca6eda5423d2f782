"""The commands that train networks and make the data for it: `train`, `data synth`, `data prepare`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Manners, grouped
from .talk import talking

data = typer.Typer(help="Make shards to train on.", no_args_is_help=True)


def _option(text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Training", metavar=metavar)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What may differ from run to run."""

    settings: Annotated[list[str], _option("Set a field of the recipe; may be repeated.", "--set", metavar="FIELD=VALUE")] = (
        field(default_factory=list)
    )
    device: Annotated[str, _option("auto, cpu, cuda:0 or mps. Several GPUs: start it by `accelerate launch`.")] = "auto"


_Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for the shards.")]


@grouped(choices=Choices, manners=Manners)
def train(
    *,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="autoencoder, image, control, flowvid or refiner.")],
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file: see the folder recipes.")],
    shards: Annotated[Path, typer.Option("--data", help="Folder of shards.")],
    run: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, log, samples. The same again goes on.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only measure what it will cost.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Take no step: write the weights of the last checkpoint.")] = False,
    choices: Choices,
    manners: Manners,
) -> None:
    """Train a network: `flowpaint train image recipes/mini-image.toml --data shards/ --run runs/image`."""
    with talking(manners) as talk:
        from .. import api

        with talk.progress() as progress:
            folder = api.train(
                kind,
                recipe,
                data=shards,
                run=run,
                settings=choices.settings,
                device=choices.device,
                only="estimate" if dry_run else "export" if export else "",
                announce=lambda cost: talk.say(str(cost)),
                progress=progress,
            )
        talk.result({"folder": str(folder)}, [] if dry_run else [str(folder)])


@data.command()
@grouped(manners=Manners)
def synth(
    *,
    output: _Output,
    photos: Annotated[Path | None, typer.Option(help="Folder of photographs with photos.toml.")] = None,
    pictures: Annotated[int, typer.Option(help="Source pictures.")] = 400,
    each: Annotated[int, typer.Option(help="Looks by lot for each picture; 0: all.")] = 0,
    clips: Annotated[int, typer.Option(help="Clips of procedural scenes, with exact flow and depth.")] = 0,
    holes: Annotated[int, typer.Option(help="Clips of depth with and without an object, for the refiner.")] = 0,
    length: Annotated[int, typer.Option(help="Frames of a clip.")] = 8,
    size: Annotated[int, typer.Option(help="Pixels on a side.")] = 256,
    seed: Annotated[int, typer.Option(help="What is drawn by lot follows from it.")] = 0,
    manners: Manners,
) -> None:
    """Make pictures in the built-in looks, and clips with exact truth: `flowpaint data synth -o shards/`."""
    with talking(manners) as talk:
        from .. import api

        with talk.progress() as progress:
            made = api.synth(
                output,
                photos=photos,
                pictures=pictures,
                each=each,
                clips=clips,
                holes=holes,
                length=length,
                size=size,
                seed=seed,
                progress=progress,
            )
        talk.result({"samples": made}, [f"{output / kind}: {count} samples" for kind, count in made.items()])


@data.command()
@grouped(choices=Choices, manners=Manners)
def prepare(
    *,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Videos, a folder of picture shards, or folders of clip shards.")
    ],
    output: _Output,
    model: Annotated[Path | None, typer.Option(help="Folder of a model whose autoencoder adds latents.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that work side by side.")] = 1,
    choices: Choices,
    manners: Manners,
) -> None:
    """Cut videos into clips with flow, or turn pictures and clips into latents: `flowpaint data prepare *.mp4 -o shards/`."""
    with talking(manners) as talk:
        from .. import api

        with talk.progress() as progress:
            count = api.prepare(
                inputs,
                output,
                model=model,
                settings=choices.settings,
                workers=workers,
                device=choices.device,
                progress=progress,
            )
        talk.result({"samples": count}, [f"{output}: {count} samples"])
