"""`RaftFlow`: optical flow by a network that compares all pixels of two pictures. Right for distant frames."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ...errors import ConfigError, WeightsError
from ...networks.raft import Raft, raft_of
from ...types import Flow, check_shape
from ...warp import Rule, resize, resize_flow, visibility
from ...weights import given, known, names_file, published, read_state

_NAMES = ("raft-small", "raft-large")
_SETTING = "flow.weights"
_SMALL, _MOST = 256, 4  # pixels of the short side below which a picture has too few cells, and how often it is enlarged at most


@dataclass(frozen=True, kw_only=True)
class RaftFlow:
    """RAFT (Teed and Deng, ECCV 2020), small or large, run both ways so that visibility is known.

    `weights` is `raft-small` (1.0 million parameters, 4 MB), `raft-large` (5.3 million, 21 MB), or a file of the authors or of
    torchvision; which of the two networks it is of is seen from its tensors. `updates` is how often the flow is refined.

    Pictures whose short side is above `side` are seen at that size, small ones enlarged to 256 pixels, 4 times at most: there
    are errors of half a pixel in 64x64 else. 0 = as they are. The flow comes back at their own size. Every cell of 8x8 pixels
    is compared with every other, so memory grows with the fourth power of the side: 16:9 takes 0.15 GB at 432, 1.1 GB at 720,
    5.6 GB at 1080. Raises `WeightsError` when first asked, if the weights are neither here nor to be had.
    """

    weights: str = "raft-small"
    updates: int = 12
    rule: Rule = "unimatch"
    side: int = 432

    def __post_init__(self) -> None:
        if self.updates < 1:
            raise ConfigError(f"RAFT cannot refine the flow {self.updates} times. Give 1 or more updates.")
        if self.side < 0:
            raise ConfigError(f"A short side of {self.side} pixels cannot be. Give 0 for pictures as they are.")

    def __call__(self, a: Tensor, b: Tensor) -> Flow:
        """Flow a to b of pictures [N, 3, H, W] in [0, 1]: vectors in pixels, visibility by `rule`, one pair at a time.

        Raises `WeightsError` without weights, `ResourceError` where memory runs out.
        """
        check_shape(a=(a, "N 3 H W"), b=(b, "N 3 H W"))
        file, pinned = self._file
        network = _network(file, a.device, pinned=pinned)
        with torch.no_grad():
            pairs = [self._pair(network, one[None], two[None]) for one, two in zip(a, b, strict=True)]
        flow_ab, flow_ba = (torch.cat([pair[way] for pair in pairs]) for way in (0, 1))
        return Flow(vectors=flow_ab, visibility=visibility(flow_ab, flow_ba, self.rule), reverse=flow_ba)

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _ = self._file

    def _pair(self, network: Raft, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        """Flow a to b and b to a, [1, 2, H, W] each."""
        height, width = a.shape[-2:]
        if torch.equal(a, b):  # a frame shown twice; and where nothing is to be seen, as in black, the network would wander
            return a.new_zeros(1, 2, height, width, dtype=torch.float32), a.new_zeros(1, 2, height, width, dtype=torch.float32)
        scale = self._scale(min(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        found = network.both(resize(a.float(), *size), resize(b.float(), *size), self.updates)
        return tuple(resize_flow(one, height, width) for one in found)

    def _scale(self, short: int) -> float:
        """How much larger a picture is seen whose short side has so many pixels."""
        if not self.side:
            return 1.0
        if short > self.side:
            return self.side / short
        return max(1.0, min(_MOST, min(_SMALL, self.side) / short))

    @property
    def _file(self) -> tuple[Path, bool]:
        """The file of weights, and whether it is one whose hash is known."""
        record = known(self.weights)
        if record is not None and record.name in _NAMES:
            return published(record.url, network="RAFT", setting=_SETTING, asked=True), True
        if not names_file(self.weights):
            names = " or ".join(_NAMES)
            raise WeightsError(
                f"RAFT has no weights called {self.weights!r}. Give {names}, or a file by `--set {_SETTING}=/path`."
            )
        return given(self.weights, network="RAFT", setting=_SETTING), False


@lru_cache(maxsize=4)
def _network(file: Path, device: torch.device, *, pinned: bool) -> Raft:
    return raft_of(read_state(file, pinned=pinned)).eval().requires_grad_(False).to(device)
