"""Colour spaces against scikit-image, colour maps against known truth."""

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch

from flowpaint import colour


@pytest.fixture(scope="module")
def photo():
    image = skimage.data.astronaut()[::4, ::4]
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


@pytest.fixture
def every_colour():
    steps = torch.linspace(0, 1, 17)
    return torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).reshape(3, 17, 17 * 17)


def test_lab_equals_scikit_image(every_colour):
    expected = skimage.color.rgb2lab(every_colour.numpy(), channel_axis=0)
    assert np.abs(colour.to_lab(every_colour).numpy() - expected).max() < 0.05


def test_linear_equals_the_standard_at_known_points():
    known = torch.tensor([0.0, 0.04045, 0.5, 1.0]).expand(3, 1, 4)
    assert colour.to_linear(known)[0, 0].tolist() == pytest.approx([0.0, 0.0031308, 0.2140411, 1.0], abs=1e-6)


@pytest.mark.parametrize("there, back", [(colour.to_linear, colour.from_linear), (colour.to_lab, colour.from_lab)])
def test_spaces_round_trip(every_colour, there, back):
    assert (back(there(every_colour)) - every_colour).abs().max() < 2e-5


def test_spaces_take_leading_axes(every_colour):
    batch = torch.stack([every_colour, every_colour.flip(0)])[:, None]
    assert torch.equal(colour.to_lab(batch)[1, 0], colour.to_lab(every_colour.flip(0)))


def test_luma_equals_scikit_image(every_colour):
    expected = skimage.color.rgb2gray(every_colour.numpy(), channel_axis=0)
    assert np.abs(colour.luma(every_colour)[0].numpy() - expected).max() < 5e-4


def test_greys_have_no_chroma():
    greys = torch.linspace(0, 1, 256).expand(3, 1, 256)
    assert colour.to_lab(greys)[1:].abs().max() < 1e-3


def test_keep_colors_of_the_picture_itself_changes_nothing(photo):
    assert (colour.keep_colors(photo, photo) - photo).abs().max() < 1e-3


def test_keep_colors_takes_lightness_from_one_and_hue_from_the_other(photo):
    edited = photo.flip(-1) * 0.6 + 0.2
    kept = colour.to_lab(colour.keep_colors(edited, photo))
    wanted = colour.to_lab(photo)
    assert (kept[0] - colour.to_lab(edited)[0]).abs().max() < 0.1
    cross = kept[1] * wanted[2] - kept[2] * wanted[1]  # zero where both lie on one line through grey
    assert (cross.abs() / (wanted[1:].norm(dim=0) + 1)).max() < 0.1
    assert (kept[1:].norm(dim=0) <= wanted[1:].norm(dim=0) + 0.1).all()


def test_gamut_keeps_lightness_and_hue_and_as_much_chroma_as_fits():
    lab = torch.tensor([60.0, 90.0, 80.0])[:, None, None]  # an orange that no screen shows
    found = colour.into_gamut(lab)
    back = colour.to_lab(found)[:, 0, 0]
    assert back[0].item() == pytest.approx(60.0, abs=0.05)
    assert (back[2] / back[1]).item() == pytest.approx(80 / 90, abs=1e-3)
    assert min(found.min().item(), (1 - found).min().item()) == pytest.approx(0, abs=2e-3)  # on the border


def test_gamut_works_with_leading_axes():
    lab = torch.rand(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(1)) * 200 - 60
    assert torch.allclose(colour.into_gamut(lab)[1, 0], colour.into_gamut(lab[1, 0]), atol=1e-3)


def test_matched_statistics_are_the_ones_asked_for(photo):
    mean, std = torch.tensor([55.0, 3.0, -6.0]), torch.tensor([15.0, 5.0, 5.0])
    got_mean, got_std = colour.statistics(colour.match_statistics(photo, mean, std))
    assert (got_mean - mean).abs().max() < 0.5
    assert (got_std - std).abs().max() < 0.5


def test_a_flat_picture_is_moved_not_stretched():
    flat = torch.full((3, 8, 8), 0.5)
    mean, std = torch.tensor([40.0, 0.0, 0.0]), torch.tensor([20.0, 10.0, 10.0])
    moved = colour.match_statistics(flat, mean, std)
    assert colour.to_lab(moved)[0].mean().item() == pytest.approx(40, abs=0.1)
    assert moved.std().item() < 1e-3


