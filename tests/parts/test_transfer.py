"""Transfer: colour maps, local slopes, and votes, each against what they must be."""

import math

import pytest
import skimage.data
import torch

from flowpaint.parts.propagate.transfer import Transfer, features
from flowpaint.regression import ColourMap, regress
from flowpaint.smoothing import gaussian
from flowpaint.types import from_raw
from flowpaint.warp import grid_of, pixel_grid, resize

MATRIX = torch.tensor([[0.6, 0.3, -0.1], [0.1, 0.5, 0.2], [0.0, -0.2, 0.8]])
OFFSET = torch.tensor([0.1, 0.05, 0.15])[:, None, None]


def photo(height=72, width=96, picture=skimage.data.astronaut):
    return resize(from_raw(picture())[None], height, width)


def affine(picture):
    return torch.einsum("ij,njhw->nihw", MATRIX, picture) + OFFSET


def psnr(a, b):
    return -10 * math.log10(max(float((a - b).square().mean()), 1e-12))


# ------------------------------------------------------------------------------------------------------------- colour maps


def test_an_affine_colour_map_is_met():
    source = photo()
    found = ColourMap.fit(source, affine(source))
    assert (found(source) - affine(source)).abs().mean() < 0.01 and psnr(found(source), affine(source)) > 40
    other = photo(picture=skimage.data.coffee)  # colours the key frame may lack
    assert (found(other) - affine(other)).abs().mean() < 0.01


def test_channels_are_not_mixed_up():
    """The cube is [R, G, B], and grid_sample wants the fastest axis first."""
    source = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    edited = torch.stack([source[:, 1] ** 2, source[:, 2], 1 - source[:, 0]], dim=1)
    assert psnr(ColourMap.fit(source, edited)(source), edited) > 40


@pytest.mark.parametrize("gamma", [0.5, 2.2])
def test_a_gamma_is_met(gamma):
    source = photo()
    found = ColourMap.fit(source, source**gamma)
    assert psnr(found(source), source**gamma) > 38
    darker = 0.8 * source + 0.05
    assert psnr(found(darker), darker**gamma) > 32


def test_the_identity_is_the_identity_for_every_colour():
    cube = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, 9)] * 3, indexing="ij")).reshape(1, 3, 27, 27)
    source = photo()
    assert (ColourMap.fit(source, source)(cube) - cube).abs().max() < 0.02


def test_weights_say_which_pixels_count():
    source = photo()
    edited = affine(source)
    edited[..., :48] = 0.5
    weights = torch.zeros(1, 1, 72, 96)
    weights[..., 48:] = 1
    found = ColourMap.fit(source, edited, weights)
    assert psnr(found(source)[..., 48:], edited[..., 48:]) > 40
    blind = ColourMap.fit(source, edited)
    assert psnr(blind(source)[..., 48:], edited[..., 48:]) < psnr(found(source)[..., 48:], edited[..., 48:]) - 5


# -------------------------------------------------------------------------------------------------------------- regression


def test_features_are_colour_and_blurred_luma():
    picture = photo()
    seen = features(picture, 1.0)
    luma = 0.299 * picture[:, :1] + 0.587 * picture[:, 1:2] + 0.114 * picture[:, 2:]
    assert torch.equal(seen[:, :3], picture)
    assert torch.allclose(seen[:, 3:4], gaussian(luma, 2.0), atol=1e-6)
    assert torch.allclose(seen[:, 4:], gaussian(luma, 5.0), atol=1e-6)


def test_regression_recovers_known_slopes():
    """Different ones left and right; slopes[0, i, j] is d target_i / d source_j."""
    source = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(2))
    left = torch.einsum("ij,njhw->nihw", MATRIX, source)
    right = torch.einsum("ij,njhw->nihw", 0.5 * MATRIX.T, source) + 0.3
    target = torch.cat([left[..., :30], right[..., 30:]], dim=-1)
    slopes = regress(source, target, 9, 1e-6)
    assert slopes.shape == (1, 3, 3, 40, 60)
    assert torch.allclose(slopes[0, ..., 20, 10], MATRIX, atol=1e-3)
    assert torch.allclose(slopes[0, ..., 20, 50], 0.5 * MATRIX.T, atol=1e-3)


