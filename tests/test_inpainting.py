"""Completing pictures: what is known stays, what repeats is continued, light joins at the rim."""

import math

import pytest
import skimage.data
import torch

from flowpaint.errors import InputError, ShapeError
from flowpaint.inpainting import complete
from flowpaint.smoothing import dilate, gaussian, spread
from flowpaint.warp import pixel_grid, resize


def disc(height, width, radius, *, at=(0.5, 0.5)):
    x, y = pixel_grid(height, width)[0]
    return ((x - at[0] * width).square() + (y - at[1] * height).square() < radius**2).float()[None, None]


def psnr(found, truth, hole):
    miss = ((found - truth).square() * hole).sum() / (3 * hole.sum())
    return -10 * math.log10(max(miss.item(), 1e-12))


def stripes(height=96, width=96, period=12.0):
    x, y = pixel_grid(height, width)[0]
    return (0.5 + 0.4 * torch.sin((x + y) * 2 * math.pi / period)).expand(1, 3, -1, -1).clone()


def test_what_is_known_stays_to_the_bit_and_what_is_in_the_hole_does_not_count():
    picture, hole = torch.rand(1, 3, 60, 72, generator=torch.Generator().manual_seed(0)), disc(60, 72, 12)
    before = picture.clone()
    filled = complete(picture, hole)
    assert torch.equal(torch.where(hole > 0.5, 0.0, filled), torch.where(hole > 0.5, 0.0, picture))
    assert torch.equal(picture, before) and filled.min() >= 0 and filled.max() <= 1
    assert torch.equal(complete(torch.where(hole > 0.5, 0.7, picture), hole), filled)
    assert (filled - picture)[:, :, 25:35, 30:40].abs().mean() > 0.05


@pytest.mark.slow
def test_the_same_seed_fills_the_same():
    picture, hole = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)), disc(32, 32, 5)
    assert torch.equal(complete(picture, hole), complete(picture, hole))
    assert not torch.equal(complete(picture, hole), complete(picture, hole, seed=1))


def test_stripes_go_on_through_the_hole():
    picture, hole = stripes(), disc(96, 96, 20)
    assert psnr(complete(picture, hole), picture, hole) > 30 > 15 > psnr(spread(picture, 1 - hole), picture, hole)


@pytest.mark.slow
@pytest.mark.parametrize("at", [(0.0, 0.0), (1.0, 0.4), (0.5, 1.0)])
def test_a_hole_may_touch_the_border(at):
    picture, hole = stripes(), disc(96, 96, 22, at=at)
    assert psnr(complete(picture, hole), picture, hole) > 25


def test_slanting_light_and_plain_grounds_are_met_exactly():
    x, y = pixel_grid(64, 80)[0]
    ramp = torch.stack([0.2 + x / 200, 0.8 - y / 200, 0.3 + (x + y) / 400])[None]
    hole = disc(64, 80, 14)
    filled = complete(ramp, hole)
    assert (filled - ramp).abs().max() < 2e-3 and torch.equal(filled * (1 - hole), ramp * (1 - hole))
    plain = torch.full((1, 3, 64, 80), 0.3)
    assert (complete(plain, hole) - plain).abs().max() < 1e-5


def test_texture_is_kept():
    """As much fine detail as the truth has, where a smooth fill has next to none."""
    picture = resize(torch.from_numpy(skimage.data.grass()).float()[None, None] / 255, 128, 128).expand(-1, 3, -1, -1).clone()
    hole = disc(128, 128, 24)
    inner = disc(128, 128, 20)

    def detail(one):
        return (((one - gaussian(one, 1.5)).square() * inner).sum() / inner.sum()).sqrt().item()

    filled = complete(picture, hole)
    assert 0.7 < detail(filled) / detail(picture) < 1.2 and detail(spread(picture, 1 - hole)) < 0.2 * detail(picture)


def test_the_filled_part_takes_on_the_light_of_its_rim():
    """Only the hole and three pixels about it lie in a light: no patch shows stripes so bright, and the rim alone tells."""
    hole = disc(96, 96, 14)
    x, y = pixel_grid(96, 96)[0]
    light = 0.1 * torch.sigmoid(17 - ((x - 48).square() + (y - 48).square()).sqrt())
    picture = stripes() * 0.8 + light
    inner_rim = hole - (1 - dilate(1 - hole, 2))
    step = ((complete(picture, hole) - picture).mean(dim=1, keepdim=True) * inner_rim).sum() / inner_rim.sum()
    assert -0.035 < step.item() < 0.01  # of 0.1; the patches alone leave -0.067


def test_with_hardly_anything_known_it_is_smooth():
    hole = torch.ones(1, 1, 40, 40)
    hole[..., :3, :] = 0
    filled = complete(torch.full((1, 3, 40, 40), 0.6), hole)
    assert torch.allclose(filled, torch.full_like(filled, 0.6), atol=1e-5)


def test_what_cannot_be_filled_and_what_need_not():
    picture = torch.rand(1, 3, 20, 20)
    with pytest.raises(InputError, match="Give a smaller hole"):
        complete(picture, torch.ones(1, 1, 20, 20))
    with pytest.raises(ShapeError):
        complete(picture, torch.ones(1, 1, 20, 21))
    assert torch.equal(complete(picture, torch.zeros(1, 1, 20, 20)), picture)


@pytest.mark.parametrize("height, width", [(5, 90), (16, 16), (33, 7)])
def test_any_size(height, width):
    picture, hole = torch.rand(1, 3, height, width), torch.zeros(1, 1, height, width)
    hole[..., height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = 1
    filled = complete(picture, hole)
    assert filled.shape == picture.shape and filled.isfinite().all()
