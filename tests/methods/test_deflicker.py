"""Deflicker: flicker that was added goes, everything else stays, and any frame can be asked for first."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from flowpaint import video
from flowpaint.errors import ConfigError
from flowpaint.methods.deflicker import Deflicker
from flowpaint.methods.deflicker.motion import even_tone
from flowpaint.methods.deflicker.texture import lost_detail
from flowpaint.methods.deflicker.tone import trend_gap
from flowpaint.parts.flow import DisFlow
from flowpaint.seams import Method, Run
from flowpaint.types import Clip, Edit, Flow
from flowpaint.warp import resize

NUM_FRAMES = 14
EDIT = Edit()


def pan(num_frames: int = NUM_FRAMES, height: int = 96, width: int = 112, seed: int = 5) -> Tensor:
    """A finely textured picture that moves (-2, 1) px a frame: [T, 3, H, W], dark and light parts."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.zeros(1, 3, height + 2 * num_frames, width + 2 * num_frames)
    for cells in (4, 16, 48):
        noise = torch.rand(1, 3, cells, cells, generator=generator)
        wide += torch.nn.functional.interpolate(noise, size=wide.shape[-2:], mode="bicubic") / 3
    wide = (0.15 + 0.7 * (wide - wide.min()) / (wide.max() - wide.min()))[0]
    tops = (2 * num_frames - index for index in range(num_frames))
    return torch.stack([wide[:, top - num_frames :, 2 * i :][:, :height, :width] for i, top in enumerate(tops)])


def gain(frames: Tensor) -> Tensor:
    return frames * (0.92 + 0.16 * torch.rand(len(frames), 1, 1, 1, generator=torch.Generator().manual_seed(1)))


def gamma(frames: Tensor) -> Tensor:
    return frames ** (0.85 + 0.3 * torch.rand(len(frames), 1, 1, 1, generator=torch.Generator().manual_seed(2)))


def texture(frames: Tensor) -> Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(3))
    band = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    return frames + 0.04 * band / band.std()


def steady(frames: Tensor, **fields: object) -> Tensor:
    return Deflicker(**fields)(Clip.from_array(frames), EDIT, Run()).frames


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def jumping(error: Tensor) -> float:
    """Energy of what changes from frame to frame in the picture's own coordinates, the pan undone: it cancels in the error."""
    moved = error[:-1, :, :-1, 2:]
    return float((error[1:, :, 1:, :-2] - moved).square().mean())


def sharpness(frames: Tensor) -> float:
    return float(frames.diff(dim=-1).abs().mean() + frames.diff(dim=-2).abs().mean())


# ------------------------------------------------------------------------------------------------------- what flicker is

OFFSETS = torch.tensor([-4.0, -3, -2, -1, 1, 2, 3, 4])


def test_a_line_and_a_slow_swell_leave_no_gap():
    for course in (0.02 * OFFSETS, -0.001 * OFFSETS**2, 0.15 * (torch.cos(OFFSETS * 2 * torch.pi / 25) - 1)):
        assert trend_gap(OFFSETS, course[:, None]).abs().max() < 0.5 / 255


@pytest.mark.parametrize("last_dark", [-3, -2, -1, 0, 1, 2])
def test_a_lamp_switched_on_leaves_no_gap(last_dark):
    course = torch.where(last_dark < OFFSETS, 0.3, 0.0) - (0.3 if last_dark < 0 else 0.0)
    assert trend_gap(OFFSETS, course[:, None]).abs().max() < 0.5 / 255


def test_one_odd_frame_goes_back_to_where_the_others_are():
    assert trend_gap(OFFSETS, torch.full((8, 1), -0.2)).item() == pytest.approx(-0.2, abs=0.01)


def test_independent_flicker_is_averaged():
    swings = 0.03 * torch.randn(9, 4000, generator=torch.Generator().manual_seed(4))
    here, around = swings[4], torch.cat((swings[:4], swings[5:]))
    left = here + trend_gap(OFFSETS, around - here)
    assert left.std() < 0.5 * here.std()  # the mean of nine would be 1/3


def test_a_trend_under_flicker_is_kept():
    swings = 0.01 * torch.randn(9, 4000, generator=torch.Generator().manual_seed(4))
    here, around = swings[4], torch.cat((swings[:4], swings[5:])) + 0.02 * OFFSETS[:, None]
    left = here + trend_gap(OFFSETS, around - here)
    assert abs(left.mean()) < 0.001 and left.std() < 0.6 * here.std()


def test_what_flow_leaves_in_a_clean_clip_is_no_flicker():
    swings = 0.2 / 255 * torch.randn(8, 1000, generator=torch.Generator().manual_seed(4))
    assert trend_gap(OFFSETS, swings).abs().mean() < 0.01 / 255


