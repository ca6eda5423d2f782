"""What every spatial condition must do, whoever wrote it."""

import pickle
import sys

import pytest
import torch

from flowpaint import seams
from flowpaint.errors import ShapeError
from tiny_vision import hed_arrays, save_depth, stand_in_h5py

ATTENTIVE = {"depth"}  # networks that see the place of what they see


@pytest.fixture(scope="module", params=seams.names("condition"))
def condition(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "depth":
            yield seams.build("condition", "depth", weights=str(save_depth(folder)))
        elif request.param == "hed":
            patch.setitem(sys.modules, "h5py", stand_in_h5py(hed_arrays()))
            (folder / "hed.weights.h5").touch()
            yield seams.build("condition", "hed", weights=str(folder / "hed.weights.h5"))
        else:
            yield seams.build("condition", request.param)


def test_draws_one_map_a_frame(condition, moving_square):
    frames = moving_square.clip[0:3].frames
    before = frames.clone()
    maps = condition(frames)
    assert maps.shape == frames.shape and maps.dtype == torch.float32 and not maps.requires_grad
    assert maps.min() >= 0 and maps.max() <= 1 and maps.std() > 0
    assert torch.equal(frames, before)
    assert torch.equal(maps[:, 0], maps[:, 1]) and torch.equal(maps[:, 0], maps[:, 2])


@pytest.mark.parametrize("height, width", [(37, 53), (5, 90), (61, 16), (1, 1)])
def test_keeps_any_size(condition, height, width):
    frames = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(3))
    maps = condition(frames)
    assert maps.shape == frames.shape and maps.isfinite().all() and maps.min() >= 0 and maps.max() <= 1


def test_the_same_twice(condition, moving_square):
    frames = moving_square.clip[0:2].frames
    assert torch.equal(condition(frames), condition(frames))


def test_a_shifted_clip_gives_a_shifted_map(condition, textured):
    kind = seams.to_dict(condition)["part"]
    if kind in ATTENTIVE:
        pytest.skip("a vision transformer tells places apart")
    deep = kind == "hed"  # it halves its picture four times and sees 200 pixels around
    picture = textured.repeat(1, 1, 4, 4) if deep else textured
    dx, dy, rim = (16, -16, 104) if deep else (3, -2, 24)
    inner = (..., slice(rim, -rim), slice(rim, -rim))
    fixed = condition.fitted(picture) if hasattr(condition, "fitted") else condition  # the rim of the picture changes too
    here, there = fixed(picture), fixed(picture.roll((dx, dy), dims=(-1, -2)))
    assert torch.allclose(here.roll((dx, dy), dims=(-1, -2))[inner], there[inner], atol=1e-3)
    assert here[inner].std() > 1e-4, "a flat map is shifted anyhow"


@pytest.mark.parametrize("shade", [0.0, 0.5, 1.0])
def test_a_plain_clip_gives_a_finite_map(condition, shade):
    maps = condition(torch.full((2, 3, 40, 48), shade))
    assert maps.isfinite().all() and maps.min() >= 0 and maps.max() <= 1


def test_levels_are_of_the_clip(condition, moving_square):
    frames = moving_square.clip[0:4].frames * torch.tensor([1.0, 0.3, 0.6, 0.8])[:, None, None, None]
    whole = condition(frames)
    fixed = condition.fitted(frames) if hasattr(condition, "fitted") else condition
    alone = torch.cat([fixed(frames[index : index + 1]) for index in range(4)])
    assert torch.allclose(alone, whole, atol=1e-5)
    assert seams.from_dict(seams.to_dict(fixed)) == fixed


def test_a_strange_frame_leaves_the_others_steady(condition, moving_square, textured):
    still = moving_square.clip.frame(0)[None].repeat(5, 1, 1, 1)
    strange = still.clone()
    strange[2] = textured[0].repeat(1, 2, 2)[:, :72, :96]
    others = condition(strange)[[0, 1, 3, 4]]
    assert torch.allclose(others, others[:1].expand_as(others), atol=1e-5), "equal frames have equal maps"
    if seams.to_dict(condition)["part"] == "depth":  # its ends are what the whole clip shows: fixed, it is as the others are
        condition = condition.fitted(still)
        others = condition(strange)[[0, 1, 3, 4]]
    assert torch.allclose(others, condition(still)[:4], atol=1e-5)


def test_pictures_of_another_shape_are_refused(condition):
    with pytest.raises(ShapeError):
        condition(torch.zeros(2, 1, 32, 32))


def test_is_a_recipe(condition):
    assert isinstance(condition, seams.SpatialCondition)
    assert seams.from_dict(seams.to_dict(condition)) == condition
    assert pickle.loads(pickle.dumps(condition)) == condition
    assert len(pickle.dumps(condition)) < 10_000
