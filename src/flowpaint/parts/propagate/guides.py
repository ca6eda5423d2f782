"""Pictures that say where patches of a key frame belong: edges, and places."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...colour import luma
from ...warp import grid_of


def edges(picture: Tensor) -> Tensor:
    """The Laplacian of luma over four neighbours, about a middle grey: [1, 1, H, W] in [0, 1] of [1, 3, H, W]."""
    kernel = picture.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return (0.5 + F.conv2d(F.pad(luma(picture), (1, 1, 1, 1), mode="replicate"), kernel)).clamp(0.0, 1.0)


def picture_of_places(shift: Tensor) -> Tensor:
    """Each pixel's place in the key frame as a colour, red across and green down: [1, 3, H, W] in [0, 1].

    `shift` [1, 2, H, W] leads there, in pixels.
    """
    height, width = shift.shape[-2:]
    ends = shift.new_tensor([max(width - 1, 1), max(height - 1, 1)])[None, :, None, None]
    places = ((grid_of(shift) + shift) / ends).clamp(0.0, 1.0)
    return torch.cat([places, torch.zeros_like(places[:, :1])], dim=1)
