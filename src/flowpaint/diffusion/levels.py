"""How much noise there is at each step: schedules, levels, steps, and what a network's output says about the clean picture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, InputError

Spacing: TypeAlias = Literal["leading", "trailing", "linspace"]
Betas: TypeAlias = Literal["linear", "scaled_linear", "squared_cosine"]
Prediction: TypeAlias = Literal["eps", "v", "sample"]
Landing: TypeAlias = Literal["next", "stride"]

_THEIR_BETAS: dict[object, Betas] = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "squared_cosine",
}
_THEIR_PREDICTIONS: dict[object, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "sample"}


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level: x = alpha x0 + sigma eps, and the time `t` that the network is told for it."""

    t: float
    alpha: float
    sigma: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a schedule, from level `t` to `t_next`. `index` counts from 0 in the whole schedule of `count` steps,
    also where strength or a slice left the first ones out."""

    index: int
    count: int
    t: Level
    t_next: Level


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The noise that a network was trained with, and how its times are picked. The defaults are those of Stable Diffusion 1.x.

    `zero_terminal_snr` rescales to pure noise at the last time (Lin et al., WACV 2024, Algorithm 1); it wants trailing spacing
    and v- or sample-prediction. `set_alpha_to_one`: the last step lands on the clean picture, not on the level of time 0 (DDPM
    always does). `landing`: "next" steps to the next time of the list; "stride" to t - num_train // num_steps, as diffusers'
    DDIMScheduler does, which is another level for linspace and for uneven trailing spacing.
    Raises `ConfigError` for values outside their range.
    """

    num_train: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    betas: Betas = "scaled_linear"
    spacing: Spacing = "leading"
    steps_offset: int = 1
    zero_terminal_snr: bool = False
    set_alpha_to_one: bool = False
    prediction: Prediction = "eps"
    landing: Landing = "next"

    def __post_init__(self) -> None:
        if self.num_train < 2 or not 0.0 < self.beta_start <= self.beta_end < 1.0:
            raise ConfigError(
                f"Betas {self.beta_start} to {self.beta_end} over {self.num_train} times make no schedule. "
                "Give 0 < beta_start <= beta_end < 1 and two times or more."
            )
        for name, known in (("spacing", Spacing), ("betas", Betas), ("prediction", Prediction), ("landing", Landing)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(f"The {name} {getattr(self, name)!r} is not known. Choose one of {', '.join(get_args(known))}.")

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> "Schedule":
        """The schedule in a model's `scheduler_config.json`. Raises `ConfigError` for one that is not made from known betas."""
        found = str(config.get("_class_name", ""))
        betas = _THEIR_BETAS.get(config.get("beta_schedule", "linear"))
        prediction = _THEIR_PREDICTIONS.get(config.get("prediction_type", "epsilon"))
        if "FlowMatch" in found or betas is None or prediction is None or config.get("trained_betas") is not None:
            raise ConfigError(
                f"The scheduler {found or 'of this model'} has no known beta schedule ({config.get('beta_schedule')}, "
                f"{config.get('prediction_type')}). Use a model with linear, scaled linear or squared cosine betas."
            )
        given = {
            ours: type(getattr(cls, ours))(config[theirs])
            for ours, theirs in (
                ("num_train", "num_train_timesteps"),
                ("spacing", "timestep_spacing"),
                ("zero_terminal_snr", "rescale_betas_zero_snr"),
            )
            if config.get(theirs) is not None
        }
        return cls(
            betas=betas,
            prediction=prediction,
            beta_start=_number(config, "beta_start", 0.0001),
            beta_end=_number(config, "beta_end", 0.02),
            steps_offset=int(_number(config, "steps_offset", 0)),
            # PNDM, which Stable Diffusion ships with, is the one class whose default is False.
            set_alpha_to_one=bool(config.get("set_alpha_to_one", found != "PNDMScheduler")),
            **given,
        )

    @cached_property
    def alpha_bar(self) -> tuple[float, ...]:
        """Share of the signal's variance at each time 0 .. num_train - 1: falling, in [0, 1)."""
        # float32 on purpose: the networks were trained with these very numbers. Exact arithmetic would be off by 1e-5.
        if self.betas == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, self.num_train, dtype=torch.float32)
        elif self.betas == "scaled_linear":
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.num_train, dtype=torch.float32) ** 2
        else:
            betas = torch.tensor(_squared_cosine(self.num_train), dtype=torch.float32)
        kept = torch.cumprod(1.0 - betas, dim=0).double()
        if self.zero_terminal_snr:
            root = kept.sqrt()
            kept = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return tuple(kept.tolist())

    def level(self, t: int) -> Level:
        """The level at training time `t`. Raises `InputError` outside 0 .. num_train - 1."""
        if not 0 <= t < self.num_train:
            raise InputError(f"The time {t} is outside this schedule of {self.num_train}. Give 0 to {self.num_train - 1}.")
        return Level(t, math.sqrt(self.alpha_bar[t]), math.sqrt(1.0 - self.alpha_bar[t]))

    @property
    def last(self) -> Level:
        """The level on which the last step lands."""
        return Level(0, 1.0, 0.0) if self.set_alpha_to_one else self.level(0)


