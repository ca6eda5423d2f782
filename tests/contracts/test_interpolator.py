"""What every interpolator must do, whoever wrote it."""

import math
import pickle

import pytest
import torch
from safetensors.torch import save_file

from conftest import smooth_texture
from flowpaint import seams
from flowpaint.errors import InputError, ShapeError
from rife_state import published_shapes

WITHOUT_WEIGHTS = {"blend"}


def random_state():
    """A checkpoint of RIFE's format with random numbers: nothing that was published is on this machine."""
    draw = torch.Generator().manual_seed(4)
    shapes = published_shapes().items()
    return {name: torch.randn(shape, generator=draw) / math.sqrt(math.prod(shape[1:])) for name, shape in shapes}


@pytest.fixture(scope="module", params=seams.names("interpolator"))
def interpolate(request, tmp_path_factory):
    if request.param == "rife":
        file = tmp_path_factory.mktemp("rife") / "flownet.safetensors"
        save_file(random_state(), file)
        return seams.build("interpolator", "rife", weights=str(file))
    if request.param not in WITHOUT_WEIGHTS:
        pytest.skip(f"no weights of {request.param} are made here")
    return seams.build("interpolator", request.param)


@pytest.fixture(scope="module")
def pair():
    first = smooth_texture(40, 56, seed=11, waves=5)
    return first, first.roll((2, 4), (-2, -1)) * 0.9


def test_times_0_and_1_give_the_two_pictures(interpolate, pair):
    found = interpolate(*pair, [0, 1.0, 0.5, 0.0])
    assert torch.equal(found[0], pair[0]) and torch.equal(found[1], pair[1]) and torch.equal(found[3], pair[0])
    assert torch.equal(interpolate(*pair, [1])[0], pair[1])


def test_what_is_between_is_neither(interpolate, pair):
    made = interpolate(*pair, [0.5])[0]
    assert all((made - one).abs().mean() > 0.003 for one in pair)


def test_pictures_come_in_the_order_of_their_times(interpolate, pair):
    times = [0.75, 0.2, 0.5]
    found = interpolate(*pair, times)
    assert found.shape == (3, 3, 40, 56) and found.dtype == torch.float32
    for place, time in enumerate(times):
        assert torch.equal(found[place], interpolate(*pair, [time])[0]), "does not depend on what else is asked for"
    assert not torch.equal(found[0], found[1])


def test_the_same_again_and_the_pictures_untouched(interpolate, pair):
    before = [one.clone() for one in pair]
    assert torch.equal(interpolate(*pair, [0.3, 0.6]), interpolate(*pair, [0.3, 0.6]))
    assert all(torch.equal(one, old) for one, old in zip(pair, before, strict=True))
    interpolate(*pair, [0.0])[0].zero_()
    assert torch.equal(pair[0], before[0]), "what is given out is the caller's"


@pytest.mark.parametrize("height, width", [(16, 16), (37, 53), (5, 90), (64, 32)])
def test_any_size_stays_in_range(interpolate, height, width):
    a, b = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(5)).round()
    found = interpolate(a, b, [0.5])
    assert found.shape == (1, 3, height, width) and found.isfinite().all()
    assert found.min() >= 0 and found.max() <= 1


def test_no_times_give_no_pictures(interpolate, pair):
    assert interpolate(*pair, []).shape == (0, 3, 40, 56)


@pytest.mark.parametrize("time", [-0.01, 1.5, math.nan])
def test_a_time_outside_is_refused(interpolate, pair, time):
    with pytest.raises(InputError, match=str(time)):
        interpolate(*pair, [0.5, time])


def test_pictures_of_two_sizes_are_refused(interpolate):
    with pytest.raises(ShapeError):
        interpolate(torch.zeros(3, 32, 32), torch.zeros(3, 32, 40), [0.5])


def test_is_a_recipe(interpolate):
    assert isinstance(interpolate, seams.Interpolator)
    assert seams.from_dict(seams.to_dict(interpolate)) == interpolate
    assert pickle.loads(pickle.dumps(interpolate)) == interpolate
    assert len(pickle.dumps(interpolate)) < 10_000  # weights stay home
