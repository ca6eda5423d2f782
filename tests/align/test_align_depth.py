"""Depth of the edited scene: closed forms, and planes that must come back exactly."""

import pytest
import torch

from flowpaint.align.depth import hidden, hole, layered, mean_depth, pasted
from flowpaint.seams import build
from flowpaint.smoothing import dilate
from flowpaint.warp import pixel_grid

SIZE = (48, 64)


def box(top, bottom, left, right):
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., top:bottom, left:right] = 1
    return mask


def plane():
    grid = pixel_grid(*SIZE)
    return 0.2 + 0.002 * grid[:, :1] + 0.004 * grid[:, 1:]


def test_the_same_shape_at_the_same_depth_changes_nothing_but_the_rim():
    old = box(10, 30, 20, 40)
    depth = torch.where(old > 0.5, torch.full_like(old, 0.7), plane())
    filled = build("completer", "harmonic")(depth, hole(old), old)
    again = pasted(filled, old, mean_depth(depth, old, None))
    assert torch.allclose(again, depth, atol=1e-5)
    assert ((again - depth).abs() > 1e-6).float().mul(1 - hole(old)).sum() == 0
    ring = hole(old) - old
    assert ring.min() == 0 and torch.equal(ring + old, (dilate(old, 2) > 0.5).float())


@pytest.mark.parametrize("new", [box(18, 24, 4, 60), box(0, 48, 28, 34), torch.zeros(1, 1, *SIZE)])
def test_another_shape_leaves_no_depth_of_the_old_one(new):
    old = box(10, 30, 20, 40)
    depth = torch.where(dilate(old, 1) > 0.5, torch.full_like(old, 0.9), plane())  # a measured depth bleeds by a pixel
    made = pasted(build("completer", "harmonic")(depth, hole(old), new), new, mean_depth(depth, old, None))
    assert torch.allclose(made[new < 0.5], plane()[new < 0.5], atol=1e-5)  # the plane behind, exactly
    assert torch.allclose(made[new > 0.5], torch.tensor(0.9))


def test_the_mean_is_held_where_the_object_is_not_seen():
    assert mean_depth(plane(), torch.zeros(1, 1, *SIZE), 0.42) == 0.42
    assert mean_depth(plane(), torch.zeros(1, 1, *SIZE), None) is None
    assert mean_depth(plane(), box(10, 12, 10, 12), 0.0) == pytest.approx(0.2 + 0.002 * 10.5 + 0.004 * 10.5)


def test_a_relief_is_added_to_the_mean():
    new = box(10, 20, 10, 30)
    relief = 0.1 * torch.sin(pixel_grid(*SIZE)[:, :1] / 3)
    assert torch.allclose(pasted(plane(), new, 0.5, relief)[new > 0.5], (0.5 + relief)[new > 0.5])
    assert pasted(plane(), new, 0.98, relief).max() <= 1.0


def test_what_stands_before_the_object_hides_the_new_one_and_the_old_one_does_not():
    old, new = box(10, 30, 20, 40), box(10, 30, 10, 50)
    depth = torch.where(old > 0.5, torch.full_like(old, 0.6), plane())  # its own relief is nearer than its mean
    post = box(0, 48, 12, 16)
    depth = torch.where(post > 0.5, torch.full_like(old, 0.9), depth)
    assert torch.equal(hidden(depth, old, new, 0.5), post * new)


def test_pseudo_depth_has_ground_and_layers_that_stand_on_it():
    far, near = box(5, 20, 5, 20), box(20, 44, 30, 50)
    depth = layered([near, far])
    ground = depth[(far + near) < 0.5]
    assert (depth[..., 1:, 0] > depth[..., :-1, 0]).all()
    assert depth[far > 0.5].unique().numel() == 1 and depth[near > 0.5].unique().numel() == 1
    assert depth[near > 0.5].min() > depth[far > 0.5].max() > depth[..., :20, :1].max()
    assert ground.min() >= 0 and depth.max() <= 1
    assert layered([torch.zeros(1, 1, *SIZE)]).isfinite().all()


def test_the_nearer_layer_lies_over_the_farther_one():
    near, far = box(20, 44, 10, 40), box(10, 30, 10, 40)
    depth = layered([near, far])
    assert depth[near > 0.5].unique().tolist() == [float(depth[0, 0, 40, 20])]
