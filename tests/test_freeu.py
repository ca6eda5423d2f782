"""FreeU: its two scalings by their paper's words, and where in a decoder they are laid in."""

import math

import pytest
import torch

from flowpaint.diffusion.freeu import lay_freeu, lowered, raised
from tiny_models import tiny_unet


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_half_of_the_backbone_is_scaled_where_its_mean_is_large():
    h = draw(2, 6, 4, 5)
    found = raised(h, 1.5)
    for row, out in zip(h, found, strict=True):
        mean = row.mean(dim=0)
        share = (mean - mean.min()) / (mean.max() - mean.min())
        torch.testing.assert_close(out[:3], row[:3] * (1 + 0.5 * share))
        assert torch.equal(out[3:], row[3:])
    assert torch.equal(raised(h, 1.0), h)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        flat = raised(torch.ones(1, 4, 3, 3, dtype=dtype), 2.0)
        assert flat.isfinite().all() and flat.dtype == dtype, "a flat map has no structure"


@pytest.mark.parametrize("size", [(8, 12), (5, 7), (1, 1), (2, 3)])
def test_the_slowest_waves_of_the_skips_are_scaled(size):
    height, width = size
    rows, columns = (torch.arange(length, dtype=torch.float32) for length in size)
    skip = draw(1, 3, *size)
    slow = torch.zeros_like(skip)
    for u in {0, -1 % height}:  # frequency 0 and the one below it, as the shifted spectrum has them beside its middle
        for v in {0, -1 % width}:
            phase = 2 * math.pi * (u * rows[:, None] / height + v * columns / width)
            wave = torch.polar(torch.ones_like(phase), phase)
            slow += ((skip * wave.conj()).mean(dim=(-2, -1), keepdim=True) * wave).real
    torch.testing.assert_close(lowered(skip, 0.2), skip - 0.8 * slow, rtol=1e-4, atol=1e-5)
    assert lowered(skip, 1.0) is skip


def test_widths_choose_the_scales():
    unet = tiny_unet()  # 16, 32, 32, 32 wide: the decoder's layers are given 32 channels of backbone, then 16
    lay_freeu(unet, (1.1, 1.2, 0.9, 0.8))
    found = [
        [(hook.width, hook.backbone, hook.skip) for hook in resnet._forward_pre_hooks.values()]
        for block in unet.up_blocks
        for resnet in block.resnets
    ]
    wide, narrow = [(32, 1.1, 0.9)], [(16, 1.2, 0.8)]
    assert found == [wide] * 7 + [narrow]


def test_a_layer_is_given_backbone_and_skip_apart():
    unet, x, words = tiny_unet(), draw(1, 4, 8, 8), draw(1, 5, 16, seed=1)
    seen = []
    last = unet.up_blocks[-1].resnets[-1]
    last.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        unet(x, 300, encoder_hidden_states=words)
    given = seen.pop()
    alone = tiny_unet()
    lay_freeu(alone, (1.0, 1.6, 1.0, 0.2))  # layers above the last change nothing
    alone.up_blocks[-1].resnets[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        alone(x, 300, encoder_hidden_states=words)
    torch.testing.assert_close(seen[0], torch.cat((raised(given[:, :16], 1.6), lowered(given[:, 16:], 0.2)), dim=1))
    assert not torch.allclose(seen[0], given)
