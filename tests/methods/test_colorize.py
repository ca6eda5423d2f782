"""Colorize: lightness of one video, chroma of another, against scikit-image; as a job with files, ranges, masks and replay."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch

import flowpaint
from flowpaint import api, video
from flowpaint.errors import InputError
from flowpaint.methods.colorize import Colorize
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit, from_raw, to_raw

LOSSLESS = video.Encoding(codec="ffv1")


def film(name, bits=8, count=4, height=64, width=80):
    """A pan over one of scikit-image's photographs."""
    picture = torch.from_numpy(getattr(skimage.data, name)().copy()).permute(2, 0, 1).float() / 255
    cuts = (picture[:, 2 * i : 2 * i + 3 * height : 3, 60 + i : 60 + i + 3 * width : 3] for i in range(count))
    return Clip.from_array(np.stack([to_raw(one, bits) for one in cuts]), fps=25)


def lab(raw):
    return skimage.color.rgb2lab(from_raw(raw).double().numpy(), channel_axis=0)


def coloured(clip, by, **wish):
    return Colorize()(clip, Edit(colours=by, **wish), Run())


def black_and_white(clip):
    return clip.with_frames(lambda index: to_raw(clip.frame(index).mean(dim=0).expand(3, -1, -1), clip.bits))


# ------------------------------------------------------------------------------------------------------------- the colours


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")  # scikit-image clips what no screen shows, and says so
@pytest.mark.parametrize("bits, slack", [(8, 0.25), (16, 0.05)])
def test_lightness_is_the_source_s_and_chroma_the_other_s(bits, slack):
    clip, by = black_and_white(film("astronaut", bits)), film("coffee", bits)
    for index in (0, 3):
        raw = coloured(clip, by).raw(index)
        found, source, lent = lab(raw), lab(clip.raw(index)), lab(by.raw(index))
        wanted = np.stack([source[0], lent[1], lent[2]])
        back = skimage.color.rgb2lab(skimage.color.lab2rgb(wanted, channel_axis=0), channel_axis=0)
        shown = np.abs(back - wanted).max(axis=0) < 0.01  # where scikit-image had nothing to clip
        assert raw.dtype == clip.raw(index).dtype and 0.2 < shown.mean() < 1
        assert np.abs(found[0] - source[0]).mean() < slack
        # In the dark a level of 8 bits is up to 0.5 of L, and several of a and b.
        light = shown & (source[0] > 15)
        assert np.abs(found - wanted)[:, light].max() < 6 * slack


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_outside_the_gamut_chroma_gives_way_not_lightness():
    """Every lightness under pure blue, red, green: scikit-image's clipping moves L by tens, this by the rounding of 16 bits."""
    greys = torch.linspace(0, 1, 256).expand(3, 64, 256)
    lent = torch.zeros(3, 64, 256)
    for channel in range(3):
        lent[channel, 20 * channel : 20 * channel + 20] = 1.0
    clip, by = (Clip.from_array(np.stack([to_raw(one, 16)])) for one in (greys, lent))
    found, source, wanted = (lab(one.raw(0)) for one in (coloured(clip, by), clip, by))
    assert np.abs(found[0] - source[0]).max() < 0.05
    clipped = skimage.color.rgb2lab(
        skimage.color.lab2rgb(np.stack([source[0], wanted[1], wanted[2]]), channel_axis=0), channel_axis=0
    )
    assert np.abs(clipped[0] - source[0]).max() > 10
    across = found[1] * wanted[2] - found[2] * wanted[1]  # zero where hue is kept
    chroma = np.hypot(found[1], found[2])
    assert (np.abs(across) / (np.hypot(wanted[1], wanted[2]) + 1)).max() < 0.5
    assert (chroma <= np.hypot(wanted[1], wanted[2]) + 0.2).all() and chroma[:60, 30:220].min() > 10


