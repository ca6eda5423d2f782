"""The depth of the edited scene, simulated (StableV2V, Eq. 7-10): the new object pasted, the old one's left-overs marked."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ..smoothing import dilate
from ..types import check_shape

Paste: TypeAlias = Literal["mean", "relief"]

_GROWN = 2  # pixels, the released code's 5 x 5
_FAR, _NEAREST, _OFF_GROUND = 0.1, 0.6, 0.1  # nearness of the ground at the upper and lower border; of an object before it
_FEET = 0.98  # of an object's pixels that lie above where it stands
_MARGIN = 0.05  # of nearness by which something must be before an object to hide it


def layered(objects: Sequence[Tensor]) -> Tensor:
    """Layered pseudo-depth [1, 1, H, W] in [0, 1], 1 = near, from nothing but masks [1, 1, H, W] of one frame's objects.

    The ground is a plane that comes nearer towards the lower border, and each object a flat layer before it, as near as the
    ground where it stands, at its lowest point. No depth was measured: things that hang in the air come out too far, and nothing
    but the `objects` stands out from the ground.
    """
    mask = objects[0]
    height, width = mask.shape[-2:]
    ramp = torch.linspace(_FAR, _NEAREST, height, device=mask.device)
    depth = ramp[None, None, :, None].expand(1, 1, height, width).clone()
    nearness = [(_standing(one, ramp) + _OFF_GROUND, one) for one in objects]
    for near, one in sorted(nearness, key=lambda pair: pair[0]):
        depth = torch.where(one > 0.5, torch.full_like(depth, near), depth)
    return depth


def _standing(mask: Tensor, ramp: Tensor) -> float:
    rows = (mask > 0.5).float().sum(dim=(0, 1, 3)).cumsum(0)
    if float(rows[-1]) == 0:
        return _FAR
    return float(ramp[int((rows < _FEET * rows[-1]).sum().clamp(max=len(ramp) - 1))])


def mean_depth(depth: Tensor, mask: Tensor, before: float | None) -> float | None:
    """The mean of `depth` [1, 1, H, W] under `mask` [1, 1, H, W]; that of the frame `before` where the object is not seen."""
    check_shape(depth=(depth, "1 1 H W"), mask=(mask, "1 1 H W"))
    return before if float(mask.sum()) < 1 else float((depth * mask).sum() / mask.sum())


def pasted(depth: Tensor, mask: Tensor, near: float, relief: Tensor | None = None) -> Tensor:
    """`depth` [1, 1, H, W] with the new object of `mask` [1, 1, H, W] in it, `near` (Eq. 8): [1, 1, H, W] in [0, 1].

    With `relief` [1, 1, H, W], the new object's own depth less its mean, it is no flat layer.
    """
    flat = torch.full_like(depth, near)
    return torch.where(mask > 0.5, (flat if relief is None else flat + relief).clamp(0.0, 1.0), depth)


def hole(old: Tensor) -> Tensor:
    """Where a depth map shows the `old` object [1, 1, H, W] or its rim, which is to be completed: 0 or 1.

    Eq. 9 leaves out what the new object covers, for there it was pasted before. Completed before it is pasted, a hole's rim is
    ground all around: the new object's depth does not bleed into what was behind the old one.
    """
    return (dilate((old > 0.5).to(old), _GROWN) > 0.5).to(old)


def hidden(depth: Tensor, old: Tensor, new: Tensor, near: float) -> Tensor:
    """Where something of the source stands before the `new` object that is as `near` as its old one was: 0 or 1.

    `depth` and both masks are [1, 1, H, W]. The `old` objects hide nothing: they are taken away.
    """
    return (depth > near + _MARGIN).to(new) * (new > 0.5).to(new) * (1 - dilate((old > 0.5).to(old), _GROWN))
