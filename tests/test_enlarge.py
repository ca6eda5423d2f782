"""Enlarging an edited picture by its source: edits that are known at full size, on scikit-image's photographs."""

import pytest
import skimage.data
import torch
import torch.nn.functional as F

from flowpaint.enlarge import enlarge
from flowpaint.errors import ShapeError
from flowpaint.smoothing import gaussian
from flowpaint.types import from_raw
from flowpaint.warp import resize

FACTOR = 3


def photo(name):
    picture = from_raw(getattr(skimage.data, name)().copy())[..., :384, :480]
    return picture[..., : picture.shape[-2] // 12 * 12, : picture.shape[-1] // 12 * 12]


def grade(x):
    matrix = torch.tensor([[0.8, 0.25, -0.05], [0.1, 0.7, 0.2], [-0.1, 0.3, 0.9]])
    return torch.einsum("ij,jhw->ihw", matrix, x.clamp(1e-4, 1) ** 0.7).clamp(0, 1)


def noir(x):
    return torch.sigmoid(9 * (x.mean(dim=0, keepdim=True) - 0.45)) * torch.tensor([1.0, 0.95, 0.85])[:, None, None]


def by_place(x):
    """A light from the right and a glow from below: no function of colour."""
    right, down = torch.linspace(0, 1, x.shape[-1]), torch.linspace(0, 1, x.shape[-2])[:, None]
    return (x * (0.5 + 0.6 * right) + 0.25 * down * torch.tensor([1.0, 0.4, 0.0])[:, None, None]).clamp(0, 1)


def halves(x):
    """The negative on the left, each channel given to the next on the right: the same colour means two things."""
    right = torch.arange(x.shape[-1]) >= x.shape[-1] // 2
    return torch.where(right, x.roll(1, dims=0), 1 - x)


def crisp(x):
    return (x + 0.8 * (x - gaussian(x[None], 2.0)[0])).clamp(0, 1)


def textured(x):
    """A grade under canvas of its own, 6 pixels and more."""
    canvas = gaussian(torch.randn(1, 1, *x.shape[-2:], generator=torch.Generator().manual_seed(1)), 2.5)[0]
    return (grade(x) * (1 + 0.12 * canvas / canvas.std())).clamp(0, 1)


def small(picture, factor=FACTOR):
    return resize(picture[None], picture.shape[-2] // factor, picture.shape[-1] // factor)[0]


def bicubic(picture, like):
    return F.interpolate(picture[None], size=like.shape[-2:], mode="bicubic", align_corners=False)[0].clamp(0, 1)


def psnr(a, b):
    return -10 * (a - b).square().mean().log10().item()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
@pytest.mark.parametrize("edit, gain", [(grade, 18), (noir, 12), (by_place, 6), (halves, 1.9), (crisp, 6), (textured, 7)])
def test_a_known_edit_is_nearer_the_truth_than_plain_enlarging(name, edit, gain):
    source = photo(name)
    truth = edit(source)
    result = small(truth)
    found = enlarge(small(source), result, source)
    assert psnr(found, truth) > psnr(bicubic(result, source), truth) + gain
    assert (small(found) - result).abs().mean() < 0.3 / 255
    assert found.min() >= 0 and found.max() <= 1


def test_the_source_itself_comes_back():
    source = photo("coffee")
    assert psnr(enlarge(small(source), small(source), source), source) > 50


def test_a_picture_that_shares_nothing_gets_nothing_of_the_source():
    """Where the edit painted over, no detail of the source shines through, neither as it was nor inverted."""
    source, other = photo("astronaut"), gaussian(photo("coffee")[None], 6.0)[0]
    height, width = min(source.shape[-2], other.shape[-2]), min(source.shape[-1], other.shape[-1])
    source, other = source[..., :height, :width], other[..., :height, :width]
    added = enlarge(small(source), small(other), source) - bicubic(small(other), source)
    detail = source - bicubic(small(source), source)
    assert ((added * detail).mean() / detail.square().mean()).abs() < 0.01
    assert added.square().mean() < 0.01 * detail.square().mean()


def test_a_look_without_texture_keeps_its_edges_and_gets_no_texture():
    """Flat on either side of an edge that the source has, too, under a texture that the look took away."""
    x = torch.arange(192)
    texture = 0.05 * torch.rand(1, 192, 192, generator=torch.Generator().manual_seed(2))
    side = (x >= 97).float().expand(1, 192, 192)
    source = (0.3 + 0.35 * side + texture).expand(3, -1, -1)
    truth = (0.8 - 0.5 * side).expand(3, -1, -1) * torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    found = enlarge(small(source), small(truth), source)
    steep = [(one[..., 97] - one[..., 96]).abs().mean() for one in (found, truth, bicubic(small(truth), source))]
    assert steep[0] > 0.7 * steep[1] > 1.5 * steep[2]
    assert found[..., 20:60].std(dim=(-2, -1)).max() < 0.2 * source[..., 20:60].std(dim=(-2, -1)).min()


@pytest.mark.parametrize("height, width", [(97, 131), (64, 200), (33, 48)])
def test_any_size_and_a_shape_that_is_not_quite_the_same(height, width):
    source = photo("coffee")[:, :height, :width]
    reduced = resize(source[None], 32, 48)[0]
    found = enlarge(reduced, grade(reduced), source)
    assert found.shape == source.shape and psnr(found, grade(source)) > 28


def test_at_the_same_size_the_result_is_itself():
    source = photo("rocket")[:, :48, :64]
    assert (enlarge(source, noir(source), source) - noir(source)).abs().max() < 1e-3


def test_a_source_that_is_no_larger_gives_no_detail():
    picture, other = torch.rand(2, 3, 32, 48)
    assert torch.equal(enlarge(picture, other, picture[:, :30]), resize(other[None], 30, 48)[0])


def test_pictures_that_do_not_fit_are_refused():
    picture = torch.rand(3, 32, 48)
    with pytest.raises(ShapeError, match="small_result"):
        enlarge(picture, picture[:, :30], picture)
