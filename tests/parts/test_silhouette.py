"""Silhouettes: labels go to what resembles the labelled, rims are put right, and motion is read off an outline."""

import torch
from test_regions import DISC, GROUND, mask, overlap, shown

from flowpaint.labels import Labelled, refine, resemble, signed_distance
from flowpaint.parts.propagate.silhouette import meet
from flowpaint.smoothing import dilate, erode
from flowpaint.warp import pixel_grid, sample_at

SIZE = (96, 128)
NOWHERE = torch.zeros(1, 1, *SIZE), torch.ones(1, 1, *SIZE)  # a match that tells nothing: its label, its cost


def ellipse(x, y, wide=30.0, high=20.0):
    across, down = pixel_grid(*SIZE)[0]
    return (((across - x) / wide) ** 2 + ((down - y) / high) ** 2 < 1).float()[None, None]


def test_pixels_take_the_label_of_what_they_resemble():
    off = pixel_grid(*SIZE) + torch.tensor([3.0, -2.0])[None, :, None, None]
    laid = Labelled(sample_at(shown(GROUND, DISC), off), sample_at(mask(), off))
    label = resemble(shown(GROUND, DISC), [laid], *NOWHERE)
    assert overlap((label > 0.5).float(), mask()) > 0.95 > overlap((laid.label > 0.5).float(), mask())


def test_a_good_match_outvotes_what_is_merely_near():
    laid = Labelled(shown(GROUND, DISC), mask())
    noise = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    label = resemble(noise, [laid], 1 - mask(), torch.zeros(1, 1, *SIZE))
    assert label[mask() > 0].max() < 0.05 and label[dilate(mask(), 3) - mask() > 0].min() > 0.95


def test_where_nothing_is_labelled_nothing_is_found():
    nothing = Labelled(shown(GROUND, DISC), torch.zeros(1, 1, *SIZE))
    assert resemble(shown(GROUND, DISC), [nothing], *NOWHERE).max() == 0
    assert refine(shown(GROUND, DISC), nothing.label).max() == 0


def test_a_rim_that_is_two_pixels_off_is_put_right():
    for wrong in (dilate(mask(), 2), erode(mask(), 2)):
        assert overlap((refine(shown(GROUND, DISC), wrong) > 0.5).float(), mask()) > 0.95 > overlap(wrong, mask())


def test_an_outline_tells_the_motion_of_what_it_bounds():
    """Only the outline moved; the point that is shown inside moves with it, also along the outline's straight parts."""
    shift = torch.tensor([7.0, -4.0])[None, :, None, None]
    body, seen = ellipse(58.0, 50.0), ellipse(65.0, 46.0)
    place = meet(pixel_grid(*SIZE), body, seen, torch.zeros(1, 1, *SIZE))
    error = (place - (pixel_grid(*SIZE) - shift)).norm(dim=1, keepdim=True)
    assert error[(signed_distance(seen).abs() < 8)].mean() < 1.0
    assert overlap((sample_at(body, place) > 0.5).float(), seen) > 0.95 > 0.7 > overlap(body, seen)


def test_what_is_held_stays():
    body, seen = ellipse(58.0, 50.0), ellipse(66.0, 50.0)
    held = torch.zeros(1, 1, *SIZE)
    held[..., :40] = 1
    place = meet(pixel_grid(*SIZE), body, seen, held) - pixel_grid(*SIZE)
    assert place[0, 0, 50, :8].abs().max() < 1.6 and place[0, 0, 50, :24].abs().max() < 5
    assert torch.allclose(place[0, 0, 45:55, 88:98].mean(), torch.tensor(-8.0), atol=0.6)


def test_without_an_outline_nothing_is_bent():
    none = torch.zeros(1, 1, *SIZE)
    grid = pixel_grid(*SIZE)
    assert torch.equal(meet(grid, none, ellipse(64, 48), none), grid)
    assert torch.equal(meet(grid, ellipse(64, 48), none, none), grid)


def test_distance_is_signed():
    square = torch.zeros(1, 1, *SIZE)
    square[..., 30:60, 40:80] = 1
    distance = signed_distance(square)
    assert distance[0, 0, 45, 60] == 15 and distance[0, 0, 45, 100] == -21
    assert ((distance > 0) == (square > 0)).all()
