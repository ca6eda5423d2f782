"""Which frames to edit: pure functions over what was measured on the clip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .errors import ConfigError
from .types import Flow
from .warp import warp


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame to edit, and why it was chosen."""

    index: int
    reason: str


def by_tracking(neighbours: Iterable[Flow], *, lost: float = 0.25, longest: int = 120) -> list[KeyFrame]:
    """Key frames placed where the one before is no longer seen in more than a share `lost` of the picture.

    `neighbours` are the flows from each frame to the one before it, [1, 2, h, w], from frame 1 on. A pixel is still seen when
    every step back to the key frame was visible. After `longest` frames a key frame is due in any case, and the last frame is
    one where half of `lost` is gone by then: what came into view since has no other picture.
    """
    keys = [KeyFrame(0, "first frame")]
    seen: Tensor | None = None
    gone, index = 0.0, 0
    for index, flow in enumerate(neighbours, start=1):
        before = torch.ones_like(flow.visibility) if seen is None else seen
        seen = warp(before, flow.vectors) * flow.visibility
        gone = 1.0 - seen.mean().item()
        if gone > lost:
            keys.append(KeyFrame(index, f"{gone:.0%} of the picture is no longer that of frame {keys[-1].index}"))
            seen, gone = None, 0.0
        elif index - keys[-1].index >= longest:
            keys.append(KeyFrame(index, f"{longest} frames after the last"))
            seen, gone = None, 0.0
    if gone > lost / 2:
        keys.append(KeyFrame(index, "last frame"))
    return keys


def by_difference(differences: Sequence[float], *, shortest: int = 5, longest: int = 20) -> list[KeyFrame]:
    """Key frames where the picture changes most (FRESCO, Yang et al., CVPR 2024, Algorithm 1).

    `differences[i]` is the mean squared difference of frames i and i - 1. First and last frame are keys; while two neighbouring
    keys are more than `longest` apart, the largest remaining difference is taken, at least `shortest` from every other. Unlike
    the released code the largest is looked for inside gaps that are too wide, so calm parts do not crowd busy ones, and the
    last frame is always kept. Raises `ConfigError` unless 1 <= shortest and 2 shortest <= longest.
    """
    if not differences:
        raise ConfigError("There are no frames to choose key frames from. Give one difference a frame.")
    if shortest < 1 or 2 * shortest > longest:
        raise ConfigError(f"Key frames {shortest} to {longest} frames apart cannot be placed. Give 1 <= shortest <= longest / 2.")
    last = len(differences) - 1
    keys = {0: "first frame", last: "last frame"}
    while True:
        order = sorted(keys)
        wide = [(a, b) for a, b in pairwise(order) if b - a > longest]
        if not wide:
            return [KeyFrame(index, keys[index]) for index in order]
        inside = [index for a, b in wide for index in range(a + shortest, b - shortest + 1)]
        chosen = max(inside, key=lambda index: (differences[index], -index))
        keys[chosen] = f"the picture changes most here ({differences[chosen]:.4f})"
