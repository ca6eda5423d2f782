"""The recurrent network that completes depth behind an object (StableV2V, Liu et al., arXiv 2411.11045, section 3.2.3, suppl. A).

Its layers are those of the recurrent flow completion of ProPainter (Zhou et al., ICCV 2023, section 3.1) with two channels more
to see; number, widths and strides of the layers are facts, the code is our own. Alignment by modulated deformable convolution:
Zhu et al., CVPR 2019, Eq. 1; of second order, as in BasicVSR++ (Chan et al., CVPR 2022, section 3.2).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError, WeightsError
from ..types import check_shape
from ..warp import pixel_grid
from ..weights import TEXT_WEIGHTS, read_state

MULTIPLE = 8  # pixels: the sides that it takes
_WIDTH = 128  # channels of what is handed from frame to frame
_GROUPS = 16  # of channels that are displaced together
_TAPS = 9  # of a 3 x 3 kernel
_REACH = 5.0  # cells, the farthest that a tap is displaced in each direction
_SLOPE = 0.2  # of the leaky rectifier


class Refiner(nn.Module):
    """Completes depth, all frames of a clip at once. 5,081,588 parameters.

    With `residual` it gives what has to be added to a harmonic fill, else the depth; see `filled`. `side` is the short side in
    pixels of the pictures that it was trained for.
    """

    def __init__(self, *, residual: bool = True, side: int = 96) -> None:
        super().__init__()
        self.residual, self.side = residual, side
        self.stem = nn.Conv3d(5, 32, (1, 5, 5), (1, 2, 2), (0, 2, 2), padding_mode="replicate")
        self.first = nn.ModuleList([_Pseudo3d(32, 32), _Pseudo3d(32, 64, stride=2)])
        self.second = nn.ModuleList([_Pseudo3d(64, 64), _Pseudo3d(64, _WIDTH, stride=2)])
        self.middle = nn.ModuleList(
            [nn.Conv3d(_WIDTH, _WIDTH, (1, 3, 3), padding=(0, wide, wide), dilation=(1, wide, wide)) for wide in (3, 2, 1)]
        )
        self.recurrence = _BothWays(_WIDTH)
        self.decoder = nn.ModuleList([_conv(_WIDTH, _WIDTH), _conv(_WIDTH, 64), _conv(64, 64), _conv(64, 32), _conv(32, 32)])
        self.last = _conv(32, 3)
        self.edges = _Edges()
        _begin(self)

    def forward(self, told: Tensor) -> Tensor:
        """[B, T, 3, H, W] of `told` [B, 5, T, H, W]: depth in [0, 1] three times, 0 in the hole; hole; shape, both 0 or 1.

        H and W are multiples of 8, T is 1 or more. Raises `ShapeError` for other sides.
        """
        check_shape(told=(told, "B 5 T H W"))
        if told.shape[-1] % MULTIPLE or told.shape[-2] % MULTIPLE:
            raise ShapeError(f"The depth is {told.shape[-1]}x{told.shape[-2]}. Pad its sides to multiples of {MULTIPLE}.")
        found = _leaky(self.stem(told))
        for block in self.first:
            found = _leaky(block(found))
        early = found
        for block in self.second:
            found = _leaky(block(found))
        for conv in self.middle:
            found = _leaky(conv(found))
        return self._decoded(self.recurrence(found.transpose(1, 2)), early.transpose(1, 2))

    def _decoded(self, found: Tensor, early: Tensor) -> Tensor:
        """[B, T, 3, H, W] of the cells [B, T, 128, H / 8, W / 8] and what was [B, T, 64, H / 4, W / 4] on the way to them."""
        clip = found.shape[:2]
        one, two, three, four, five = self.decoder
        quarter = _leaky(two(_doubled(_leaky(one(found.flatten(0, 1))))))
        half = _leaky(four(_doubled(_leaky(three(quarter + early.flatten(0, 1))))))
        drawn: Tensor = self.last(_doubled(_leaky(five(half)))).unflatten(0, clip)
        return drawn

    def filled(self, depth: Tensor, hole: Tensor, shape: Tensor, start: Tensor) -> Tensor:
        """What it says the depth is, everywhere: [B, T, 3, H, W].

        `depth` [B, T, 1, H, W] in [0, 1] counts where `hole` [B, T, 1, H, W] is 0; `shape` [B, 1, 1, H, W] is 1 where the edited
        object is in frame 0 (Eq. 9: the same for all frames); `start` [B, T, 1, H, W] is the depth with its holes filled, to
        which a `residual` network adds.
        """
        seen = (depth * (1 - hole)).expand(-1, -1, 3, -1, -1)
        found: Tensor = self(torch.cat((seen, hole, shape.expand_as(hole)), dim=2).transpose(1, 2))
        return start + found if self.residual else found

    def outlined(self, depth: Tensor) -> Tensor:
        """Edges of `depth` [B, T, 3, H, W] before their sigmoid: [B, T, 1, H, W]. Only training asks."""
        found: Tensor = self.edges(depth.flatten(0, 1)).unflatten(0, depth.shape[:2])
        return found

    def save(self, folder: Path) -> None:
        """Write the weights in float16, and `config.json`, to `folder`."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = {name: one.detach().cpu().half().contiguous() for name, one in self.state_dict().items()}
        save_file(state, folder / TEXT_WEIGHTS)
        (folder / "config.json").write_text(json.dumps({"residual": self.residual, "side": self.side}) + "\n", "utf-8")


