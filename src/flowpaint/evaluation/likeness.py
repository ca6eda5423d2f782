"""How far two pictures are apart in look: in their colours, and in the strength and direction of their strokes."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..smoothing import gaussian, gradient
from ..types import check_shape

_COLOURS = 6  # bins for each of red, green and blue, all three jointly
_DIRECTIONS, _STRENGTHS = 8, 5
_SCALES = (0.7, 2.0)  # pixels: the spreads at which strokes are measured
_WEAKEST, _STRONGEST = 1 / 255, 0.5  # slopes a pixel between which strengths are told apart, by ratio


def likeness(picture: Tensor) -> Tensor:
    """What `distance` compares of a picture [3, H, W] in [0, 1]: shares [R, B] that add up to 1 in each row, float32.

    Row 0 is the joint histogram of red, green and blue; then, for each scale, that of the strength and direction of the gradient
    of luma. Values between two bins count in both, by their nearness. Rows are filled up with zeros.
    """
    check_shape(picture=(picture, "3 H W"))
    rows = [_histogram(picture.flatten(1) * (_COLOURS - 1), (_COLOURS,) * 3, cyclic=False)]
    weights = picture.new_tensor([0.299, 0.587, 0.114])
    light = (picture * weights[:, None, None]).sum(dim=0)[None, None]
    for sigma in _SCALES:
        x, y = gradient(gaussian(light, sigma))[0].flatten(1) / 2  # `gradient` gives differences over two pixels
        strength = torch.hypot(x, y).clamp(_WEAKEST, _STRONGEST)
        level = torch.log(strength / _WEAKEST) / math.log(_STRONGEST / _WEAKEST) * (_STRENGTHS - 1)
        direction = torch.atan2(y, x).remainder(math.pi) / math.pi * _DIRECTIONS
        rows.append(_histogram(torch.stack((level, direction)), (_STRENGTHS, _DIRECTIONS), cyclic=True))
    width = max(len(row) for row in rows)
    return torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])


def distance(a: Tensor, b: Tensor) -> float:
    """How unlike two pictures are by their `likeness` a and b: 0 alike, 2 nothing in common.

    The Hellinger distance of their colours plus the mean one of their gradients.
    """
    apart = (1 - (a * b).sqrt().sum(dim=1)).clamp_min(0).sqrt()
    return float(apart[0] + apart[1:].mean())


def nearest_look(picture: Tensor, teachers: Mapping[str, Tensor]) -> str:
    """The name of the picture among `teachers`, all [3, H, W] in [0, 1], that `picture` is most like."""
    found = likeness(picture)
    return min(teachers, key=lambda name: distance(found, likeness(teachers[name])))


def _histogram(places: Tensor, bins: tuple[int, ...], *, cyclic: bool) -> Tensor:
    """Shares [prod(bins)] of points at `places` [D, N], in bins; the last axis may go round. Each point is shared linearly."""
    lower = places.floor()
    part = places - lower
    total = places.new_zeros(math.prod(bins))
    for corner in range(2 ** len(bins)):
        index = torch.zeros(places.shape[1], dtype=torch.long)
        weight = torch.ones(places.shape[1])
        for axis, count in enumerate(bins):
            up = corner >> axis & 1
            bin_at = lower[axis].long() + up
            bin_at = bin_at % count if cyclic and axis == len(bins) - 1 else bin_at.clamp(0, count - 1)
            index = index * count + bin_at
            weight = weight * (part[axis] if up else 1 - part[axis])
        total.index_add_(0, index, weight)
    return total / total.sum()
