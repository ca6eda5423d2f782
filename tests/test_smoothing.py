"""Smoothing and morphology against scipy, and what must hold of normalised convolution."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from flowpaint.smoothing import box, dilate, erode, extend, gaussian, smooth_on_grid, spread


@pytest.fixture
def noise():
    return torch.rand(1, 2, 37, 53, generator=torch.Generator().manual_seed(1))


def each_channel(x, function):
    return torch.stack([torch.from_numpy(function(channel.double().numpy())) for channel in x[0]])[None].to(x.dtype)


@pytest.mark.parametrize("size", [1, 3, 9])
def test_box_is_scipy_s(noise, size):
    expected = each_channel(noise, lambda one: ndimage.uniform_filter(one, size, mode="nearest"))
    assert torch.allclose(box(noise, size), expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.4, 6.0])
def test_gaussian_is_scipy_s(noise, sigma):
    cut = max(1, round(2.5 * sigma))
    expected = each_channel(noise, lambda one: ndimage.gaussian_filter(one, sigma, mode="nearest", radius=cut))
    assert torch.allclose(gaussian(noise, sigma), expected, atol=1e-6)


@pytest.mark.parametrize("radius", [1, 3])
def test_morphology_is_scipy_s(noise, radius):
    size = 2 * radius + 1
    grown = each_channel(noise, lambda one: ndimage.maximum_filter(one, size, mode="constant", cval=-np.inf))
    shrunk = each_channel(noise, lambda one: ndimage.minimum_filter(one, size, mode="constant", cval=np.inf))
    assert torch.equal(dilate(noise, radius), grown)
    assert torch.equal(erode(noise, radius), shrunk)


@pytest.mark.parametrize("sigma", [3.0, 9.0, 20.0])
def test_a_wide_mean_on_a_coarse_grid_is_nearly_the_gaussian(sigma):
    noise = torch.rand(1, 1, 90, 121, generator=torch.Generator().manual_seed(2))
    smooth, exact = smooth_on_grid(noise, sigma), gaussian(noise, sigma)
    assert smooth.shape == noise.shape
    assert (smooth - exact)[..., 20:-20, 20:-20].abs().max() < 0.1 * noise.std()
    y, x = torch.meshgrid(torch.arange(90.0), torch.arange(121.0), indexing="ij")
    ramp = (2 * x - y)[None, None]
    reach = 3 * int(sigma) + 4
    if 2 * reach < 80:  # a mean of a ramp is the ramp, unless it was shifted by half a cell
        assert torch.allclose(
            smooth_on_grid(ramp, sigma)[..., reach:-reach, reach:-reach], ramp[..., reach:-reach, reach:-reach], atol=0.02
        )


def test_smoothing_keeps_a_constant():
    flat = torch.full((2, 3, 21, 34), 0.7)
    for smooth in (box(flat, 5), gaussian(flat, 2.0), smooth_on_grid(flat, 12.0), dilate(flat, 2), erode(flat, 2)):
        assert torch.allclose(smooth, flat, atol=1e-5)


def test_extending_a_constant_is_that_constant_wherever_there_is_weight():
    weights = torch.zeros(1, 1, 60, 80)
    weights[..., 10:20, 15:30] = 1
    values = torch.where(weights > 0, torch.tensor([3.0, -2.0])[None, :, None, None], torch.tensor(99.0))
    found = extend(values, weights, 6.0)
    near = dilate(weights, 20) > 0
    error = (found - torch.tensor([3.0, -2.0])[None, :, None, None]).abs()
    assert error[near.expand_as(error)].max() < 0.01
    assert error.max() < 0.05


def test_extending_keeps_what_is_known():
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    values = (0.1 * x + 0.05 * y)[None, None]
    weights = torch.zeros(1, 1, 60, 80)
    weights[..., 15:45, 20:60] = 1
    found = extend(values, weights, 2.0)
    assert (found - values)[..., 22:38, 27:53].abs().max() < 0.05
    assert found[0, 0, 30, 75] > found[0, 0, 30, 5] + 1, "each side takes after what is nearest"


@pytest.mark.parametrize(("height", "width"), [(40, 56), (33, 17), (1, 9), (64, 64)])
def test_spreading_keeps_what_is_known_and_reaches_everywhere(height, width):
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(2, 3, height, width, generator=generator)
    known = (torch.rand(2, 1, height, width, generator=generator) > 0.9).float()
    found = spread(values, known)
    kept = known.expand_as(values) > 0
    torch.testing.assert_close(found[kept], values[kept])
    assert float(found.min()) >= float(values[kept].min()) - 1e-5 and float(found.max()) <= float(values[kept].max()) + 1e-5
    one = torch.zeros(1, 1, height, width)
    one[..., -1, 0] = 1
    torch.testing.assert_close(spread(values[:1], one), values[:1, :, -1:, :1].expand(1, 3, height, width), atol=1e-5, rtol=0)
    assert torch.equal(spread(values, 0 * known), 0 * values)


def test_spreading_a_slope_over_a_hole_is_nearly_the_slope():
    slope = torch.linspace(0, 1, 96).expand(1, 1, 64, 96).clone()
    known = torch.ones(1, 1, 64, 96)
    known[..., 20:44, 30:60] = 0
    error = (spread(slope, known) - slope).abs()
    assert error.max() < 0.15 and error[known == 0].mean() < 0.05