def test_colours_of_itself_change_nothing():
    clip = film("coffee")
    assert (coloured(clip, clip).frames - clip.frames).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_strength_mixes_chroma_and_leaves_lightness(strength):
    clip, by = film("astronaut", 16), film("coffee", 16)
    source, lent, found = lab(clip.raw(1)), lab(by.raw(1)), lab(coloured(clip, by, strength=strength).raw(1))
    assert np.abs(found[0] - source[0]).max() < 0.1
    mixed = (1 - strength) * source[1:] + strength * lent[1:]
    assert np.median(np.abs(found[1:] - mixed)) < 0.02
    if strength == 0:
        assert np.array_equal(coloured(clip, by, strength=0.0).raw(1), clip.raw(1))


def test_chroma_of_another_size_is_resized():
    clip, by = film("astronaut"), film("coffee")
    twice = Clip.from_array(np.stack([by.raw(i).repeat(2, axis=0).repeat(2, axis=1) for i in range(4)]))
    assert np.array_equal(coloured(clip, twice).raw(2), coloured(clip, by).raw(2))


def test_without_colours_or_with_too_few_it_is_refused():
    with pytest.raises(InputError, match="--by"):
        Colorize()(film("coffee"), Edit(), Run())
    with pytest.raises(InputError, match="same length"):
        coloured(film("coffee"), film("coffee")[:3])


# ------------------------------------------------------------------------------------------------------------------ a job


