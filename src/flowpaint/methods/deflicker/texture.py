"""Stage 3: what flickers locally, averaged along the motion as far as it is flicker, with fine detail put back.

The measure is the product of two differences: frame before minus this one, times frame after minus this one, both laid onto this
frame. Independent noise in the three frames leaves its variance there. Motion that flow got wrong, moving shadows and fades
give differences of opposite sign, and leave nothing.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ...warp import pixel_grid, resize, resize_flow
from .motion import Motion

Aligned: TypeAlias = dict[int, tuple[Tensor, Tensor]]  # offset -> deviation [1, 3, H, W], where it is seen [1, 1, H, W]

_PATCH = 7  # pixels over which colours are compared
_TILES = 5  # along the short side, for levels
_MOST_SHARPENING = 0.5  # of the finest band
_FLOOR = 1.5 / 255  # flicker that grain and compression leave in a clean clip


def steady_texture(frame: Callable[[int], Tensor], motion: Motion, index: int, radius: int) -> Tensor:
    """Frame `index` [1, 3, H, W] of `frame`, averaged with those within `radius` where it flickers, in [0, 1]."""
    here = frame(index)
    aligned = _aligned(frame, motion, index, radius)
    level = _measured(aligned)
    if level is None:
        level = _borrowed(frame, motion, index, aligned)
    if level is None or not (level > _FLOOR**2).any():
        return here
    total, weight = torch.zeros_like(here), torch.ones_like(here[:, :1])
    for deviation, seen in aligned.values():
        # Flicker of variance s in both frames leaves 2 s between them; more is another thing seen.
        surplus = (_patch_means(deviation.square()) - 2 * level).clamp_min(0)
        share = seen * torch.exp(-surplus / level.clamp_min(1e-12))
        total += share * deviation
        weight += share
    change = total / weight
    change = change + lost_detail(here, change, weight)
    effect = (1 - _FLOOR**2 / level.clamp_min(1e-12)).clamp_min(0)
    return (here + effect * change).clamp(0, 1)


def _aligned(frame: Callable[[int], Tensor], motion: Motion, index: int, radius: int) -> Aligned:
    """Offset -> that frame laid onto frame `index`, minus it [1, 3, H, W], and where it is seen [1, 1, H, W]."""
    here = frame(index)
    height, width = here.shape[-2:]
    laid: Aligned = {}
    for offset, flow in motion.around(index, radius).items():
        vectors = resize_flow(flow.vectors, height, width)
        laid[offset] = (_warp_sharply(frame(index + offset), vectors) - here, resize(flow.visibility, height, width))
    return laid


def _warp_sharply(image: Tensor, flow: Tensor) -> Tensor:
    """`image` [1, 3, H, W] seen through `flow`: bicubic, because an average of bilinear samples is soft."""
    height, width = image.shape[-2:]
    scale = flow.new_tensor([2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)])
    unit = (pixel_grid(height, width, flow.device) + flow).permute(0, 2, 3, 1) * scale - 1.0
    return F.grid_sample(image, unit, mode="bicubic", padding_mode="border", align_corners=True)


def _measured(aligned: Aligned) -> Tensor | None:
    """The level where there is a frame before and one after, else None."""
    if -1 not in aligned or 1 not in aligned:
        return None
    return _level(aligned[-1][0], aligned[1][0])


def _borrowed(frame: Callable[[int], Tensor], motion: Motion, index: int, near: Iterable[int]) -> Tensor | None:
    """For the first or last frame of a shot, the level of its neighbour; None where that has but one neighbour too."""
    for offset in near:
        if abs(offset) == 1:
            return _measured(_aligned(frame, motion, index + offset, 1))
    return None


def _level(before: Tensor, after: Tensor) -> Tensor:
    """Variance of the flicker around each pixel: [1, 1, H, W]. Medians of tiles, so that moving edges do not count."""
    product = _tile_medians(_patch_means(before * after), before)
    energy = _tile_medians(_patch_means(before.square() + after.square()) / 4, before)
    # Flicker makes the two equal. Where flow fails the energy is many times larger, and some of it is in the product.
    return (product - energy / 4).clamp_min(0) * (4 / 3)


def _tile_medians(values: Tensor, like: Tensor) -> Tensor:
    """Medians of `values` [1, 1, h, w] over square tiles, spread smoothly over the size of `like`: [1, 1, H, W]."""
    medians = _tiles(values).median(dim=-1).values
    return F.interpolate(medians, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _tile_means(values: Tensor) -> Tensor:
    """Means of `values` [1, C, H, W] over channels and square tiles, spread smoothly over its size: [1, 1, H, W]."""
    means = _tiles(values.mean(dim=1, keepdim=True)).mean(dim=-1)
    return F.interpolate(means, size=values.shape[-2:], mode="bilinear", align_corners=False)


def _tiles(values: Tensor) -> Tensor:
    """`values` [1, 1, h, w] cut into square tiles: [1, 1, rows, columns, pixels]."""
    height, width = values.shape[-2:]
    tile = max(1, min(height, width) // _TILES)
    rows, columns = -(-height // tile), -(-width // tile)
    # Repeating the edge fills the last tiles: it hardly moves what is measured in them.
    full = F.pad(values, (0, columns * tile - width, 0, rows * tile - height), mode="replicate")
    return full.unfold(2, tile, tile).unfold(3, tile, tile).flatten(start_dim=4)


def _patch_means(values: Tensor) -> Tensor:
    """Means over channels and patch: [1, 1, H, W]."""
    half = _PATCH // 2
    down = F.avg_pool2d(values.mean(dim=1, keepdim=True), (_PATCH, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(down, (1, _PATCH), 1, (0, half), count_include_pad=False)


def lost_detail(here: Tensor, change: Tensor, weight: Tensor) -> Tensor:
    """What `change` took from the finest band of detail, to be added again: [1, 3, H, W].

    Flow that is a little off makes the average softer than its frames: part of `change` is then minus a share of the picture's
    own finest band. Regression gives that share tile by tile. Flicker has no part in it: what is left of it after an even
    average does not correlate with what was taken out, and its energy in the picture follows from the energy taken out.
    """
    fine, taken = _finest(here + change), _finest(change)
    energy = _tile_means(fine.square())
    left = _tile_means(taken.square() / (weight - 1).clamp_min(0.5))
    detail = torch.maximum(energy - left, 0.3 * energy)
    share = (-_tile_means(fine * taken) / (detail + 1e-6)).clamp(0, _MOST_SHARPENING)
    return share * fine


def _finest(image: Tensor) -> Tensor:
    return image - F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
