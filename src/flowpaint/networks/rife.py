"""RIFE: flow from a time between two pictures to both of them, and a mask that blends what it finds (Huang et al., ECCV 2022).

Sections 3.1 and 3.2 of the paper describe the coarse-to-fine blocks, which are told the time as a further channel. The layers are
those of version 4.6 of Practical-RIFE: their names, widths, strides and scales are facts about its published files; the code is
our own. It has not been run with these files.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..types import check_shape
from ..warp import warp

VERSION = "4.6"
_SCALES = (8, 4, 2, 1)  # how much smaller each block sees the pictures
_WIDTHS = (192, 128, 96, 64)  # channels of each block
_RESIDUALS = 8  # residual convolutions in a block
_STRIDE = 4  # of the first two convolutions of a block together
MULTIPLE = _SCALES[0] * _STRIDE  # pixels: sides are padded to it
_OURS = re.compile(r"(block\d+|encode)\.")  # names that say which version it is; others are of training alone


class Network(nn.Module):
    """The network without weights; `fill` takes them. 5,306,256 parameters."""

    def __init__(self) -> None:
        super().__init__()
        # The first block sees two pictures and the time; the others the warped pictures, the time, the mask, and the flow.
        self.block0 = _Block(3 + 3 + 1, _WIDTHS[0])
        self.block1 = _Block(3 + 3 + 1 + 1 + 4, _WIDTHS[1])
        self.block2 = _Block(3 + 3 + 1 + 1 + 4, _WIDTHS[2])
        self.block3 = _Block(3 + 3 + 1 + 1 + 4, _WIDTHS[3])

    def forward(self, a: Tensor, b: Tensor, time: float) -> Tensor:
        """The picture [N, 3, H, W] in [0, 1] at `time` in 0..1 between a and b [N, 3, H, W] in [0, 1], any size."""
        check_shape(a=(a, "N 3 H W"), b=(b, "N 3 H W"))
        height, width = a.shape[-2:]
        margin = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        a, b = (F.pad(one.float(), margin, mode="replicate") for one in (a, b))
        flow, mask = self.motion(a, b, time)
        share = mask.sigmoid()
        picture = share * warp(a, flow[:, :2]) + (1 - share) * warp(b, flow[:, 2:])  # Eq. 1
        return picture[..., :height, :width]

    def motion(self, a: Tensor, b: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """Flow from the time to a and to b, [N, 4, H, W] in pixels, and the mask before its sigmoid, [N, 1, H, W], high for a.

        Sides of a and b [N, 3, H, W] must be multiples of 32.
        """
        plane = torch.full_like(a[:, :1], time)
        flow, mask = self.block0(torch.cat([a, b, plane], dim=1), None, _SCALES[0])
        for block, scale in zip((self.block1, self.block2, self.block3), _SCALES[1:], strict=True):
            seen = torch.cat([warp(a, flow[:, :2]), warp(b, flow[:, 2:]), plane, mask], dim=1)
            more_flow, more_mask = block(seen, flow, scale)
            flow, mask = flow + more_flow, mask + more_mask
        return flow, mask

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights from a state dict with the published names, with or without `module.` before them.

        Tensors of training alone (such as a teacher's) are left aside. Raises `WeightsError` where one is missing, of another
        shape, or of another version's network.
        """
        given = {name.removeprefix("module."): value for name, value in state.items()}
        mine = self.state_dict()
        wrong = [f"lacks {name}" for name in mine if name not in given]
        wrong += [
            f"has {name} in the shape {tuple(given[name].shape)}, not {tuple(value.shape)}"
            for name, value in mine.items()
            if name in given and given[name].shape != value.shape
        ]
        wrong += [f"has a tensor {name} too many" for name in given if name not in mine and _OURS.match(name)]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise WeightsError(
                f"These are no weights of RIFE {VERSION}: the file {wrong[0]}{more}. "
                f"Give flownet.pkl of Practical-RIFE {VERSION}; other versions are other networks."
            )
        self.load_state_dict({name: given[name] for name in mine})


def rife_of(state: Mapping[str, Tensor]) -> Network:
    """The network with the tensors of a state dict. Raises `WeightsError` where they are not of this version."""
    network = Network()
    network.fill(state)
    return network


class _Block(nn.Module):
    """What one scale adds to flow and mask."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_halving(channels, width // 2), _halving(width // 2, width))
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(_RESIDUALS)))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * 6, 4, stride=2, padding=1), nn.PixelShuffle(2))

    def forward(self, seen: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        """Changes of flow [N, 4, H, W], pixels, and mask [N, 1, H, W], for what is seen [N, C, H, W] and the flow so far."""
        seen = _resized(seen, 1 / scale)
        if flow is not None:
            seen = torch.cat([seen, _resized(flow, 1 / scale) / scale], dim=1)
        found = _resized(self.lastconv(self.convblock(self.conv0(seen))), scale)
        return found[:, :4] * scale, found[:, 4:5]  # the sixth channel is in the weights and means nothing


def _resized(x: Tensor, scale: float) -> Tensor:
    # Smaller without averaging: so it was trained.
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _halving(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(0.2))


class _Residual(nn.Module):
    """A convolution beside a short cut, each of its channels scaled by a learnt number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, h, w] to the same shape."""
        return F.leaky_relu(self.conv(x) * self.beta + x, 0.2)
