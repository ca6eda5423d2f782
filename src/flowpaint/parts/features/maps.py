"""`VggFeatures` and `AlexFeatures`: feature maps of classifiers trained on ImageNet, and their means over the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import InputError
from ...networks.vgg import AlexNet, ConvStack, Vgg16
from ...types import check_shape
from ...weights import given, published, read_state
from .fitting import Facts, about, check_batch, in_batches

_PUBLISHED = "https://download.pytorch.org/models/"
_KINDS: dict[str, type[ConvStack]] = {"vgg16": Vgg16, "alexnet": AlexNet}


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """`weights` is a state dict with torchvision's keys (.pth or .safetensors), "" for torchvision's published file.

    That file is used from PyTorch's cache, or fetched where torchvision is installed. Pictures are seen at their own size.
    """

    weights: str = ""
    layer: str = ""  # whose mean over the picture calling gives
    batch: int = 8

    network: ClassVar[str] = ""
    _url: ClassVar[str] = ""
    _setting: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_batch(self.batch)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Means over the picture of the maps of `layer`: [N, C], of pictures [N, 3, H, W] in [0, 1]."""
        check_shape(pictures=(pictures, "N 3 H W"))
        return in_batches(lambda part: self.maps(part, [self.layer])[0].mean(dim=(2, 3)), pictures, self.batch)

    def maps(self, pictures: Tensor, layers: Sequence[str]) -> tuple[Tensor, ...]:
        """The maps [N, C, h, w] of `layers`, for pictures [N, 3, H, W] in [0, 1].

        Raises `ConfigError` for an unknown layer, `InputError` for pictures too small for the network.
        """
        check_shape(pictures=(pictures, "N 3 H W"))
        if min(pictures.shape[-2:]) < self._kind.least:
            size = f"{pictures.shape[-1]}x{pictures.shape[-2]}"
            raise InputError(f"Pictures of {size} are too small for {self._kind.title}. Give {self._kind.least} pixels a side.")
        stack = _stack(self.network, self._file, pictures.device, pinned=not self.weights)
        with torch.no_grad():
            found: tuple[Tensor, ...] = stack(pictures, layers)
        return found

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _ = self._file

    def facts(self) -> Facts:
        """Network, file of weights and its hash. Raises `WeightsError` without weights."""
        return about(self._kind.title, self._file)

    @property
    def perceptual(self) -> tuple[str, ...]:
        """The five layers that LPIPS compares."""
        return self._kind.perceptual

    @property
    def least(self) -> int:
        """The smallest side of a picture, in pixels."""
        return self._kind.least

    @property
    def _kind(self) -> type[ConvStack]:
        return _KINDS[self.network]

    @property
    def _file(self) -> Path:
        if self.weights:
            return given(self.weights, network=self._kind.title, setting=self._setting)
        return published(_PUBLISHED + self._url, network=self._kind.title, setting=self._setting)


@dataclass(frozen=True, kw_only=True)
class VggFeatures(_Stack):
    """VGG-16 (Simonyan and Zisserman, ICLR 2015), 512 numbers; `layer` is `relu1_1` to `relu5_3`.

    `weights`: a state dict with torchvision's keys (.pth or .safetensors); "" is torchvision's published file, from PyTorch's
    cache, or fetched where torchvision is installed. Raises `WeightsError` when first asked, if there are none.
    """

    layer: str = "relu5_3"

    network: ClassVar[str] = "vgg16"
    _url: ClassVar[str] = "vgg16-397923af.pth"
    _setting: ClassVar[str] = "spat-con.extractor.weights"


@dataclass(frozen=True, kw_only=True)
class AlexFeatures(_Stack):
    """AlexNet (Krizhevsky, 2014), 256 numbers; `layer` is `relu1` to `relu5`. `weights` as in `VggFeatures`."""

    layer: str = "relu5"

    network: ClassVar[str] = "alexnet"
    _url: ClassVar[str] = "alexnet-owt-7be5be79.pth"
    _setting: ClassVar[str] = "lpips.extractor.weights"


@lru_cache(maxsize=4)
def _stack(network: str, file: Path, device: torch.device, *, pinned: bool) -> ConvStack:
    stack = _KINDS[network]()
    stack.fill(read_state(file, pinned=pinned))
    return stack.eval().requires_grad_(False).to(device)
