"""Placements, motion models and outlines against closed forms."""

import math

import pytest
import torch

from flowpaint.align.motion import fit, outlined
from flowpaint.align.placement import Placement, lookup, moved
from flowpaint.labels import signed_distance
from flowpaint.warp import grid_of, pixel_grid, sample_at

SIZE = (60, 80)
MODELS = ("mean", "median", "similarity", "affine", "patches")


def matrix(angle=0.0, scale=1.0, shift=(0.0, 0.0), shear=0.0):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[c, -s + shear, shift[0]], [s, c, shift[1]]], dtype=torch.float64)


def motion_of(transform):
    grid = pixel_grid(*SIZE)
    return moved(grid, transform) - grid


def blob():
    grid = pixel_grid(*SIZE)[0]
    return (((grid[0] - 42) / 18).square() + ((grid[1] - 28) / 12).square() <= 1).float()[None, None]


@pytest.mark.parametrize("model", MODELS)
def test_a_shift_is_found_by_every_model_everywhere(model):
    step = fit(model, motion_of(matrix(shift=(-3.25, 1.5))), blob())
    expected = pixel_grid(*SIZE) + torch.tensor([-3.25, 1.5])[None, :, None, None]
    assert torch.allclose(step.points(*SIZE), expected, atol=2e-4)


@pytest.mark.parametrize(
    "model, transform", [("similarity", matrix(0.1, 1.05, (2, -1))), ("affine", matrix(0.1, 0.95, (2, 1), 0.08))]
)
def test_its_own_kind_of_motion_is_found_exactly(model, transform):
    assert torch.allclose(fit(model, motion_of(transform), blob()).matrix, transform, atol=1e-5)


def test_the_mean_is_the_papers_and_a_median_is_not_pulled():
    motion = torch.zeros(1, 2, *SIZE)
    where = blob()
    inside = where[0, 0] > 0.5
    values = torch.full((int(inside.sum()),), 2.0)
    values[: len(values) // 4] = 40.0  # a quarter is wrong
    motion[0, 0][inside] = values
    mean, median = (fit(model, motion, where).matrix[0, 2].item() for model in ("mean", "median"))
    assert mean == pytest.approx(values.mean().item(), abs=1e-4) and mean > 10
    assert median == pytest.approx(2.0)


@pytest.mark.parametrize("model", ["similarity", "affine"])
def test_outliers_are_discounted(model):
    transform = matrix(0.05, 1.02, (1, 2))
    motion = motion_of(transform)
    motion[:, :, 20:26, 30:40] += 15
    assert torch.allclose(fit(model, motion, blob()).matrix, transform, atol=0.02)


def test_patches_follow_a_bend_that_no_similarity_has():
    grid = pixel_grid(*SIZE)
    motion = torch.cat([0.01 * (grid[:, 1:] - 30).square(), torch.zeros_like(grid[:, :1])], dim=1)
    where = torch.zeros(1, 1, *SIZE)
    where[..., 4:56, 4:76] = 1

    def miss(model):
        return ((fit(model, motion, where).points(*SIZE) - grid - motion).norm(dim=1, keepdim=True) * where).sum() / where.sum()

    assert miss("patches") < 0.6 * miss("similarity")


@pytest.mark.parametrize("model", MODELS)
def test_nothing_to_measure_is_no_motion(model):
    assert fit(model, torch.ones(1, 2, *SIZE), torch.zeros(1, 1, *SIZE)) is None


@pytest.mark.parametrize("model", MODELS)
def test_one_pixel_is_enough_and_gives_no_nan(model):
    weight = torch.zeros(1, 1, *SIZE)
    weight[..., 10, 20] = 1
    step = fit(model, torch.full((1, 2, *SIZE), 3.0), weight)
    assert step.points(*SIZE).isfinite().all()
    assert step.points(*SIZE)[0, :, 10, 20].tolist() == pytest.approx([23.0, 13.0], abs=1e-3)


def test_placements_are_chained_and_undone():
    first, second = Placement(matrix=matrix(0.2, 1.1, (3, 4))), Placement(matrix=matrix(-0.1, 0.9, (-2, 1)))
    points = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)
    assert torch.allclose(first.after(second).at(points), first.at(second.at(points)), atol=1e-5)
    assert torch.allclose(first.inverse().at(first.at(points)), points, atol=1e-5)


