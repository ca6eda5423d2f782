"""The last steps of every edit of a picture: to full size, the source's colours, strength.

`to_size_of` is for looks, whose strokes stay as they are; `enlarge.enlarge` for pictures that a model was asked to keep.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .colour import keep_colors, luma
from .types import Aligned, Edit
from .warp import resize, sample_at


def within(picture: Tensor, short_side: int) -> Tensor:
    """`picture` [3, H, W], made smaller so that its short side is at most `short_side`."""
    height, width = picture.shape[-2:]
    ratio = short_side / min(height, width)
    if ratio >= 1:
        return picture
    return resize(picture[None], max(1, round(height * ratio)), max(1, round(width * ratio)))[0]


def to_size_of(source: Tensor, small: Tensor, edited: Tensor, *, radius: int = 4, ridge: float = 4e-3) -> Tensor:
    """`edited` [3, h, w], made from `small` [3, h, w], at the size of `source` [3, H, W]: [3, H, W] in [0, 1].

    Strokes of the edit stay as they are, enlarged. The detail that `source` has and `small` lost is put back through the
    local linear relation of edit and source, edited = gain * luma(small) + offset over windows of 2 `radius` + 1 pixels
    (fast guided filter, He & Sun, arXiv:1505.00996): where the edit follows an edge of the source, the edge is crisp;
    where it does not, the gain is near zero and nothing shines through.
    """
    if source.shape == edited.shape:
        return edited
    height, width = source.shape[-2:]
    gain = _local_gain(luma(small)[None], edited[None], radius, ridge).clamp(-1.5, 1.5)
    lost = luma(source) - _enlarged(luma(small), height, width)
    return (_enlarged(edited, height, width) + _enlarged(gain[0], height, width) * lost).clamp(0.0, 1.0)


def _local_gain(guide: Tensor, values: Tensor, radius: int, ridge: float) -> Tensor:
    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    variance = mean(guide * guide) - mean(guide).square()
    covariance = mean(guide * values) - mean(guide) * mean(values)
    return mean(covariance / (variance.clamp_min(0.0) + ridge))


def _enlarged(picture: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(picture[None], size=(height, width), mode="bicubic", align_corners=False)[0]


def finished(edited: Tensor, source: Tensor, edit: Edit) -> Tensor:
    """`edited` [3, H, W] with what `edit` asks of every editor: the source's colours kept, strength as a mix with `source`."""
    whole = keep_colors(edited, source) if edit.keep_colors else edited
    return torch.lerp(source, whole.to(source), edit.strength).clamp(0.0, 1.0)


def laid_over(told: Aligned) -> Tensor:
    """The new object of `told` as it was in the anchor, moved to each frame and laid over its background: [T, 3, H, W]."""
    moved = sample_at(told.anchor.expand(len(told.place), -1, -1, -1), told.place)
    return torch.lerp(told.background, moved, told.mask)
