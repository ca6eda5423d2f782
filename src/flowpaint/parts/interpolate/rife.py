"""`Rife`: the pictures between two by a network trained for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ...networks.rife import Network, rife_of
from ...types import check_shape
from ...weights import given, read_state
from .times import at_times


@dataclass(frozen=True, kw_only=True)
class Rife:
    """RIFE (Huang et al., ECCV 2022) in the form of Practical-RIFE 4.6, at any time between two pictures.

    `weights` is a file of that version: its authors' `flownet.pkl`, which is a pickle (`--allow-pickle`), or the same tensors as
    .safetensors. Other versions are refused. None come with flowpaint, and it has not been run with the published weights: that
    it computes what they expect rests on what is known of the layers, and on numbers equal to those of a program by others with
    weights that were made up.
    """

    weights: str = ""

    def __call__(self, a: Tensor, b: Tensor, times: Sequence[float]) -> Tensor:
        """Pictures [len(times), 3, H, W] in [0, 1] between a and b [3, H, W] in [0, 1]: time 0 is a, 1 is b, exactly.

        Raises `WeightsError` without weights or for those of another network, `InputError` for a time outside 0..1.
        """
        check_shape(a=(a, "3 H W"), b=(b, "3 H W"))
        network = _network(self._file, a.device)
        return at_times(a, b, times, lambda time: network(a[None], b[None], time))

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _ = self._file

    @property
    def _file(self) -> Path:
        return given(self.weights, network="RIFE", setting="propagate.interpolator.weights")


@lru_cache(maxsize=4)
def _network(file: Path, device: torch.device) -> Network:
    return rife_of(read_state(file)).eval().requires_grad_(False).to(device)
