"""FreeU: a decoder that listens more to its backbone and less to its skips (Si et al., CVPR 2024)."""

from typing import Any

import torch
from torch import Tensor, nn

FreeU = tuple[float, float, float, float]  # b1, b2, s1, s2

_KEPT = 1  # frequencies on either side of 0 that the skips' scale is for


def lay_freeu(network: nn.Module, scales: FreeU) -> None:
    """Scale the inputs of a UNet's decoder: by b1, s1 where the backbone is as wide as the middle, by b2, s2 where it has the
    next smaller width, nowhere else. For good: the network must be its caller's own.
    """
    config: Any = network.config
    widths: list[int] = list(config.block_out_channels)[::-1]
    pairs = dict(zip(dict.fromkeys(widths), ((scales[0], scales[2]), (scales[1], scales[3])), strict=False))
    above = widths[0]  # of what comes in from below; a block's own width behind its first layer
    for block, width in zip(network.get_submodule("up_blocks").children(), widths, strict=True):
        for resnet in block.get_submodule("resnets").children():
            if above in pairs:
                resnet.register_forward_pre_hook(_Scale(above, *pairs[above]))
            above = width


class _Scale:
    """Scales the input of one residual layer: `width` channels of backbone, then those of the skip."""

    def __init__(self, width: int, backbone: float, skip: float) -> None:
        self.width, self.backbone, self.skip = width, backbone, skip

    def __call__(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        joined: Tensor = args[0]
        h, skip = joined[:, : self.width], joined[:, self.width :]
        return (torch.cat((raised(h, self.backbone), lowered(skip, self.skip)), dim=1), *args[1:])


def raised(h: Tensor, scale: float) -> Tensor:
    """Backbone features [N, C, h, w], the first half of their channels scaled by 1 to `scale`: most where their mean over the
    channels is largest (the paper's structure-related scaling, Eq. 4)."""
    mean = h.float().mean(dim=1, keepdim=True)  # half precision knows no 1e-12
    low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
    share = (mean - low) / (high - low).clamp_min(1e-12)
    half = h.shape[1] // 2
    return torch.cat((h[:, :half] * (1 + (scale - 1) * share).to(h), h[:, half:]), dim=1)


def lowered(skip: Tensor, scale: float) -> Tensor:
    """Skip features [N, C, h, w] with their lowest frequencies scaled by `scale` (Eq. 5 and 6)."""
    if scale == 1.0:
        return skip
    spectrum = torch.fft.fftshift(torch.fft.fft2(skip.float()), dim=(-2, -1))
    row, column = spectrum.shape[-2] // 2, spectrum.shape[-1] // 2
    spectrum[..., max(row - _KEPT, 0) : row + _KEPT, max(column - _KEPT, 0) : column + _KEPT] *= scale
    filtered: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real.to(skip.dtype)
    return filtered