STABLE_DIFFUSION = Schedule()


def _number(config: Mapping[str, object], name: str, otherwise: float) -> float:
    value = config.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"The scheduler's {name} is {value!r}. It must be a number.")
    return value


def _squared_cosine(count: int) -> list[float]:
    """Nichol and Dhariwal, ICML 2021, Eq. 17, with betas up to 0.999."""

    def kept(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1.0 - kept((index + 1) / count) / kept(index / count), 0.999) for index in range(count)]


def noise_levels(num_steps: int, strength: float = 1.0, *, schedule: Schedule = STABLE_DIFFUSION) -> tuple[Step, ...]:
    """The steps from noise to picture, noisiest first; a slice of them is a shorter run.

    `strength` keeps the last int(num_steps * strength) steps, as diffusers' image-to-image counts; 0 keeps none.
    Spacings are those of Lin et al., WACV 2024, Table 2. Raises `InputError` for a strength outside 0..1 or one that leaves no
    step, for less than one step, and for more steps than the schedule has times.
    """
    times = _times(num_steps, schedule)
    stride = schedule.num_train // num_steps
    levels = [schedule.level(t) for t in times]
    if schedule.landing == "next":
        landings = [*levels[1:], schedule.last]
    else:
        landings = [schedule.level(t - stride) if t >= stride else schedule.last for t in times]
    return from_levels(levels, landings, strength)


def from_levels(levels: list[Level], landings: list[Level], strength: float) -> tuple[Step, ...]:
    """The steps from each of `levels` to its landing, without those that `strength` leaves out."""
    count = len(levels)
    pairs = enumerate(zip(levels, landings, strict=True))
    steps = tuple(Step(index=index, count=count, t=t, t_next=t_next) for index, (t, t_next) in pairs)
    return steps[count - _kept(count, strength) :]


def _times(num_steps: int, schedule: Schedule) -> list[int]:
    count = schedule.num_train
    if num_steps < 1:
        raise InputError(f"{num_steps} steps cannot be taken. Give one or more.")
    found: list[int]
    if schedule.spacing == "linspace":
        found = np.linspace(0, count - 1, num_steps).round().astype(int)[::-1].tolist()
    elif schedule.spacing == "trailing":
        found = (np.round(np.arange(count, 0, -count / num_steps)).astype(int) - 1).tolist()
    else:
        found = (np.arange(num_steps) * (count // num_steps) + schedule.steps_offset)[::-1].tolist()
    if num_steps > count or found[0] >= count:
        raise InputError(f"{num_steps} steps are more than this schedule of {count} times allows. Ask for fewer steps.")
    if schedule.spacing == "linspace" and num_steps == 1:
        raise InputError("One step with linspace spacing would start at the clean picture. Use trailing spacing or more steps.")
    return found


def _kept(num_steps: int, strength: float) -> int:
    if not 0.0 <= strength <= 1.0:
        raise InputError(f"The strength {strength} is outside 0..1. Give 0 for the source, 1 for pure noise.")
    kept = int(num_steps * strength)
    if kept == 0 and strength > 0.0:
        raise InputError(f"The strength {strength} leaves none of {num_steps} steps. Raise the strength or the steps.")
    return kept


def add_noise(x0: Tensor, t: Level, noise: Tensor) -> Tensor:
    """x = alpha x0 + sigma noise: `x0` [T, C, h, w] carried to level `t`; `noise` as `x0`, or [1, C, h, w] for all frames."""
    return t.alpha * x0 + t.sigma * noise


def to_x0(output: Tensor, x: Tensor, t: Level, prediction: Prediction) -> Tensor:
    """The clean estimate in a network's `output` for `x`, both [T, C, h, w], at level `t`.

    v is alpha eps - sigma x0 (Salimans and Ho, ICLR 2022, appendix D). Raises `ConfigError` for an eps-prediction at alpha 0,
    where the noise says nothing about the picture.
    """
    if prediction == "sample":
        return output
    if prediction == "v":
        return (t.alpha * x - t.sigma * output) / (t.alpha**2 + t.sigma**2)
    if t.alpha == 0.0:
        raise ConfigError(
            f"A network that predicts noise cannot start from pure noise (time {t.t:g}). "
            "Use a v-prediction model, or a schedule without zero terminal SNR."
        )
    return (x - t.sigma * output) / t.alpha


def to_eps(x: Tensor, x0: Tensor, t: Level) -> Tensor:
    """The noise in `x` if `x0` is its clean picture, both [T, C, h, w]. Raises `InputError` at sigma 0."""
    if t.sigma == 0.0:
        raise InputError("A clean level has no noise to find. Start from a level with sigma above 0.")
    return (x - t.alpha * x0) / t.sigma
