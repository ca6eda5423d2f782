"""Coarse renders, carried noise, and what each maker of video shows its network; see contracts/test_image_to_video.py."""

from dataclasses import replace

import pytest
import torch

from conftest import smooth_texture
from flowpaint import seams
from flowpaint.diffusion.vace import WanVace
from flowpaint.errors import ConfigError
from flowpaint.parts.animate import I2vgenAnimator, ImageAnimator, VaceAnimator
from flowpaint.parts.animate.render import at_full_size, carried_noise, rendered
from flowpaint.seams import Run
from flowpaint.types import Aligned, Edit
from flowpaint.warp import pixel_grid
from tiny_models import save_controlnet, save_model, tiny_unet
from tiny_wan import save_wan

EDIT = Edit(prompt="a red ball")


def told(count=3, height=32, width=48):
    """A square of texture that goes a whole cell of 8 px a frame to the right."""
    background = smooth_texture(height, width, seed=1)[None].repeat(count, 1, 1, 1)
    mask, place = torch.zeros(count, 1, height, width), pixel_grid(height, width).repeat(count, 1, 1, 1)
    for row in range(count):
        mask[row, :, 8:24, 8 + 8 * row : 24 + 8 * row] = 1
        place[row, 0] -= 8 * row
    anchor = smooth_texture(height, width, seed=2)
    first = torch.where(mask[0] > 0, anchor, background[0])
    return Aligned(
        first=first, source=background, background=background, anchor=anchor, place=place, mask=mask,
        depth=0.2 + 0.6 * mask, frames=tuple(range(count)),
    )  # fmt: skip


def test_a_render_shows_the_object_where_it_went():
    given = told()
    made = rendered(given)
    square = given.anchor[:, 8:24, 8:24]
    assert torch.equal(made[0], given.first)
    for row in (1, 2):
        torch.testing.assert_close(made[row][:, 8:24, 8 + 8 * row : 24 + 8 * row], square, atol=1e-5, rtol=0)
        outside = (1 - given.mask[row]).expand(3, -1, -1) > 0
        assert torch.equal(made[row][outside], given.background[row][outside])


def test_noise_goes_with_the_object_and_rests_elsewhere():
    given = told()
    base = torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(0))
    made = carried_noise(base, given)
    for row in range(3):
        assert torch.equal(made[row][:, 1:3, 1 + row : 3 + row], base[:, 1:3, 1:3])
        here = torch.nn.functional.max_pool2d(given.mask[row], 8)[0] > 0
        assert torch.equal(made[row][:, ~here], base[:, ~here])
    assert not torch.equal(made[0], made[2]), "something moved"


def test_detail_at_full_size_is_that_of_the_render():
    given = told(2, 64, 96)
    coarse = rendered(given)
    small = torch.nn.functional.avg_pool2d(coarse, 2)
    made = at_full_size(given, coarse, small)
    assert torch.equal(made[0], given.first)
    plain = torch.nn.functional.interpolate(small, scale_factor=2, mode="bicubic")
    assert (made[1] - coarse[1]).square().mean() < 0.5 * (plain[1] - coarse[1]).square().mean()
    assert torch.equal(at_full_size(given, coarse, 1 - coarse)[1], 1 - coarse[1]), "of equal size, what was painted"


# -------------------------------------------------------------------------------------------------------------- image models


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animate")
    depth = str(save_controlnet(folder / "depth", tiny_unet()))
    model = seams.build("model", "stable-diffusion", weights=str(save_model(folder / "sd")), controlnets=(depth,))
    return ImageAnimator(model=model, control=(seams.build("condition", "depth"),), num_steps=2, strength=1.0, guidance=2.0)


@pytest.mark.slow
def test_without_strength_the_render_comes_back_through_the_autoencoder(image):
    given = told()
    expected = image.model.decode(image.model.encode(rendered(given)))
    torch.testing.assert_close(replace(image, strength=0.0)(given, EDIT, Run())[1:], expected[1:], atol=1e-5, rtol=0)


