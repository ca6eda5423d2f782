"""Which frames to edit: pure functions over what was measured on the clip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError
from .types import Flow, check_shape
from .warp import warp

Placing: TypeAlias = Literal["gaps", "paper", "official"]


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame to edit, and why it was chosen."""

    index: int
    reason: str


def by_tracking(
    neighbours: Iterable[Flow],
    *,
    lost: float = 0.25,
    lost_locally: float = 1.0,
    longest: int = 120,
    shortest: int = 1,
) -> list[KeyFrame]:
    """Key frames placed where the one before is no longer seen in more than a share `lost` of the picture, or in more than
    `lost_locally` of some window of an eighth of its short side: a hand may move while all else stands still.

    `neighbours` are the flows from each frame to the one before it, [1, 2, h, w], from frame 1 on. A pixel is still seen when
    every step back to the key frame was visible. None comes before `shortest` frames. After `longest` a key frame is due in any
    case, and the last frame is one where half of `lost` is gone by then: what came into view since has no other picture.
    """
    keys = [KeyFrame(0, "first frame")]
    seen: Tensor | None = None
    gone, index = 0.0, 0
    for index, flow in enumerate(neighbours, start=1):
        before = torch.ones_like(flow.visibility) if seen is None else seen
        seen = warp(before, flow.vectors) * flow.visibility
        gone = 1.0 - seen.mean().item()
        if index - keys[-1].index < shortest:
            continue
        if gone > lost:
            keys.append(KeyFrame(index, f"{gone:.0%} of the picture is no longer that of frame {keys[-1].index}"))
            seen, gone = None, 0.0
        elif _most_gone(seen) > lost_locally:
            keys.append(KeyFrame(index, f"a part of the picture is no longer that of frame {keys[-1].index}"))
            seen, gone = None, 0.0
        elif index - keys[-1].index >= longest:
            keys.append(KeyFrame(index, f"{longest} frames after the last"))
            seen, gone = None, 0.0
    if gone > lost / 2:
        keys.append(KeyFrame(index, "last frame"))
    return keys


def _most_gone(seen: Tensor) -> float:
    """Return the largest share of a window of an eighth of the short side that is not `seen` [1, 1, h, w]."""
    side = max(1, min(seen.shape[-2:]) // 8)
    return 1.0 - F.avg_pool2d(seen, side, stride=max(1, side // 2)).min().item()


def in_windows(keys: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Windows of up to `size` of the frames `keys`, each beginning with the last one of the window before (FlowVid, section 5.2).

    One frame alone makes no window. Raises `ConfigError` for a size below 2.
    """
    if size < 2:
        raise ConfigError(f"Windows of {size} frames hold nothing new. Give 2 or more.")
    return [tuple(keys[start : start + size]) for start in range(0, len(keys) - 1, size - 1)]


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of blurred frames a, b [N, 3, H, W] in [0, 1]: [N], on FRESCO's scale of [-1, 1].

    For `by_difference`, whose entry 0 is 0. Give frames with a short side of about 512; the blur is a Gaussian of standard
    deviation 1.7 over 9 x 9.
    """
    check_shape(a=(a, "N 3 H W"), b=(b, "N 3 H W"))
    at = torch.arange(-4, 5, dtype=a.dtype, device=a.device)
    weights = torch.exp(-at.square() / (2 * 1.7**2))
    kernel = (weights / weights.sum()).expand(3, 1, 1, 9)
    apart = F.pad(2 * (a - b), (4, 4, 4, 4), mode="replicate")
    blurred = F.conv2d(F.conv2d(apart, kernel, groups=3), kernel.transpose(2, 3), groups=3)
    return blurred.square().mean(dim=(1, 2, 3))


def by_difference(
    differences: Sequence[float], *, shortest: int = 5, longest: int = 20, placing: Placing = "gaps"
) -> list[KeyFrame]:
    """Key frames where the picture changes most (FRESCO, Yang et al., CVPR 2024, Algorithm 1).

    `differences[i]` is that of frames i and i - 1, as `difference` measures it. First and last frame are keys; while two
    neighbouring keys are more than `longest` apart, the largest remaining difference is taken, at least `shortest` from every
    other. With `placing` "gaps" it is looked for inside the gaps that are too wide, so busy parts are not crowded for the sake
    of calm ones; "paper" looks through the whole clip; so does "official", the released code, where a key before another is at
    least `shortest` + 1 from it. Raises `ConfigError` unless 1 <= shortest and 2 shortest <= longest.
    """
    if not differences:
        raise ConfigError("There are no frames to choose key frames from. Give one difference a frame.")
    if shortest < 1 or 2 * shortest > longest:
        raise ConfigError(f"Key frames {shortest} to {longest} frames apart cannot be placed. Give 1 <= shortest <= longest / 2.")
    if placing not in get_args(Placing):
        raise ConfigError(f"Key frames cannot be placed by {placing!r}. Choose one of {', '.join(get_args(Placing))}.")
    last = len(differences) - 1
    keys = {0: "first frame", last: "last frame"}
    while True:
        gaps = list(pairwise(sorted(keys)))
        wide = [(a, b) for a, b in gaps if b - a > longest]
        if not wide:
            return [KeyFrame(index, keys[index]) for index in sorted(keys)]
        inside: list[int] = []
        for a, b in wide if placing == "gaps" else gaps:
            half_open = placing == "official" and b != last
            inside += range(a + shortest, b - shortest + (0 if half_open else 1))
        chosen = max(inside, key=lambda index: (differences[index], -index))
        keys[chosen] = f"the picture changes most here ({differences[chosen]:.4f})"