@pytest.fixture
def here(tmp_path, monkeypatch):
    """`in.mkv` of 6 frames, 10 bit; `out.mkv` of as many, larger; `short.mkv` of 3 over the same time; `wide.mkv`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    clip, by = film("astronaut", 16, 6), film("coffee", 8, 6, 96, 120)
    video.write(clip, "in.mkv", encoding=video.Encoding(codec="ffv1", pixel_format="yuv444p10le"))
    video.write(by, "out.mkv", encoding=LOSSLESS)
    slow = Clip(lambda i: by.raw(2 * i), times=[Fraction(2 * i, 25) for i in range(3)], end=Fraction(6, 25), height=96, width=120)
    video.write(slow, "short.mkv", encoding=LOSSLESS)
    video.write(film("coffee", 8, 6, 64, 96), "wide.mkv", encoding=LOSSLESS)
    return tmp_path


def worth(raw, clip, by, index):
    """The largest difference, in levels of 8 bits, of a frame from what the method makes of frames `index` of both."""
    wanted = coloured(clip, by).raw(index)
    return np.abs(raw.astype(float) - wanted.astype(float)).max() / 257


def test_on_the_command_line_ten_bits_stay_and_the_recipe_repeats(call, here):
    code, out, err = call("colorize", "in.mkv", "--by", "out.mkv", "-o", "a.mkv", "--codec", "ffv1")
    assert code == 0 and out.split() == ["a.mkv", "a.sheet.png", "a.json"], err
    made, clip, by = video.read("a.mkv"), video.read("in.mkv"), video.read("out.mkv")
    assert made.bits == 16 and made.times == clip.times
    assert max(worth(made.raw(index), clip, by, index) for index in range(6)) < 1  # yuv444p10's own rounding
    report = json.loads((here / "a.json").read_text())
    assert (report["method"], report["job"]["by"]) == ("colorize", str(here / "out.mkv"))
    code, _, err = call("edit", "--replay", "a.mkv", "-o", "again.mkv")
    assert code == 0, err
    assert all(np.array_equal(video.read("again.mkv").raw(index), made.raw(index)) for index in range(6))


def test_a_range_of_a_video_as_long_as_the_input_or_as_the_range(here):
    clip, by = video.read("in.mkv"), video.read("out.mkv")
    whole = flowpaint.colorize("in.mkv", by="out.mkv", start=2, end=5)
    part = flowpaint.colorize("in.mkv", by=by[2:5], start=2, end=5)
    for index in range(3):
        assert np.array_equal(whole.frames.raw(index), coloured(clip, by).raw(index + 2))
        assert np.array_equal(whole.frames.raw(index), part.frames.raw(index))


def test_shots_take_the_frames_of_their_own(cut):
    by = Clip.from_array(cut.clip.frames.flip(0))
    result = flowpaint.colorize(cut.clip, by=by)
    assert len(result.prepared.shots) == 2
    assert all(np.array_equal(result.frames.raw(index), coloured(cut.clip, by).raw(index)) for index in (0, 6, 7, 11))


def test_another_length_is_refused_or_resampled(call, here):
    code, _, err = call("colorize", "in.mkv", "--by", "short.mkv", "-o", "b.mkv")
    assert code == 2 and "short.mkv has 3 frames where the video has 6" in err and "--resample" in err
    result = flowpaint.colorize("in.mkv", by="short.mkv", resample=True, start=1)
    clip, by = video.read("in.mkv"), video.read("out.mkv")
    held = by.with_frames(lambda index: by.raw(index - index % 2))
    assert all(np.array_equal(result.frames.raw(index), coloured(clip, held).raw(index + 1)) for index in range(5))


@pytest.mark.parametrize("start", [0, 3], ids=["as long as the input", "as long as the range"])
def test_resampled_frames_go_by_the_time_on_screen_whatever_the_length(here, start):
    clip, by = video.read("in.mkv"), video.read("out.mkv")
    slow = [Fraction(2 * i, 25) for i in range(6 - start)]  # each frame twice as long on screen as the input's
    by = Clip(by.raw, times=slow, end=Fraction(12, 25), height=by.height, width=by.width)
    result = flowpaint.colorize(clip, by=by, resample=True, start=start)
    assert len(result.frames) == len(by)
    held = Clip(lambda index: by.raw(index // 2), times=clip.times, end=clip.end, height=by.height, width=by.width)
    assert all(np.array_equal(result.frames.raw(i), coloured(clip, held).raw(i + start)) for i in range(len(by)))


def test_outside_a_mask_pixels_stay(here):
    white = np.zeros((64, 80, 3), np.uint8)
    white[:, 40:] = 255
    video.write_picture("mask.png", white)
    result, clip, by = flowpaint.colorize("in.mkv", by="out.mkv", mask="mask.png"), video.read("in.mkv"), video.read("out.mkv")
    found = result.frames.raw(1)
    assert np.array_equal(found[:, :40], clip.raw(1)[:, :40])
    assert np.array_equal(found[:, 44:], coloured(clip, by).raw(1)[:, 44:])


def test_a_preview_is_small_and_a_plan_needs_no_key_frame(here):
    result = flowpaint.colorize("in.mkv", by="out.mkv", preview="0.1s")
    assert len(result.frames) == 3
    assert api.plan(api.Result(replace(result.job, output="p.mkv")))["keyframes_made"] == []


def test_a_killed_run_goes_on_and_another_video_of_colours_is_another_run(here, monkeypatch):
    job = replace(flowpaint.colorize("in.mkv", by="out.mkv").job, output="pics")
    assert job.files() == ["in.mkv", "out.mkv"] and job.named(str.upper).by == "OUT.MKV"

    def stop(stage, done, total):
        if stage == "write" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.Result(job).save("pics", progress=stop)
    (here / "keep.mkv").write_bytes((here / "out.mkv").read_bytes())
    (here / "out.mkv").unlink()
    video.write(film("coffee", 8, 6), "out.mkv", encoding=LOSSLESS)
    with pytest.raises(InputError, match="other files"):
        api.Result(job).save("pics")
    (here / "keep.mkv").replace("out.mkv")
    result, saving = api.resume("pics.run")
    result.save(**saving)
    clip, by = video.read("in.mkv"), video.read("out.mkv")
    assert all(np.array_equal(video.read_picture(f"pics/{i:06d}.png"), coloured(clip, by).raw(i)) for i in range(6))


@pytest.mark.parametrize(
    "by, options, code, named",
    [
        ("missing.mkv", (), 4, "missing.mkv"),
        ("wide.mkv", (), 2, "96x64"),
        ("out.mkv", ("--keep-colors",), 2, "--strength"),
        ("out.mkv", ("--strength", "2"), 2, "0..1"),
    ],
)
def test_is_refused_with_nothing_left_behind(call, here, by, options, code, named):
    before = sorted(here.iterdir())
    found, out, err = call("colorize", "in.mkv", "--by", by, "-o", "x.mkv", *options)
    assert (found, out) == (code, "") and named in err
    assert sorted(here.iterdir()) == before


def test_other_kinds_of_job_take_no_colours():
    with pytest.raises(InputError, match="deflicker"):
        api.Job(kind="deflicker", by="out.mkv")
