"""Operations on pictures: OpenCV and torch give the same, and both give what they must."""

from itertools import pairwise

import pytest
import torch

from flowpaint.parts.propagate import raster
from flowpaint.parts.propagate.raster import Sampler, box, double, enlarge, halve, luma, strips
from flowpaint.smoothing import box as shifted_box
from flowpaint.warp import pixel_grid, sample_at


def picture(channels, height, width, seed=1):
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed))


def points(height, width, seed=2):
    """Inside and a little outside of a picture of 24x30."""
    drawn = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.tensor([36.0, 30.0])[None, :, None, None] - 3


@pytest.fixture
def by_torch(monkeypatch):
    monkeypatch.setattr(raster, "by_opencv", lambda picture: False)


OPERATIONS = {
    "halve": halve,
    "double": double,
    "rows of double": lambda one: double(one, (6, 21)),
    "enlarge": lambda one: enlarge(one, 37, 61),
    "same size": lambda one: enlarge(one, 24, 30),
    "reduce": lambda one: enlarge(one, 11, 13),
    "box 3": lambda one: box(one, 3),
    "box 9": lambda one: box(one, 9),
    "linear": lambda one: Sampler(one)(points(8, 9)),
    "cubic": lambda one: Sampler(one, cubic=True)(points(8, 9)),
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("name", OPERATIONS)
def test_opencv_and_torch_agree(name, channels, monkeypatch):
    one = picture(channels, 24, 30)
    fast = OPERATIONS[name](one)
    monkeypatch.setattr(raster, "by_opencv", lambda picture: False)
    slow = OPERATIONS[name](one)
    assert fast.shape == slow.shape
    # OpenCV before version 5 samples at steps of a 32nd of a pixel.
    limit = 0.05 if name in ("linear", "cubic") else 1e-5
    assert (fast - slow).abs().max() < limit
    assert (fast - slow).abs().mean() < 0.2 * limit


def test_a_picture_is_sampled_at_its_pixels_exactly():
    one = picture(5, 24, 30)
    for cubic in (False, True):
        assert torch.allclose(Sampler(one, cubic=cubic)(pixel_grid(24, 30)), one, atol=1e-6)


def test_samples_are_those_of_the_whole_library():
    one = picture(6, 24, 30)
    assert (Sampler(one)(points(10, 12)) - sample_at(one, points(10, 12))).abs().mean() < 0.01


def test_samplers_take_parts_of_larger_tensors():
    """Slices of channels and of rows are not contiguous."""
    wide = picture(8, 24, 30)
    assert torch.equal(Sampler(wide[:, 3:6])(points(5, 6)), Sampler(wide[:, 3:6].contiguous())(points(5, 6)))
    where = points(12, 9)
    assert torch.equal(Sampler(wide)(where[..., 3:7, :]), Sampler(wide)(where)[..., 3:7, :])


def test_halving_takes_means_of_four():
    one = torch.tensor([[[[1.0, 3.0, 0.0, 0.0], [5.0, 7.0, 0.0, 4.0]]]])
    assert torch.equal(halve(one), torch.tensor([[[[4.0, 1.0]]]]))


def test_doubling_keeps_a_ramp():
    ramp = torch.arange(8.0).expand(1, 2, 8, 8).clone()
    large = double(ramp)
    assert large.shape == (1, 2, 16, 16)
    assert torch.allclose(large[..., 1:-1], (torch.arange(16.0)[1:-1] - 0.5).div(2).expand(1, 2, 16, 14), atol=1e-6)


@pytest.mark.parametrize("rows", [(0, 6), (6, 14), (10, 48), (0, 48), (46, 48), (20, 21)])
def test_rows_of_a_doubled_picture_are_its_rows(rows):
    one = picture(3, 24, 30)
    assert torch.equal(double(one, rows), double(one)[..., slice(*rows), :])


def test_box_means_are_means():
    one = picture(3, 24, 30)
    assert torch.allclose(box(one, 5), shifted_box(one, 5), atol=1e-6)
    assert box(one, 5)[0, 1, 10, 11] == pytest.approx(one[0, 1, 8:13, 9:14].mean().item(), abs=1e-6)


def test_luma_is_of_rec_601():
    one = picture(3, 4, 4)
    wanted = 0.299 * one[:, 0] + 0.587 * one[:, 1] + 0.114 * one[:, 2]
    assert torch.allclose(luma(one)[:, 0], wanted, atol=1e-6)
    before = one.clone()
    luma(one)
    assert torch.equal(one, before)


@pytest.mark.parametrize("height, width", [(720, 1280), (17, 90), (5, 5), (1081, 1), (3, 200_000)])
def test_strips_cover_a_picture_once(height, width):
    pieces = strips(height, width, "cpu")
    assert pieces[0][0] == 0 and pieces[-1][1] == height
    assert all(bottom == top for (_, bottom), (top, _) in pairwise(pieces))
    assert all(top < bottom and top % 2 == 0 for top, bottom in pieces)


def test_other_devices_take_a_picture_whole():
    assert strips(720, 1280, "cuda") == [(0, 720)]
    assert len(strips(720, 1280, "cpu")) > 8, "there is work for several threads"
