"""What a diffusion network is asked for: noisy latents, times and targets; and pictures drawn with it to look at."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..diffusion.levels import Level, Schedule
from ..diffusion.sampling import noise_levels, sample, to_x0
from ..seams import Run

Predict = Callable[[Tensor, int, Tensor], Tensor]  # (x, t, text rows) -> what the network says


def noised(latents: Tensor, noise: Tensor, times: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """x = alpha x0 + sigma eps and what the network is to say of it, both [B, C, h, w], at `times` [B].

    The target is eps, v = alpha eps - sigma x0 (Salimans and Ho, ICLR 2022), or x0, as `schedule.prediction` says.
    """
    variance = sigma_squared(times, schedule)
    alpha, sigma = (share.sqrt().to(latents.dtype)[:, None, None, None] for share in (1 - variance, variance))
    x = alpha * latents + sigma * noise
    if schedule.prediction == "eps":
        return x, noise
    return x, alpha * noise - sigma * latents if schedule.prediction == "v" else latents


def sigma_squared(times: Tensor, schedule: Schedule) -> Tensor:
    """The share of noise in the variance at `times` [B]: [B], float64, on their device."""
    return 1 - torch.tensor(schedule.alpha_bar, dtype=torch.float64)[times.cpu()].to(times.device)


def weighted(found: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The mean square of `found` - `target`, both [B, C, h, w], each channel with its weight [C]."""
    return ((found.float() - target).square() * weights[:, None, None]).mean()


@torch.no_grad()
def channel_weights(network: Any, latents: Tensor, power: float) -> Tensor:
    """How much each channel of `latents` [N, C, h, w] shows in the picture that `network` decodes, to this power: [C], mean 1.

    It shows as much as the picture changes (root mean square) when the channel moves by its deviation. Power 0 weighs all alike,
    2 as the error of pixels does.
    """
    if power == 0.0:
        return torch.ones(latents.shape[1])
    shown = decoded(network, latents)
    deviation = latents.std(dim=(0, 2, 3))
    effects = []
    for channel in range(latents.shape[1]):
        moved = latents.clone()
        moved[:, channel] += deviation[channel]
        effects.append((decoded(network, moved) - shown).square().mean().sqrt())
    weights = torch.stack(effects) ** power
    return weights / weights.mean()


@torch.no_grad()
def drawn(
    predict: Predict,
    text: Tensor,
    empty: Tensor,
    schedule: Schedule,
    noise: Tensor,
    *,
    num_steps: int = 12,
    guidance: float = 3.0,
) -> Tensor:
    """Latents [N, C, h, w] that DDIM draws from `noise` under `text` [N, L, D], guided away from `empty` [1, L, D]."""
    rows = torch.cat((empty.expand_as(text), text))

    def denoise(x: Tensor, t: int | Level) -> Tensor:
        level = t if isinstance(t, Level) else schedule.level(t)
        without, told = predict(torch.cat((x, x)), round(level.t), rows).float().chunk(2)
        return to_x0(without + guidance * (told - without), x, level, schedule.prediction)

    return sample(denoise, noise, noise_levels(num_steps, schedule=schedule), run=Run(device=str(noise.device)))


@torch.no_grad()
def decoded(network: Any, latents: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] in [0, 1] of latents as `LatentDiffusion` has them."""
    config = network.config
    plain = latents / config.scaling_factor + (config.shift_factor or 0.0)
    pictures: Tensor = network.decode(plain.to(network.dtype)).sample.float()
    return (pictures / 2 + 0.5).clamp(0, 1).cpu()
