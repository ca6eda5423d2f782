"""Background smoothing: what the source shows again in the next frame is carried there, where it is seen and not foreground."""

import torch
from torch import Tensor

from ...types import check_shape
from .ring import Ring, dilate, sampled, through


def background_map(foreground: Tensor, *, growth: int = 7) -> Tensor:
    """1 where the background may be smoothed, 0 on and near the subject: [N, 1, H, W] of `foreground`, saliency in [0, 1]."""
    check_shape(foreground=(foreground, "N 1 H W"))
    return 1 - dilate(foreground, growth)


def smooth_features(features: Tensor, ring: Ring, background: Tensor) -> Tensor:
    """`features` [S N, C, h, w] with each frame's background carried along from the frames before: a new tensor.

    `ring` and `background` [N, 1, H, W] at any size. Frame by frame, so that frame 0 reaches them all; the last is then
    blended with frame 0 itself, which closes the ring. Frame 0 is never changed, nor is one frame alone.
    """
    height, width = features.shape[-2:]
    near = ring.at(height, width)
    check_shape(features=(features, "B C h w"), forward=(near.forward, "N 2 h w"), background=(background, "N 1 H W"))
    num_frames = len(near.forward)
    still = sampled(background.to(features), height, width)
    backward, forward = near.backward.to(features), near.forward.to(features)
    weight = near.seen_backward.to(features) * still.roll(-1, dims=0) * through(still, backward)
    frames = list(features.unflatten(0, (-1, num_frames)).unbind(1))  # [S, C, h, w] each
    if num_frames == 1:
        return features.clone()
    for i in range(num_frames - 1):
        frames[i + 1] = torch.lerp(frames[i + 1], _carried(frames[i], backward[i]), weight[i])
    last = near.seen_forward[-1:].to(features) * still[-1:] * through(still[:1], forward[-1:])
    frames[-1] = torch.lerp(frames[-1], _carried(frames[0], forward[-1]), last[0])
    return torch.stack(frames, dim=1).flatten(0, 1)


def smooth_pictures(pictures: Tensor, ring: Ring, background: Tensor, *, growth: int = 13) -> Tensor:
    """The decoded estimate [N, 3, H, W], its background smoothed as by `smooth_features`.

    At this size flow is least sure at edges: what is hidden grows by a box of side `growth` first.
    """
    return smooth_features(pictures, ring.at(*pictures.shape[-2:]).grown(growth), background)


def _carried(frame: Tensor, flow: Tensor) -> Tensor:
    """`frame` [S, C, h, w] through `flow` [2, h, w]."""
    return through(frame, flow.expand(len(frame), -1, -1, -1))
