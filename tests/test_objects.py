"""Marks of objects, and pictures that go with an edit, as the work gets them."""

import pytest
import torch

from flowpaint import video
from flowpaint.api.job import Job
from flowpaint.api.objects import check_shots, marked, of_shot
from flowpaint.errors import InputError
from flowpaint.types import Clip, to_raw

SIZE = (32, 40)


def grey(values, size=SIZE):
    return Clip.from_array(torch.tensor(values)[:, None, None, None].expand(-1, 3, *size))


WHOLE = grey([k / 10 for k in range(8)])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codec = video.Encoding(codec="ffv1")
    video.write(WHOLE, tmp_path / "eight.mkv", encoding=codec)
    video.write(WHOLE[0:3], tmp_path / "three.mkv", encoding=codec)
    video.write(grey([0.5] * 8, (16, 20)), tmp_path / "small.mkv", encoding=codec)
    return tmp_path


def told(*args, **values):
    return marked(Job(**values), (), WHOLE, range(2, 5), lambda _: None, *args)


def test_masks_for_the_whole_input_are_cut_to_the_frames_at_work(here):
    (one,) = told(objects=("eight.mkv",)).objects
    assert len(one) == 3 and one.frame(0).mean() == pytest.approx(0.2, abs=0.01)
    (one,) = told(objects=("three.mkv",)).objects
    assert one.frame(0).mean() == pytest.approx(0.0, abs=0.01)


def test_depth_is_cut_as_masks_are_and_may_be_small(here):
    depth = told(depth="eight.mkv").depth
    assert len(depth) == 3 and depth.frame(2).mean() == pytest.approx(0.4, abs=0.01)
    assert told(depth="three.mkv").depth.frame(2).mean() == pytest.approx(0.2, abs=0.01)
    assert told(depth="small.mkv").depth.frame(0).shape == (3, 16, 20)


def test_pictures_are_read_at_their_own_size(here):
    video.write_picture(here / "thing.png", to_raw(torch.full((3, 18, 17), 0.8)))
    found = told(reference="thing.png")
    assert found.reference.shape == (3, 18, 17) and found.reference.mean() == pytest.approx(0.8, abs=0.01)
    assert told(sketch="thing.png").sketch.shape == (3, 18, 17)


def test_a_shot_gets_its_own_masks():
    every, alone = WHOLE, WHOLE[0:1]
    first, second = of_shot((every, alone), range(3, 6))
    assert [float(one.mean()) for one in first] == pytest.approx([0.3, 0.4, 0.5], abs=0.01) and second is alone


def test_several_shots_need_masks_for_all_frames():
    shots = (range(4), range(4, 8))
    check_shots((WHOLE,), shots, first=0)
    check_shots((WHOLE[0:1],), shots[:1], first=0)
    with pytest.raises(InputError, match=r"2 shots \(frames 10 to 13; frames 14 to 17\)"):
        check_shots((WHOLE[0:1],), shots, first=10)


@pytest.mark.parametrize(
    "name, words", [("small.mkv", "20x16 where the video is 40x32"), ("five.mkv", "5 frames where the video has 8")]
)
def test_masks_that_do_not_fit(here, name, words):
    video.write(WHOLE[0:5], here / "five.mkv", encoding=video.Encoding(codec="ffv1"))
    with pytest.raises(InputError, match=words):
        told(objects=(name,))