def test_regression_on_more_features_than_colours():
    source = torch.rand(1, 5, 30, 30, generator=torch.Generator().manual_seed(3))
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(4))
    slopes = regress(source, torch.einsum("ij,njhw->nihw", weights, source), 11, 1e-6)
    assert torch.allclose(slopes[0, ..., 15, 15], weights, atol=2e-3)


def test_the_ridge_draws_slopes_to_nothing():
    source = torch.rand(1, 3, 30, 30, generator=torch.Generator().manual_seed(5))
    assert regress(source, source, 9, 1e4).abs().max() < 1e-4
    flat = torch.full((1, 3, 30, 30), 0.5)
    assert regress(flat, source, 9, 5e-4).abs().max() < 1e-3, "what does not vary explains nothing"


# ---------------------------------------------------------------------------------------------------------------- transfer


def brushed(source):
    """An edit that is not a function of colour: strokes of its own."""
    noise = torch.rand(source.shape, generator=torch.Generator().manual_seed(6))
    return (0.6 * affine(source) + 0.4 * gaussian(noise, 1.0)).clamp(0, 1)


@pytest.mark.parametrize("votes", [1, 5, 13])
def test_the_key_frame_through_its_own_field_is_the_key_picture(votes):
    source = photo()
    edited = brushed(source)
    again = Transfer.measure(source, edited, ridge=5e-4)(source, grid_of(source), votes)
    inner = (..., slice(4, -4), slice(4, -4))
    assert (again - edited)[inner].abs().max() < 0.5 / 255
    if votes == 1:
        assert (again - edited).abs().max() < 0.5 / 255


@pytest.mark.parametrize("votes", [5, 13])
def test_votes_at_the_border_are_for_the_right_place(votes):
    source = photo()
    edited = brushed(source)
    again = Transfer.measure(source, edited, ridge=5e-4)(source, grid_of(source), votes)
    assert (again - edited).abs().max() < 0.5 / 255


def test_a_recolouring_is_met_wherever_the_field_errs():
    source = photo()
    transfer = Transfer.measure(source, affine(source), ridge=5e-4)
    frame = photo().roll(7, dims=-1)
    wrong = grid_of(frame)  # off by seven pixels
    assert psnr(transfer(frame, wrong), affine(frame).clamp(0, 1)) > 35


def test_texture_follows_the_field():
    wide = photo(72, 112)
    edit = brushed(wide)
    source, frame = wide[..., :96], wide[..., 8:104]
    transfer = Transfer.measure(source, edit[..., :96], ridge=5e-4)
    field = pixel_grid(72, 96) + torch.tensor([8.0, 0.0])[None, :, None, None]
    for votes in (1, 5, 13):
        made = transfer(frame, field, votes)
        seen = (..., slice(4, -4), slice(4, 80))  # what the key frame shows too
        assert psnr(made[seen], edit[..., 8:104][seen]) > 45
        assert psnr(made[seen], edit[..., :96][seen]) < 25


def test_slopes_repair_small_errors_of_the_field():
    """Off by a pixel, an edit that follows the source locally is still met better than by sampling alone."""
    source = photo()
    light = torch.linspace(0.4, 1.0, 96)
    edited = source * light  # no function of colour
    transfer = Transfer.measure(source, edited, ridge=5e-4)
    off = grid_of(source) + 1.0
    inner = (..., slice(4, -4), slice(4, -4))
    sampled = Transfer(
        transfer.colours, transfer.voted, torch.cat([transfer.sampled[:, :2], 0 * transfer.sampled[:, 2:]], dim=1), transfer.unit
    )
    assert psnr(transfer(source, off, 1)[inner], edited[inner]) > psnr(sampled(source, off, 1)[inner], edited[inner]) + 1.5


def test_a_result_stays_in_range():
    source = photo()
    made = Transfer.measure(source, (3 * source - 1).clamp(0, 1), ridge=5e-4)(photo().flip(-1), grid_of(source))
    assert made.min() >= 0 and made.max() <= 1
