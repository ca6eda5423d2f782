"""Transfer: colour maps, local slopes, and votes, each against what they must be."""

import math

import pytest
import skimage.data
import torch

from flowpaint.parts.propagate import bank, raster
from flowpaint.parts.propagate.raster import luma
from flowpaint.parts.propagate.transfer import Transfer, features, padded
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
    again = Transfer.measure(source, edited)(source, grid_of(source), votes)
    inner = (..., slice(4, -4), slice(4, -4))
    assert (again - edited)[inner].abs().max() < 0.5 / 255
    if votes == 1:
        assert (again - edited).abs().max() < 0.5 / 255


@pytest.mark.parametrize("votes", [5, 13])
def test_votes_at_the_border_are_for_the_right_place(votes):
    source = photo()
    edited = brushed(source)
    again = Transfer.measure(source, edited)(source, grid_of(source), votes)
    assert (again - edited).abs().max() < 0.5 / 255


def test_a_recolouring_is_met_wherever_the_field_errs():
    source = photo()
    transfer = Transfer.measure(source, affine(source))
    frame = photo().roll(7, dims=-1)
    wrong = grid_of(frame)  # off by seven pixels
    assert psnr(transfer(frame, wrong), affine(frame).clamp(0, 1)) > 35


def test_texture_follows_the_field():
    wide = photo(72, 112)
    edit = brushed(wide)
    source, frame = wide[..., :96], wide[..., 8:104]
    transfer = Transfer.measure(source, edit[..., :96])
    field = pixel_grid(72, 96) + torch.tensor([8.0, 0.0])[None, :, None, None]
    for votes in (1, 5, 13):
        made = transfer(frame, field, votes)
        seen = (..., slice(4, -4), slice(4, 80))  # what the key frame shows too
        assert psnr(made[seen], edit[..., 8:104][seen]) > 45
        assert psnr(made[seen], edit[..., :96][seen]) < 25


def test_detail_of_the_source_does_not_show_where_the_edit_dropped_it():
    """A painting of smooth colours and strokes: a wrong match shows other strokes, and no ghost of the source's own detail."""
    source = photo()
    strokes = gaussian(torch.rand(source.shape, generator=torch.Generator().manual_seed(7)), 1.0)
    painted = (0.7 * gaussian(source, 4.0) + 0.6 * strokes - 0.15).clamp(0, 1)
    frame = photo(picture=skimage.data.coffee)
    made = Transfer.measure(source, painted)(frame, grid_of(frame), 1)
    rest = gaussian(frame, 0.7) - gaussian(frame, 2.0)
    shown = gaussian(made, 0.7) - gaussian(made, 2.0)
    ghost = (shown * rest).mean() / rest.square().mean()
    assert abs(ghost) < 0.1


def test_places_that_look_alike_have_the_greater_say():
    """Half of the neighbours point to another surface: their strokes hardly count."""
    source = torch.full((1, 3, 32, 64), 0.2)
    source[..., 32:] = 0.9
    edited = source.clone()
    edited[..., :32] += 0.3 * (torch.arange(32.0) % 2)
    transfer = Transfer.measure(source, edited)
    field = grid_of(source)
    field[:, 0, ::4, :] += 32.0  # every fourth row is led astray
    seen = (..., slice(8, 24), slice(4, 28))
    right = transfer.vote(luma(source), padded(torch.zeros_like(field)), 1)[seen]
    voted = transfer.vote(luma(source), padded(field - grid_of(source)), 5)[:, :, 9:24:2, 4:28]
    assert (voted - transfer.vote(luma(source), padded(torch.zeros_like(field)), 5)[:, :, 9:24:2, 4:28]).abs().max() < 0.05
    assert right.std() > 0.02


def test_rows_of_a_vote_are_those_of_the_whole():
    source = photo()
    transfer = Transfer.measure(source, brushed(source))
    shift = padded(3 * gaussian(torch.randn(1, 2, 72, 96, generator=torch.Generator().manual_seed(8)), 2.0))
    for votes in (1, 5, 13):
        whole = transfer.vote(luma(source), shift, votes)
        for rows in ((0, 10), (10, 40), (40, 72)):
            part = transfer.vote(luma(source)[..., slice(*rows), :], shift, votes, rows)
            assert torch.allclose(part, whole[..., slice(*rows), :], atol=1e-5)


def test_opencv_and_torch_agree(monkeypatch):
    source, frame = photo(), photo(picture=skimage.data.coffee)
    field = grid_of(source) + 3 * gaussian(torch.randn(1, 2, 72, 96, generator=torch.Generator().manual_seed(9)), 2.0)
    fast = Transfer.measure(source, brushed(source))(frame, field)
    for module in (raster, bank):
        monkeypatch.setattr(module, "by_opencv", lambda picture: False)
    slow = Transfer.measure(source, brushed(source))(frame, field)
    assert (fast - slow).abs().mean() < 2e-3 and (fast - slow).abs().quantile(0.99) < 0.02


def test_a_result_stays_in_range():
    source = photo()
    made = Transfer.measure(source, (3 * source - 1).clamp(0, 1))(photo().flip(-1), grid_of(source))
    assert made.min() >= 0 and made.max() <= 1
