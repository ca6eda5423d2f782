"""Options that several commands share, each said once: groups of fields that become options of a command."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from ..api import Policy
    from ..seams import Executor

Group = TypeVar("Group")


def grouped(**groups: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command one option for each field of the dataclasses `groups`.

    The command itself takes one object a group, by the group's name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in inspect.signature(command).parameters.values() if one.name not in groups]
        hints = get_type_hints(command, include_extras=True)
        shown = [one.replace(annotation=hints[one.name]) for one in own]
        for cls in groups.values():
            shown += [_parameter(cls, one.name) for one in fields(cls)]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            made = {name: cls(**{one.name: values.pop(one.name) for one in fields(cls)}) for name, cls in groups.items()}
            command(**values, **made)

        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in shown}
        del run.__wrapped__  # or its signature would be looked at instead
        return run

    return decorate


def _parameter(cls: type[Any], name: str) -> inspect.Parameter:
    hint = get_type_hints(cls, include_extras=True)[name]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(cls(), name), annotation=hint)


def _option(text: str, *names: str, panel: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar)


_WHAT, _HOW, _INPUT, _OUTPUT, _RUN, _TALK = "What to edit", "How", "Input", "Output", "Run", "Messages"
_OBJECT, _MODEL, _WEIGHTS, _MACHINES = "Objects and editors", "Image models", "Weights of networks", "Machines"


@dataclass(frozen=True, kw_only=True)
class What:
    """Which part is edited, and how much."""

    mask: Annotated[Path | None, _option("Picture or video, white where the edit may show.", panel=_WHAT)] = None
    strength: Annotated[float, _option("0 = the source, 1 = the whole edit.", panel=_WHAT)] = 1.0
    keep_colors: Annotated[bool, _option("Keep the colours of the source.", "--keep-colors", panel=_WHAT)] = False
    start: Annotated[str | None, _option("First frame: 48, 3.5s or 00:00:03.500.", panel=_WHAT, metavar="TIME")] = None
    end: Annotated[str | None, _option("Where to stop, not included.", panel=_WHAT, metavar="TIME")] = None
    preview: Annotated[str | None, _option("Only so many seconds, small and quick: 2s.", panel=_WHAT, metavar="TIME")] = None


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Edits of one thing in the picture, and who edits the first frame."""

    objects: Annotated[
        list[str],
        _option(
            "What changes its shape: a mask, click:X,Y, box:X,Y,X,Y or auto; may be repeated.",
            "--object",
            panel=_OBJECT,
            metavar="MARK",
        ),
    ] = field(default_factory=list)
    editor: Annotated[str | None, _option("Who edits pictures (`flowpaint list editor`).", panel=_OBJECT, metavar="NAME")] = None
    instruct: Annotated[str | None, _option("What to change, as an order.", panel=_OBJECT, metavar="WORDS")] = None
    reference: Annotated[Path | None, _option("A picture of what shall be there.", panel=_OBJECT)] = None
    sketch: Annotated[Path | None, _option("A drawing of what shall be there.", panel=_OBJECT)] = None
    remove: Annotated[bool, _option("Take the object away.", "--remove", panel=_OBJECT)] = False
    new_object: Annotated[Path | None, _option("Mask of what an edited first frame shows in its place.", panel=_OBJECT)] = None
    depth: Annotated[Path | None, _option("A video of the source's depth, white = near.", panel=_OBJECT)] = None
    candidates: Annotated[int | None, _option("Edit so many times, take the best.", panel=_OBJECT)] = None
    candidate: Annotated[int | None, _option("Take this one of the candidates.", panel=_OBJECT)] = None

    def settings(self) -> list[str]:
        """The fields of a method that are set, as for --set; the editor first, for others may be fields of it."""
        named = {"editor": self.editor, "candidates": self.candidates, "candidate": self.candidate}
        return [f"{path}={value}" for path, value in named.items() if value is not None]

    def plain(self) -> dict[str, Any]:
        """The rest under the names that the calls give it, without the words of an instruction."""
        names = ("objects", "reference", "sketch", "depth", "remove", "new_object")
        return {name: getattr(self, name) for name in names} | {"instruct": self.instruct is not None}


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """What methods with an image model are told."""

    model: Annotated[str | None, _option("A public name, a folder or a .safetensors.", panel=_MODEL, metavar="NAME")] = None
    control: Annotated[str | None, _option("What ControlNets see: canny, softedge, depth, or none.", panel=_MODEL)] = None
    lora: Annotated[list[str], _option("A LoRA for the model; may be repeated.", panel=_MODEL)] = field(default_factory=list)
    prompts: Annotated[
        list[str], _option("Words from a time on; may be repeated.", "--prompt", panel=_MODEL, metavar="TIME=WORDS")
    ] = field(default_factory=list)
    negative: Annotated[str, _option("Words for what should not be there.", panel=_MODEL)] = ""
    vram_limit: Annotated[str | None, _option("Memory that its networks may take: 8GB.", panel=_MODEL, metavar="SIZE")] = None

    def settings(self) -> list[str]:
        """The fields of a method that are set, as for --set."""
        lora = ",".join(self.lora)
        none = self.control == "none"  # of the model's own ControlNet neither
        named = {"model.weights": self.model, "model.own_control": "false" if none else "", "model.lora": lora}
        named |= {"control": "" if none else self.control, "model.limit": self.vram_limit}
        return [f"{path}={value}" for path, value in named.items() if value]


