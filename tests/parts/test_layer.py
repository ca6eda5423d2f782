"""Layers follow the motion of what they lie on, and recoloured surfaces are found where they are."""

import math
from dataclasses import replace

import pytest
import torch
from test_regions import COSTUME, DISC, GROUND, RECOLOURED, mask, overlap, shown

from flowpaint.parts.propagate.extent import Decision
from flowpaint.parts.propagate.layer import Known, carry, stands_apart
from flowpaint.parts.propagate.match import Match
from flowpaint.parts.propagate.regions import Region, Regions
from flowpaint.scenes import Scene, render
from flowpaint.scenes.shapes import Blob
from flowpaint.smoothing import dilate
from flowpaint.warp import pixel_grid, sample_at

SIZE = (96, 128)
CENTRE = torch.tensor([64.0, 48.0])


def ellipse(centre, radius=20.0):
    x, y = pixel_grid(*SIZE)[0]
    return (((x - centre[0]) ** 2 + 1.6 * (y - centre[1]) ** 2) < radius**2).float()[None, None]


def affine(matrix, offset):
    """p -> centre + matrix (p - centre) + offset, and its inverse, for positions [1, 2, H, W]."""
    matrix, offset = torch.tensor(matrix), torch.tensor(offset)

    def there(points):
        return (
            torch.einsum("ij,njhw->nihw", matrix, points - CENTRE[None, :, None, None]) + (CENTRE + offset)[None, :, None, None]
        )

    def back(points):
        moved = points - (CENTRE + offset)[None, :, None, None]
        return torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), moved) + CENTRE[None, :, None, None]

    return there, back


def fields(part, there, back):
    """A frame in which `part` of the key frame went `there` and all else stayed, matched without fault."""
    grid, free = pixel_grid(*SIZE), torch.zeros(1, 1, *SIZE)
    moved = sample_at(part, back(grid), "zero")
    match = Match(torch.where(moved > 0.5, back(grid), grid), free)
    away = Match(torch.where(part > 0.5, there(grid), grid), free)
    return match, away, (moved > 0.5).float()


def carry_along(regions, match, away, frame=None, known=None):
    return carry(regions, match, away, torch.rand(1, 3, *SIZE) if frame is None else frame, known)


def layer(part):
    region = Region(part, is_layer=True, body=part, outline=None)
    return Regions(
        torch.rand(1, 3, *SIZE), part, (region,), is_global=False, changes_shape=False, decision=Decision(True, "a test", 0.1)
    )


MOTIONS = {
    "shift": ([[1.0, 0.0], [0.0, 1.0]], [9.0, -6.0]),
    "turn": ([[math.cos(0.15), -math.sin(0.15)], [math.sin(0.15), math.cos(0.15)]], [4.0, 3.0]),
    "zoom": ([[1.15, 0.0], [0.05, 1.1]], [-5.0, 2.0]),
}


@pytest.mark.parametrize("name", MOTIONS)
def test_a_layer_follows_the_motion_of_what_it_covers(name):
    part = ellipse(CENTRE)
    there, back = affine(*MOTIONS[name])
    match, away, moved = fields(part, there, back)
    carried = carry_along(layer(part), match, away)
    assert overlap((carried.layer > 0.5).float(), dilate(moved, 2)) > 0.9  # two pixels more: what the edit changed softly
    error = (carried.place - back(pixel_grid(*SIZE))).norm(dim=1, keepdim=True)
    assert error[moved > 0].max() < 0.5 and carried.surface.max() == 0
    far = ellipse(CENTRE + torch.tensor(MOTIONS[name][1]), 36.0) == 0
    assert carried.layer[far].max() == 0


def test_what_an_edit_adds_over_background_goes_along():
    """A hat more than twice as wide as the head: its rim lies over ground at rest, and moves with the head nevertheless."""
    head, costume = ellipse(CENTRE, 10.0), ellipse(CENTRE, 24.0)
    there, back = affine([[1.0, 0.0], [0.0, 1.0]], [10.0, 4.0])
    match, away, _ = fields(head, there, back)
    carried = carry_along(layer(costume), match, away)
    wanted = sample_at(costume, back(pixel_grid(*SIZE)), "zero")
    assert overlap((carried.layer > 0.5).float(), dilate(wanted, 2)) > 0.85
    assert (carried.place - back(pixel_grid(*SIZE))).norm(dim=1, keepdim=True)[wanted > 0.5].max() < 1.5


def test_what_passes_in_front_stays_in_front():
    part = ellipse(CENTRE)
    grid, free = pixel_grid(*SIZE), torch.zeros(1, 1, *SIZE)
    bar, hidden = torch.zeros(1, 1, *SIZE), torch.zeros(1, 1, *SIZE)
    bar[..., 4:92, 8:22], hidden[..., 4:92, 58:72] = 1, 1  # an unedited bar beside the part, 50 px further right in the frame
    step = torch.tensor([50.0, 0.0])[None, :, None, None]
    match = Match(torch.where(hidden > 0, grid - step, grid), free)
    away = Match(torch.where(bar > 0, grid + step, grid), free)
    carried = carry_along(layer(part), match, away)
    assert carried.layer[..., 30:66, 60:70].max() < 0.1
    assert carried.layer[..., 44:52, 48:54].min() > 0.9


