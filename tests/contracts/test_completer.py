"""What every completer of depth must do, whoever wrote it."""

import pickle

import pytest
import torch

from conftest import smooth_texture
from flowpaint import seams
from flowpaint.errors import ShapeError
from flowpaint.networks.refiner import Refiner

TRAINED = {"refiner"}


def some_refiner(folder, side=32):
    """A network that says something: drawn by lot."""
    torch.manual_seed(3)
    network = Refiner(residual=False, side=side)
    network.save(folder)
    return str(folder)


@pytest.fixture(scope="module", params=seams.names("completer"))
def complete(request, tmp_path_factory):
    if request.param in TRAINED:
        return seams.build("completer", request.param, weights=some_refiner(tmp_path_factory.mktemp("weights")))
    return seams.build("completer", request.param)


def told(frames=3, height=32, width=40):
    """Depth, a hole inside and one at the border that move, and a shape."""
    depth = torch.stack([smooth_texture(height, width, seed=21 + number, waves=3)[:1] for number in range(frames)])
    hole = torch.zeros_like(depth)
    for number in range(frames):
        hole[number, 0, height // 4 : height // 2, width // 4 + number : width // 2 + number] = 1
        hole[number, 0, height - 4 :, : width // 3] = 1
    return depth, hole, hole[:1].roll(3, dims=-1)


def test_what_is_known_stays_to_the_bit(complete):
    depth, hole, shape = told()
    found = complete(depth, hole, shape)
    assert found.shape == depth.shape and found.dtype == torch.float32
    assert torch.equal(found[hole == 0], depth[hole == 0])
    assert found.isfinite().all() and found.min() >= 0 and found.max() <= 1


def test_what_was_in_the_hole_does_not_count(complete):
    depth, hole, shape = told()
    found = complete(depth, hole, shape)
    for value in (0.0, 1.0, torch.nan):
        assert torch.equal(complete(torch.where(hole > 0, value, depth), hole, shape), found)


def test_no_hole_gives_the_same_and_nothing_is_touched(complete):
    depth, hole, shape = told()
    kept = [one.clone() for one in (depth, hole, shape)]
    assert torch.equal(complete(depth, torch.zeros_like(hole), shape), depth)
    found = complete(depth, hole, shape)
    assert torch.equal(complete(depth, hole, shape), found), "the same again"
    found.zero_()
    complete(depth, torch.zeros_like(hole), shape).zero_()
    assert all(torch.equal(one, before) for one, before in zip((depth, hole, shape), kept, strict=True))


def test_all_hole_and_no_shape_give_an_answer(complete):
    depth, hole, shape = told()
    found = complete(depth, torch.ones_like(hole), torch.zeros_like(shape))
    assert found.isfinite().all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("frames, height, width", [(1, 16, 16), (2, 37, 53), (5, 9, 90), (2, 64, 31)])
def test_any_size_and_length(complete, frames, height, width):
    depth, hole, shape = told(frames, height, width)
    found = complete(depth, hole, shape)
    assert found.shape == depth.shape and torch.equal(found[hole == 0], depth[hole == 0])
    assert found.isfinite().all()


def test_other_shapes_are_refused(complete):
    depth, hole, shape = told()
    for wrong in ((depth[:, :, :-1], hole, shape), (depth, hole[:-1], shape), (depth, hole, shape.repeat(2, 1, 1, 1))):
        with pytest.raises(ShapeError):
            complete(*wrong)


def test_is_a_recipe(complete):
    assert isinstance(complete, seams.DepthCompleter)
    assert seams.from_dict(seams.to_dict(complete)) == complete
    assert pickle.loads(pickle.dumps(complete)) == complete
    assert len(pickle.dumps(complete)) < 10_000  # weights stay home
