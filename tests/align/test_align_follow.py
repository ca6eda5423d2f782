"""Objects followed on scenes with known motion: the spec's plan of tests that need no weights."""

import pytest
import torch

from flowpaint.align.follow import Follower
from flowpaint.align.placement import lookup
from flowpaint.seams import build
from flowpaint.warp import grid_of, pixel_grid
from moving_discs import Discs, Known

MODELS = ("mean", "median", "similarity", "affine", "patches")


def followed(discs, masks, shape, *, model="mean", flow=None, correct=True):
    """The new shape in every frame, [T, 1, H, W], soft, and the follower at the end."""
    flow = flow or Known([discs.backward(k) for k in range(1, len(discs.frames))])
    follower = Follower(flow=flow, model=model, anchor=discs.frames[:1], masks=[masks[:1]], correct=correct)
    found = [shape]
    for k in range(1, len(discs.frames)):
        follower.advance(discs.frames[k : k + 1], [masks[k : k + 1]])
        found.append(lookup(shape, follower.objects[0].place.points(*discs.size)))
    return torch.cat(found), follower


def middle(mask):
    return (grid_of(mask) * mask).sum(dim=(0, 2, 3)) / mask.sum()


def wide(size=(96, 128)):
    """A rectangle wider than the disc, at its place in frame 0."""
    mask = torch.zeros(1, 1, *size)
    mask[..., 36:52, 20:60] = 1
    return mask


@pytest.mark.parametrize("model", MODELS)
def test_known_flow_carries_the_shape_without_drift_or_loss(model):
    discs = Discs(velocity=(2.5, 0.75))
    found, _ = followed(discs, discs.masks, wide(), model=model, correct=False)
    moved = middle(found[-1:]) - middle(found[:1])
    assert torch.allclose(moved, 16 * discs.velocity, atol=0.5)
    assert float(found[-1].sum()) == pytest.approx(float(wide().sum()), rel=0.01)


# What fits more freely errs more where it is continued, and the shape here is wider than the disc by half.
@pytest.mark.slow
@pytest.mark.parametrize(
    "model, pixels, share",
    [("mean", 0.5, 0.01), ("median", 0.5, 0.01), ("similarity", 0.5, 0.02), ("affine", 1.0, 0.06), ("patches", 1.5, 0.06)],
)
def test_measured_flow_carries_it_too(model, pixels, share):
    discs = Discs(velocity=(2.5, 0.75), pan=(0.5, 0.0))
    found, _ = followed(discs, discs.masks, wide(), model=model, flow=build("flow", "dis"))
    assert torch.allclose(middle(found[-1:]) - middle(found[:1]), 16 * discs.velocity, atol=pixels)
    assert float(found[-1].sum()) == pytest.approx(float(wide().sum()), rel=share)


@pytest.mark.parametrize("model", MODELS)
def test_no_flow_changes_no_bit(model):
    discs = Discs(velocity=(0.0, 0.0), count=6)
    shape = torch.rand(1, 1, *discs.size)
    found, _ = followed(discs, discs.masks, shape, model=model, correct=False)
    assert all(torch.equal(one, shape[0]) for one in found)


@pytest.mark.parametrize("velocity", [(3.0, 0.0), (-2.0, 1.0)])
def test_constant_flow_is_a_translation(velocity):
    discs = Discs(velocity=velocity, count=8)
    shape = torch.rand(1, 1, *discs.size)
    found, _ = followed(discs, discs.masks, shape, correct=False)
    dx, dy = (round(7 * one) for one in velocity)
    expected = torch.zeros_like(shape)
    height, width = discs.size
    expected[..., max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = shape[
        ..., max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)
    ]
    assert torch.equal(found[-1], expected[0])