def test_frames_look_at_the_first_and_the_one_before_alone(image):
    given, run = told(4), Run()
    later = given.depth.clone()
    later[2] = 1 - later[2]
    base, other = image(given, EDIT, run), image(replace(given, depth=later), EDIT, run)
    torch.testing.assert_close(other[1], base[1], atol=1e-5, rtol=0)
    assert not torch.equal(other[2], base[2]), "its own"
    assert not torch.equal(other[3], base[3]), "that of the frame before"
    early = given.depth.clone()
    early[1] = 1 - early[1]
    assert not torch.equal(image(replace(given, depth=early), EDIT, run)[2], base[2])


def test_where_frames_start(image):
    given, like, run = told(), torch.zeros(3, 4, 4, 6), Run(seed=2)
    shared, own, carried = (replace(image, noise=kind)._noise(given, like, run) for kind in ("shared", "per_frame", "carried"))
    assert all(torch.equal(one, shared[0]) for one in shared) and torch.equal(carried, carried_noise(shared[0], given))
    assert not torch.equal(own[0], own[1]) and not torch.equal(own[1], own[2])
    later = replace(given, frames=(7, 8, 9))
    assert torch.equal(replace(image, noise="carried")._noise(later, like, run), carried), "in each chunk the same"
    assert not torch.equal(replace(image, noise="per_frame")._noise(later, like, run), own)


def test_from_noise_alone_the_render_does_not_count(image):
    given = told()
    other = replace(given, background=1 - given.background)
    assert torch.equal(image(given, EDIT, Run())[1:], image(other, EDIT, Run())[1:])
    half = replace(image, strength=0.5)
    assert not torch.allclose(half(given, EDIT, Run())[1:], half(other, EDIT, Run())[1:], atol=1e-2)


def test_the_bundled_model_sees_lines_of_depth_and_render():
    part = ImageAnimator()
    model, seen = part._equipped()
    assert [seams.to_dict(one)["part"] for one in seen] == ["softedge"] and len(model.controlnets) == 1
    assert part._chosen() == (0.35, 2.0) and replace(part, strength=0.5, guidance=3.0)._chosen() == (0.5, 3.0)
    given, small = told(), rendered(told())
    both, depth, render = (replace(part, drawn=drawn)._maps(seen, given, small)[0] for drawn in ("both", "depth", "render"))
    assert torch.equal(both, torch.maximum(depth, render)) and not torch.equal(both, depth) and not torch.equal(both, render)
    assert not replace(part, drawn="render").uses_depth and part.uses_depth
    part.check()


def test_what_cannot_be_is_told(image):
    with pytest.raises(ConfigError, match="cannot be shown the render"):
        replace(image, drawn="render").check()
    for wrong in ({"window": 1}, {"side": 8}, {"strength": 1.5}, {"control_from": -1.0}):
        with pytest.raises(ConfigError, match=r"\. [A-Z]"):
            replace(image, **wrong)
    for cls, wrong in ((VaceAnimator, {"control_scale": 2.0}), (VaceAnimator, {"window": 1}), (I2vgenAnimator, {"rescale": 2.0})):
        with pytest.raises(ConfigError, match=r"\. [A-Z]"):
            cls(**wrong)


# ---------------------------------------------------------------------------------------------------------------------- VACE


@pytest.mark.parametrize("reference", [False, True])
def test_vace_is_shown_the_first_frame_then_depth(tmp_path_factory, monkeypatch, reference):
    seen, real = [], WanVace.conditions
    monkeypatch.setattr(WanVace, "conditions", lambda self, *given: seen.append(given) or real(self, *given))
    model = WanVace(weights=str(save_wan(tmp_path_factory.mktemp("wan"))))
    given = told(3)
    part = VaceAnimator(model=model, num_steps=2, reference=reference)
    part(given, EDIT, Run())
    ((video, mask, references),) = seen
    assert len(video) == 5 and torch.equal(video[0], given.first) and torch.equal(video[4], video[2])
    assert torch.equal(video[1:3], given.depth[1:].expand(-1, 3, -1, -1))
    assert mask.flatten(1).amin(dim=1).tolist() == [0, 1, 1, 1, 1] == mask.flatten(1).amax(dim=1).tolist()
    assert len(references) == reference and (not reference or torch.equal(references[0], given.anchor))
    seen.clear()
    replace(part, control_until=0.5, control_scale=0.5)(given, EDIT, Run())
    shown = [video[1:3] for video, _, _ in seen]
    assert len(shown) == 2 and torch.allclose(shown[0], 0.25 + 0.5 * given.depth[1:]) and (shown[1] == 0.5).all()
