"""`train`, `synth`, `prepare`: data and networks of one's own."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import seams
from ..errors import ConfigError, InputError, MissingExtraError
from . import toml
from .prepare import resolve_device

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a training run will cost, measured on a few batches before it starts."""

    steps: int
    done: int
    steps_per_second: float
    seconds_left: float
    memory: int  # bytes, at the peak
    parameters: int

    def __str__(self) -> str:
        hours, minutes = divmod(round(self.seconds_left / 60), 60)
        return (
            f"{self.parameters / 1e6:.1f} million parameters, {self.steps - self.done} of {self.steps} steps to go, "
            f"{self.steps_per_second:.2f} a second: about {hours} h {minutes:02d} min, {self.memory / 2**30:.1f} GiB of memory."
        )


def trainer(kind: str, recipe: Path, settings: Sequence[str] = ()) -> Any:
    """The trainer that a recipe describes, fields set by `settings` ("optimisation.steps=100").

    Raises `ConfigError` for unknown fields and where the recipe is not of this `kind` (autoencoder, image, control, flowvid,
    refiner).
    """
    values = {"kind": "trainer", **toml.load(recipe)}
    found = seams.from_dict(values)
    if values.get("part") != kind or values["kind"] != "trainer":
        raise ConfigError(
            f"{recipe} is a recipe for {values.get('part')!r}, not {kind!r}. Use `flowpaint train {values.get('part')}`."
        )
    return _set(found, settings)


def train(
    kind: str,
    recipe: Path,
    *,
    data: Path,
    run: Path,
    settings: Sequence[str] = (),
    device: str = "auto",
    only: str = "",
    announce: Callable[[Cost], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Path:
    """The folder with the averaged weights, RUN/export, once all steps of the recipe are taken; a run that was stopped goes on.

    `announce` is told the cost before the first step. `only` "estimate" stops there, "export" takes no step and writes the
    weights of the last checkpoint. Raises `MissingExtraError` without accelerate, `ConfigError` and `InputError` for a recipe or
    a run folder that does not fit, `WorkError` where the loss stops being a number.
    """
    for package in ("accelerate", "tensorboard"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"Training needs {package}, which is not installed. Run `pip install 'flowpaint[train]'`.")
    from ..training.loop import Estimate, Training
    from ..training.records import Records

    chosen = trainer(kind, recipe, settings)
    records = Records(run, seams.to_dict(chosen))
    task = chosen(data)
    training = Training(task, chosen.optimisation, data=data, records=records, device=resolve_device(device))

    def tell(found: Estimate) -> None:
        announce(Cost(steps=chosen.optimisation.steps, done=training.step, **asdict(found)))

    if only == "estimate":
        tell(training.estimate())
        return run
    networks = training.networks if only == "export" else training.run(progress, tell)
    if training.is_main:
        task.export(networks, run / "export")
    return run / "export"


def synth(
    output: Path,
    *,
    photos: Path | None = None,
    pictures: int = 400,
    each: int = 0,
    clips: int = 0,
    holes: int = 0,
    length: int = 8,
    size: int = 256,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> dict[str, int]:
    """The number of samples written to OUTPUT/pictures, clips and holes, made from nothing or from the photographs of a folder.

    `pictures` sources, each plain and in `each` of the looks by lot (0: all that `mini` knows); `clips` of procedural scenes, of
    `length` frames; `holes`: clips of depth as long, with and without one object.
    """
    from ..training.clips import synth_clips
    from ..training.holes import synth_holes
    from ..training.synth import synth_pictures

    made: dict[str, int] = {}
    if pictures:
        folder = output / "pictures"
        made["pictures"] = synth_pictures(
            folder, photos=photos, count=pictures, each=each, size=size, seed=seed, progress=progress
        )
    if clips:
        folder = output / "clips"
        made["clips"] = synth_clips(folder, count=clips, length=length, size=size, seed=seed, photos=photos, progress=progress)
    if holes:
        made["holes"] = synth_holes(output / "holes", count=holes, length=length, size=size, seed=seed, progress=progress)
    return made


def prepare(
    inputs: Sequence[Path],
    output: Path,
    *,
    model: Path | None = None,
    settings: Sequence[str] = (),
    workers: int = 1,
    device: str = "auto",
    progress: Progress = lambda *_: None,
) -> int:
    """The number of samples written to `output`.

    Of videos, clips with flow, visibility and what the settings add. Of a folder of picture shards, these with latents in place
    of pictures. Of folders of clip shards, together, what FlowVid learns from. `model` is the folder of the model whose
    autoencoder makes latents; `settings` set fields of `ClipCutter` ("length=16", "depth=depth") for videos, of `HintMaker`
    ("copies=4") for clips. Raises `InputError` for shards without a model, settings for pictures and videos without a clip.
    """
    from ..training.clips import prepare_clips

    base = "" if model is None else str(model)
    if inputs and all(any(one.glob("*.tar")) for one in inputs):
        if model is None:
            raise InputError(f"{inputs[0]} holds shards, and no model was named to encode them. Give its folder by --model.")
        device = resolve_device(device)
        return _encode(inputs, output, base, settings, workers=workers, device=device, progress=progress)
    cutter = _set(seams.build("cutter", "clips", base=base), settings)
    return prepare_clips(inputs, output, cutter=cutter, executor=_executor(workers), progress=progress)


def _encode(
    sources: Sequence[Path], output: Path, base: str, settings: Sequence[str], *, workers: int, device: str, progress: Progress
) -> int:
    """Shards of pictures or of clips with latents: the number of samples."""
    from ..training.hinted import encode_clips, holds_clips
    from ..training.latents import encode_pictures

    if all(holds_clips(one) for one in sources):
        maker = _set(seams.build("hinter", "hints", base=base), settings)
        executor = _executor(workers)
        return encode_clips(sources, output, maker=maker, executor=executor, device=device, bf16=True, progress=progress)
    if len(sources) > 1:
        raise InputError(f"Of {len(sources)} folders one or more hold no clips. Encode folders of pictures one by one.")
    if settings:
        raise InputError(f"{sources[0]} holds pictures, for which nothing can be set. Leave {settings[0]!r} out.")
    return encode_pictures(sources[0], output, base=base, device=device, bf16=True, progress=progress)


def _set(part: Any, settings: Sequence[str]) -> Any:
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"The setting {setting!r} is not understood. Write it as field=value.")
        part = seams.override(part, path.strip(), value.strip())
    return part


def _executor(workers: int) -> seams.Executor:
    executor: seams.Executor = seams.build("executor", "local", workers=workers)
    return executor
