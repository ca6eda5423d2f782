"""What FlowVid's network is told of a clip beside words and control maps (Liang et al., CVPR 2024, section 4.2).

The first frame, perhaps edited, is laid onto every other frame along the source's flow, gray where nothing of it is seen. That
is a hint and no more: the network is also told where the gray is and how the whole first frame looks, and repairs the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .seams import FlowEstimator, Run
from .smoothing import spread
from .types import Edit, check_shape
from .warp import chain, inside, visibility, warp

Pooling = Literal["max", "nearest"]
Fill = Literal["gray", "spread"]

GRAY = 0.5  # 0 where pictures go from -1 to 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstFlow:
    """Flow between the first frame of a clip and each of its N = T - 1 others, whose numbers are 1..N.

    `forward` [N, 2, H, W] from the first to each, `backward` [N, 2, H, W] from each to the first, pixels; `visibility`
    [N, 1, H, W] is 1 where what a frame shows is seen in the first. `chained` are the frames whose flow goes by way of the frame
    before, because the direct one explained too little.
    """

    forward: Tensor
    backward: Tensor
    visibility: Tensor
    chained: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_shape(
            forward=(self.forward, "N 2 H W"),
            backward=(self.backward, "N 2 H W"),
            visibility=(self.visibility, "N 1 H W"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pair:
    """Flow from a to b, from b to a, and where b's pixels are seen in a: [1, 2, H, W] twice, [1, 1, H, W]."""

    there: Tensor
    back: Tensor
    seen: Tensor

    @property
    def share(self) -> float:
        """Of b's pixels, how many are seen in a."""
        return float(self.seen.mean())


def first_to_each(frames: Tensor, flow: FlowEstimator, *, least_seen: float = 0.5) -> FirstFlow:
    """Flow between the first of `frames` [T, 3, H, W] in [0, 1] and each other one, T > 1, measured directly by `flow`.

    A pixel is visible where there and back end where it began, within the frame (the paper cites Meister et al., AAAI 2018; the
    rule is `warp.visibility`'s). Where less than `least_seen` of a frame is, the flow from the first to the frame before and on
    to this one is taken if more of the frame is visible by it, and `chained` says so.
    """
    check_shape(frames=(frames, "T 3 H W"))
    known: list[_Pair] = []
    chained = []
    for i in range(1, len(frames)):
        pair = _measured(flow, frames[:1], frames[i : i + 1])
        if known and pair.share < least_seen:
            longer = _through(known[-1], _measured(flow, frames[i - 1 : i], frames[i : i + 1]))
            if longer.share > pair.share:
                pair = longer
                chained.append(i)
        known.append(pair)
    return FirstFlow(
        forward=torch.cat([one.there for one in known]),
        backward=torch.cat([one.back for one in known]),
        visibility=torch.cat([one.seen for one in known]),
        chained=tuple(chained),
    )


def _measured(flow: FlowEstimator, a: Tensor, b: Tensor) -> _Pair:
    found = flow(a, b)
    back = flow(b, a).vectors if found.reverse is None else found.reverse
    return _Pair(there=found.vectors, back=back, seen=visibility(back, found.vectors))


