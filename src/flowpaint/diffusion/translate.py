"""What translating pictures by an image model takes, whoever binds them together: their size, their steps, their controls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

import torch
from torch import Tensor

from ..errors import ConfigError, ResourceError
from ..seams import Run, SpatialCondition, build, to_dict
from ..types import Clip
from ..warp import resize
from ..weights import known
from .levels import Schedule, Step, noise_levels
from .sampling import Solver
from .solvers import FastSolver

if TYPE_CHECKING:
    from .model import LatentDiffusion

Conditions: TypeAlias = tuple[SpatialCondition, ...]
SolverChoice: TypeAlias = Literal["ddpm", "ddim", "unipc", "dpm++", "lcm"]

_FITTED_ON = 16  # pictures from which a condition takes its scale
_OWN_CONDITION = "softedge"  # for a ControlNet of which nothing is known, as that in a model's own folder


class HasSize(Protocol):
    """A model of latents, as far as the size of pictures goes."""

    @property
    def side(self) -> int:
        """The short side in pixels of the pictures that it was trained on."""
        ...

    @property
    def cell(self) -> int:
        """Pixels on a side of a latent's cell."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The steps from noise to picture, and how each is taken: `eta` of DDIM's family, or a solver."""

    times: tuple[Step, ...]
    eta: float = 0.0
    solver: Solver | None = None


def walk(schedule: Schedule, solver: SolverChoice, num_steps: int, strength: float) -> Walk:
    """The last `strength` of `num_steps` steps. Raises `ConfigError` for an unknown solver, `InputError` for impossible steps.

    "ddpm" is ancestral and always lands on the clean picture, "ddim" deterministic; the others are diffusers', for fewer steps.
    """
    if solver == "ddpm":
        return Walk(times=noise_levels(num_steps, strength, schedule=replace(schedule, set_alpha_to_one=True)), eta=1.0)
    if solver == "ddim":
        return Walk(times=noise_levels(num_steps, strength, schedule=schedule))
    fast = FastSolver(name=solver, num_steps=num_steps, strength=strength, schedule=schedule)
    return Walk(times=fast.times, solver=fast)


def working_size(model: HasSize, height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width at which pictures of `height` x `width` are denoised: a short side up to `side`, whole latent cells.

    A `side` of 0 is the model's own.
    """
    scale, cell = min(1.0, (side or model.side) / min(height, width)), model.cell
    down, across = (max(cell, round(length * scale / cell) * cell) for length in (height, width))
    return down, across


def within_memory(
    model: "LatentDiffusion", size: tuple[int, int], window: int, *, least: int, run: Run
) -> tuple["LatentDiffusion", int]:
    """The model, and how many of `window` frames of `size` it takes together, within its limit of memory, where it has one.

    Raises `ResourceError` where these are fewer than `least`.
    """
    fitting = model.within(*size, together=True)
    held = window if fitting is model else min(window, fitting.batch)
    if held < least:
        raise ResourceError(
            f"{model.limit} are too little for windows of {least} frames. Raise --vram-limit, use model.dtype=float16, or a "
            "smaller side."
        )
    if held < window:
        run.notes.warn(f"Windows hold {held} frames instead of {window}, for want of memory.")
    return fitting, held


def source_frames(clip: Clip, frames: Sequence[int], size: tuple[int, int], device: str) -> Tensor:
    """Frames of `clip` at `size`: [N, 3, h, w] in [0, 1]."""
    return torch.cat([resize(clip.frame(index)[None].to(device), *size) for index in frames])


def with_control(model: "LatentDiffusion", control: Conditions) -> tuple["LatentDiffusion", Conditions]:
    """The model with its ControlNets, and the condition that each of them sees; none where no control was asked for.

    ControlNets that are named stay, and see the conditions in their order; without a condition, what they are known to be made
    for. Without a name they are the public ones for the conditions and the model's family; but one in the model's own folder
    needs no asking. Raises `ConfigError` where there is none, or where it is not clear which of them sees what.
    """
    own = model.own_controlnet
    nets = model.controlnets or ((own,) if own else ())
    if not nets:
        nets = tuple(_public(model, condition) for condition in control)
    seen = control or tuple(_known_to_see(name, alone=len(nets) == 1) for name in nets)
    if len(seen) != len(nets):
        raise ConfigError(
            f"There are {len(nets)} ControlNets and {len(seen)} conditions. Give one for each, in order: `--control canny,depth`."
        )
    return replace(model, controlnets=nets), seen


def check_translation(
    model: "LatentDiffusion", control: Conditions, solver: SolverChoice, num_steps: int, strength: float
) -> None:
    """Raises what a translation would raise later, for steps, weights, ControlNets and conditions that cannot be had."""
    model, seen = with_control(model, control)
    walk(model.schedule, solver, num_steps, strength)
    for condition in seen:
        if (check := getattr(condition, "check", None)) is not None:
            check()
    model.check()


def _public(model: "LatentDiffusion", condition: SpatialCondition) -> str:
    kind = str(to_dict(condition)["part"])
    public = model.public_controlnet(kind)
    if public is None:
        raise ConfigError(
            f"There is no public ControlNet for {kind!r} and this model. Name one by `--set model.controlnets=NAME`."
        )
    return public


def _known_to_see(name: str, *, alone: bool) -> SpatialCondition:
    record = known(name)
    if record is None and not alone:
        raise ConfigError(f"What the ControlNet {name} sees is not known. Give a condition for each: `--control canny,depth`.")
    return cast(SpatialCondition, build("condition", record.sees[0] if record and record.sees else _OWN_CONDITION))


def fitted(control: SpatialCondition, clip: Clip, frames: Sequence[int], size: tuple[int, int], device: str) -> SpatialCondition:
    """`control` with the scale of the whole clip, where it has one: windows then come out alike."""
    fit = getattr(control, "fitted", None)
    if fit is None:
        return control
    chosen = [frames[place] for place in torch.linspace(0, len(frames) - 1, min(_FITTED_ON, len(frames))).round().int().tolist()]
    return cast(SpatialCondition, fit(source_frames(clip, chosen, size, device)))
