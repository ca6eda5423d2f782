"""How long FlowVid takes, stage by stage: `python scripts/bench_flowvid.py speed`, which hands over to this file.

The paper's workload (Liang et al., CVPR 2024, section 5.1): 121 frames of 512x512, 31 key frames in windows of 16, 20 steps,
guidance 7.5, inversion, one ControlNet, at the size of Stable Diffusion 1.5, with random weights: only time counts. Then each
lever alone, then all together. Rows are timed after a warm-up of 4 steps, whose own time, compiling in it, stands in a column
of its own. Levers change the key frames alone; the frames between them are made in the first and the last rows.

    python scripts/bench_flowvid.py speed                     the paper's workload, on CUDA
    python scripts/bench_flowvid.py speed --small             the same rows, tiny: that everything runs
    python scripts/bench_flowvid.py speed --cpu-mini          3 s of video of 256x256 by the small network, from edit to file
"""

import flowpaint  # it switches off what the libraries below would send

# isort: split
import argparse
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from bench_networks import save_random
from flowpaint import hints, scenes, seams
from flowpaint.diffusion import repair
from flowpaint.diffusion.loading import release
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.errors import ConfigError
from flowpaint.methods import windows
from flowpaint.methods.flowvid import FlowVid
from flowpaint.networks.video_unet import VideoUNet, widened
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit

