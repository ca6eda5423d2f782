"""Measurements against closed forms, and a contact sheet that can be read."""

import json
from fractions import Fraction

import numpy as np
import pytest

from conftest import smooth_texture
from flowpaint.report import Measurements, Timings, contact_sheet, peak_memory, versions, wanting
from flowpaint.types import Clip, to_raw


def watched(source, result=None, **options):
    seen = Measurements(source, **options)
    for index in range(len(source)):
        seen.see(index, source.raw(index), (result or source).raw(index))
    return seen


def brightened(clip, amount):
    """The clip with `amount(index)` levels added."""
    return clip.with_frames(lambda index: (clip.raw(index).astype(int) + amount(index)).clip(0, 255).astype(np.uint8))


def test_an_alternation_of_a_levels_is_a_flicker_of_2a(still):
    flicker = watched(still, brightened(still, lambda index: 3 * (-1) ** index)).metrics()["flicker"]
    assert flicker["source"] == 0
    assert flicker["result"] == pytest.approx(6, abs=0.05)
    assert flicker["relative"] is None


def test_the_same_clip_flickers_and_is_sharp_as_itself(textured_pan):
    numbers = watched(textured_pan.clip).metrics()
    assert numbers["flicker"]["relative"] == numbers["sharpness"]["relative"] == 1
    assert 0 < numbers["flicker"]["source"] < 4  # DIS and bilinear interpolation, not nothing


def test_motion_is_no_flicker_where_a_difference_of_frames_would_be(textured_pan):
    clip = textured_pan.clip
    plain = np.mean([np.abs(clip.raw(i + 1).astype(int) - clip.raw(i)).mean() for i in range(len(clip) - 1)])
    assert watched(clip).metrics()["flicker"]["source"] < 0.5 * plain


def test_the_gradient_of_a_ramp_is_its_slope():
    ramp = np.broadcast_to((2 * np.arange(96)).astype(np.uint8)[None, :, None], (64, 96, 3))
    clip = Clip.from_array(np.stack([ramp, ramp]))
    inner = 94 / 96  # OpenCV mirrors the border, where the slope is 0
    assert watched(clip).metrics()["sharpness"]["source"] == pytest.approx(2 * inner, rel=0.01)


def test_blur_is_less_sharp(still):
    soft = Clip.from_array(smooth_texture(64, 80, seed=5, waves=2)[None].repeat(8, 1, 1, 1))
    assert watched(still, soft).metrics()["sharpness"]["relative"] < 0.8


def test_a_cut_is_no_flicker(cut):
    rows = watched(cut.clip, cuts=[0, cut.frame]).rows()
    assert "source_flicker" not in rows[cut.frame]
    assert "source_flicker" in rows[cut.frame + 1]


def test_depth_does_not_matter(still):
    deep = Clip.from_array(np.stack([to_raw(frame, 16) for frame in still]))
    assert watched(deep).metrics()["sharpness"]["source"] == pytest.approx(
        watched(still).metrics()["sharpness"]["source"], rel=0.02
    )


@pytest.mark.parametrize("at", [1, 4, 7])
def test_an_interruption_changes_nothing(textured_pan, at):
    source = textured_pan.clip
    result = brightened(source, lambda index: index % 3)
    whole = watched(source, result)
    first, second = Measurements(source), Measurements(source)
    for index in range(at):
        first.see(index, source.raw(index), result.raw(index))
    second.restore(range(at), first.saved(range(at)))
    for index in range(at, len(source)):
        second.see(index, source.raw(index), result.raw(index))
    assert second.rows() == whole.rows()
    assert second.tiles().keys() == whole.tiles().keys() == set(whole.moments)


@pytest.mark.parametrize("size", [(16, 16), (17, 400), (400, 17)])
def test_small_and_narrow_clips_are_measured_too(size):
    rng = np.random.default_rng(0)
    clip = Clip.from_array(rng.integers(0, 255, (3, *size, 3), dtype=np.uint8))
    seen = watched(clip)
    assert seen.metrics()["sharpness"]["source"] > 0
    assert contact_sheet(seen.tiles(), dict.fromkeys(seen.tiles(), "x")).shape[1] == 1600


@pytest.mark.parametrize(("size", "across"), [((90, 160), 4), ((64, 64), 4), ((160, 90), 6)])
def test_the_sheet_shows_six_pairs_at_their_shape(size, across):
    frames = np.zeros((30, *size, 3), np.uint8)
    frames[:] = (np.arange(30) * 8)[:, None, None, None]
    clip = Clip.from_array(frames)
    seen = watched(clip, clip.with_frames(lambda index: 255 - clip.raw(index)))
    page = contact_sheet(seen.tiles(), {index: f"{index}" for index in seen.tiles()})
    height, width = next(iter(seen.tiles().values()))[0].shape[:2]
    assert list(seen.tiles()) == [2, 7, 12, 17, 22, 27]
    assert page.shape[1] == 1600 and width == (1600 - 10 * (across + 1)) // across
    assert width / height == pytest.approx(size[1] / size[0], rel=0.02)
    left, right = page[10 + 24 + 5, 10 + 5], page[10 + 24 + 5, 10 + width + 10 + 5]
    assert (left == 16).all() and (right == 239).all()


def test_wide_samples_are_shown_wide():
    clip = Clip(
        lambda index: np.zeros((90, 80, 3), np.uint8),
        times=[Fraction(0)], end=Fraction(1), height=90, width=80, aspect=Fraction(2),
    )  # fmt: skip
    ((tile, _),) = watched(clip).tiles().values()
    assert tile.shape[1] / tile.shape[0] == pytest.approx(160 / 90, rel=0.01)


def test_one_frame_of_each_bad_stretch_wants_a_key():
    rows = {index: {"confidence": share} for index, share in enumerate([0.9, 0.5, 0.1, 0.5, 0.6, 0.59, 0.8, 0.4])}
    assert wanting(rows) == [2, 5, 7]
    assert wanting({index: {"anything": 0.0} for index in range(3)}) == []


def test_stages_inside_stages_are_counted_once(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setattr("flowpaint.report.perf_counter", lambda: next(now))
    timings = Timings()
    with timings.stage("outer"), timings.stage("inner"):
        pass
    assert timings.seconds == {"inner": 3.0, "outer": 7.0}


def test_versions_and_memory_are_plain():
    assert {"python", "torch", "av", "numpy", "onnxruntime"} <= versions().keys()
    assert json.loads(json.dumps(peak_memory()))["resident"] > 1 << 20