MAP = torch.tensor([[0.8, 0.1, 0.0, 0.05], [0.05, 0.7, 0.1, 0.02], [0.0, 0.15, 0.6, 0.1]])


def test_fit_recovers_an_affine_map(photo):
    found = colour.fit_affine(photo, colour.apply_affine(photo, MAP), ridge=1e-8)
    assert (found - MAP).abs().max() < 1e-3


def test_a_local_edit_does_not_pull_the_fit(photo):
    edited = colour.apply_affine(photo, MAP)
    edited[:, 20:90, 30:100] = torch.tensor([0.9, 0.05, 0.05])[:, None, None]  # 30 % of the picture
    found = colour.fit_affine(photo, edited, ridge=1e-8)
    assert (found - MAP).abs().max() < 0.01


def test_weights_choose_the_pixels(photo):
    edited = torch.cat((colour.apply_affine(photo, MAP)[..., :40], 1 - photo[..., 40:]), dim=-1)
    weights = torch.zeros_like(photo[:1])
    weights[..., :40] = 1
    found = colour.fit_affine(photo, edited, weights, ridge=1e-8)
    assert (found - MAP).abs().max() < 2e-3


def test_a_grey_picture_falls_back_on_the_identity():
    grey = torch.full((3, 16, 16), 0.5)
    assert (colour.fit_affine(grey, grey) - torch.eye(3, 4)).abs().max() < 1e-5


# ------------------------------------------------------------------------------------------------------------- calibration


def draw(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_calibration_gives_the_mean_and_deviation_asked_for_and_twice_is_once():
    picture = draw(0, 3, 40, 50) * 0.4 + 0.3
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.05, 0.1, 0.08])
    once = colour.calibrated(picture, mean, std)
    found = colour.moments(once)
    torch.testing.assert_close(found[0], mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], std, atol=1e-5, rtol=0)
    torch.testing.assert_close(colour.calibrated(once, mean, std), once, atol=1e-5, rtol=0)
    numpy = np.asarray(picture)
    expected = (numpy - numpy.mean((1, 2), keepdims=True)) / numpy.std((1, 2), keepdims=True)
    expected = expected * np.array([0.05, 0.1, 0.08])[:, None, None] + np.array([0.4, 0.5, 0.6])[:, None, None]
    np.testing.assert_allclose(np.asarray(once), expected, atol=1e-5)  # FlowVid, Eq. 5


def test_a_constant_picture_is_moved_and_stays_constant():
    found = colour.calibrated(torch.full((3, 8, 8), 0.2), torch.tensor([0.5, 0.6, 0.7]), torch.tensor([0.1, 0.1, 0.1]))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.6, 0.7])[:, None, None].expand(3, 8, 8))


def test_what_is_foretold_is_plain_where_the_source_keeps_its_colours():
    before, edited = draw(1, 3, 32, 32), draw(2, 3, 32, 32)
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(3))
    now = before.flatten(1)[:, order].view(3, 32, 32)  # the same colours elsewhere
    for found, expected in zip(colour.foretold(edited, before, now), colour.moments(edited), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_linear_edit_is_foretold_exactly_whatever_the_source_becomes():
    matrix = torch.tensor([[0.7, 0.2, 0.0, 0.08], [0.1, 0.6, 0.1, 0.05], [0.0, 0.25, 0.5, 0.2]])
    before, now = draw(4, 3, 32, 32) * 0.6, draw(5, 3, 32, 32) ** 3 * torch.tensor([0.9, 0.3, 0.6])[:, None, None]
    edited, truth = (colour.apply_affine(one, matrix) for one in (before, now))
    mean, std = colour.foretold(edited, before, now)
    torch.testing.assert_close(mean, colour.moments(truth)[0], atol=2e-4, rtol=0)
    torch.testing.assert_close(std, colour.moments(truth)[1], atol=2e-3, rtol=0)


def test_an_edit_that_has_nothing_to_do_with_colours_is_expected_to_stay():
    before, edited = draw(6, 3, 64, 64), draw(7, 3, 64, 64) * 0.2 + 0.7
    mean, _ = colour.foretold(edited, before, before * 0.3)
    torch.testing.assert_close(mean, colour.moments(edited)[0], atol=0.01, rtol=0)
    grey = torch.full((3, 16, 16), 0.5)
    for one in colour.foretold(edited, grey.repeat(1, 4, 4), grey.repeat(1, 4, 4) * 0.5):
        assert torch.isfinite(one).all()
