"""First weights of an autoencoder: those with which it carries the principal components of its pictures, and nothing else.

From weights drawn by lot, an autoencoder spends most of a short run on finding out that a picture has low frequencies. This one
begins as a linear transform: strided convolutions project blocks of 2 x 2 onto their principal components, convolutions behind
the upsampling restore them by least squares, residual branches are silent. Normalisation and SiLU let a linear signal pass where
it comes as a pair (z, -z), for silu(z) - silu(-z) = z, beside constants that fix the group's variance.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError

_CONSTANT = 6.0  # beside signals of variance 1: their own share of a group's variance is some per cent
_SPARE = 8  # of a layer's channels one in so many stays free for what training finds
_RIDGE = 1e-5
_LEAST = 4  # channels that a group of the last normalisations needs: a pair and two constants


@torch.no_grad()
def with_principal_start(network: Any, pictures: Tensor) -> Any:
    """`network`, an `AutoencoderKL`, its weights such that it transforms `pictures` [N, 3, H, W] in [-1, 1] linearly.

    Weights of channels that the transform does not use stay as they were drawn. Raises `ConfigError` for widths that leave it no
    room.
    """
    channels = int(network.config.latent_channels)
    _check(network.config)
    for module in network.modules():
        if hasattr(module, "conv2") and hasattr(module, "nonlinearity"):  # a residual layer
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    levels = _encoder(network.encoder, pictures, channels)
    for conv in (network.quant_conv, network.post_quant_conv):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        conv.weight[..., 0, 0] += torch.eye(len(conv.weight))
    _decoder(network.decoder, levels)
    return network


def _check(config: Any) -> None:
    widths, groups = config.block_out_channels, config.norm_num_groups
    if widths[0] < 12 or widths[-1] == widths[-2] or widths[0] == widths[1] or widths[0] // groups < _LEAST:
        raise ConfigError(
            f"Widths {tuple(widths)} in {groups} groups leave no room for principal components. Give a first width of 12 or "
            f"more, at least {_LEAST} times the groups, and let widths differ at both ends."
        )


def _encoder(encoder: Any, pictures: Tensor, channels: int) -> list[Tensor]:
    """Lays the transform into the encoder; the pictures and what they are at each level, finest first, latents last."""
    _route(encoder.conv_in, torch.eye(3))
    levels = [pictures]
    for block in encoder.down_blocks:
        seen = levels[-1].shape[1]
        shortcut = block.resnets[0].conv_shortcut
        if not block.downsamplers:
            _as_pairs(shortcut, encoder.conv_norm_out, encoder.conv_out, torch.ones(seen))
            break
        if shortcut is not None:
            _route(shortcut, torch.eye(seen))
        conv = block.downsamplers[0].conv
        is_last = len(levels) == len(encoder.down_blocks) - 1
        kept = channels if is_last else min(4 * seen, len(conv.weight) - len(conv.weight) // _SPARE)
        basis, variance = _principal(levels[-1], kept)
        if is_last:
            basis = basis / variance.sqrt()[:, None]
        conv.weight[:kept] = 0.0
        conv.weight[:kept, :seen, :2, :2] = basis.view(kept, seen, 2, 2)
        conv.bias[:kept] = 0.0
        levels.append(F.conv2d(levels[-1], basis.view(kept, seen, 2, 2), stride=2))
    return levels


def _principal(maps: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The `kept` main directions [kept, 4 C] of the 2 x 2 blocks of `maps` [N, C, H, W], and the mean square along each."""
    blocks = F.unfold(maps, 2, stride=2).transpose(0, 1).flatten(1)
    values, vectors = torch.linalg.eigh((blocks @ blocks.T / blocks.shape[1]).double())
    return vectors.flip(1)[:, :kept].T.float(), values.flip(0)[:kept].float()


def _decoder(decoder: Any, levels: list[Tensor]) -> None:
    """Lays the inverse into the decoder."""
    shown = levels[-1]
    _route(decoder.conv_in, torch.eye(shown.shape[1]))
    targets = iter(levels[-2::-1])
    for block in decoder.up_blocks:
        shortcut = block.resnets[0].conv_shortcut
        if not block.upsamplers:
            _as_pairs(shortcut, decoder.conv_norm_out, decoder.conv_out, shown.square().mean(dim=(0, 2, 3)))
            break
        if shortcut is not None:
            _route(shortcut, torch.eye(shown.shape[1]))
        shown = _restored(block.upsamplers[0].conv, F.interpolate(shown, scale_factor=2.0), next(targets))


def _restored(conv: Any, coarse: Tensor, target: Tensor) -> Tensor:
    """Sets `conv` to the least-squares filter from `coarse` [N, D, H, W] to `target` [N, C, H, W]; what it then gives."""
    seen, kept = coarse.shape[1], target.shape[1]
    left, right = torch.zeros(9 * seen + 1, 9 * seen + 1), torch.zeros(9 * seen + 1, kept)
    for one, wanted in zip(coarse, target, strict=True):
        windows = F.pad(F.unfold(one[None], 3, padding=1)[0], (0, 0, 0, 1), value=1.0)
        left += windows @ windows.T
        right += windows @ wanted.flatten(1).T
    left += _RIDGE * left.diagonal().mean() * torch.eye(len(left))
    solution = torch.linalg.solve(left.double(), right.double()).T.float()
    conv.weight[:kept] = 0.0
    conv.weight[:kept, :seen] = solution[:, :-1].view(kept, seen, 3, 3)
    conv.bias[:kept] = solution[:, -1]
    return F.conv2d(coarse, conv.weight[:kept, :seen], conv.bias[:kept], padding=1)


def _route(conv: Any, matrix: Tensor) -> None:
    """Lets the first channels through `conv` by `matrix` [out, in], at the place where they are."""
    out, seen = matrix.shape
    middle = conv.weight.shape[-1] // 2
    conv.weight[:out] = 0.0
    conv.weight[:out, :seen, middle, middle] = matrix
    conv.bias[:out] = 0.0


def _as_pairs(into: Any, norm: Any, out: Any, variance: Tensor) -> None:
    """Lets the first channels, of mean squares `variance` [C], through normalisation and SiLU: `into` pairs, `out` undoes it."""
    count, width = len(variance), len(into.weight)
    size, middle = width // norm.num_groups, out.weight.shape[-1] // 2
    rows = torch.zeros(width, into.weight.shape[1])
    bias = torch.zeros(width)
    taken = torch.zeros(count, width)
    for group in range(norm.num_groups):
        members = list(range(group, count, norm.num_groups))
        first = group * size
        constants = min(8, (size - 2 * len(members)) // 2 * 2)
        deviation = ((constants * _CONSTANT**2 + 2 * float(variance[members].sum())) / size) ** 0.5
        for place, member in enumerate(members):
            rows[first + 2 * place, member], rows[first + 2 * place + 1, member] = 1.0, -1.0
            taken[member, first + 2 * place], taken[member, first + 2 * place + 1] = deviation, -deviation
        end = first + size
        bias[end - constants : end - constants // 2], bias[end - constants // 2 : end] = _CONSTANT, -_CONSTANT
    into.weight[..., 0, 0], into.bias[:] = rows, bias
    out.weight[:count] = 0.0
    out.weight[:count, :, middle, middle] = taken
    out.bias[:count] = 0.0
