"""Warping, chaining and visibility: closed forms, and a square whose motion is known."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from flowpaint.errors import ShapeError
from flowpaint.warp import (
    affine_motion,
    chain,
    grid_of,
    inside,
    pixel_grid,
    resize,
    resize_flow,
    sample_at,
    visibility,
    warp,
)


def shift(dx, dy, height=64, width=64, num=1):
    return torch.tensor([dx, dy], dtype=torch.float32)[None, :, None, None].repeat(num, 1, height, width)


# ---------------------------------------------------------------------------------------------------------------- sampling


def test_the_grid_says_x_then_y():
    grid = pixel_grid(3, 5)
    assert grid.shape == (1, 2, 3, 5) and grid.dtype == torch.float32
    assert grid[0, :, 2, 4].tolist() == [4, 2]
    assert torch.equal(grid_of(torch.zeros(7, 3, 3, 5)), grid)


@pytest.mark.parametrize("dx, dy", [(3, 0), (0, -2), (5, 7), (-4, 1)])
def test_a_translation_is_a_roll(textured, dx, dy):
    b = textured.roll((dx, dy), dims=(-1, -2))  # content moves dx right, dy down
    laid = warp(b, shift(dx, dy))
    assert torch.allclose(laid[..., 8:-8, 8:-8], textured[..., 8:-8, 8:-8], atol=1e-5)


def test_half_a_pixel_is_the_mean_of_two():
    image = torch.rand(2, 3, 6, 9)
    assert torch.allclose(warp(image, shift(0.5, 0, 6, 9, num=2))[..., :-1], (image[..., :-1] + image[..., 1:]) / 2, atol=1e-5)
    assert torch.allclose(
        warp(image, shift(0, 0.25, 6, 9, num=2))[..., :-1, :], 0.75 * image[..., :-1, :] + 0.25 * image[..., 1:, :], atol=1e-5
    )


def test_sampling_is_scipy_s():
    image = torch.rand(1, 2, 23, 31, generator=torch.Generator().manual_seed(3))
    points = (
        torch.rand(1, 2, 11, 13, generator=torch.Generator().manual_seed(4)) * torch.tensor([40.0, 30.0])[None, :, None, None] - 4
    )
    x, y = points[0].double().numpy()
    for outside, mode in (("edge", "nearest"), ("zero", "grid-constant")):
        expected = np.stack([ndimage.map_coordinates(one.double().numpy(), (y, x), order=1, mode=mode) for one in image[0]])
        assert np.abs(sample_at(image, points, outside)[0].numpy() - expected).max() < 1e-4


def test_outside_is_the_edge_or_nothing():
    image = torch.rand(1, 3, 6, 9) + 1
    far = shift(20, 0, 6, 9)
    assert torch.equal(warp(image, far), image[..., -1:].expand(-1, -1, -1, 9))
    assert warp(image, far, outside="zero").abs().max() == 0


@pytest.mark.parametrize("height, width", [(1, 7), (7, 1), (1, 1)])
def test_axes_of_one_pixel_are_legal(height, width):
    image = torch.rand(1, 3, height, width)
    still = torch.zeros(1, 2, height, width)
    assert torch.allclose(warp(image, still), image, atol=1e-6)
    moved = warp(image, still + 0.3)
    assert moved.isfinite().all() and moved.shape == image.shape
    assert visibility(still, still).min() == 1
    assert resize_flow(still, 4, 4).shape == (1, 2, 4, 4)


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="flow"):
        warp(torch.zeros(2, 3, 4, 5), torch.zeros(1, 2, 4, 5))
    with pytest.raises(ShapeError, match="flow_bc"):
        chain(torch.zeros(1, 2, 4, 5), torch.zeros(1, 2, 5, 4))


# ---------------------------------------------------------------------------------------------------------------- chaining


def test_translations_add_up():
    assert torch.allclose(chain(shift(3, -1), shift(-1.5, 4)), shift(1.5, 3))


def test_a_chain_reads_the_second_flow_where_the_first_one_leads():
    """Shift by 5, then scale about (20, 10): x -> 20 + 1.5 (x + 5 - 20)."""
    grid = pixel_grid(64, 64)
    centre = torch.tensor([20.0, 10.0])[None, :, None, None]
    scaled = 0.5 * (grid - centre)
    expected = centre + 1.5 * (grid + shift(5, 0) - centre) - grid
    assert torch.allclose(chain(shift(5, 0), scaled)[..., :-6], expected[..., :-6], atol=1e-4)


def test_there_and_back_is_nothing(moving_square):
    there, back = moving_square.flow(2, 5), moving_square.flow(5, 2)
    around = chain(there.vectors, back.vectors)
    assert (around * there.visibility).abs().max() < 1e-4


# -------------------------------------------------------------------------------------------------------------- visibility


@pytest.mark.parametrize("rule", ["unimatch", "sundaram"])
@pytest.mark.parametrize("a, b", [(0, 1), (0, 4), (7, 3)])
def test_a_moving_square_hides_what_it_moves_over(moving_square, rule, a, b):
    truth = moving_square.flow(a, b)
    seen = visibility(truth.vectors, moving_square.flow(b, a).vectors, rule)
    assert torch.equal(seen, truth.visibility)


@pytest.mark.parametrize("rule", ["unimatch", "sundaram"])
@pytest.mark.parametrize("dx, dy", [(5, 0), (-5, 0), (0, 3), (0, -3), (0.25, 0)])
def test_out_of_frame_is_never_visible(rule, dx, dy):
    there = shift(dx, dy, 20, 30)
    seen = visibility(there, -there, rule)
    x, y = pixel_grid(20, 30)[0] + there[0]
    expected = (x >= 0) & (x <= 29) & (y >= 0) & (y <= 19)
    assert torch.equal(seen[0, 0].bool(), expected)
    assert torch.equal(inside(there)[0, 0], expected)


def test_the_rules_differ_as_they_are_written():
    """Forty pixels there and almost as many back, on both sides of either threshold."""
    there = shift(40, 0, 16, 128)
    for miss in (0.4, 0.6, 1.2, 1.35, 2.0, 5.0, 6.0):
        back = shift(-40 + miss, 0, 16, 128)
        length = 40 + abs(-40 + miss)
        squares = 40**2 + (-40 + miss) ** 2
        assert visibility(there, back)[0, 0, 8, 20].item() == (miss < 0.01 * length + 0.5)
        assert visibility(there, back, "sundaram")[0, 0, 8, 20].item() == (miss**2 < 0.01 * squares + 0.5)


def test_unimatch_takes_the_way_back_s_length_at_the_same_pixel():
    there = shift(8, 0, 4, 32)
    back = torch.zeros(1, 2, 4, 32)
    back[:, 0, :, 16:] = -8.68  # lands 0.68 px off for pixels 8 and up
    back[:, 0, :, :4] = 100.0
    seen = visibility(there, back)[0, 0, 0]
    # |ab| = 8; |ba| at the pixel itself is 0 up to 15: 0.01 * 8 + 0.5 < 0.68; from 16 on 8.68: 0.01 * 16.68 + 0.5 < 0.68.
    assert seen[8:24].max() == 0
    back[:, 0, :, 16:] = -8.62
    seen = visibility(there, back)[0, 0, 0]
    assert seen[8:16].max() == 0 and seen[16:24].min() == 1


# ---------------------------------------------------------------------------------------------------------------- resizing


def test_resizing_averages_areas_and_keeps_equal_sizes():
    image = torch.rand(1, 3, 12, 20)
    assert resize(image, 12, 20) is image
    assert torch.allclose(resize(image, 4, 5), image.unflatten(-1, (5, 4)).unflatten(-3, (4, 3)).mean(dim=(-1, -3)), atol=1e-6)
    ramp = torch.arange(20.0).expand(1, 1, 12, 20)
    assert torch.allclose(
        resize(ramp, 24, 40)[..., 2:-2], ((torch.arange(40) + 0.5) / 2 - 0.5).expand(1, 1, 24, 40)[..., 2:-2], atol=1e-5
    )


@pytest.mark.parametrize("height, width", [(128, 32), (32, 128), (64, 64), (21, 200)])
def test_resized_flow_counts_in_the_new_pixels(height, width):
    resized = resize_flow(shift(6, -3), height, width)
    assert torch.allclose(resized, shift(6 * width / 64, -3 * height / 64, height, width), atol=1e-5)


def test_resized_flow_still_lays_b_onto_a(textured):
    b = textured.roll(4, dims=-1)
    large, large_b = resize(textured, 128, 128), resize(b, 128, 128)
    laid = warp(large_b, resize_flow(shift(4, 0), 128, 128))
    assert (laid - large)[..., 16:-16].abs().max() < 0.01


# ------------------------------------------------------------------------------------------------------------------ affine


def affine(matrix, offset, height, width):
    grid = pixel_grid(height, width)
    centred = grid - torch.tensor([width / 2, height / 2])[None, :, None, None]
    return torch.einsum("ij,njhw->nihw", torch.tensor(matrix), centred) + torch.tensor(offset)[None, :, None, None]


@pytest.mark.parametrize("offset", [(2.0, -1.0), (-9.0, 4.0)])
def test_an_affine_motion_is_found_among_outliers(offset):
    c, s = math.cos(0.06), math.sin(0.06)
    truth = affine([[1.05 * c - 1, -1.05 * s], [1.05 * s + 0.03, 1.05 * c - 1]], offset, 60, 90)
    generator = torch.Generator().manual_seed(5)
    wrong = torch.rand(1, 1, 60, 90, generator=generator) < 0.3
    noise = torch.randn(1, 2, 60, 90, generator=generator)
    motion = torch.where(wrong, truth + 25 * noise, truth + 0.05 * noise)
    found = affine_motion(motion, torch.ones(1, 1, 60, 90))
    assert (found - truth).norm(dim=1).max() < 0.1


def test_an_object_that_moves_otherwise_does_not_pull():
    truth = affine([[0.02, 0.0], [0.0, 0.02]], (3.0, 1.0), 60, 90)
    motion = truth.clone()
    motion[..., 10:45, 20:65] -= torch.tensor([12.0, 5.0])[None, :, None, None]  # 29 % of the picture
    assert (affine_motion(motion, torch.ones(1, 1, 60, 90)) - truth).norm(dim=1).max() < 0.2


def test_only_weighted_pixels_have_a_say():
    motion = torch.cat([shift(7, 0, 40, 30), shift(-2, 3, 40, 50)], dim=-1)
    weight = torch.zeros(1, 1, 40, 80)
    weight[..., 35:] = 1
    assert (affine_motion(motion, weight) - shift(-2, 3, 40, 80)).norm(dim=1)[..., 35:].max() < 0.01
