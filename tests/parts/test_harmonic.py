"""The harmonic fill: fields that it must give back, a dense solution, mirrors, the maximum principle."""

import numpy as np
import pytest
import torch

from flowpaint.parts.complete import Harmonic

EXACT = 1e-6
FILL = Harmonic()


def filled(depth, hole):
    depth = torch.as_tensor(depth, dtype=torch.float32)[None, None]
    hole = torch.as_tensor(hole, dtype=torch.float32)[None, None]
    return FILL(torch.where(hole > 0, torch.nan, depth), hole, torch.zeros_like(hole))[0, 0]


def holes(height, width, *boxes):
    hole = torch.zeros(height, width)
    for top, bottom, left, right in boxes:
        hole[top:bottom, left:right] = 1
    return hole


def plane(height, width, level, down, across):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return level + down * y + across * x


BOXES = {
    "inside": [(5, 15, 6, 20)],
    "several": [(2, 8, 3, 9), (12, 20, 10, 26), (9, 11, 30, 32), (8, 9, 9, 10)],
    "at the left": [(5, 15, 0, 10)],
    "in a corner": [(0, 9, 30, 40)],
    "at two sides": [(10, 24, 12, 25), (0, 5, 5, 35)],
    "across": [(0, 24, 10, 20)],
}


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("level, down, across", [(0.3, 0, 0), (0.0, 0, 0), (0.1, 0.02, 0.005), (0.9, -0.01, -0.012)])
def test_constants_and_planes_come_back(boxes, level, down, across):
    depth, hole = plane(24, 40, level, down, across), holes(24, 40, *boxes)
    assert (filled(depth, hole) - depth).abs().max() < EXACT


def test_each_hole_has_a_plane_of_its_own():
    left, right = plane(24, 40, 0.1, 0.02, 0.01), plane(24, 40, 0.9, -0.02, -0.005)
    depth = torch.where(torch.arange(40) < 20, left, right)
    hole = holes(24, 40, (0, 9, 3, 12), (15, 24, 26, 36))
    assert (filled(depth, hole) - depth).abs().max() < EXACT


def test_a_harmonic_field_comes_back():
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(30.0), indexing="ij")
    depth = 0.5 + ((x - 14) ** 2 - (y - 12) ** 2 + 0.7 * (x - 3) * (y - 9)) / 1200  # discretely harmonic, too
    hole = torch.rand(30, 30, generator=torch.Generator().manual_seed(2)) < 0.7
    hole[[0, -1]] = hole[:, [0, -1]] = False
    assert (filled(depth, hole) - depth).abs().max() < EXACT


def test_a_dense_solution_says_the_same():
    draw = torch.Generator().manual_seed(5)
    depth, hole = torch.rand(11, 13, generator=draw), torch.rand(11, 13, generator=draw) < 0.6
    hole[[0, -1]] = hole[:, [0, -1]] = False
    places = [tuple(one) for one in hole.nonzero().tolist()]
    matrix, right = np.zeros((len(places), len(places))), np.zeros(len(places))
    for row, (y, x) in enumerate(places):
        matrix[row, row] = 4
        for there in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if hole[there]:
                matrix[row, places.index(there)] = -1
            else:
                right[row] += float(depth[there])
    wanted = np.linalg.solve(matrix, right)
    assert np.abs(filled(depth, hole)[hole].numpy() - wanted).max() < EXACT


def test_the_border_is_a_mirror_once_the_plane_is_out():
    draw = torch.Generator().manual_seed(6)
    depth = 0.4 + 0.2 * torch.rand(20, 30, generator=draw).double()
    hole = holes(20, 30, (0, 8, 10, 22))
    ring = torch.cat((depth[:8, 9], depth[8, 10:22], depth[:8, 22]))
    y = torch.cat((torch.arange(8), torch.full((12,), 8), torch.arange(8))).double()
    x = torch.cat((torch.full((8,), 9), torch.arange(10, 22), torch.full((8,), 22))).double()
    slope = torch.linalg.lstsq(torch.stack((torch.ones(28).double(), y, x), dim=1), ring[:, None]).solution[1]
    tilt = slope * torch.arange(20).double()[:, None]
    level = 0.2 + (depth - tilt) * 0.5
    whole = torch.cat((level.flip(0), level))
    mirrored = filled(whole, torch.cat((hole.flip(0), hole)))[20:]  # there the hole lies inside
    wanted = (mirrored - 0.2) / 0.5 + tilt
    assert (filled(depth, hole) - wanted).abs().max() < 3e-6


def test_a_hole_inside_keeps_to_the_range_of_its_rim():
    draw = torch.Generator().manual_seed(7)
    for _ in range(5):
        depth = torch.rand(20, 20, generator=draw)
        hole = holes(20, 20, (3, 15, 4, 17))
        rim = torch.cat((depth[3:15, 3], depth[3:15, 17], depth[2, 4:17], depth[15, 4:17]))
        inside = filled(depth, hole)[hole > 0]
        assert rim.min() < inside.min() and inside.max() < rim.max()


def test_a_hole_at_the_border_goes_on_but_not_beyond_the_range():
    depth = plane(20, 20, 0.5, 0, 0.04)
    hole = holes(20, 20, (0, 20, 15, 20))
    hole[:5, 10:] = 1
    found = filled(depth.clamp(max=1), hole)
    assert found.max() == 1.0 and found.min() >= 0


def test_along_a_straight_rim_it_is_level_across():
    depth, hole = plane(24, 40, 0.2, 0.02, 0.01), holes(24, 40, (0, 24, 0, 15))
    found = filled(depth, hole)
    assert (found[:, :15] - depth[:, 15:16]).abs().max() < EXACT


def test_a_frame_without_anything_known():
    depth = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    hole = torch.zeros_like(depth)
    hole[1] = 1
    found = FILL(depth, hole, torch.zeros(1, 1, 8, 8))
    assert torch.equal(found[0], depth[0]) and torch.equal(found[1], torch.full((1, 8, 8), 0.5))


def test_frames_are_apart_and_the_shape_does_not_count():
    draw = torch.Generator().manual_seed(8)
    depth, hole = torch.rand(3, 1, 16, 18, generator=draw), (torch.rand(3, 1, 16, 18, generator=draw) < 0.4).float()
    whole = FILL(depth, hole, torch.zeros(1, 1, 16, 18))
    for number in range(3):
        alone = FILL(depth[number : number + 1], hole[number : number + 1], torch.ones(1, 1, 16, 18))
        assert torch.equal(alone[0], whole[number])
    assert FILL(depth[:0], hole[:0], torch.zeros(1, 1, 16, 18)).shape == (0, 1, 16, 18)