def refiner_in(folder: Path) -> Refiner:
    """The network that `Refiner.save` wrote to `folder`, float32, for looking only. Raises `WeightsError` for another."""
    remedy = "Give a folder that `flowpaint train refiner` exported"
    try:
        told = json.loads((folder / "config.json").read_text("utf-8"))
        network = Refiner(residual=bool(told["residual"]), side=int(told["side"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder} holds no config.json of a depth refiner ({error!r}). {remedy}.") from error
    fill(network, read_state(folder / TEXT_WEIGHTS), remedy)
    return network.eval().requires_grad_(False)


def fill(network: Refiner, state: Mapping[str, Tensor], remedy: str) -> None:
    """Put the tensors `state` into `network`. Raises `WeightsError` where they are not all of its own."""
    try:
        network.load_state_dict({name: one.float() for name, one in state.items()})
    except RuntimeError as error:
        told = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(f"These are no weights of the depth refiner: {told} {remedy}.") from error


def deformed(x: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, shares: Tensor) -> Tensor:
    """A 3 x 3 convolution whose taps are displaced and weighted at each place: [N, O, H, W] (Zhu et al., CVPR 2019, Eq. 1).

    `x` [N, C, H, W]; `weight` [O, C, 3, 3]; `offsets` [N, G, 9, 2, H, W] in cells, (dx, dy), for each of G groups of C / G
    channels, taps row by row; `shares` [N, G, 9, H, W]. Between cells `x` is bilinear, outside it is 0.
    """
    number, channels, height, width = x.shape
    groups = offsets.shape[1]
    corner = torch.arange(3, dtype=x.dtype, device=x.device) - 1
    taps = torch.stack((corner.repeat(3), corner.repeat_interleave(3)), dim=1)[None, :, :, None, None]  # (dx, dy) of each
    places = (pixel_grid(height, width, x.device)[:, None] + taps + offsets.flatten(0, 1)).movedim(2, -1)  # [N G, 9, H, W, 2]
    grid = ((2 * places + 1) / places.new_tensor((width, height)) - 1).flatten(1, 2)
    read = F.grid_sample(x.view(number * groups, -1, height, width), grid.to(x.dtype), align_corners=False)
    read = read.view(number, groups, -1, _TAPS, height * width) * shares.flatten(3)[:, :, None]
    made = weight.flatten(1) @ read.reshape(number, channels * _TAPS, height * width)
    return made.view(number, -1, height, width) + bias[:, None, None]


class _Pseudo3d(nn.Module):
    """A convolution in space, then one in time, which keeps the number of frames."""

    def __init__(self, before: int, after: int, *, stride: int = 1) -> None:
        super().__init__()
        self.space = nn.Conv3d(before, after, (1, 3, 3), (1, stride, stride), (0, 1, 1))
        self.time = nn.Conv3d(after, after, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, T, h, w] to [B, after, T, h / stride, w / stride]."""
        found: Tensor = self.time(_leaky(self.space(x)))
        return found


class _BothWays(nn.Module):
    """Recurrence over the frames, from last to first and then from first to last, the second told what the first one found."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.align = nn.ModuleList([_Aligned(width), _Aligned(width)])
        self.join = nn.ModuleList(
            [nn.Sequential(_conv(seen * width, width), nn.LeakyReLU(_SLOPE), _conv(width, width)) for seen in (2, 3)]
        )
        self.merge = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C, h, w] to the same shape."""
        frames = list(x.unbind(dim=1))
        later = self._passed(0, [(one,) for one in frames[::-1]])[::-1]
        earlier = self._passed(1, list(zip(frames, later, strict=True)))
        merged = [self.merge(torch.cat(pair, dim=1)) for pair in zip(later, earlier, strict=True)]
        return x + torch.stack(merged, dim=1)

    def _passed(self, way: int, told: list[tuple[Tensor, ...]]) -> list[Tensor]:
        """The state after each frame, in the order of `told`: the frame's cells and what else is known of it, [B, C, h, w]."""
        align, join = self.align[way], self.join[way]
        states: list[Tensor] = []
        for number, known in enumerate(told):
            state = torch.zeros_like(known[0])
            if number:
                before = states[-2] if number > 1 else state
                state = align(states[-1], known[0], before)
            states.append(state + join(torch.cat((*known, state), dim=1)))
        return states


class _Aligned(nn.Module):
    """What two states before say, each displaced to where it belongs now."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 2 * width, 3, 3))
        self.bias = nn.Parameter(torch.zeros(width))
        self.offsets = nn.ModuleList([_conv(3 * width, width), _conv(width, width), _conv(width, width)])
        self.said = _conv(width, 3 * _TAPS * _GROUPS)

    def forward(self, previous: Tensor, current: Tensor, before: Tensor) -> Tensor:
        """[B, C, h, w] of the state of the frame before, this frame's cells, and the state of the frame before that."""
        found = torch.cat((previous, current, before), dim=1)
        for conv in self.offsets:
            found = _leaky(conv(found))
        # 1 and 2: displacements; 3: shares.
        said = self.said(found).unflatten(1, (_GROUPS, _TAPS, 3))
        offsets, shares = _REACH * said[:, :, :, :2].tanh(), said[:, :, :, 2].sigmoid()
        return deformed(torch.cat((previous, before), dim=1), self.weight, self.bias, offsets, shares)


class _Edges(nn.Module):
    """Where depth has edges, drawn for the loss alone."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.first, self.second, self.last = _conv(3, 16), _conv(16, 16), _conv(16, 16), nn.Conv2d(16, 1, 1)

    def forward(self, depth: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, 1, H, W], before the sigmoid."""
        entered = _leaky(self.enter(depth))
        found: Tensor = self.last(_leaky(entered + self.second(_leaky(self.first(entered)))))
        return found


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _begin(network: Refiner) -> None:
    """First weights that keep the size of what passes through (He et al., ICCV 2015); states begin aligned as they are."""
    for one in network.modules():
        if isinstance(one, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(one.weight, a=_SLOPE)
            if one.bias is not None:
                nn.init.zeros_(one.bias)
        if isinstance(one, _Aligned):
            nn.init.kaiming_normal_(one.weight, a=1.0)
    for align in network.recurrence.align:
        nn.init.zeros_(align.said.weight)  # type: ignore[union-attr, arg-type]
    if network.residual:
        nn.init.zeros_(network.last.weight)  # begins as the fill to which it adds
