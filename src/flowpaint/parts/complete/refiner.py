"""`Refined`: holes of depth completed by the recurrent network that sees all frames and the shape of what comes instead."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, WeightsError
from ...networks.refiner import MULTIPLE, Refiner, refiner_in
from ...types import check_shape
from ...warp import resize
from ...weights import NETWORK, model_folder
from .harmonic import Harmonic

_STILL = Harmonic()


@dataclass(frozen=True, kw_only=True)
class Refined:
    """The depth refiner of StableV2V (Liu et al., arXiv 2411.11045, section 3.2.3): a network that completes depth over time.

    `weights` names a network or its folder, which `flowpaint train refiner` exports; none come with flowpaint. It works on
    pictures of the short side for which it was trained, or of `side` pixels where that is not 0; what it says is enlarged and put
    into the hole alone. Clips longer than `chunk` frames are done in parts that share `overlap` frames, in which one fades into
    the next.
    """

    weights: str = ""
    side: int = 0
    chunk: int = 32
    overlap: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= self.chunk // 2 or self.chunk < 1 or self.side < 0:
            raise ConfigError(
                f"Parts of {self.chunk} frames that share {self.overlap}, of side {self.side}, are none. "
                "Give 1 or more, at most half of that, and 0 or more."
            )

    def __call__(self, depth: Tensor, hole: Tensor, shape: Tensor) -> Tensor:
        """`depth` [T, 1, H, W] in [0, 1], 1 = near, completed where `hole` [T, 1, H, W] is above 0.5, else the same to the bit.

        `shape` [1, 1, H, W] is above 0.5 where the edited object is in frame 0. Raises `ShapeError` for others, `WeightsError`
        without weights or for those of another network.
        """
        check_shape(depth=(depth, "T 1 H W"), hole=(hole, "T 1 H W"), shape=(shape, "1 1 H W"))
        inside = hole > 0.5
        if not bool(inside.any()):
            return depth.clone()
        network = _network(self._folder, depth.device)
        size = depth.shape[-2:]
        small = self._smaller(depth, inside.float(), (shape > 0.5).float(), self.side or network.side)
        told = _padded(small)
        found = told[0].new_zeros(len(depth), 1, *told[0].shape[-2:])
        for start, stop, share in parts(len(depth), self.chunk, self.overlap):
            part = completed(network, told[0][start:stop], told[1][start:stop], told[2])
            found[start:stop] += share.to(part)[:, None, None, None] * part
        height, width = small[0].shape[-2:]
        whole = resize(found[..., :height, :width], *size).clamp(0, 1)
        return torch.where(inside, whole.to(depth), depth)

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _ = self._folder

    @property
    def _folder(self) -> Path:
        if not self.weights:
            raise WeightsError(
                "The depth refiner has no weights: none come with flowpaint. Give a folder that `flowpaint train refiner` "
                "exported, as in `--set completer.weights=/path`, or use the completer harmonic."
            )
        return model_folder(self.weights, NETWORK, setting="completer.weights")

    @staticmethod
    def _smaller(depth: Tensor, hole: Tensor, shape: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Depth, hole and shape with a short side of `side`, or as they are where they are no larger.

        A small pixel is hole where any part of it is; so no depth of the old object reaches the network.
        """
        scale, known = side / min(depth.shape[-2:]), 1 - hole
        depth = torch.where(hole > 0, 0.0, depth.float())  # the old object's, which may be no number
        if scale >= 1:
            return depth, hole, shape
        size = max(1, round(depth.shape[-2] * scale)), max(1, round(depth.shape[-1] * scale))
        share = F.adaptive_avg_pool2d(known, size)
        less = (share < 1 - 1e-6).float()
        return F.adaptive_avg_pool2d(depth, size) * (1 - less), less, (F.adaptive_avg_pool2d(shape, size) > 0.5).float()


def completed(network: Refiner, depth: Tensor, hole: Tensor, shape: Tensor) -> Tensor:
    """What `network` says the depth of a whole clip is, everywhere: [T, 1, H, W], the mean of its three channels.

    `depth`, `hole` [T, 1, H, W] and `shape` [1, 1, H, W] as for `Refined`, sides multiples of 8.
    """
    start = _STILL(depth, hole, shape) if network.residual else depth
    found = network.filled(depth[None], hole[None], shape[None], start[None])
    return found[0].mean(dim=1, keepdim=True)


def parts(count: int, chunk: int, overlap: int) -> list[tuple[int, int, Tensor]]:
    """First frame, end and share in each frame of the parts of a clip of `count` frames; in each frame shares add up to 1."""
    step = chunk - overlap
    starts = [0, *range(step, max(count - overlap, 1), step)]
    found = []
    for start in starts:
        stop = min(start + chunk, count)
        share = torch.ones(stop - start)
        ramp = (torch.arange(overlap) + 1) / (overlap + 1)
        if start:
            share[:overlap] = ramp
        if stop < count:
            share[len(share) - overlap :] = 1 - ramp
        found.append((start, stop, share))
    return found


def _padded(told: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, hole and shape with sides that the network takes; the last row and column repeat."""
    height, width = told[0].shape[-2:]
    margin = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    depth, hole, shape = (F.pad(one, margin, mode="replicate") for one in told)
    return depth, hole, shape


@lru_cache(maxsize=4)
def _network(folder: Path, device: torch.device) -> Refiner:
    return refiner_in(folder).to(device)
