"""Optical flow: `DisFlow`, dense inverse search from OpenCV. Right for neighbouring frames, no weights."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from ...types import Flow, check_shape
from ...warp import Rule, visibility

_FINEST = {"fine": 0}  # the pyramid's finest level: 0 is full size; OpenCV's presets stop at a half or a quarter
_PRESETS = {
    "fine": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@dataclass(frozen=True, kw_only=True)
class DisFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) on luma, run both ways so that visibility is known.

    `preset`: OpenCV's three, and "fine", which searches down to full size: as exact on a frame of half the size as "medium" is
    on the whole one, and faster.
    """

    preset: Literal["ultrafast", "fast", "medium", "fine"] = "medium"
    rule: Rule = "unimatch"

    def __call__(self, a: Tensor, b: Tensor) -> Flow:
        """Flow a to b of pictures [N, 3, H, W] in [0, 1]: vectors in pixels, visibility by `rule`."""
        check_shape(a=(a, "N 3 H W"), b=(b, "N 3 H W"))
        estimator = cv2.DISOpticalFlow.create(_PRESETS[self.preset])
        if self.preset in _FINEST:
            estimator.setFinestScale(_FINEST[self.preset])
        first, second = _luma(a), _luma(b)
        there = [_pair(estimator, one, two) for one, two in zip(first, second, strict=True)]
        again = [_pair(estimator, two, one) for one, two in zip(first, second, strict=True)]
        flow_ab = torch.stack(there).to(a.device)
        flow_ba = torch.stack(again).to(a.device)
        return Flow(vectors=flow_ab, visibility=visibility(flow_ab, flow_ba, self.rule), reverse=flow_ba)


def _luma(pictures: Tensor) -> list[np.ndarray]:
    """Rec. 601 luma, uint8 [H, W] each."""
    weights = pictures.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]
    grey = (pictures * weights).sum(dim=1).clamp(0, 1).mul(255).round().byte().cpu()
    return [np.ascontiguousarray(one.numpy()) for one in grey]


def _pair(estimator: cv2.DISOpticalFlow, a: np.ndarray, b: np.ndarray) -> Tensor:
    """Flow a to b: [2, H, W], pixels. Small pictures are enlarged by repeating their edge: DIS wants 16 pixels and more."""
    height, width = a.shape
    pad = max(0, 32 - height), max(0, 32 - width)
    if any(pad):
        a, b = (np.pad(one, ((0, pad[0]), (0, pad[1])), mode="edge") for one in (a, b))
    found = estimator.calc(a, b, np.zeros((*a.shape, 2), np.float32))
    return torch.from_numpy(found[:height, :width].copy()).permute(2, 0, 1)
