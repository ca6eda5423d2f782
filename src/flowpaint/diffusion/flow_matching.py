"""Levels and steps of rectified flow: x = (1 - sigma) x0 + sigma eps, and a network says eps - x0 (Liu et al., ICLR 2023).

A step of Euler's along that velocity is DDIM's step between such levels, so the loop of `sampling` serves as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from ..errors import ConfigError, InputError
from ..seams import Run
from .levels import Level, Step, from_levels

if TYPE_CHECKING:
    from .sampling import LoopState

FlowSolverName: TypeAlias = Literal["unipc", "euler"]

_NEARLY = 1e-6  # how far from pure noise a walk starts: UniPC takes the logarithm of the picture's share


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSchedule:
    """How a model of rectified flow was trained: the number of its times, and the `shift` of noise levels towards noise.

    Raises `ConfigError` for values outside their range.
    """

    num_train: int = 1000
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.num_train < 2 or not 0.0 < self.shift < float("inf"):
            raise ConfigError(
                f"{self.num_train} times shifted by {self.shift} make no schedule. Give two times or more, and a shift above 0."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FlowSchedule":
        """The schedule in a model's `scheduler_config.json`. Raises `ConfigError` for one that is not of rectified flow, or that
        shifts by the picture's size."""
        found = str(config.get("_class_name", ""))
        flows = found.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"
        if not flows or config.get("use_dynamic_shifting") or config.get("shift_terminal"):
            raise ConfigError(
                f"The scheduler {found or 'of this model'} is not one of rectified flow with a fixed shift. Use a model of Wan's."
            )
        shift = config.get("shift" if found.startswith("FlowMatch") else "flow_shift", 1.0)
        return cls(num_train=int(config.get("num_train_timesteps", 1000)), shift=float(shift))

    def times(self, num_steps: int) -> tuple[Step, ...]:
        """The steps from noise to picture: sigma falls evenly from 1, then is shifted to s sigma / (1 + (s - 1) sigma), which
        stays longer near noise (Esser et al., ICML 2024, Eq. 23). Networks are told whole times, as Wan's are.

        Raises `InputError` for less than one step, and for more than half of the times.
        """
        if not 1 <= num_steps <= self.num_train // 2:
            raise InputError(f"{num_steps} steps cannot be taken. Give 1 to {self.num_train // 2}.")
        even = np.linspace(1.0, 1.0 / self.num_train, num_steps + 1)[:-1]
        sigmas = np.minimum(self.shift * even / (1.0 + (self.shift - 1.0) * even), 1.0 - _NEARLY)
        levels = [Level(int(sigma * self.num_train), 1.0 - sigma, sigma) for sigma in sigmas.tolist()]
        return from_levels(levels, [*levels[1:], Level(0, 1.0, 0.0)], 1.0)


@dataclass(frozen=True, kw_only=True)
class FlowUniPC:
    """UniPC of order 2 (Zhao et al., NeurIPS 2023), diffusers', along a schedule of rectified flow: `solver` of `sample_frames`.

    It is fed clean estimates and is deterministic.
    """

    schedule: FlowSchedule
    num_steps: int

    @cached_property
    def times(self) -> tuple[Step, ...]:
        """The steps that it walks along."""
        return self.schedule.times(self.num_steps)

    def fresh(self, run: Run, shared_noise: bool) -> "_UniPC":  # noqa: ARG002  the seam's: nothing is drawn here
        """A stepper without memory, at the first of `times`."""
        from diffusers import UniPCMultistepScheduler

        build: Any = UniPCMultistepScheduler
        made = build(
            num_train_timesteps=self.schedule.num_train,
            prediction_type="sample",
            use_flow_sigmas=True,
            flow_shift=self.schedule.shift,
        )
        made.set_timesteps(self.num_steps)
        made.set_begin_index(0)
        return _UniPC(made)


@dataclass(frozen=True)
class _UniPC:
    scheduler: Any

    def __call__(self, x: Tensor, x0: Tensor, _: Tensor | None, state: "LoopState", /) -> Tensor:
        """Latents at the next level."""
        moved: Tensor = self.scheduler.step(x0, int(state.at.t.t), x, return_dict=False)[0]
        return moved
