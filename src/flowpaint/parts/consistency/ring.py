"""How the frames of a batch correspond: flow round the ring, what is seen, and which tokens are new."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...types import check_shape
from ...warp import grid_of, length


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ring:
    """Flow and visibility between each frame and the next, the first following the last; N pairs for N frames.

    `forward[i]` [N, 2, H, W] (pixels) lies on frame i and leads to frame i + 1, `backward[i]` lies on frame i + 1 and leads
    back to i. `seen_forward`, `seen_backward` [N, 1, H, W] lie on the same grids, 1 = seen in the other frame too.
    """

    forward: Tensor
    backward: Tensor
    seen_forward: Tensor
    seen_backward: Tensor

    def __post_init__(self) -> None:
        check_shape(
            forward=(self.forward, "N 2 H W"),
            backward=(self.backward, "N 2 H W"),
            seen_forward=(self.seen_forward, "N 1 H W"),
            seen_backward=(self.seen_backward, "N 1 H W"),
        )

    def at(self, height: int, width: int) -> "Ring":
        """The same for maps of another size: flow bilinear and in their cells; one hidden pixel hides its whole cell."""
        if self.forward.shape[-2:] == (height, width):
            return self
        return Ring(
            forward=sampled_flow(self.forward, height, width),
            backward=sampled_flow(self.backward, height, width),
            seen_forward=-F.adaptive_max_pool2d(-self.seen_forward, (height, width)),
            seen_backward=-F.adaptive_max_pool2d(-self.seen_backward, (height, width)),
        )

    def grown(self, side: int) -> "Ring":
        """The same with what is hidden grown by a box of `side` pixels."""
        return replace(
            self, seen_forward=1 - dilate(1 - self.seen_forward, side), seen_backward=1 - dilate(1 - self.seen_backward, side)
        )

    def to(self, like: Tensor) -> "Ring":
        """The same on the device and in the type of `like`."""
        return Ring(
            forward=self.forward.to(like),
            backward=self.backward.to(like),
            seen_forward=self.seen_forward.to(like),
            seen_backward=self.seen_backward.to(like),
        )


def following(frames: Tensor) -> Tensor:
    """The frame after each frame of `frames` [N, ...], round the ring."""
    return frames.roll(-1, dims=0)


def ring(frames: Tensor, forward: Tensor, backward: Tensor) -> Ring:
    """The ring of `frames` [N, 3, H, W] in [0, 1] with the flows [N, 2, H, W] measured between each and the next."""
    check_shape(frames=(frames, "N 3 H W"), forward=(forward, "N 2 H W"), backward=(backward, "N 2 H W"))
    after = following(frames)
    return Ring(
        forward=forward,
        backward=backward,
        seen_forward=seen(forward, backward) * alike(frames, after, forward),
        seen_backward=seen(backward, forward) * alike(after, frames, backward),
    )


def seen(flow_ab: Tensor, flow_ba: Tensor, *, alpha: float = 0.01, beta: float = 0.5) -> Tensor:
    """1 where there and back ends where it began, else 0: [N, 1, H, W] from flows [N, 2, H, W] in pixels.

    Hidden where |ab + ba(ab)| > alpha (|ab| + |ba|) + beta, both lengths at the same pixel. Unlike `warp.visibility`, beyond
    the frame ba counts as 0, and leaving the frame hides nothing by itself: `alike` sees to that.
    """
    miss = length(flow_ab + through(flow_ba, flow_ab))
    return (miss <= alpha * (length(flow_ab) + length(flow_ba)) + beta).to(flow_ab.dtype)


def alike(a: Tensor, b: Tensor, flow_ab: Tensor, *, tolerance: float = 0.25) -> Tensor:
    """1 where a [N, 3, H, W] in [0, 1] looks like b through the flow: mean absolute difference of RGB at most `tolerance`.

    [N, 1, H, W]. Beyond the frame b is black.
    """
    # In levels of 255, as the pictures were stored: sums of whole numbers do not round.
    levels = (255 * a - through(255 * b, flow_ab)).abs().mean(dim=1, keepdim=True)
    return (levels <= 255 * tolerance).to(a.dtype)


def unseen_tokens(seen_backward: Tensor, height: int, width: int) -> Tensor:
    """True for tokens that the frame before does not explain: bool [N, height width], all of frame 0.

    `seen_backward` [N, 1, H, W] as in `Ring`; a token is new when more than half of the sample at its centre is hidden.
    """
    check_shape(seen_backward=(seen_backward, "N 1 H W"))
    new = sampled(1 - seen_backward[:-1].float(), height, width).flatten(1) > 0.5
    return torch.cat([torch.ones_like(new[:1]) if len(new) else new.new_ones(1, height * width), new])


def first_frame_tokens(num_frames: int, num_tokens: int, device: torch.device | str = "cpu") -> Tensor:
    """True for all tokens of frame 0 and no other: bool [N, L]. What attention falls back to where nothing was measured."""
    chosen = torch.zeros(num_frames, num_tokens, dtype=torch.bool, device=device)
    chosen[0] = True
    return chosen


def through(image: Tensor, flow: Tensor) -> Tensor:
    """`image` [N, C, H, W] seen through `flow` [N, 2, H, W]: bilinear, 0 beyond the frame.

    `warp.warp` rounds its positions once more: twenty times as far from the released code, and Adam's first step is a sign.
    """
    check_shape(image=(image, "N C H W"), flow=(flow, "N 2 H W"))
    sides = flow.new_tensor([max(flow.shape[-1] - 1, 1), max(flow.shape[-2] - 1, 1)])
    unit = 2 * (grid_of(flow) + flow).permute(0, 2, 3, 1) / sides - 1
    return F.grid_sample(image, unit.to(image.dtype), mode="bilinear", padding_mode="zeros", align_corners=True)


def sampled(maps: Tensor, height: int, width: int) -> Tensor:
    """`maps` [N, C, H, W] read at the centres of a grid [N, C, height, width]: bilinear over the nearest 2 x 2, not averaged."""
    if maps.shape[-2:] == (height, width):
        return maps
    return F.interpolate(central(maps, height, width), size=(height, width), mode="bilinear", align_corners=False)


def central(maps: Tensor, height: int, width: int) -> Tensor:
    """The 2 x 2 pixels of `maps` around each centre of a grid, [N, C, 2 height, 2 width]; `maps` itself unless cells are even.

    All that `sampled` reads: what is done to these pixels alone costs a small part of doing it to the whole picture.
    """
    down, across = maps.shape[-2] // height, maps.shape[-1] // width
    if maps.shape[-2:] != (height * down, width * across) or down % 2 or across % 2 or down * across <= 4:
        return maps
    cells = maps.unflatten(3, (width, across)).unflatten(2, (height, down))
    middle = cells[:, :, :, down // 2 - 1 : down // 2 + 1, :, across // 2 - 1 : across // 2 + 1]
    near: Tensor = middle.flatten(4, 5).flatten(2, 3).contiguous()
    return near


def sampled_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """`flow` [N, 2, H, W] read at the centres of another grid, its vectors in that grid's cells."""
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]])
    return sampled(flow, height, width) * scale[:, None, None]


def dilate(maps: Tensor, side: int) -> Tensor:
    """`maps` [N, 1, H, W] in [0, 1] grown by a box of odd `side`: its sum, at most 1. A soft map grows softly."""
    if side == 1:
        return maps.clamp(0, 1)
    reach = side // 2
    padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    return F.avg_pool2d(padded, side, stride=1, divisor_override=1).clamp(0, 1)
