"""Solvers that need fewer steps, from diffusers: UniPC, DPM-Solver++ and LCM, under our own loop."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast, get_args

import torch
from torch import Tensor

from ..errors import ConfigError, InputError
from ..seams import Run
from .levels import STABLE_DIFFUSION, Level, Schedule, Step, from_levels

if TYPE_CHECKING:
    from .sampling import LoopState

SolverName: TypeAlias = Literal["unipc", "dpm++", "lcm"]

_LCM_GRID = 50  # the times that latent consistency models are distilled on: no run can take more


class _Scheduler(Protocol):
    """What is used of diffusers' schedulers, which carry no types."""

    alphas_cumprod: Tensor
    timesteps: Tensor

    def set_timesteps(self, num_inference_steps: int) -> None: ...
    def set_begin_index(self, begin_index: int) -> None: ...
    def step(
        self, model_output: Tensor, timestep: int, sample: Tensor, *, return_dict: bool, generator: list[torch.Generator] = ...
    ) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True, kw_only=True)
class FastSolver:
    """One of diffusers' solvers as `solver` of `sample_frames`: "unipc", "dpm++" or "lcm" (for LCM-distilled weights only).

    The solver is fed clean estimates, so an edited estimate enters its memory too. UniPC and DPM-Solver++ of order 2 are
    deterministic; LCM draws each frame's noise from the run. An anchor's own memory is that of the window it is in.
    Raises `ConfigError` for an unknown name, `InputError` for steps or a strength that do not fit.
    """

    name: SolverName
    num_steps: int
    strength: float = 1.0
    schedule: Schedule = STABLE_DIFFUSION

    def __post_init__(self) -> None:
        if self.name not in get_args(SolverName):
            raise ConfigError(f"There is no solver {self.name!r}. Choose one of {', '.join(get_args(SolverName))}.")
        top = _LCM_GRID if self.name == "lcm" else self.schedule.num_train // 2
        if not 1 <= self.num_steps <= top:
            raise InputError(f"{self.name} cannot take {self.num_steps} steps. Give 1 to {top}.")

    @cached_property
    def times(self) -> tuple[Step, ...]:
        """The solver's steps, the first ones left out by `strength`."""
        scheduler = _scheduler(self)
        kept = scheduler.alphas_cumprod.double().tolist()
        levels = [Level(t, math.sqrt(kept[t]), math.sqrt(1.0 - kept[t])) for t in scheduler.timesteps.tolist()]
        return from_levels(levels, [*levels[1:], Level(0, 1.0, 0.0)], self.strength)

    def fresh(self, run: Run, shared_noise: bool) -> "_Fast":
        """A stepper without memory, at the first of `times`."""
        scheduler = _scheduler(self)
        scheduler.set_begin_index(self.times[0].index)
        return _Fast(scheduler, run, shared_noise, is_random=self.name == "lcm")


@dataclass(frozen=True)
class _Fast:
    scheduler: _Scheduler
    run: Run
    shared: bool
    is_random: bool

    def __call__(self, x: Tensor, x0: Tensor, _: Tensor | None, state: "LoopState", /) -> Tensor:
        """Latents at the next level; these solvers know the clean estimate alone."""
        numbers = [0 if self.shared else self.run.offset + frame for frame in state.frames]
        draws = [self.run.generator(number, state.at.index + 1) for number in numbers]
        # UniPC takes no generator at all, and DPM-Solver++ of this kind draws nothing
        given = {"generator": draws} if self.is_random else {}
        return self.scheduler.step(x0, int(state.at.t.t), x, return_dict=False, **given)[0]


def _scheduler(solver: FastSolver) -> _Scheduler:
    """The diffusers object behind `solver`, its times set. It is told that the network predicts the clean picture."""
    from diffusers import DPMSolverMultistepScheduler, LCMScheduler, UniPCMultistepScheduler

    schedule = solver.schedule
    given: dict[str, object] = {
        "num_train_timesteps": schedule.num_train,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": "squaredcos_cap_v2" if schedule.betas == "squared_cosine" else schedule.betas,
        "prediction_type": "sample",
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
    }
    if solver.name == "lcm":
        given["original_inference_steps"] = _LCM_GRID
    else:
        given |= {"timestep_spacing": schedule.spacing, "steps_offset": schedule.steps_offset}
    classes = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler, "lcm": LCMScheduler}
    build: Callable[..., object] = classes[solver.name]
    made = cast(_Scheduler, build(**given))
    with warnings.catch_warnings():
        # diffusers hands tensors to numpy in a way that numpy 2 deprecates: nothing a user can act on
        warnings.simplefilter("ignore", DeprecationWarning)
        made.set_timesteps(solver.num_steps)
    return made