SEED = 900_001  # of the scene
STAGES = ("words", "flow", "hints", "inversion", "denoising", "decode", "propagation")
TIMED: tuple[tuple[Any, str, str], ...] = (
    (LatentDiffusion, "embed", "words"),
    (hints, "_measured", "flow"),
    (windows.Windows, "_told", "hints"),
    (repair.TrainedRepairer, "_concat", "hints"),
    (repair.TrainedRepairer, "_source", "hints"),
    (repair, "invert", "inversion"),
    (repair, "sample_frames", "denoising"),
    (LatentDiffusion, "decode", "decode"),
    (windows.Windows, "_keep", "decode"),
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much work there is."""

    num_frames: int
    side: int
    width: int  # of the UNet; 320 is that of Stable Diffusion 1.5
    window: int
    num_steps: int
    few: int  # steps of the lever "fewer steps"


PAPER = Size(num_frames=121, side=512, width=320, window=16, num_steps=20, few=8)
SMALL = Size(num_frames=9, side=64, width=32, window=2, num_steps=4, few=2)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way of doing the work: what differs from the paper's in the method and in the model."""

    name: str
    method: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    propagate: str = ""  # none: key frames alone


def rows(size: Size, graphs: bool) -> list[Row]:
    """The paper's workload, each lever alone, then all."""
    fastest = "graphs" if graphs else "compile"
    every = {"inject": "none", "control_every": 2, "deep_every": 2}
    machine = {"compiled": fastest, "channels_last": True}
    return [
        Row(name="the paper's", propagate="analogy"),
        Row(name="no inversion", method={"inject": "none"}),
        Row(name="source noised, a third stream", method={"inject": "noised"}),
        Row(name=f"{size.few} steps", method={"num_steps": size.few}),
        Row(name="ControlNet every 2nd step", method={"control_every": 2}),
        Row(name="ControlNet in 60 % of the steps", method={"control_until": 0.6}),
        Row(name="deep features every 2nd step", method={"deep_every": 2}),
        Row(name="deep features every 3rd step", method={"deep_every": 3}),
        Row(name="compiled", model={"compiled": "compile"}),
        Row(name="channels last", model={"channels_last": True}),
        Row(name="CUDA graphs", model={"compiled": "graphs"}),
        Row(name=f"all, {size.num_steps} steps", method=every, model=machine),
        Row(name=f"all, {size.few} steps", method={**every, "num_steps": size.few}, model=machine, propagate="analogy"),
        Row(name="the same, interpolated", method={**every, "num_steps": size.few}, model=machine, propagate="interpolate"),
    ]


# -------------------------------------------------------------------------------------------------------------------- timing


@dataclass
class Watch:
    """Seconds by stage; what a stage calls of another stage counts there alone."""

    spent: dict[str, float] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        wait()
        now = time.perf_counter()
        if self._open:
            self.spent[self._open[-1]] = self.spent.get(self._open[-1], 0.0) + now - self._since
        self._since = now


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def staged(watch: Watch) -> Iterator[None]:
    """Inside, what is `TIMED` is timed."""

    def timed(work: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with watch.stage(stage):
                return work(*args, **kwargs)

        return run

    with ExitStack() as undo:
        for owner, name, stage in TIMED:
            undo.enter_context(patch.object(owner, name, timed(getattr(owner, name), stage)))
        yield


def peak(device: str) -> float:
    """MiB held at most: on CUDA since the last reset, else by the process so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def keys_alone(clip: Clip, keyframes: Mapping[int, Tensor], _edit: Edit, _run: Run) -> Clip:
    """As a propagator: the clip itself, after every key frame was made."""
    for key in keyframes:
        _ = keyframes[key]
    return clip[:1]


# ---------------------------------------------------------------------------------------------------------------- the workload


def save_video_model(folder: Path, width: int, dtype: torch.dtype) -> Path:
    """FlowVid's network and its ControlNet, random weights, in a diffusers folder."""
    save_random(folder, width, dtype)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)
    control = widened(ControlNetModel.from_unet(unet), 13)
    made: tuple[tuple[str, nn.Module], ...] = (("unet", VideoUNet.inflated(unet)), ("controlnet", control))
    for name, network in made:
        network.to(dtype).save_pretrained(folder / name)
    levels = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    DDIMScheduler(**levels, beta_schedule="scaled_linear", clip_sample=False).save_pretrained(folder / "scheduler")
    return folder


def scene(num_frames: int, side: int) -> tuple[Clip, Tensor]:
    """A procedural clip, and its first frame restyled."""
    source = scenes.sample_scene(SEED, 0.5)
    clip = scenes.clip(source, num_frames, (side, side))
    return clip, scenes.clip(scenes.edit(source, "restyle", SEED), 1, (side, side)).frame(0)


def work(method: FlowVid, clip: Clip, first: Tensor, device: str) -> Watch:
    """The time of a run, every frame of its result asked for."""
    watch = Watch()
    with staged(watch), watch.stage("propagation"):
        result = method(clip, Edit(prompt="a statue", keyframes={0: first}), Run(device=device))
        for index in range(len(result)):
            result.raw(index)
    return watch


def measure(row: Row, given: FlowVid, clip: Clip, first: Tensor, device: str) -> str:
    """A row of the table."""
    propagate: Any = seams.build("propagator", row.propagate) if row.propagate else keys_alone
    method = replace(given, **row.method, model=replace(given.model, **row.model), propagate=propagate)
    release()
    try:
        start = time.perf_counter()
        warm = replace(method, num_steps=4, propagate=keys_alone)  # enough for two calls of every form of the network
        work(warm, clip[: given.stride + 1], first, device)
        warmed = time.perf_counter() - start
    except ConfigError as error:
        return f"| {row.name} | {error} |"
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    spent = work(method, clip, first, device).spent
    cells = [f"{spent.get(stage, 0.0):.2f}" for stage in STAGES[:-1]]
    keys = sum(seconds for stage, seconds in spent.items() if stage != "propagation")
    if row.propagate:
        cells += [f"{keys:.2f}", f"{spent['propagation']:.2f} ({row.propagate})", f"{sum(spent.values()):.2f}"]
    else:
        cells += [f"{sum(spent.values()):.2f}", "", ""]
    return f"| {row.name} | " + " | ".join([*cells, f"{warmed:.1f}", f"{peak(device):.0f}"]) + " |"


def workload(size: Size, device: str, chosen: Sequence[str]) -> Iterator[str]:
    """The lines of the table."""
    yield f"| seconds | {' | '.join(STAGES[:-1])} | key frames | frames between | whole | warm-up | peak MiB |"
    yield "|---" * (len(STAGES) + 5) + "|"
    clip, first = scene(size.num_frames, size.side)
    half = device == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        weights = save_video_model(Path(folder) / "model", size.width, torch.float16 if half else torch.float32)
        method = FlowVid(
            model=LatentDiffusion(weights=str(weights), dtype="float16" if half else "float32", batch=24 if half else 8),
            placing="even",
            window=size.window,
            num_steps=size.num_steps,
            side=size.side,
        )
        for row in rows(size, half):
            if not chosen or any(one in row.name for one in chosen):
                yield measure(row, method, clip, first, device)


def cpu_mini(model: str, settings: Sequence[str], num_frames: int) -> Iterator[str]:
    """3 s of video by the small network, from edit to file, as a user has it."""
    clip, first = scene(num_frames, 256)
    given = [f"model.weights={model}", *settings]
    watch, before = Watch(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, staged(watch), watch.stage("propagation"):
        result = flowpaint.edit(clip, keyframes={0: first}, method="flowvid", settings=given, device="cpu")
        result.save(Path(folder) / "out.mp4")
    yield f"{num_frames} frames of 256x256 by {model}, {' '.join(settings) or 'its own settings'}, from edit to file:"
    used = time.process_time() - before
    yield f"{sum(watch.spent.values()):.1f} s, {used:.1f} s of processors, peak {peak('cpu'):.0f} MiB\n"
    yield "| stage | seconds |\n|---|---|"
    for stage in STAGES:
        name = "propagation and all else" if stage == "propagation" else stage
        yield f"| {name} | {watch.spent.get(stage, 0.0):.1f} |"


def main(arguments: Sequence[str]) -> None:
    options = argparse.ArgumentParser(
        prog="bench_flowvid.py speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--small", action="store_true", help="tiny networks and pictures: that every row runs")
    options.add_argument("--cpu-mini", action="store_true", help="3 s of video by the small network, on the CPU")
    options.add_argument("--rows", nargs="+", default=[], help="only rows with one of these words in their name")
    options.add_argument("--model", default="mini-flowvid", help="of --cpu-mini")
    options.add_argument("--set", action="append", default=[], dest="settings", help="of --cpu-mini: field=value")
    options.add_argument("--frames", type=int, default=72, help="of --cpu-mini")
    given = options.parse_args(arguments)
    if given.device == "cpu" and not (given.small or given.cpu_mini):
        options.error("The paper's workload is hours on a CPU. Give --small or --cpu-mini, or run it where there is CUDA.")
    cpu = given.cpu_mini or given.device == "cpu"
    what = f"{torch.get_num_threads()} CPU threads" if cpu else torch.cuda.get_device_name(given.device)
    print(f"`{shlex.join(('python', 'scripts/bench_flowvid.py', 'speed', *arguments))}`")
    print(f"{what}, torch {torch.__version__}\n", flush=True)
    size = SMALL if given.small else PAPER
    lines = cpu_mini(given.model, given.settings, given.frames) if given.cpu_mini else workload(size, given.device, given.rows)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
