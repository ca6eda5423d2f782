"""What lies beside an edit: there a frame shows its own pixels, and next to a key frame what the editor left on them.

A filter may leave much of a picture as it is. Where the key frame came back from the editor unchanged, so does the frame. And
where a local edit is no more than the editor's own noise, the frame is the source; but the key frame, which is shown as it was
given, has that noise. So that no jump stands beside it, the noise is carried along and fades within half a second.
"""

import torch
from torch import Tensor

from ...smoothing import erode
from ...warp import sample_at

_SAME = 1.5 / 255  # a difference that rounding makes
_LITTLE = 4.0 / 255  # more than this, and the edit does change such a colour
_AROUND = 2  # pixels around a place that must have come back unchanged: matches err by that much
_LEAST = 0.01  # of the picture: less that came back unchanged is chance
_FADE = 12  # frames


def untouched(source: Tensor, edited: Tensor) -> Tensor | None:
    """Return where `edited` [1, 3, H, W] is `source`, 1 with all that is around, [1, 1, H, W]; None if nearly nowhere."""
    same = erode(((edited - source).abs().amax(dim=1, keepdim=True) < _SAME).float(), _AROUND)
    return same if same.mean() > _LEAST else None


def restore(result: Tensor, frame: Tensor, same: Tensor | None, field: Tensor) -> tuple[Tensor, Tensor]:
    """Return `result` [1, 3, H, W] with the pixels of `frame` where it changes them little and the key frame, at `field`
    [1, 2, H, W], is `same` (of `untouched`); and where that is, [1, 1, H, W].
    """
    if same is None:
        return result, torch.zeros_like(result[:, :1])
    little = (result - frame).abs().amax(dim=1, keepdim=True) < _LITTLE
    own = little & (sample_at(same, field) > 0.99)
    return torch.where(own, frame, result), own.to(result)


def fading(frames: int) -> float:
    """Return how much of a key frame's noise is left so many frames from it: 1 at the key frame."""
    return max(0.0, 1.0 - abs(frames) / _FADE)


def echo(frame: Tensor, source: Tensor, edited: Tensor, field: Tensor, share: Tensor) -> Tensor:
    """Return `frame` with a `share` [1, 1, H, W] of what turned `source` into `edited`, all [1, 3, H, W], at `field`."""
    return (frame + share * sample_at(edited - source, field)).clamp_(0.0, 1.0)
