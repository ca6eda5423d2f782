"""`DepthAnything`: how near each pixel is, from one picture (Yang et al., "Depth Anything V2", NeurIPS 2024)."""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError
from ...networks.pretrained import pretrained
from ...types import check_shape
from ...weights import NETWORK, model_folder

if TYPE_CHECKING:
    from transformers import DepthAnythingForDepthEstimation

_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
_DEVIATION = (0.229, 0.224, 0.225)
_LONGEST = 4  # times the short side that the network sees: beyond, memory would know no limit
_ENDS = (0.01, 0.99)  # shares of a clip's pixels at which black and white are set
_FLAT = 1e-6  # range, as a share of the values, below which a clip has no depth


@dataclass(frozen=True, kw_only=True)
class DepthAnything:
    """Depth by a network, 1 = near, scaled once per clip: what does not move keeps its value while other things come and go.

    `weights` is a folder that `save_pretrained` wrote, or a public name of Hugging Face. The network sees the short side at
    `side` pixels (0 = the size it was trained at), as its authors do. `near` and `far` are the network's values that become 1
    and 0; missing ones are found in the clip, at 1 % and 99 % of all its pixels. Raises `WeightsError` when first asked, if the
    weights are neither here nor to be had.
    """

    weights: str = "depth-anything/Depth-Anything-V2-Small-hf"
    side: int = 0
    near: float | None = None
    far: float | None = None
    batch: int = 4

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"A batch of {self.batch} holds nothing. Give 1 or more.")
        if self.side < 0:
            raise ConfigError(f"A short side of {self.side} pixels cannot be. Give 0 for the network's own.")
        if self.near is not None and self.far is not None and not self.near > self.far:
            raise ConfigError(f"What is near, {self.near}, must be above what is far, {self.far}. Exchange them.")

    def __call__(self, frames: Tensor) -> Tensor:
        """Maps [T, 3, H, W] in [0, 1], 1 = near, of `frames` [T, 3, H, W] in [0, 1]."""
        return self.depth(frames).expand(-1, 3, -1, -1)

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _folder(self.weights)

    def depth(self, frames: Tensor) -> Tensor:
        """Depth [T, 1, H, W] in [0, 1], 1 = near, of `frames` [T, 3, H, W] in [0, 1]. 0 where the clip has no depth at all."""
        found = self._nearness(frames)
        far, near = self._ends(found)
        return ((found - far) / (near - far)).clamp(0, 1)

    def fitted(self, frames: Tensor) -> "DepthAnything":
        """The same with the scale of the clip `frames` [T, 3, H, W]: parts of one clip then come out as the whole does."""
        if self.near is not None and self.far is not None:
            return self
        far, near = self._ends(self._nearness(frames))
        return dataclasses.replace(self, near=near, far=far)

    def _ends(self, found: Tensor) -> tuple[float, float]:
        """What becomes 0 and what becomes 1."""
        values = found.cpu().numpy()
        far, near = (float(one) for one in np.quantile(values, _ENDS))
        far, near = far if self.far is None else self.far, near if self.near is None else self.near
        # A flat clip would otherwise show the network's rounding.
        return far, max(near, far + _FLAT * max(abs(far), 1.0))

    def _nearness(self, frames: Tensor) -> Tensor:
        """The network's values at the frames' size, more = nearer: [T, 1, H, W]."""
        check_shape(frames=(frames, "T 3 H W"))
        network = _network(_folder(self.weights), frames.device)
        with torch.no_grad():
            return torch.cat([_seen(network, part.float(), self.side) for part in frames.split(self.batch)])


def _seen(network: "DepthAnythingForDepthEstimation", frames: Tensor, side: int) -> Tensor:
    config: Any = network.config
    height, width = frames.shape[-2:]
    scale = (side or int(config.backbone_config.image_size)) / min(height, width)
    patch = int(config.patch_size)
    limit = _LONGEST * min(height, width)
    size = [max(patch, patch * round(scale * min(length, limit) / patch)) for length in (height, width)]
    pictures = F.interpolate(frames, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    mean, deviation = (pictures.new_tensor(values)[None, :, None, None] for values in (_MEAN, _DEVIATION))
    found: Tensor = network(pixel_values=(pictures - mean) / deviation).predicted_depth[:, None].float()
    if config.depth_estimation_type == "metric":  # metres: far is more
        found = 1 / found.clamp_min(1e-3)
    return F.interpolate(found, size=(height, width), mode="bilinear", align_corners=False)


def _folder(weights: str) -> Path:
    return model_folder(weights, NETWORK, setting="control.weights")


@lru_cache(maxsize=2)
def _network(folder: Path, device: torch.device) -> "DepthAnythingForDepthEstimation":
    from transformers import DepthAnythingForDepthEstimation

    found: DepthAnythingForDepthEstimation = pretrained(DepthAnythingForDepthEstimation, folder, device, title="Depth Anything")
    return found