def test_a_recoloured_surface_is_found_in_another_frame():
    source = shown(GROUND, DISC)
    regions = Regions.find(source, shown(GROUND, RECOLOURED), "local")
    there, back = affine([[1.0, 0.0], [0.0, 1.0]], [4 * 0.04 * 96, -4 * 0.02 * 96])
    match, away, _ = fields(mask(), there, back)
    carried = carry_along(regions, match, away, shown(GROUND, DISC, time=4))
    assert overlap((carried.surface > 0.5).float(), mask(time=4)) > 0.8
    assert carried.layer.max() == 0
    within = mask(time=4) > 0
    assert (carried.field - back(pixel_grid(*SIZE))).norm(dim=1, keepdim=True)[within].quantile(0.95) < 1


def test_a_pixel_whose_match_went_astray_takes_the_motion_of_its_part():
    regions = Regions.find(shown(GROUND, DISC), shown(GROUND, RECOLOURED), "local")
    there, back = affine([[1.0, 0.0], [0.0, 1.0]], [4 * 0.04 * 96, -4 * 0.02 * 96])
    match, away, moved = fields(mask(), there, back)
    astray = torch.zeros(1, 1, *SIZE)
    astray[..., 42:52, 60:70] = 1
    assert (moved - astray).min() >= 0, "inside the disc"
    wrong = Match(torch.where(astray > 0, torch.tensor(3.0), match.field), match.cost + astray)
    carried = carry_along(regions, wrong, away, shown(GROUND, DISC, time=4))
    assert carried.surface[astray > 0].min() > 0.9
    assert (carried.field - back(pixel_grid(*SIZE))).norm(dim=1, keepdim=True)[astray > 0].max() < 1


def test_a_layer_is_bent_to_the_outline_of_what_it_covers():
    """The disc is larger now than in the key frame, which its matches do not tell; it does not peep out."""
    regions = Regions.find(shown(GROUND, DISC), shown(GROUND, COSTUME), "local")
    assert regions.parts[0].is_layer and regions.parts[0].outline is not None
    grid, free = pixel_grid(*SIZE), torch.zeros(1, 1, *SIZE)
    larger = replace(DISC, shape=Blob(size=0.31))
    frame, now = shown(GROUND, larger), render(Scene(layers=(GROUND, larger)), 0, SIZE).masks[1][None]
    carried = carry_along(regions, Match(grid, free + 1), Match(grid, free), frame, Known(free, frame, now))
    assert carried.layer[now - mask() > 0].mean() > 0.95
    assert overlap((carried.layer > 0.5).float(), now) > 0.75 > 0.62 > overlap(mask(), now), "two pixels wider, as ever"


def test_nothing_is_known_of_a_layer_beyond_the_border():
    """A part cut by the key frame's left border moves right: what comes into view there is not invented."""
    part = ellipse((6.0, 48.0))
    there, back = affine([[1.0, 0.0], [0.0, 1.0]], [15.0, 0.0])
    match, away, _ = fields(part, there, back)
    carried = carry_along(layer(part), match, away)
    assert carried.layer[..., 40:56, :13].max() < 0.1 and carried.layer[..., 44:52, 18:30].min() > 0.9


def test_what_moved_apart_is_remembered_when_the_background_breaks_up():
    part = ellipse(CENTRE)
    match, away, _ = fields(part, *affine([[1.0, 0.0], [0.0, 1.0]], [8.0, 0.0]))
    regions = layer(torch.zeros(1, 1, *SIZE))
    before = stands_apart(regions, match, away, None)
    assert before[part > 0].mean() > 0.9 and before[dilate(part, 6) == 0].max() < 0.1
    x, y = pixel_grid(*SIZE)[0]
    waves = 6 * torch.stack((torch.sin(y / 5), torch.cos(x / 5)))[None]
    wild = Match(away.field + waves, away.cost), Match(pixel_grid(*SIZE) - waves, match.cost)
    assert torch.allclose(stands_apart(regions, wild[1], wild[0], before), before, atol=0.05)


def test_an_object_is_followed_from_frame_to_frame_where_no_match_finds_it():
    """The surface's matches all failed; what the frame before knew finds it, though its flow errs by two pixels."""
    regions = Regions.find(shown(GROUND, DISC), shown(GROUND, RECOLOURED), "local")
    assert regions.parts[0].outline is not None
    grid, lost = pixel_grid(*SIZE), torch.ones(1, 1, *SIZE)
    frame, wanted = shown(GROUND, DISC, time=4), mask(time=4)
    off = grid + torch.tensor([2.0, 1.0])[None, :, None, None]
    known = Known(torch.zeros(1, 1, *SIZE), sample_at(frame, off), sample_at(wanted, off))
    carried = carry_along(regions, Match(grid, lost), Match(grid, lost), frame, known)
    assert overlap((carried.known.bodies > 0.5).float(), wanted) > 0.95 > overlap((known.bodies > 0.5).float(), wanted)
    assert overlap((carried.surface > 0.5).float(), wanted) > 0.9
