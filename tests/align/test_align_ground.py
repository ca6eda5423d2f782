"""The ground behind objects: true pixels of other frames, kept where they had to be made up."""

import torch

from flowpaint.align.ground import Ground, View
from flowpaint.align.placement import Placement
from flowpaint.warp import pixel_grid
from moving_discs import texture

SIZE = (64, 96)


def still():
    return texture(pixel_grid(*SIZE), 3)[None].clamp(0, 1)


def hole_at(left, width=20):
    hole = torch.zeros(1, 1, *SIZE)
    hole[..., 20:44, left : left + width] = 1
    return hole


def view(picture, hole, shift=0.0):
    place = Placement.here() if not shift else Placement(matrix=torch.tensor([[1, 0, shift], [0, 1, 0]], dtype=torch.float64))
    return lambda: View(picture=picture * (1 - hole), known=1 - hole, place=place)


def test_true_pixels_of_another_frame_fill_the_hole_and_nothing_else_changes():
    hole = hole_at(30)
    frame = torch.where(hole > 0.5, torch.rand(1, 3, *SIZE), still())
    ground = Ground(others=lambda _: [view(still(), hole_at(70))])
    made = ground.complete(0, frame, hole, Placement.here())
    assert torch.allclose(made, still(), atol=2e-3)
    assert torch.equal(made * (1 - hole), frame * (1 - hole))


def test_a_moved_camera_is_followed():
    grid = pixel_grid(*SIZE)
    panned = texture(grid + torch.tensor([5.0, 0.0])[None, :, None, None], 3)[None].clamp(0, 1)
    hole = hole_at(30)
    ground = Ground(others=lambda _: [view(panned, hole_at(66), shift=5.0)])  # its pixel x is the anchor's x + 5
    made = ground.complete(0, still() * (1 - hole), hole, Placement.here())
    assert (made - still()).abs().max() < 0.02


def test_another_light_is_joined_to_the_frames_own():
    hole = hole_at(30)
    ground = Ground(others=lambda _: [view((0.9 * still() + 0.03).clamp(0, 1), hole_at(70))])
    made = ground.complete(0, still() * (1 - hole), hole, Placement.here())
    assert (made - still()).abs().mul(hole).sum() / hole.sum() / 3 < 0.02


def test_a_frame_that_shows_something_else_is_not_believed():
    hole = hole_at(30)
    other = texture(pixel_grid(*SIZE), 9)[None].clamp(0, 1)
    made = Ground(others=lambda _: [view(other, hole_at(70))]).complete(0, still() * (1 - hole), hole, Placement.here())
    inside = [one[hole.expand_as(one) > 0.5] for one in (made, other)]
    assert torch.corrcoef(torch.stack(inside))[0, 1] < 0.5  # its light could be joined; its texture would be there


def test_what_was_made_up_once_stays():
    hole = hole_at(30)
    ground = Ground(others=lambda _: [])
    first = ground.complete(0, still() * (1 - hole), hole, Placement.here())
    assert len(ground.plates) == 1
    later = ground.complete(1, still() * (1 - hole), hole, Placement.here())
    assert torch.allclose(first, later, atol=2e-3) and len(ground.plates) == 1


def test_no_hole_is_the_frame():
    frame = still()
    assert Ground(others=lambda _: []).complete(0, frame, torch.zeros(1, 1, *SIZE), Placement.here()) is frame
