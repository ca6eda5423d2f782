"""One picture of two: what was carried forward from the key frame before and backward from the one after.

Per pixel the better of both is chosen; both are averaged without the loss of contrast that a plain mean brings; the average
takes on the gradients of what was chosen. After Jamriska et al., SIGGRAPH 2019, as Rerender (Yang et al., SIGGRAPH
Asia 2023) and FRESCO use it. Two things differ: the average is weighted by nearness in time, so that nothing jumps at a
key frame, and the screened Poisson equation is solved exactly, by cosine transform.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...colour import into_gamut, to_lab

_GRADIENTS = (2.5, 0.5, 0.5)  # weights of the gradients of L, a and b beside those of the values
_FLAT = 0.5  # a channel whose deviation is below counts as this: an eye sees no contrast there


def choose(error_before: Tensor, error_after: Tensor, share: float, kept: Tensor) -> Tensor:
    """Where the picture carried backward is taken: bool [1, 1, H, W].

    It is where its error, times 1 - `share`, is below the other's times `share`, the place of the frame between the key frames
    in 0..1, and wherever it was taken already: `kept`, bool [1, 1, H, W], the choice for the frame before carried here.
    """
    return ((1 - share) * error_after < share * error_before) | kept


def merge(before: Tensor, after: Tensor, chosen: Tensor, share: float, *, gradients: bool) -> Tensor:
    """The picture [1, 3, H, W] of `before` and `after`, both [1, 3, H, W] in [0, 1]; `chosen`, `share` as `choose` has them.

    `gradients`: take on those of what was chosen.
    """
    pair = to_lab(before), to_lab(after)
    picked = torch.where(chosen, pair[1], pair[0])
    mixed = _like(torch.lerp(_standard(pair[0]), _standard(pair[1]), share), picked)
    if not gradients:
        return into_gamut(mixed)
    across, down = (torch.where(chosen, there, here) for here, there in zip(*map(_differences, pair), strict=True))
    return into_gamut(screened_poisson(mixed, across, down, mixed.new_tensor(_GRADIENTS)))


def screened_poisson(values: Tensor, across: Tensor, down: Tensor, weights: Tensor) -> Tensor:
    """The picture x [1, C, H, W] that is least in |x - values|^2 + |w (d_x x - across)|^2 + |w (d_y x - down)|^2.

    `across`, `down` [1, C, H, W] are wanted differences to the next pixel, the last column and row left out; `weights` [C] are
    the w. The normal equations (1 + w^2 D^T D) x = values + w^2 D^T g are diagonal under the cosine transform, here the
    Fourier transform of the picture with its mirror images (Bhat et al., ECCV 2008).
    """
    height, width = values.shape[-2:]
    square = weights.square()[None, :, None, None]
    across, down = across[..., :-1], down[..., :-1, :]
    pulled = F.pad(across, (1, 0)) - F.pad(across, (0, 1)) + F.pad(down, (0, 0, 1, 0)) - F.pad(down, (0, 0, 0, 1))
    wanted = values + square * pulled
    mirrored = torch.cat([wanted, wanted.flip(-1)], dim=-1)
    spectrum = torch.fft.rfft2(torch.cat([mirrored, mirrored.flip(-2)], dim=-2))
    bends = _second_difference(torch.fft.fftfreq(2 * height, device=values.device))[:, None]
    bends = bends + _second_difference(torch.fft.rfftfreq(2 * width, device=values.device))
    solved: Tensor = torch.fft.irfft2(spectrum / (1 + square * bends), s=(2 * height, 2 * width))
    return solved[..., :height, :width]


def _second_difference(frequency: Tensor) -> Tensor:
    return 2 - 2 * torch.cos(2 * torch.pi * frequency)


def _differences(lab: Tensor) -> tuple[Tensor, Tensor]:
    """To the next pixel across and down, 0 in the last column and row: [1, 3, H, W] each."""
    return F.pad(lab.diff(dim=-1), (0, 1)), F.pad(lab.diff(dim=-2), (0, 0, 0, 1))


def _standard(lab: Tensor) -> Tensor:
    """`lab` [1, 3, H, W] with mean 0 and deviation 1 in each channel."""
    mean, deviation = lab.mean(dim=(-2, -1), keepdim=True), lab.std(dim=(-2, -1), keepdim=True, correction=0)
    return (lab - mean) / deviation.clamp_min(_FLAT)


def _like(standard: Tensor, lab: Tensor) -> Tensor:
    """`standard`, about 0, with the mean and deviation of `lab` in each channel, both [1, 3, H, W]."""
    mean, deviation = lab.mean(dim=(-2, -1), keepdim=True), lab.std(dim=(-2, -1), keepdim=True, correction=0)
    own = standard.std(dim=(-2, -1), keepdim=True, correction=0)
    centred = standard - standard.mean(dim=(-2, -1), keepdim=True)
    # Where both pictures were nearly flat, `own` is small for that reason and says nothing of lost contrast.
    return mean + centred * (deviation / own).where(own > 0.2, deviation.clamp_min(_FLAT))