def test_flow_pictures_do_not_know_brightness_and_hardly_contrast():
    frames = pan(2)
    even = even_tone(frames)
    assert torch.allclose(even_tone(0.1 + frames), even, atol=1e-5)
    assert (even_tone(0.7 * frames) - 0.5).std() > 0.9 * (even - 0.5).std()


# ------------------------------------------------------------------------------------------------------ what is taken out


@pytest.mark.slow
@pytest.mark.parametrize("flicker", [gain, gamma, texture])
def test_known_flicker_goes_and_detail_stays(flicker):
    clean = pan()
    dirty = flicker(clean).clamp(0, 1)
    result = steady(dirty)
    assert jumping(result - clean) < 0.3 * jumping(dirty - clean)
    assert psnr(result, clean) > psnr(dirty, clean) + 3
    assert sharpness(result) > 0.97 * sharpness(clean)


def test_fine_detail_is_as_strong_as_in_the_clean_clip():
    clean = resize(pan(8, 192, 224), 96, 112)  # half pixels of motion: samples lie between pixels
    result = steady(texture(clean).clamp(0, 1))
    own = clean - torch.nn.functional.avg_pool2d(clean, 3, stride=1, padding=1, count_include_pad=False)
    kept = (result * own).sum() / (clean * own).sum()  # 1 where the result is the clean clip and what is independent of it
    assert 0.995 < kept < 1.03


def test_what_an_average_softened_is_found_and_given_back():
    sharp = pan(1)
    soft = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1, count_include_pad=False)
    change = 0.25 * (soft - sharp)
    back = lost_detail(sharp, change, torch.full_like(sharp[:, :1], 5.0))
    assert (change + back).square().mean() < 0.25 * change.square().mean()


def test_what_brightens_here_and_darkens_there_goes():
    clean = pan(12)
    sway = 0.3 * (torch.rand(12, 1, 1, 1, generator=torch.Generator().manual_seed(6)) - 0.5)
    dirty = (clean * (1 + sway * torch.linspace(-1, 1, clean.shape[-1]))).clamp(0, 1)
    assert psnr(steady(dirty, texture=0), clean) > psnr(dirty, clean) + 2.5


def test_one_dark_frame_gets_its_light_back():
    clean = Clip.from_array(pan(11)).frames
    dirty = clean.clone()
    dirty[5] *= 0.7
    result = steady(dirty, texture=0)
    assert psnr(result[5], clean[5]) > psnr(dirty[5], clean[5]) + 18
    assert (result - clean).abs().mean(dim=(1, 2, 3))[[3, 4, 6, 7]].max() < 1 / 255


def test_a_flat_picture_is_steadied_too():
    clean = torch.full((9, 3, 32, 32), 0.5)
    assert jumping(steady(gain(clean)) - clean) < 0.1 * jumping(gain(clean) - clean)


def test_each_stage_alone():
    clean = pan(10)
    breathing, boiling = gain(clean), texture(clean)
    assert psnr(steady(breathing, texture=0), clean) > psnr(breathing, clean) + 3
    assert psnr(steady(boiling, tone=0), clean) > psnr(boiling, clean) + 3
    assert torch.equal(steady(boiling, tone=0, texture=0), Clip.from_array(boiling).frames)


# ------------------------------------------------------------------------------------------------------------ what stays


def fade(frames: Tensor) -> Tensor:
    return frames * torch.linspace(1, 0.6, len(frames)).reshape(-1, 1, 1, 1)


def lamp(frames: Tensor) -> Tensor:
    return frames * torch.where(torch.arange(len(frames)) < 6, 0.6, 1.0).reshape(-1, 1, 1, 1)


def shadow(frames: Tensor) -> Tensor:
    edge = torch.arange(frames.shape[-1]) - 9.0 * torch.arange(len(frames)).reshape(-1, 1, 1, 1)
    return frames * (1 - 0.4 * torch.sigmoid(edge / 4))


@pytest.mark.slow
@pytest.mark.parametrize("light", [lambda frames: frames, fade, lamp, shadow])
def test_a_clean_clip_stays_in_any_light(light: Callable[[Tensor], Tensor]):
    clean = Clip.from_array(light(pan())).frames
    change = 255 * (steady(clean) - clean).abs().mean(dim=(1, 2, 3))
    assert change.mean() < 0.25 and change.max() < 1.0


@pytest.mark.parametrize(("grain", "most"), [(1.2, 0.05), (1.7, 0.3)])
def test_grain_stays(grain, most):
    clean = pan(8)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(8))
    grainy = Clip.from_array(clean + grain / 255 * noise).frames
    assert 255 * (steady(grainy) - grainy).abs().mean() < most


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dog_corgi", "woman_running", "talkinghead", "breakdance", "carphone"])
def test_a_clean_recording_stays(name, shared):
    clip = video.read(next(shared.glob(f"clips/{name}*")))[:20]
    scale = min(1.0, 256 / min(clip.height, clip.width))
    clean = torch.cat([resize(frame[None], round(clip.height * scale), round(clip.width * scale)) for frame in clip])
    clean = Clip.from_array(clean).frames
    assert 255 * (steady(clean) - clean).abs().mean() < 0.5


