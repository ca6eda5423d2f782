"""How networks are optimised, as a part; recipes of trainers are parts too, so TOML files of them read as any recipe does."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) over a trapezoid of learning rates, and all that goes with a run's length.

    The rate rises over `warmup` steps, stays, and falls linearly to 0 over the last `cooldown` share of `steps` (Hägele et al.,
    NeurIPS 2024): a run can be made longer or shorter until it cools down. A step takes `accumulate` batches of `batch` rows in
    each process. `ema` is the decay of the averaged weights. `bf16` runs the networks in bfloat16, weights stay float32;
    `checkpointing` trades time for memory. Counts of steps: `save_every`, `show_every`, `log_every`.
    Raises `ConfigError` for values outside their range.
    """

    steps: int = 1000
    batch: int = 16
    accumulate: int = 1
    rate: float = 1e-3
    warmup: int = 50
    cooldown: float = 0.3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    bf16: bool = True
    checkpointing: bool = False
    seed: int = 0
    save_every: int = 200
    show_every: int = 500
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "save_every", "show_every", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} cannot be {getattr(self, name)}. Give 1 or more.")
        if not 0.0 <= self.ema < 1.0 or not 0.0 <= self.cooldown <= 1.0:
            raise ConfigError(
                f"An ema of {self.ema} or a cooldown of {self.cooldown} is no share. Give 0 <= ema < 1, 0 <= cooldown <= 1."
            )
        if not self.rate > 0.0 or not self.clip > 0.0 or self.warmup < 0:
            raise ConfigError(f"Rate {self.rate}, clip {self.clip}, warmup {self.warmup} do not train. Give positive numbers.")

    def __call__(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser of `parameters`. Its rate is to be set to `rate_at(step)` before each step."""
        return torch.optim.AdamW(list(parameters), lr=self.rate, betas=self.betas, weight_decay=self.weight_decay)

    def rate_at(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        fall = min(1.0, (self.steps - step) / max(self.cooldown * self.steps, 1.0))
        return self.rate * min(rise, fall)

    @property
    def cools_at(self) -> int:
        """The step from which the rate falls: later, the length of the run is settled."""
        return int(self.steps - self.cooldown * self.steps)
