"""What every flow estimator must do, whoever wrote it."""

import pickle

import pytest
import torch

from flowpaint import seams
from flowpaint.errors import ShapeError
from flowpaint.parts.flow import DisFlow
from flowpaint.types import Flow
from flowpaint.warp import inside, visibility, warp
from flowpaint.weights import Policy, keeping

INNER = (..., slice(12, -12), slice(12, -12))


@pytest.fixture(params=seams.names("flow"))
def estimator(request):
    """Each estimator that there is. RAFT gets real weights: random ones find nothing. What chooses by distance needs none."""
    if request.param != "raft":
        yield seams.build("flow", request.param)
        return
    weights = request.getfixturevalue("shared") / "weights" / "raft_small.pth"
    if not weights.is_file():
        pytest.skip(f"no weights of RAFT at {weights}")
    with keeping(Policy(allow_pickle=True)):  # as its authors publish it
        yield seams.build("flow", "raft", weights=str(weights), side=192)  # for speed


@pytest.mark.parametrize("dx, dy", [(3, -2), (-4, 1), (0, 5)])
def test_recovers_a_known_shift(estimator, textured, dx, dy):
    a, b = textured, textured.roll((dx, dy), dims=(-1, -2))  # content moves dx right, dy down
    flow = estimator(a, b)
    assert flow.vectors[INNER].mean(dim=(0, 2, 3)).tolist() == pytest.approx([dx, dy], abs=0.3)
    assert (flow.vectors[INNER] - torch.tensor([dx, dy])[None, :, None, None]).norm(dim=1).median() < 0.3
    assert flow.visibility[INNER].mean() > 0.9


def test_lays_b_onto_a(estimator, textured):
    a, b = textured, textured.roll(3, dims=-1)
    error = (warp(b, estimator(a, b).vectors) - a)[INNER].abs().mean()
    assert error < 0.25 * (b - a).abs().mean()


def test_sees_no_motion_in_equal_frames(estimator, textured):
    flow = estimator(textured, textured)
    assert flow.vectors.abs().max() < 0.1 and flow.visibility.mean() > 0.9
    flat = torch.full((1, 3, 48, 64), 0.5)
    assert estimator(flat, flat).vectors.abs().max() < 0.1


def test_answers_pair_by_pair(estimator, textured):
    shifts = (3, 0, -4)
    pairs = torch.cat([textured.roll(shift, dims=-1) for shift in shifts])
    flow = estimator(textured.repeat(3, 1, 1, 1), pairs)
    assert flow.vectors.shape == (3, 2, 64, 64) and flow.vectors.dtype == torch.float32
    for index, shift in enumerate(shifts):
        alone = estimator(textured, pairs[index : index + 1])
        assert flow.vectors[index][0].median().item() == pytest.approx(shift, abs=0.3)
        assert torch.allclose(flow.vectors[index], alone.vectors[0], atol=1e-4)


def test_knows_what_a_moving_square_hides(estimator, moving_square):
    a, b = 3, 5
    flow = estimator(moving_square.clip.frame(a)[None], moving_square.clip.frame(b)[None])
    truth = moving_square.flow(a, b)
    within = moving_square.mask(a).expand(-1, 2, -1, -1).bool()
    assert (flow.vectors - truth.vectors)[within].abs().median() < 0.5
    hidden = truth.visibility == 0
    assert hidden.sum() > 100
    assert flow.visibility[hidden].mean() < 0.5 < 0.9 < flow.visibility[~hidden].mean()


def test_what_leaves_the_frame_is_not_visible(estimator, textured_pan):
    flow = estimator(textured_pan.clip.frame(0)[None], textured_pan.clip.frame(4)[None])
    assert (flow.visibility * ~inside(flow.vectors)).max() == 0
    assert flow.visibility[..., :6].mean() < 0.2, "the left edge pans out by eight pixels"


def test_the_reverse_is_the_flow_the_other_way(estimator, moving_square):
    a, b = (moving_square.clip.frame(index)[None] for index in (2, 4))
    there, again = estimator(a, b), estimator(b, a)
    if there.reverse is None:
        pytest.skip("measures one way only")
    assert torch.allclose(there.reverse, again.vectors, atol=1e-4)
    assert torch.allclose(again.reverse, there.vectors, atol=1e-4)
    within = moving_square.mask(4).expand(-1, 2, -1, -1).bool()
    assert (there.reverse - moving_square.flow(4, 2).vectors)[within].abs().median() < 0.5


@pytest.mark.parametrize("height, width", [(16, 16), (37, 53), (5, 90), (200, 33)])
def test_takes_any_size(estimator, height, width):
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(6))
    flow = estimator(picture, picture)
    assert flow.vectors.shape == (1, 2, height, width) and flow.vectors.isfinite().all()
    assert flow.vectors.abs().max() < 0.1


def test_leaves_its_pictures_alone_and_repeats_itself(estimator, textured):
    a, b = textured.clone(), textured.roll(2, dims=-2)
    first, second = estimator(a, b), estimator(a, b)
    assert torch.equal(a, textured)
    assert torch.equal(first.vectors, second.vectors) and torch.equal(first.visibility, second.visibility)


def test_pictures_of_two_sizes_are_refused(estimator):
    with pytest.raises(ShapeError):
        estimator(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40))


def test_is_a_recipe(estimator, textured):
    assert isinstance(estimator, seams.FlowEstimator)
    assert isinstance(estimator(textured, textured), Flow)
    assert seams.from_dict(seams.to_dict(estimator)) == estimator
    assert pickle.loads(pickle.dumps(estimator)) == estimator
    assert len(pickle.dumps(estimator)) < 10_000  # weights stay home


def test_dis_follows_its_rule(moving_square):
    a, b = (moving_square.clip.frame(index)[None] for index in (0, 4))
    for rule in ("unimatch", "sundaram"):
        flow = DisFlow(rule=rule)(a, b)
        assert torch.equal(flow.visibility, visibility(flow.vectors, flow.reverse, rule))
    fast = DisFlow(preset="ultrafast")(a, b)
    assert not torch.equal(fast.vectors, flow.vectors)