def test_a_drifting_flow_is_put_right_by_the_anchor():
    discs = Discs(velocity=(2.0, 0.0))
    off = torch.tensor([0.15, 0.1])[None, :, None, None]

    class Drifting:
        """Errs by the same each time between neighbours; measures truly between frames that lie on each other."""

        def __init__(self):
            self.true, self.calls = build("flow", "dis"), 0

        def __call__(self, a, b):
            found = self.true(a, b)
            near = (a - b).abs().mean() < 0.03
            return found if near else type(found)(vectors=found.vectors + off, visibility=found.visibility)

    ends = {}
    for correct in (False, True):
        found, _ = followed(discs, discs.masks, wide(), flow=Drifting(), correct=correct)
        ends[correct] = (middle(found[-1:]) - middle(found[:1]) - 16 * discs.velocity).norm()
    assert ends[False] > 1.5 and ends[True] < 0.5


def test_an_object_that_is_not_seen_goes_on_and_is_laid_onto_its_mask_when_it_returns():
    discs = Discs(velocity=(2.0, 0.0), count=17)
    masks = discs.masks.clone()
    masks[5:11] = 0  # hidden: no motion is measured
    found, follower = followed(discs, masks, discs.masks[:1], correct=False)
    assert torch.allclose(middle(found[8:9]) - middle(found[:1]), 8 * discs.velocity, atol=0.5)
    assert follower.objects[0].seen

    stopped = masks.clone()
    stopped[11:] = torch.roll(discs.masks[11:], 6, dims=-1)  # it came back farther on than it would have
    found, _ = followed(discs, stopped, discs.masks[:1], correct=False)
    assert torch.allclose(middle(found[12:13]), middle(stopped[12:13]), atol=0.7)


def test_an_object_that_leaves_the_frame_keeps_its_place():
    discs = Discs(velocity=(7.0, 0.0), count=17)
    found, follower = followed(discs, discs.masks, wide(), correct=False)
    assert found[-1].sum() == 0 and not follower.objects[0].seen
    there = follower.objects[0].place.at(torch.tensor([152.0, 44.0]).view(1, 2, 1, 1))
    assert torch.allclose(there.flatten(), torch.tensor([40.0, 44.0]), atol=1.0)


def test_several_objects_move_apart():
    left, right = Discs(velocity=(0.0, 1.0), start=(30.0, 40.0)), Discs(velocity=(0.0, -1.0), start=(95.0, 50.0))
    frames = torch.lerp(left.frames, right.frames, right.masks)
    flows = [torch.where(right.masks[k][None] > 0.5, right.backward(k), left.backward(k)) for k in range(1, 17)]
    follower = Follower(
        flow=Known(flows), model="median", anchor=frames[:1], masks=[left.masks[:1], right.masks[:1]], correct=False
    )
    for k in range(1, 17):
        follower.advance(frames[k : k + 1], [left.masks[k : k + 1], right.masks[k : k + 1]])
    shifts = [one.place.matrix[1, 2].item() for one in follower.objects]
    assert shifts == pytest.approx([-16.0, 16.0], abs=0.5)


def test_the_ground_follows_the_camera_and_a_still_one_stays_exactly():
    still, panned = Discs(velocity=(2.0, 0.0)), Discs(velocity=(2.0, 0.0), pan=(-1.5, 0.5))
    grid = pixel_grid(*still.size)
    _, follower = followed(still, still.masks, wide(), flow=build("flow", "dis"))
    assert torch.equal(follower.ground.place.points(*still.size), grid)
    _, follower = followed(panned, panned.masks, wide(), flow=build("flow", "dis"))
    shift = follower.ground.place.points(*panned.size) - grid
    assert torch.allclose(shift[..., 30:60, 40:90].mean(dim=(0, 2, 3)), -16 * panned.pan, atol=0.5)


def test_an_empty_mask_and_a_frame_of_one_pixel_give_no_nan():
    discs = Discs(count=3)
    found, _ = followed(discs, torch.zeros_like(discs.masks), wide(), correct=False)
    assert found.isfinite().all() and torch.equal(found[-1], wide()[0])
    tiny = Follower(flow=build("flow", "dis"), model="mean", anchor=torch.rand(1, 3, 1, 1), masks=[torch.ones(1, 1, 1, 1)])
    assert tiny.objects[0].place.points(1, 1).flatten().tolist() == [0.0, 0.0]
