"""One denoising step and its reverse, pure: DDIM, DDPM, inversion, and the noise of each frame.

Nothing here knows a network. A denoiser is a function `(x, t) -> x0`: latents [T, C, h, w] at level `t` to their clean
estimate; guidance, controls and prediction types end inside it.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import ConfigError, InputError, WorkError
from ..seams import Run
from ..types import check_shape
from .hooked import State, during
from .levels import Level, Step, to_eps

Denoise: TypeAlias = Callable[[Tensor, Level], Tensor]


def step(
    x: Tensor, x0: Tensor, t: Level, t_next: Level, *, eta: float = 0.0, noise: Tensor | None = None, eps: Tensor | None = None
) -> Tensor:
    """Latents at `t_next`: `x` [T, C, h, w] at `t` and its clean estimate `x0`. Nothing is clipped.

    Song et al., ICLR 2021, Eq. 12 and 16, written for any pair (alpha, sigma). `eta` 0 is DDIM; 1 is DDPM's posterior with
    the smaller variance (Ho et al., NeurIPS 2020, Eq. 6 and 7) and needs `noise`. `eps` defaults to the noise that `x` and
    `x0` imply; give it to keep the network's own under an edited `x0`.
    Raises `ConfigError` for eta outside 0..1 or without noise, `InputError` for a random step towards more noise.
    """
    if not 0.0 <= eta <= 1.0:
        raise ConfigError(f"Eta {eta} is outside 0..1. Give 0 for DDIM, 1 for DDPM.")
    eps = to_eps(x, x0, t) if eps is None else eps
    spread = eta * _posterior_deviation(t, t_next) if eta else 0.0
    moved = t_next.alpha * x0 + math.sqrt(max(t_next.sigma**2 - spread**2, 0.0)) * eps
    if spread == 0.0:
        return moved
    if noise is None:
        raise ConfigError(f"A step with eta {eta} is random and needs noise. Give noise like the latents, or eta 0.")
    return moved + spread * noise


def _posterior_deviation(t: Level, t_next: Level) -> float:
    """Standard deviation of x at `t_next` given x at `t` and x0."""
    falls = t_next.alpha * t.sigma - t.alpha * t_next.sigma
    if falls < 0.0:
        raise InputError(f"A step from time {t.t:g} to {t_next.t:g} adds noise and cannot be random. Use eta 0.")
    if t_next.sigma == 0.0 or falls == 0.0:
        return 0.0
    # 1 - r^2 with r = (alpha sigma') / (alpha' sigma) is (1 - r)(1 + r): exact also where r is nearly 1.
    ratio = t.alpha * t_next.sigma / (t_next.alpha * t.sigma)
    return t_next.sigma * math.sqrt(falls / (t_next.alpha * t.sigma) * (1.0 + ratio))


def frame_noise(run: Run, frames: Sequence[int], like: Tensor, *, step: int = 0, shared: bool = False) -> Tensor:
    """Gaussian noise [F, C, h, w] for `frames`, with the latent size, device and type of `like` [any, C, h, w].

    Each frame's noise hangs on the run's seed, its number in the whole clip and `step` alone (0: the start; i + 1: step i of
    the schedule); `shared` gives all frames the same.
    """
    size = like.shape[1:]
    if shared:
        drawn = torch.randn(size, generator=run.generator(0, step)).expand(len(frames), *size)
    else:
        rows = [torch.randn(size, generator=run.generator(run.offset + frame, step)) for frame in frames]
        drawn = torch.stack(rows)
    return drawn.to(device=like.device, dtype=like.dtype)


@torch.no_grad()
def invert(
    denoise: Denoise,
    x0: Tensor,
    times: Sequence[Step],
    *,
    refine: int = 0,
    frames: Sequence[int] = (),
    on_step: Callable[[Tensor, Step], None] | None = None,
) -> Tensor:
    """The latents at `times[0].t` from which eta-0 sampling leads back to `x0` [T, C, h, w], nearly.

    DDIM inversion (Song et al., section 4.3): the noise found in the cleaner latents, at the noisier time, stands for that of
    the noisier ones. Each round of `refine` looks again, at the latents just found; some ten rounds return `x0` to rounding
    where the network is smooth (fixed-point iteration, Pan et al., ICCV 2023). `on_step(x, step)` sees each step's noisy side.
    Hooks of the network are told `frames`, and the number that sampling along `times` gives the same step.
    Raises `InputError` for a way from clean latents to pure noise in one step, and for less than no rounds.
    """
    check_shape(x0=(x0, "T C h w"))
    if refine < 0:
        raise InputError(f"{refine} rounds of refinement cannot be done. Give 0 or more.")
    x = loop_dtype(x0)
    for place, one in reversed(tuple(enumerate(times))):
        cleaner, noisier = one.t_next, one.t
        if noisier.alpha == 0.0 and cleaner.sigma == 0.0:
            raise InputError("Pure noise cannot be found from a clean picture in one step. Invert with two steps or more.")
        found = x
        with during(State(step=place, num_steps=len(times), t=round(noisier.t), frames=tuple(frames))):
            for _ in range(1 + refine):
                found = _renoised(x, checked(denoise(found, noisier), found, one), found, (cleaner, noisier))
        x = found
        if on_step is not None:
            on_step(x, one)
    return x


def _renoised(x: Tensor, x0: Tensor, seen: Tensor, levels: tuple[Level, Level]) -> Tensor:
    """Latents at the noisier level that a step with the estimate `x0` of `seen` brings to `x`."""
    cleaner, noisier = levels
    if noisier.alpha == 0.0:  # the noise in `seen` is `seen` itself and tells nothing: solve the step for x instead
        return (x - cleaner.alpha * x0) * (noisier.sigma / cleaner.sigma)
    eps = to_eps(seen, x0, noisier)
    return step(x, (x - cleaner.sigma * eps) / cleaner.alpha, cleaner, noisier, eps=eps)


def loop_dtype(x: Tensor) -> Tensor:
    """`x` in float32, or float64 if it is: half precision would grow its error by 1 / sigma over the steps."""
    return x if x.dtype == torch.float64 else x.float()


def checked(x0: Tensor, x: Tensor, one: Step) -> Tensor:
    """An estimate `x0` of `x` in its type, found to be finite and of its shape. Raises `ShapeError` or `WorkError`."""
    check_shape(latents=(x, "T C h w"), estimate=(x0, "T C h w"))
    if not torch.isfinite(x0).all():
        raise WorkError(
            f"The clean estimate of step {one.index + 1} of {one.count} is not finite. Use float32 or bfloat16, or less guidance."
        )
    return x0.to(x)
