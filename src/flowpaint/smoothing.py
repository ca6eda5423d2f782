"""Smoothing and morphology on tensors: box and Gaussian means, dilation, differences, normalised convolution.

Every function takes [N, C, H, W] and, but for `gradient`, keeps that shape; edges repeat.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def box(x: Tensor, size: int) -> Tensor:
    """The mean over a `size` x `size` window (odd)."""
    height, width = x.shape[-2:]
    x = F.pad(x, (size // 2,) * 4, mode="replicate")
    # Sums of shifted views: on a CPU several times as fast as pooling.
    rows = sum((x[..., step : step + height, :] for step in range(1, size)), x[..., :height, :])
    columns = sum((rows[..., step : step + width] for step in range(1, size)), rows[..., :width])
    return columns / (size * size)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian mean, separable, cut at 2.5 sigma."""
    radius = max(1, round(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma * sigma))
    kernel = kernel / kernel.sum()
    channels = x.shape[1]
    x = F.pad(x, (radius,) * 4, mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def dilate(x: Tensor, radius: int) -> Tensor:
    """The maximum over a square of side 2 radius + 1."""
    rows = F.max_pool2d(x, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (2 * radius + 1, 1), stride=1, padding=(radius, 0))


def erode(x: Tensor, radius: int) -> Tensor:
    """The minimum over a square of side 2 radius + 1; outside the picture counts as full."""
    return -dilate(-x, radius)


def gradient(x: Tensor) -> Tensor:
    """Central differences of one channel [N, 1, H, W], across and down: [N, 2, H, W]."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.cat([across, down], dim=1)


def smooth_on_grid(x: Tensor, sigma: float) -> Tensor:
    """A wide Gaussian mean, computed on a coarser grid: the cost does not grow with `sigma`."""
    step = max(1, int(sigma // 4))
    if step == 1:
        return gaussian(x, sigma)
    height, width = x.shape[-2:]
    padded = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")
    coarse = gaussian(F.avg_pool2d(padded, step), sigma / step)
    fine = F.interpolate(coarse, scale_factor=step, mode="bilinear", align_corners=False)
    return fine[..., :height, :width]


def extend(values: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """`values` [N, C, H, W] smoothed and carried outward from where `weights` [N, 1, H, W] are large.

    Normalised convolution (Knutsson, Westin, CVPR 1993) at 8, 3 and 1 times `sigma` pixels; finer answers count where
    there is weight enough to trust them.
    """
    answer: Tensor | None = None
    for spread in (8 * sigma, 3 * sigma, sigma):
        mass = smooth_on_grid(weights, spread)
        mean = smooth_on_grid(values * weights, spread) / (mass + 1e-8)
        trust = mass / (mass + 1e-3)
        answer = mean if answer is None else answer + trust * (mean - answer)
    assert answer is not None
    return answer


def spread(values: Tensor, known: Tensor) -> Tensor:
    """`values` [N, C, H, W] where `known` [N, 1, H, W] is 1, and elsewhere continued smoothly from there, however far.

    Means of the known ones in ever larger cells, taken where smaller ones hold none (push and pull: Gortler et al., SIGGRAPH
    1996, section 3.3.2). Nothing known gives 0.
    """
    height, width = values.shape[-2:]
    if max(height, width) == 1:
        return values * (known > 0)
    cell = min(2, height), min(2, width)
    odd = (0, -width % cell[1], 0, -height % cell[0])
    weight = F.avg_pool2d(F.pad(known, odd), cell)
    mean = F.avg_pool2d(F.pad(values * known, odd), cell) / weight.clamp_min(1e-8)
    coarse = spread(mean, (4 * weight).clamp_max(1.0))  # one known pixel in four makes a known cell
    around = F.interpolate(coarse, scale_factor=cell, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(around, values, known)