def test_a_moving_thing_leaves_no_ghost(moving_square):
    clean = moving_square.clip.frames
    dirty = gain(texture(clean)).clamp(0, 1)
    result = steady(dirty)
    for index in range(1, len(clean)):
        left_behind = (moving_square.mask(index - 1) * (1 - moving_square.mask(index)))[0].bool().expand(3, -1, -1)
        before, after = ((one[index] - clean[index])[left_behind].square().mean() for one in (dirty, result))
        assert after < 1.3 * before


def test_a_still_clip_stays_to_the_bit(still):
    assert torch.equal(Deflicker()(still, EDIT, Run()).frames, still.frames)


def test_nothing_crosses_a_cut(cut):
    flickering = gain(cut.clip.frames)
    alone = steady(flickering[: cut.frame])
    assert torch.equal(steady(flickering)[: cut.frame], alone)


# ------------------------------------------------------------------------------------------------------------- windows


@dataclass(frozen=True, kw_only=True)
class CountingFlow:
    """DIS that counts the calls."""

    calls: list[int] = field(default_factory=list)

    def __call__(self, a: Tensor, b: Tensor) -> Flow:
        self.calls.append(len(a))
        return DisFlow()(a, b)


def test_any_order_gives_the_same_pixels_and_far_frames_do_not_count():
    frames = texture(gain(pan(16, 48, 64))).clamp(0, 1)
    in_order = Deflicker(tone=2, texture=1)(Clip.from_array(frames), EDIT, Run())
    backwards = Deflicker(tone=2, texture=1)(Clip.from_array(frames), EDIT, Run())
    expected = [in_order.raw(index) for index in range(16)]
    assert all(np.array_equal(backwards.raw(index), expected[index]) for index in reversed(range(16)))
    other = frames.clone()
    other[11:] = 0.5 * other[11:].flip(-1)
    changed = Deflicker(tone=2, texture=1)(Clip.from_array(other), EDIT, Run())
    assert np.array_equal(changed.raw(6), expected[6])  # 6 + 2 + 1 + 1 < 11


def test_flow_is_measured_once_for_each_pair_of_neighbours():
    flow = CountingFlow()
    steady(texture(pan(12, 48, 64)).clamp(0, 1), flow=flow)
    assert flow.calls == [2] * 11  # there and back


def test_nothing_is_read_before_a_frame_is_asked_for():
    read: list[int] = []
    clip = Clip.from_array(pan(20, 48, 64))
    spied = clip.with_frames(lambda index: (read.append(index), clip.raw(index))[1])
    result = Deflicker(tone=1, texture=1)(spied, EDIT, Run())
    assert read == []
    result.raw(10)
    assert sorted(read) == [8, 9, 10, 11, 12]


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 32, 40), (2, 32, 40), (3, 16, 16), (9, 17, 31)])
def test_short_and_small_clips(num_frames, height, width):
    clip = Clip.from_array(texture(pan(num_frames, height, width)).clamp(0, 1), fps=10)
    result = Deflicker()(clip, EDIT, Run())
    assert result.frames.shape == clip.frames.shape and result.times == clip.times
    if num_frames < 3:  # too few to tell flicker from change
        assert torch.equal(result.frames, clip.frames)


def test_the_first_and_the_last_frame_are_filtered_too():
    clean = pan(9)
    dirty = texture(clean).clamp(0, 1)
    result = steady(dirty)
    for index in (0, 8):
        assert psnr(result[index], clean[index]) > psnr(dirty[index], clean[index]) + 1.5


def test_depth_is_kept_above_8_bit():
    raw = (gain(pan(5, 32, 48)).clamp(0, 1) * 65535).round().to(torch.int32).numpy().astype(np.uint16).transpose(0, 2, 3, 1)
    result = Deflicker()(Clip.from_array(np.ascontiguousarray(raw)), EDIT, Run())
    assert result.bits == 16 and len(np.unique(result.raw(2))) > 300


def test_strength_goes_from_the_source_to_the_whole():
    frames = gain(pan(7, 48, 64))
    clip = Clip.from_array(frames)
    none = Deflicker()(clip, Edit(strength=0.0), Run())
    half = Deflicker(strength=0.5)(clip, EDIT, Run()).frames
    assert np.array_equal(none.raw(3), clip.raw(3))
    assert torch.allclose(half, (clip.frames + steady(frames)) / 2, atol=1.01 / 255)


@pytest.mark.parametrize("fields", [{"tone": -1}, {"texture": -2}, {"strength": 1.5}, {"strength": float("nan")}])
def test_refuses_fields_out_of_range(fields):
    with pytest.raises(ConfigError, match=r"Give 0"):
        Deflicker(**fields)


def test_is_a_method():
    assert isinstance(Deflicker(), Method)
    assert Deflicker() == Deflicker()