def test_bends_are_chained():
    generator = torch.Generator().manual_seed(0)
    bends = [
        torch.nn.functional.interpolate(torch.randn(1, 2, 3, 4, generator=generator), SIZE, mode="bicubic") for _ in range(2)
    ]
    first, second = (Placement(matrix=matrix(0.05, 1.0, (1, 0)), bend=bend) for bend in bends)
    whole = first.after(second).points(*SIZE)
    steps = second.points(*SIZE)
    expected = moved(steps, first.matrix) + sample_at(bends[0], steps)
    assert torch.allclose(whole, expected, atol=1e-4)


@pytest.mark.parametrize("new", [(120, 160), (97, 133), (30, 40)])
def test_a_placement_keeps_its_meaning_at_another_size(new):
    place = Placement(matrix=matrix(0.1, 1.2, (5, -3))).resized(SIZE, new)
    down, across = new[0] / SIZE[0], new[1] / SIZE[1]
    scale = torch.tensor([across, down]).view(1, 2, 1, 1)
    small = torch.tensor([11.0, 17.0]).view(1, 2, 1, 1)
    large = (small + 0.5) * scale - 0.5
    expected = (Placement(matrix=matrix(0.1, 1.2, (5, -3))).at(small) + 0.5) * scale - 0.5
    assert torch.allclose(place.at(large), expected, atol=1e-3)


def test_lookup_is_exact_at_pixels_and_zero_outside():
    mask = torch.rand(1, 2, *SIZE)
    assert torch.equal(lookup(mask, pixel_grid(*SIZE)), mask)
    shifted = lookup(mask, pixel_grid(*SIZE) + torch.tensor([3.0, -2.0])[None, :, None, None])
    assert torch.equal(shifted[..., 2:, :-3], mask[..., :-2, 3:])
    assert (shifted[..., :2, :] == 0).all() and (shifted[..., -3:] == 0).all()


def test_lookup_between_pixels_is_bilinear():
    mask = torch.rand(1, 1, *SIZE)
    points = pixel_grid(*SIZE)[..., :-1, :-1] + 0.25
    assert torch.allclose(lookup(mask, points), sample_at(mask, points), atol=1e-5)


@pytest.mark.parametrize("transform", [matrix(shift=(4, -3)), matrix(0.15, 1.1, (-1.5, -8))])
def test_an_outline_is_laid_onto_another(transform):
    old = blob()
    place = Placement(matrix=transform)
    new = (lookup(old, place.points(*SIZE)) > 0.5).float()
    found = Placement.here().after(outlined(old, new, Placement.here()))
    carried = (lookup(old, found.points(*SIZE)) > 0.5).float()
    overlap = torch.minimum(carried, new).sum() / torch.maximum(carried, new).sum()
    assert overlap > 0.97
    assert torch.minimum(old, new).sum() / torch.maximum(old, new).sum() < 0.8  # they did differ


def test_an_outline_that_fits_is_not_moved():
    place = Placement(matrix=matrix(0.1, 1.0, (2, 2)))
    new = (lookup(blob(), place.points(*SIZE)) > 0.5).float()
    step = outlined(blob(), new, place)
    assert (step.points(*SIZE) - grid_of(new))[..., 16:40, 24:60].abs().max() < 0.4


def test_a_disc_is_not_turned_by_its_outline():
    grid = pixel_grid(*SIZE)[0]
    disc = ((grid[0] - 40).square() + (grid[1] - 30).square() <= 15**2).float()[None, None]
    moved_disc = lookup(disc, pixel_grid(*SIZE) - torch.tensor([5.0, 0.0])[None, :, None, None])
    assert abs(outlined(disc, moved_disc, Placement.here()).matrix[0, 1].item()) < 0.02


def test_distance_is_signed():
    distance = signed_distance(blob())
    assert distance[0, 0, 28, 42] > 9 and distance[0, 0, 2, 2] < -9
