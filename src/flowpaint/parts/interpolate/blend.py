"""`FlowBlend`: both pictures moved along measured motion to a time between them, and blended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...seams import FlowEstimator, default
from ...smoothing import extend, smooth_on_grid
from ...types import check_shape
from ...warp import grid_of, visibility, warp
from .times import at_times

_HIDDEN = 1e-3  # what a pixel counts that only one picture shows, beside one that both show
_AROUND = 6  # shares of the short side: how far what is around a pixel reaches (sigma)
_UNITS = 2.0**24  # of the fixed point in which splats are summed


@dataclass(frozen=True, kw_only=True)
class FlowBlend:
    """Both pictures warped to the time by `flow`, and blended by how near they are in time and by what each of them shows.

    Everything is thought to move straight and evenly. Motion is carried to the time forward, by splatting, and the pictures are
    then read backward along it: the flow of a pixel at that time is the mean of those that land on it, weighted by whether both
    pictures show them (linear splatting: Niklaus and Liu, CVPR 2020, section 3.1). What both show goes before what one hides.
    Exact for a constant shift. Where several things land on one place, those that move otherwise than what is around them are
    thought to be in front. It can be no better than the flow: small things that move far are lost by it, and fade.
    """

    flow: FlowEstimator = default("flow", "dis")

    def __call__(self, a: Tensor, b: Tensor, times: Sequence[float]) -> Tensor:
        """Pictures [len(times), 3, H, W] in [0, 1] between a and b [3, H, W] in [0, 1]: time 0 is a, 1 is b, exactly.

        Raises `InputError` for a time outside 0..1.
        """
        check_shape(a=(a, "3 H W"), b=(b, "3 H W"))
        motion: _Motion | None = None

        def make(time: float) -> Tensor:
            nonlocal motion
            motion = motion or self._motion(a[None], b[None])
            return _blended(a[None], b[None], motion, time)

        return at_times(a, b, times, make)

    def _motion(self, a: Tensor, b: Tensor) -> "_Motion":
        there = self.flow(a, b)
        if there.reverse is not None:
            reverse, seen_ba = there.reverse, visibility(there.reverse, there.vectors)
        else:
            again = self.flow(b, a)
            reverse, seen_ba = again.vectors, again.visibility
        weights = (_weight(there.vectors, there.visibility), _weight(reverse, seen_ba))
        return _Motion(there.vectors, there.visibility, reverse, seen_ba, *weights)


class _Motion(NamedTuple):
    """Flow [1, 2, H, W] in pixels, visibility [1, 1, H, W] and weight [1, 1, H, W] where it lands, a to b and b to a."""

    flow_ab: Tensor
    seen_ab: Tensor
    flow_ba: Tensor
    seen_ba: Tensor
    weight_ab: Tensor
    weight_ba: Tensor


def _blended(a: Tensor, b: Tensor, motion: _Motion, time: float) -> Tensor:
    """The picture [1, 3, H, W] at `time`, strictly between a's 0 and b's 1."""
    from_a = _landed(motion.flow_ab, motion.seen_ab, motion.weight_ab, time)
    from_b = _landed(motion.flow_ba, motion.seen_ba, motion.weight_ba, 1 - time)
    moved, mass = from_a[:, :2] - from_b[:, :2], from_a[:, 2:3] + from_b[:, 2:3]
    both, only_a, only_b = from_a[:, 3:4] + from_b[:, 3:4], from_a[:, 4:], from_b[:, 4:]
    covered = mass > _HIDDEN / 4
    flow = moved / mass.clamp(min=1e-12)
    if not covered.all():  # nothing landed here: what is around it is thought to move alike
        flow = torch.where(covered, flow, extend(flow, mass.clamp(max=1.0) * covered, 2.0))
    near_a = (1 - time) * (both + _HIDDEN * only_a + _HIDDEN**2)
    near_b = time * (both + _HIDDEN * only_b + _HIDDEN**2)
    return (near_a * warp(a, -time * flow) + near_b * warp(b, (1 - time) * flow)) / (near_a + near_b)


def _weight(flow: Tensor, seen: Tensor) -> Tensor:
    """How much each pixel counts where it lands [1, 1, H, W]: less if hidden, more the less it moves like its surroundings."""
    apart = flow - smooth_on_grid(flow, min(flow.shape[-2:]) / _AROUND)
    return seen * (1 + apart.square().sum(dim=1, keepdim=True)) + _HIDDEN


def _landed(flow: Tensor, seen: Tensor, weight: Tensor, share: float) -> Tensor:
    """What lands on each pixel after a `share` of the way: [1, 5, H, W].

    Channels: `flow` times `weight`, the weight, and how many pixels are shown by both pictures and by this one alone.
    """
    return splat(torch.cat([flow * weight, weight, seen, 1 - seen], dim=1), share * flow)


def splat(values: Tensor, way: Tensor) -> Tensor:
    """The sum of `values` [1, C, H, W], each laid where `way` [1, 2, H, W] leads from its pixel, shared out bilinearly."""
    height, width = values.shape[-2:]
    points = grid_of(way) + way
    first = points.floor()
    # In whole numbers the sum does not depend on the order, which threads and graphics cards choose as they like.
    total = torch.zeros(values.shape[1], height * width, dtype=torch.int64, device=values.device)
    for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = (first + first.new_tensor(step)[None, :, None, None]).unbind(dim=1)
        share = (1 - (points[:, 0] - x).abs()) * (1 - (points[:, 1] - y).abs())
        share = share * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
        place = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long().flatten()
        whole = (values[0] * share * _UNITS).round().long().flatten(1)
        total.scatter_add_(1, place.expand_as(whole), whole)
    return (total / _UNITS).to(values.dtype).reshape(values.shape)
