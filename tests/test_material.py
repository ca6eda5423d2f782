"""What an upload is: told by how it begins, before anything that would follow its contents elsewhere opens it."""

import numpy as np
import pytest
from PIL import Image

from flowpaint import api
from flowpaint.api.material import suffix_of
from flowpaint.errors import VideoError
from flowpaint.video import read_picture
from video_files import make, smooth

LIMITS = {"seconds": 10.0, "frames": 100, "pixels": 10**6, "picture_bytes": 10**6}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_pictures(tmp_path, suffix):
    named = tmp_path / f"a{suffix}"
    Image.fromarray(smooth(40, 60)).save(named)
    path = named.rename(tmp_path / "0000")
    found = api.facts(path, **LIMITS)
    shape = {"width": 60, "height": 40, "frames": 1, "seconds": 0.0, "rate": 0.0, "has_audio": False}
    assert found == {"kind": "picture", "suffix": suffix, **shape}


@pytest.mark.parametrize(
    "suffix, codec", [(".mp4", "libx264"), (".mov", "libx264"), (".mkv", "libx264"), (".ts", "libx264"), (".avi", "libx264")]
)
def test_videos(tmp_path, suffix, codec):
    path = make(tmp_path / f"a{suffix}", [smooth(40, 60, index) for index in range(5)], codec=codec).rename(tmp_path / "0000")
    found = api.facts(path, **LIMITS)
    assert (found["kind"], found["suffix"], found["frames"], found["width"]) == ("video", suffix, 5, 60)


@pytest.mark.parametrize(
    "head",
    [
        b"#EXTM3U\nfile:///x.ts\n",
        b"ffconcat version 1.0\nfile x\n",
        b"v=0\r\nc=IN IP4 1.2.3.4\r\n",
        b"<MPD",
        b"<svg",
        b"\x7fELF",
        b"RIFF0000WAVE",
        b"G",
    ],
)
def test_what_points_elsewhere_is_not_opened(tmp_path, head):
    path = tmp_path / "a.mp4"
    path.write_bytes(head + b"\n" * 600)
    with pytest.raises(VideoError, match="neither a video nor a picture"):
        suffix_of(path)


def test_a_frame_is_made_small(tmp_path):
    path = make(tmp_path / "a.mp4", [smooth(40, 60, index) for index in range(5)])
    api.take_frame(path, 3, side=30, out=tmp_path / "f.jpg")
    made = read_picture(tmp_path / "f.jpg")
    assert made.shape == (20, 30, 3)
    expected = np.asarray(Image.fromarray(smooth(40, 60, 3)).resize((30, 20), Image.Resampling.BOX))
    assert np.abs(made.astype(int) - expected).mean() < 4
    api.take_frame(path, 0, side=600, out=tmp_path / "f.jpg")
    assert read_picture(tmp_path / "f.jpg").shape == (40, 60, 3)
    for number in (-1, 5):
        with pytest.raises(VideoError, match="has 5"):
            api.take_frame(path, number, side=30, out=tmp_path / "f.jpg")
