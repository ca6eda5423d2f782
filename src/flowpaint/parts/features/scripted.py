"""Networks that come as TorchScript files: Inception for pictures, I3D and C3D for clips.

None of them is rebuilt here: a file that was scripted from the published network is called as it is. The port is the same
for all: a float32 tensor of one size and one range goes in, [N, D] comes out.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ...errors import InputError, WeightsError
from ...types import check_shape
from ...weights import given
from .fitting import Facts, about, check_batch, in_batches, squeezed

Span = Literal["0..1", "-1..1", "0..255"]


@dataclass(frozen=True, kw_only=True)
class _Scripted:
    """`weights` is a TorchScript file; `size` the side to which pictures are resized, 0 for none; `span` their range.

    `flags` are names, with commas between, of arguments that are True when the module is called. `width` is the number of
    features expected, 0 for any.
    """

    weights: str = ""
    size: int = 0
    span: Span = "0..1"
    flags: str = ""
    width: int = 0
    batch: int = 8

    network: ClassVar[str] = ""
    _setting: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_batch(self.batch)

    def fit(self, pictures: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in [0, 1] at the network's size, squeezed to a square (bilinear, antialiased)."""
        check_shape(pictures=(pictures, "N 3 H W"))
        return squeezed(pictures, self.size, self.size) if self.size else pictures

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _ = self._file

    def facts(self) -> Facts:
        """Network, file of weights, its hash, and how it is called. Raises `WeightsError` without weights."""
        call = {"call": self.flags} if self.flags else {}
        return {**about(self.network, self._file), "size": self.size or "as it is", "resize": "bilinear, antialiased", **call}

    @property
    def _file(self) -> Path:
        return given(self.weights, network=self.network, setting=self._setting, form="script")

    def _through(self, fitted: Tensor) -> Tensor:
        """Rows [N, D] of what the module wants, but in [0, 1]."""
        module = _module(self._file, fitted.device)
        flags = dict.fromkeys((name.strip() for name in self.flags.split(",") if name.strip()), True)

        def one(part: Tensor) -> Tensor:
            scaled = {"0..1": part, "-1..1": part * 2 - 1, "0..255": part * 255}[self.span]
            try:
                found = module(scaled, **flags)
            except RuntimeError as error:
                told = str(error).strip().splitlines()[-1]
                raise WeightsError(
                    f"{self.weights} refuses a tensor of {tuple(scaled.shape)} with the flags {self.flags!r}: {told}. "
                    f"Give a module of {self.network} that takes it, or other `size` and `flags`."
                ) from error
            rows: Tensor = found.flatten(1) if isinstance(found, Tensor) and found.ndim > 1 else torch.empty(0, 0)
            if len(rows) != len(part) or (self.width and rows.shape[1] != self.width):
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                wanted = f"{self.width} features" if self.width else "a row"
                raise WeightsError(
                    f"{self.weights} gives {shape} for {len(part)} inputs, where {wanted} each are expected. "
                    "Set `flags` (return_features, for example) or `width` for this file."
                )
            return rows

        return in_batches(one, fitted, self.batch)


@dataclass(frozen=True, kw_only=True)
class InceptionFeatures(_Scripted):
    """Inception-V3 with the weights of 2015, on which FID is defined (Heusel et al., NeurIPS 2017): 2048 numbers.

    The module is called with float32 [N, 3, 299, 299] in 0..255, RGB. NVIDIA's public `inception-2015-12-05.pt` (of
    StyleGAN2-ADA and 3) resizes by itself and gives features with `flags="return_features"`, classes without: for FID set
    `size=0` and that flag, for the inception score `size=0` alone.
    """

    size: int = 299
    span: Span = "0..255"
    width: int = 2048
    batch: int = 16

    network: ClassVar[str] = "Inception-V3"
    _setting: ClassVar[str] = "fid.extractor.weights"

    def __call__(self, pictures: Tensor) -> Tensor:
        """Features [N, D] of pictures [N, 3, H, W] in [0, 1]."""
        return self.rows(self.fit(pictures))

    def rows(self, fitted: Tensor) -> Tensor:
        """Features [N, D] of pictures that `fit` gave."""
        return self._through(fitted)


@dataclass(frozen=True, kw_only=True)
class _ScriptedClips(_Scripted):
    """A network that sees clips, laid out [N, 3, T, H, W]."""

    batch: int = 2

    least: ClassVar[int] = 1  # frames

    def __call__(self, clips: Tensor) -> Tensor:
        """Features [N, D] of clips [N, T, 3, H, W] in [0, 1]. Raises `InputError` for fewer frames than the network needs."""
        check_shape(clips=(clips, "N T 3 H W"))
        return self.rows(self.fit(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]))

    def rows(self, fitted: Tensor) -> Tensor:
        """Features [N, D] of clips [N, T, 3, S, S] whose frames `fit` gave."""
        if fitted.shape[1] < self.least:
            raise InputError(f"{self.network} needs {self.least} frames, got {fitted.shape[1]}. Give longer clips.")
        return self._through(fitted.transpose(1, 2))


@dataclass(frozen=True, kw_only=True)
class I3dFeatures(_ScriptedClips):
    """I3D trained on Kinetics-400 (Carreira and Zisserman, CVPR 2017), on which FVD is defined: 400 logits.

    The module is called with float32 [N, 3, T, 224, 224] in -1..1, RGB, T of 10 and more. The public `i3d_torchscript.pt` (of
    StyleGAN-V) gives the logits with `flags="return_features"`.
    """

    size: int = 224
    span: Span = "-1..1"
    width: int = 400

    network: ClassVar[str] = "I3D"
    least: ClassVar[int] = 10
    _setting: ClassVar[str] = "fvd.extractor.weights"


@dataclass(frozen=True, kw_only=True)
class C3dFeatures(_ScriptedClips):
    """C3D fine-tuned on UCF-101 (Tran et al., ICCV 2015), on which the video inception score is defined: 101 classes.

    The module is called with float32 [N, 3, 16, 112, 112] in 0..255, RGB; what is subtracted from the pixels is its business.
    """

    size: int = 112
    span: Span = "0..255"
    width: int = 101

    network: ClassVar[str] = "C3D"
    least: ClassVar[int] = 16
    _setting: ClassVar[str] = "video-inception-score.extractor.weights"


@lru_cache(maxsize=4)
def _module(file: Path, device: torch.device) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is old, and is what these networks come as
            module: nn.Module = torch.jit.load(str(file), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read as TorchScript. Give a file that torch.jit.save wrote.") from error
    return module.eval()
