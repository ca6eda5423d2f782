"""How pictures are brought to the size of a network, and how many of them go through it at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError
from ...weights import sha256_of

Facts = dict[str, str | int]
Filter = Literal["bilinear", "bicubic"]


def squeezed(pictures: Tensor, height: int, width: int, how: Filter = "bilinear") -> Tensor:
    """`pictures` [N, 3, H, W] in [0, 1] as [N, 3, height, width] in [0, 1], antialiased, as Pillow does it."""
    if pictures.shape[-2:] == (height, width):
        return pictures
    return F.interpolate(pictures, size=(height, width), mode=how, align_corners=False, antialias=True).clamp(0, 1)


def in_batches(one: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor:
    """`one` of every `size` rows of [N, ...], joined as [N, ...] float32, without gradients."""
    with torch.no_grad():
        return torch.cat([one(part).float() for part in rows.split(size)])


def about(network: str, file: Path) -> Facts:
    """What a number that comes from `network` cannot be read without: its name, its file and the start of the file's hash."""
    return {"network": network, "weights": file.name, "sha256": sha256_of(file)[:12]}


def check_batch(batch: int) -> None:
    """Raise `ConfigError` unless at least one picture goes through a network at a time."""
    if batch < 1:
        raise ConfigError(f"A batch of {batch} holds nothing. Give 1 or more.")
