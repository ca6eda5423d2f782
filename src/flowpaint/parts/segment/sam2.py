"""`Sam2Segmenter`: masks by Segment Anything 2 (Ravi et al., 2024), told where to look by another segmenter."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError
from ...networks.pretrained import pretrained
from ...seams import Segmenter, default
from ...types import check_shape
from ...weights import NETWORK, model_folder

if TYPE_CHECKING:
    from transformers import Sam2Model

_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Sam2Segmenter:
    """SAM 2, frame by frame. The part `seek` finds roughly where the object is; its box or innermost point is the prompt.

    `weights` is a folder that `save_pretrained` wrote, or a public name of Hugging Face. A frame in which `seek` finds nothing
    has no object. Raises `WeightsError` when first asked, if the weights are neither here nor to be had.
    """

    weights: str = "facebook/sam2.1-hiera-small"
    seek: Segmenter = default("segmenter", "motion")
    prompt: Literal["box", "point"] = "box"
    batch: int = 2

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"A batch of {self.batch} holds nothing. Give 1 or more.")

    def __call__(self, frames: Tensor, hint: Tensor | None = None) -> Tensor:
        """Masks [T, 1, H, W], 0 or 1, 1 = object, of `frames` [T, 3, H, W] in [0, 1].

        A `hint` [1 or T, 1, H, W] in [0, 1], 1 about the object, takes the place of what `seek` finds.
        """
        check_shape(frames=(frames, "T 3 H W"))
        network = _network(_folder(self.weights), frames.device)
        rough = self.seek(frames) if hint is None else hint
        check_shape(rough=(rough, "N 1 H W"), frames=(frames, "T 3 H W"))
        rough = rough.expand(len(frames), -1, -1, -1)
        masks = torch.zeros_like(frames[:, :1], dtype=torch.float32)
        there = [index for index in range(len(frames)) if (rough[index] > 0.5).any()]
        with torch.no_grad():
            for start in range(0, len(there), self.batch):
                some = there[start : start + self.batch]
                masks[some] = _masks(network, frames[some].float(), rough[some], self.prompt)
        return masks

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _folder(self.weights)


def _masks(network: "Sam2Model", frames: Tensor, rough: Tensor, prompt: str) -> Tensor:
    """0 or 1, [N, 1, H, W]."""
    config: Any = network.config
    side = int(config.prompt_encoder_config.image_size)
    height, width = frames.shape[-2:]
    pictures = F.interpolate(frames, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    mean, deviation = (pictures.new_tensor(values)[None, :, None, None] for values in (_MEAN, _DEVIATION))
    places = torch.stack([(_box if prompt == "box" else _inmost)(one[0]) for one in rough])
    scale = places.new_tensor([side / width, side / height])
    places = (places * scale).to(pictures)  # [N, points, 2]: the network sees every picture as a square
    # The network adds half a pixel to what it is told: it counts from the pixels' middles.
    asked = {"input_boxes": places.flatten(1)[:, None] - 0.5} if prompt == "box" else {"input_points": places[:, None] - 0.5}
    found: Any = network(pixel_values=(pictures - mean) / deviation, multimask_output=False, **asked)
    logits: Tensor = found.pred_masks[:, 0].float()
    return (F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False) > 0).float()


def _box(mask: Tensor) -> Tensor:
    """Top left and bottom right of `mask` [H, W], in pixels from the picture's corner: [2, 2], (x, y)."""
    rows, columns = ((mask > 0.5).any(dim=axis).nonzero().flatten() for axis in (1, 0))
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float().reshape(2, 2)


def _inmost(mask: Tensor) -> Tensor:
    """The point of `mask` [H, W] farthest from its rim, in pixels from the picture's corner: [1, 2], (x, y)."""
    full = np.pad((mask > 0.5).byte().cpu().numpy(), 1)  # the picture's border is a rim too
    _, _, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(full, cv2.DIST_L2, 5))
    return torch.tensor([[x - 0.5, y - 0.5]], device=mask.device)


def _folder(weights: str) -> Path:
    return model_folder(weights, NETWORK, setting="saliency.weights")


@lru_cache(maxsize=2)
def _network(folder: Path, device: torch.device) -> "Sam2Model":
    from transformers import Sam2Model

    # Public files are those of the video model, which is no news.
    found: Sam2Model = pretrained(Sam2Model, folder, device, title="SAM 2", warnings=False)
    return found