def _through(early: _Pair, late: _Pair) -> _Pair:
    """The pair (a, c) of the pairs (a, b) and (b, c): seen is what is seen in both."""
    # All pixels of b that have a say must be seen: then the way back also ends within the frame, between where theirs do.
    seen = late.seen * (warp(early.seen, late.back) > 0.999).to(late.seen)
    return _Pair(there=chain(early.there, late.there), back=chain(late.back, early.back), seen=seen)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hinted:
    """The T frames of one window with all that a network is told to repair them; pictures are [.., 3, H, W] in [0, 1].

    `source` [T, 3, H, W]; `warped` [T, 3, H, W] shows edited pictures along the source's flow, gray or filled (`filled`) where
    `mask` [T, 1, H, W] is 1: nothing of them is seen there. `anchors` [A, 3, H, W] are those edited pictures whole, `nearest`
    says which of them each frame leans on, and `latents` what encoding an anchor would give, by its number, [C, h, w], where it
    is known better. Frame 0 of the window is an anchor, seen everywhere. `frames` are the frames' numbers in the clip: two of the
    same number are the same frame, repeated at the end of a short window. `controls` hold maps [T, 3, H, W], one for each
    condition; `edits` the words, one for each frame; `plain` is what `warped` and `anchors` would be without any edit.
    """

    source: Tensor
    warped: Tensor
    mask: Tensor
    anchors: Tensor
    nearest: tuple[int, ...]
    frames: tuple[int, ...]
    edits: tuple[Edit, ...]
    controls: tuple[Tensor, ...] = ()
    latents: Mapping[int, Tensor] = field(default_factory=dict)
    plain: "Hinted | None" = None

    def __post_init__(self) -> None:
        check_shape(
            source=(self.source, "T 3 H W"),
            warped=(self.warped, "T 3 H W"),
            mask=(self.mask, "T 1 H W"),
            anchors=(self.anchors, "A 3 H W"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Repaired:
    """What a network made of a window: `pictures` [T, 3, H, W] in [0, 1]; their `latents` [T, C, h, w] where each has its own."""

    pictures: Tensor
    latents: Tensor | None = None


class Repairer(Protocol):
    """A network that turns hints into pictures."""

    def __call__(self, told: Hinted, run: Run) -> Repaired:
        """The repaired pictures of a window; equal seeds of `run` and equal frames give equal pictures."""
        ...


def hint(first: Tensor, backward: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """`first` [3, H, W] in [0, 1] as T = N + 1 frames show it, [T, 3, H, W], and the mask [T, 1, H, W], 1 = not seen in it.

    Frame 0 is `first` itself, its mask 0. Each other one shows it along `backward` [N, 2, H, W], pixels, from that frame to the
    first; it is gray where `visible` [N, 1, H, W] is under a half and where the flow leaves the frame.
    """
    check_shape(first=(first, "3 H W"), backward=(backward, "N 2 H W"), visible=(visible, "N 1 H W"))
    seen = (visible >= 0.5) & inside(backward)
    carried = warp(first.expand(len(backward), -1, -1, -1), backward)
    warped = torch.where(seen, carried, torch.full_like(carried, GRAY))
    mask = torch.cat((torch.zeros_like(first[None, :1]), 1 - seen.to(first)))
    return torch.cat((first[None], warped)), mask


def filled(warped: Tensor, mask: Tensor, fill: Fill) -> Tensor:
    """`warped` [T, 3, H, W] with its holes, where `mask` [T, 1, H, W] is 1, as they are shown to a network: [T, 3, H, W].

    "gray" leaves them gray (the paper), "spread" continues what is around them smoothly: a network as small as `mini`'s, which
    cannot tell apart what is gray and what is not there, needs not undo the gray.
    """
    check_shape(warped=(warped, "T 3 H W"), mask=(mask, "T 1 H W"))
    return warped if fill == "gray" else spread(warped, 1 - mask)


def latent_mask(mask: Tensor, *, cell: int = 8, pooling: Pooling = "max") -> Tensor:
    """`mask` [T, 1, H, W] for latents of `cell` pixels a side: [T, 1, h, w], sides rounded up.

    "max" marks a cell that holds any marked pixel, "nearest" takes the pixel in its first corner.
    """
    check_shape(mask=(mask, "T 1 H W"))
    if pooling == "nearest":
        return mask[..., ::cell, ::cell]
    return F.max_pool2d(mask, cell, ceil_mode=True)


def joined(warped: Tensor, first: Tensor, mask: Tensor, *, kept: Sequence[float] | Tensor = (1.0, 1.0, 1.0)) -> Tensor:
    """What is joined to noisy latents: [T, 2 C + 1, h, w], the channels f, g, m in this order.

    f is `warped` [T, C, h, w], the latents of the warped first frame; g is `first` [C, h, w], that of the first frame, in every
    frame, or [T, C, h, w], one for each; m is `mask` [T, 1, h, w], 1 = not seen. `kept` are their weights: what has 0 is told
    as zeros, which is what the network hears of a condition that is not there.
    """
    whole = first if first.ndim == 4 else first[None].expand(len(warped), *first.shape)
    check_shape(warped=(warped, "T C h w"), first=(whole, "T C h w"), mask=(mask, "T 1 h w"))
    f, g, m = (float(one) for one in kept)
    return torch.cat((f * warped, g * whole, m * mask), dim=1)
