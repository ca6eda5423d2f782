"""`CarriedSegmenter`: the mask of one frame, carried to the frames after it."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...errors import ConfigError
from ...regression import regress
from ...seams import FlowEstimator, Segmenter, default
from ...smoothing import gaussian
from ...types import check_shape
from ...warp import resize
from .follow import Follower

_SOFT = 0.6  # sigma of a mask's rim, pixels of the working size
_WINDOW, _RIDGE = 5, 1e-3  # of the regression of a mask on colour, in pixels of the working size


@dataclass(frozen=True, kw_only=True)
class CarriedSegmenter:
    """The object of frame 0 in all frames, followed by resemblance, motion and colour, without weights.

    Pixels take the label of what they resemble in frame 0 and in the frame before, laid over the frame by `flow` and by the
    motion of the object as a whole (label propagation by non-local means: Buades, Coll, Morel, CVPR 2005; Wang, Jabri, Efros,
    CVPR 2019); near the rim, colour models learnt on frame 0 cut (GrabCut: Rother, Kolmogorov, Blake, SIGGRAPH 2004), unless
    object and ground have the same colours. An object that left or was hidden has an empty mask until it is seen again, much as
    it was, near where its motion would have brought it. Work is done at `side` pixels of the short side, edges are those of the
    full frames (guided filter: He, Sun, Tang, ECCV 2010).

    Long clips go in chunks: give the last frame of the chunk before with its mask as the hint. The colour models are then learnt
    anew from that mask, and an object that is not in it is lost: cut where it is seen whole.
    """

    flow: FlowEstimator = default("flow", "dis")
    seek: Segmenter = default("segmenter", "motion")
    side: int = 288

    def __post_init__(self) -> None:
        if self.side < 32:
            raise ConfigError(f"A short side of {self.side} pixels shows no object. Give 32 or more.")

    def __call__(self, frames: Tensor, hint: Tensor | None = None) -> Tensor:
        """Masks [T, 1, H, W] in [0, 1], 1 = object, of `frames` [T, 3, H, W] in [0, 1]; soft by about a pixel.

        A `hint` [1 or T, 1, h, w] in [0, 1] says by its first mask what to follow; of the size of the frames, that is the mask
        of frame 0 to the bit. Without one, what `seek` finds in frame 0 is followed. An empty hint gives empty masks, and
        so does one that is less than a pixel wide at the working size.
        """
        check_shape(frames=(frames, "T 3 H W"))
        first = (self.seek(frames) if hint is None else hint)[:1]
        check_shape(hint=(first, "1 1 h w"))
        return carry(frames, first, self.flow, self.side)


def carry(frames: Tensor, first: Tensor, flow: FlowEstimator, side: int) -> Tensor:
    """Masks [T, 1, H, W] in [0, 1] of the object that `first` [1, 1, h, w] is 1 on in frame 0 of `frames` [T, 3, H, W]."""
    height, width = frames.shape[-2:]
    first = resize(first.to(frames.device, torch.float32), height, width)
    scale = min(1.0, side / min(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    follower = Follower(resize(frames[:1].float(), *size), resize(first, *size), flow)
    masks = [first]
    for before, frame in pairwise(frames):
        if torch.equal(before, frame):
            masks.append(masks[-1])
        else:
            small = resize(frame[None].float(), *size)
            masks.append(_sharpened(follower.step(small), small, frame[None].float()))
    return torch.cat(masks)


def _sharpened(mask: Tensor, small: Tensor, frame: Tensor) -> Tensor:
    """`mask` [1, 1, h, w], 0 or 1, of `small` [1, 3, h, w] at the size of `frame` [1, 3, H, W], its rim on the frame's edges."""
    soft = gaussian(mask, _SOFT)
    height, width = frame.shape[-2:]
    if mask.shape[-2:] == frame.shape[-2:] or not mask.any():
        return resize(soft, height, width)
    slopes = regress(small, soft.expand(-1, 3, -1, -1), _WINDOW, _RIDGE)[:, 0]
    detail = frame - resize(small, height, width)
    rim = resize(((soft > 0.02) & (soft < 0.98)).float(), height, width)
    predicted = resize(soft, height, width) + rim * (resize(slopes, height, width) * detail).sum(dim=1, keepdim=True)
    # What was enlarged is soft by as many pixels.
    steep = height / mask.shape[-2]
    return (0.5 + steep * (predicted - 0.5)).clamp(0, 1)