@dataclass(frozen=True, kw_only=True)
class How:
    """With which algorithm and on what."""

    settings: Annotated[
        list[str], _option("Set a field of the method; may be repeated.", "--set", panel=_HOW, metavar="PART.FIELD=VALUE")
    ] = field(default_factory=list)
    quality: Annotated[str, _option("draft, normal or best.", panel=_HOW)] = "normal"
    seed: Annotated[int, _option("What is drawn by lot follows from it.", panel=_HOW)] = 0
    device: Annotated[str, _option("auto, cpu, cuda:0 or mps.", panel=_HOW)] = "auto"


@dataclass(frozen=True, kw_only=True)
class Input:
    """How the input is read."""

    fps: Annotated[str, _option("Frames a second of a folder of pictures.", panel=_INPUT)] = "24"
    allow_damaged: Annotated[bool, _option("Use what can be decoded.", "--allow-damaged", panel=_INPUT)] = False
    tonemap: Annotated[bool, _option("Turn HDR into BT.709.", "--tonemap", panel=_INPUT)] = False


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What may be done to get the weights of networks."""

    offline: Annotated[bool, _option("Fetch nothing.", "--offline", panel=_WEIGHTS)] = False
    commercial_only: Annotated[
        bool, _option("Refuse weights not known to allow commercial use.", "--commercial-only", panel=_WEIGHTS)
    ] = False
    allow_pickle: Annotated[
        bool, _option("Read PyTorch's pickles, too; code in them is not run.", "--allow-pickle", panel=_WEIGHTS)
    ] = False

    def policy(self) -> "Policy":
        """The same for the calls."""
        from ..api import Policy

        return Policy(**vars(self))


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the result goes and how it is encoded."""

    output: Annotated[
        Path | None, _option("Video to write; without a suffix a folder of PNG.", "-o", "--output", panel=_OUTPUT)
    ] = None
    overwrite: Annotated[bool, _option("Replace an existing output.", "--overwrite", panel=_OUTPUT)] = False
    side_by_side: Annotated[bool, _option("Show source | result.", "--side-by-side", panel=_OUTPUT)] = False
    no_provenance: Annotated[bool, _option("Do not store the recipe in the video.", "--no-provenance", panel=_OUTPUT)] = False
    codec: Annotated[str | None, _option("h264, hevc, prores, ffv1, vp9 or av1.", panel=_OUTPUT)] = None
    crf: Annotated[int | None, _option("Quality of the encoder, 0 is best. Default 16.", panel=_OUTPUT)] = None
    preset: Annotated[str | None, _option("Of x264 and x265: ultrafast to veryslow.", panel=_OUTPUT)] = None
    pixel_format: Annotated[str | None, _option("FFmpeg's name, like yuv444p.", panel=_OUTPUT)] = None
    pad_even: Annotated[bool, _option("Odd sizes: add a row or column.", "--pad-even", panel=_OUTPUT)] = False
    audio: Annotated[str | None, _option("copy, aac or none.", panel=_OUTPUT)] = None

    def encoding(self) -> dict[str, object]:
        """The fields of an encoding that were given."""
        named = {name: getattr(self, name) for name in ("codec", "crf", "preset", "pixel_format", "audio")}
        return {name: value for name, value in named.items() if value is not None} | ({"pad_even": True} if self.pad_even else {})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The run folder."""

    run: Annotated[Path | None, _option("Run folder. Default OUTPUT.run.", panel=_RUN, metavar="DIR")] = None
    fresh: Annotated[bool, _option("Start over, whatever was finished.", "--fresh", panel=_RUN)] = False
    keep_run: Annotated[bool, _option("Leave the run folder after success.", "--keep-run", panel=_RUN)] = False
    dry_run: Annotated[bool, _option("Say what would be done and what it costs.", "--dry-run", panel=_RUN)] = False


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Who does the work."""

    executor: Annotated[
        str, _option("local, or ray: a cluster, one of this machine alone without --address.", panel=_MACHINES, metavar="NAME")
    ] = "local"
    workers: Annotated[int | None, _option("Processes, or workers of the cluster.", panel=_MACHINES, metavar="N")] = None
    address: Annotated[str | None, _option("Of the Ray cluster: auto or HOST:PORT.", panel=_MACHINES)] = None
    gpus: Annotated[float, _option("Share of a GPU that each worker of Ray has, like 0.5.", panel=_MACHINES)] = 0.0

    def chosen(self, ahead: int = 2) -> "Executor | None":
        """The executor; None where this process does everything by itself. `ahead`: see `flowpaint.api.executor`."""
        from ..api import executor

        found = executor(self.executor, workers=self.workers, address=self.address, gpus=self.gpus, ahead=ahead)
        return None if self.executor == "local" and self.workers in (None, 1) else found


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How much is said."""

    as_json: Annotated[bool, _option("Print one JSON object.", "--json", panel=_TALK)] = False
    quiet: Annotated[bool, _option("Say nothing but errors.", "-q", "--quiet", panel=_TALK)] = False
    verbose: Annotated[bool, _option("Say more.", "-v", "--verbose", panel=_TALK)] = False
    debug: Annotated[bool, _option("Show tracebacks.", "--debug", panel=_TALK)] = False
