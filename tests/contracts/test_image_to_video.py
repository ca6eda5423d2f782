"""What every maker of video from a first frame must do, whoever wrote it."""

import pickle
from dataclasses import fields, replace

import pytest
import torch

from conftest import smooth_texture
from flowpaint import seams
from flowpaint.errors import WeightsError
from flowpaint.seams import Run
from flowpaint.types import Aligned, Edit
from flowpaint.warp import pixel_grid
from tiny_models import save_controlnet, save_i2vgen, save_model, tiny_unet
from tiny_wan import save_wan

EDIT = Edit(prompt="a red ball", negative="dull")
NAMES = seams.names("image-to-video")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Fields of each part that has networks: tiny random ones, few steps."""
    folder = tmp_path_factory.mktemp("animate")
    words = save_model(folder / "sd")
    depth = save_controlnet(folder / "depth", tiny_unet())
    still = seams.build("model", "stable-diffusion", weights=str(words), controlnets=(str(depth),))
    moving, adapter, control = save_i2vgen(folder / "i2vgen")
    seeing = seams.build("model", "stable-diffusion", weights=str(control.parent), controlnets=(str(control),))
    return {
        "image": {"model": still, "control": ("depth",), "num_steps": 3, "strength": 0.75, "guidance": 2.0},
        "wan-vace": {"model": seams.build("model", "wan-vace", weights=str(save_wan(folder / "wan"))), "num_steps": 2},
        "i2vgen-xl": {
            "model": seams.build("model", "i2vgen-xl", weights=str(moving)),
            "control": seeing,
            "adapter": str(adapter),
            "num_steps": 2,
            "guidance": 2.0,
            "side": 64,
        },
    }


@pytest.fixture(params=NAMES)
def part(request, tiny):
    return seams.build("image-to-video", request.param, **tiny.get(request.param, {}))


@pytest.fixture
def chained(part):
    if part.window == 1:
        pytest.skip("its frames do not lean on each other")
    return part


def told(count=3, height=32, width=40, *, depth=0.8, first=0):
    """A textured square that goes 3 px a frame to the right over another texture."""
    background = smooth_texture(height, width, seed=1)[None].repeat(count, 1, 1, 1)
    mask = torch.zeros(count, 1, height, width)
    place = pixel_grid(height, width).repeat(count, 1, 1, 1)
    for row in range(count):
        mask[row, :, 8:24, 4 + 3 * row : 20 + 3 * row] = 1
        place[row, 0] -= 3 * row
    anchor = torch.where(mask[0] > 0, smooth_texture(height, width, seed=2), background[0])
    return Aligned(
        first=anchor,
        source=background,
        background=background,
        anchor=anchor,
        place=place,
        mask=mask,
        depth=0.2 + (depth - 0.2) * mask,
        frames=tuple(range(first, first + count)),
    )


@pytest.mark.parametrize("count, height, width", [(2, 40, 32), (3, 29, 35), (5, 24, 40)])
def test_keeps_length_size_range_and_the_first_frame(part, count, height, width):
    given = told(count, height, width)
    before = [getattr(given, one.name).clone() for one in fields(given) if one.name != "frames"]
    made = part(given, EDIT, Run(seed=1))
    assert made.shape == (count, 3, height, width) and made.dtype == torch.float32
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 1
    assert part.window == 1 or torch.equal(made[0], given.first), "to the bit"
    after = [getattr(given, one.name) for one in fields(given) if one.name != "frames"]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "what it is given stays as it was"


def test_the_first_frame_is_the_one_given_and_not_the_anchor(chained):
    given = replace(told(2), first=smooth_texture(32, 40, seed=5))
    assert torch.equal(chained(given, EDIT, Run())[0], given.first)


def test_a_chunk_of_one_frame_is_that_frame(chained):
    given = told(1)
    assert torch.equal(chained(given, EDIT, Run()), given.first[None])


def test_equal_seeds_and_frames_give_equal_pictures(part):
    run = Run(seed=3)
    assert torch.equal(part(told(2), EDIT, run), part(told(2), EDIT, run)), "and nothing is kept from chunk to chunk"


def test_knows_its_window_and_whether_it_looks_at_depth(part):
    assert isinstance(part.window, int) and part.window >= 1 and isinstance(part.uses_depth, bool)
    near, far = part(told(2), EDIT, Run()), part(told(2, depth=0.3), EDIT, Run())
    assert torch.equal(near, far) is not part.uses_depth


def test_without_a_chain_every_frame_is_made_by_itself(part):
    if part.window > 1:
        pytest.skip("its frames lean on each other")
    whole = part(told(3), EDIT, Run())
    for row in range(3):
        given = told(3)
        alone = replace(
            given,
            frames=(row,),
            **{name: getattr(given, name)[row : row + 1] for name in ("source", "background", "place", "mask", "depth")},
        )
        assert torch.equal(part(replace(alone, first=torch.zeros(3, 32, 40)), EDIT, Run(seed=9))[0], whole[row])


def test_is_a_recipe(part):
    assert seams.from_dict(seams.to_dict(part)) == part
    assert len(pickle.dumps(part)) < 10_000  # weights stay home


# -------------------------------------------------------------------------------------------------- those that have networks


@pytest.fixture(params=["image", "wan-vace", pytest.param("i2vgen-xl", marks=pytest.mark.slow)])
def painter(request, tiny):
    return seams.build("image-to-video", request.param, **tiny[request.param])


def test_depth_counts_with_weight_and_within_its_steps(painter):
    never = replace(painter, control_until=0.0)
    without = never(told(2), EDIT, Run())
    assert painter.uses_depth and not never.uses_depth and torch.equal(without, never(told(2, depth=0.3), EDIT, Run()))
    for off in ({"control_scale": 0.0}, {"control_from": 1.0}):
        muted = replace(painter, **off)
        assert not muted.uses_depth and torch.equal(muted(told(2), EDIT, Run()), without)
    late, early = (replace(painter, **{one: 0.5})(told(2), EDIT, Run()) for one in ("control_from", "control_until"))
    found = [painter(told(2), EDIT, Run()), late, early, without]
    assert all(not torch.equal(a, b) for place, a in enumerate(found) for b in found[place + 1 :])


def test_seed_frames_and_words_count(painter):
    base = painter(told(2), EDIT, Run())
    for other in (
        painter(told(2), EDIT, Run(seed=1)),
        painter(told(2), replace(EDIT, prompt="blue"), Run()),
        replace(painter, num_steps=painter.num_steps + 1)(told(2), EDIT, Run()),
        replace(painter, guidance=3.5)(told(2), EDIT, Run()),
    ):
        assert not torch.equal(base[1], other[1])


def test_looks_at_the_first_frame(painter):
    base = told(2)
    other = replace(base, first=1 - base.first)
    assert not torch.equal(painter(base, EDIT, Run())[1], painter(other, EDIT, Run())[1])


def test_missing_weights_are_told_before_any_work(painter):
    with pytest.raises(WeightsError, match=r"\. [A-Z]"):
        replace(painter, model=replace(painter.model, weights="/nowhere")).check()
    painter.check()
