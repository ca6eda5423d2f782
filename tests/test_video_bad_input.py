"""Files that cannot be used: the right error, the file's name, the remedy; and those that can in spite of all."""

import os
import struct
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from flowpaint.errors import VideoError
from flowpaint.video import probe, read, read_picture, write, write_picture
from video_files import frames, make, smooth

PICTURES = [smooth(48, 64, shift) for shift in range(30)]


def missing(folder: Path) -> Path:
    return folder / "none.mp4"


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    return folder / "text.mp4"


def header_only(folder: Path) -> Path:
    whole = make(folder / "whole.mkv", PICTURES).read_bytes()
    (folder / "header.mkv").write_bytes(whole[:600])
    return folder / "header.mkv"


def moov_lost(folder: Path) -> Path:
    whole = make(folder / "whole.mov", PICTURES).read_bytes()
    (folder / "lost.mov").write_bytes(whole[: len(whole) // 2])
    return folder / "lost.mov"


def cut_short(folder: Path) -> Path:
    whole = make(folder / "whole.mp4", PICTURES).read_bytes()  # faststart: its index is at the front
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    return folder / "cut.mp4"


def cut_short_mkv(folder: Path) -> Path:
    whole = make(folder / "whole.mkv", PICTURES * 4, ticks=[512 * n for n in range(120)]).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.mkv"


def sound_only(folder: Path) -> Path:
    with av.open(str(folder / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return folder / "sound.mp4"


def tiny(folder: Path) -> Path:
    return make(folder / "tiny.mp4", [smooth(8, 8)])


def empty_folder(folder: Path) -> Path:
    (folder / "pictures").mkdir()
    return folder / "pictures"


def mixed_sizes(folder: Path) -> Path:
    for index, size in enumerate([(32, 32), (32, 48)]):
        write_picture(folder / f"{index}.png", smooth(*size))
    return folder


def hdr(folder: Path) -> Path:
    return make(folder / "hdr.mkv", PICTURES[:2], codec="ffv1", pixel_format="yuv420p10le", options={}, tags=(9, 9, 16, 1))


CASES: list[tuple[Callable[[Path], Path], str]] = [
    (missing, "does not exist"),
    (empty, "is empty"),
    (text, "cannot be read as a video"),
    (header_only, "header.mkv"),
    (moov_lost, "lost.mov"),
    (cut_short, "--allow-damaged"),
    (cut_short_mkv, "--allow-damaged"),
    (sound_only, "no video"),
    (tiny, "16"),
    (empty_folder, "no pictures"),
    (mixed_sizes, "48x32"),
    (hdr, "--tonemap"),
]


@pytest.mark.parametrize(("case", "words"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_what_cannot_be_read_is_refused(tmp_path: Path, case: Callable[[Path], Path], words: str) -> None:
    path = case(tmp_path)
    with pytest.raises(VideoError) as caught:
        read(path)
    message = str(caught.value)
    assert caught.value.exit_code == 4 and words in message and path.name in message and message.count(". ") >= 1


@pytest.mark.parametrize("case", [cut_short, cut_short_mkv])
def test_damaged_files_give_what_decodes(tmp_path: Path, case: Callable[[Path], Path]) -> None:
    path, heard = case(tmp_path), list[str]()
    clip = read(path, allow_damaged=True, warn=heard.append)
    whole = read(tmp_path / f"whole{path.suffix}")
    assert 0 < len(clip) < len(whole)
    assert clip.times == whole.times[: len(clip)]
    assert all(np.array_equal(clip.raw(n), whole.raw(n)) for n in range(len(clip) - 1))
    assert np.array_equal(clip.raw(0), whole.raw(0))
    assert "damaged" in heard[0] and str(len(clip)) in heard[0]
    write(clip, tmp_path / "out.mp4")
    assert len(read(tmp_path / "out.mp4")) == len(clip)


def test_a_hole_in_the_middle_is_found_when_it_is_read(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(7).integers(0, 256, (30, 48, 64, 3)).astype(np.uint8))
    whole = bytearray(make(tmp_path / "in.mp4", noise, options={"crf": "20", "g": "5"}).read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 20_000] = bytes(20_000)
    (tmp_path / "hole.mp4").write_bytes(whole)
    clip = read(tmp_path / "hole.mp4")
    with pytest.raises(VideoError, match=r"hole\.mp4.*--allow-damaged"):
        for index in range(len(clip)):
            clip.raw(index)
    assert not any(np.array_equal(clip.raw(index), clip.raw(0)) for index in (1, 2))  # the rest can still be read
    kept = read(tmp_path / "hole.mp4", allow_damaged=True)
    assert 5 < len(kept) < 30
    assert len([kept.raw(index) for index in range(len(kept))]) == len(kept)


def test_frames_without_time_stamps_are_counted(tmp_path: Path) -> None:
    path, heard = make(tmp_path / "raw.h264", PICTURES, container="h264"), list[str]()
    clip = read(path, warn=heard.append)
    assert len(clip) == 30 and clip.rate == 25 and "time stamps" in heard[0]
    assert np.abs(clip.raw(20).astype(int) - PICTURES[20]).mean() < 3
    assert np.abs(clip.raw(3).astype(int) - PICTURES[3]).mean() < 3  # backwards


def test_transparency_is_dropped_with_a_word(tmp_path: Path) -> None:
    path, heard = make(tmp_path / "a.mkv", PICTURES[:2], codec="ffv1", pixel_format="bgra", options={}), list[str]()
    assert np.array_equal(read(path, warn=heard.append).raw(1), PICTURES[1])
    assert "transparency" in heard[0]


def test_hdr_becomes_bt709_when_asked(tmp_path: Path) -> None:
    clip = read(hdr(tmp_path), tonemap=True)
    assert (clip.bits, clip.colour.transfer, clip.colour.primaries, clip.colour.matrix) == (16, 1, 1, 1)
    write(clip, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4").colour == clip.colour
    assert probe(tmp_path / "hdr.mkv").colour.transfer == 16


def test_the_pixel_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowpaint.video.border.PIXEL_LIMIT", 48 * 64 - 1)
    with pytest.raises(VideoError, match="limit"):
        read(make(tmp_path / "in.mp4", PICTURES[:1]))


def _png_claiming(path: Path, width: int, height: int) -> Path:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + part(b"IDAT", zlib.compress(b"\0" * 1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + rows + part(b"IEND", b""))
    return path


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (9_500, 9_500), (13_000, 13_000)])
def test_a_picture_that_claims_too_many_pixels(tmp_path: Path, width: int, height: int) -> None:
    path = _png_claiming(tmp_path / "huge.png", width, height)
    start = time.monotonic()
    with pytest.raises(VideoError, match=r"huge\.png"):
        read_picture(path)
    assert time.monotonic() - start < 5  # it is refused from the header


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_unreadable_pictures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"bad\.png"):
        read_picture(tmp_path / "bad.png")


def test_a_truncated_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "good.png", PICTURES[0])
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:1500])
    with pytest.raises(VideoError, match=r"half\.png"):
        read_picture(tmp_path / "half.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_pictures_keep_their_depth(tmp_path: Path, suffix: str, channels: int) -> None:
    deep = np.random.default_rng(6).integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"deep{suffix}"), deep)
    expected = np.repeat(deep, 3, axis=2) if channels == 1 else deep[..., 2::-1]
    assert np.array_equal(read_picture(tmp_path / f"deep{suffix}"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_s_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(smooth(20, 30))
    tags = image.getexif()
    tags[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=tags)
    with Image.open(tmp_path / "turned.png") as stored:
        upright = ImageOps.exif_transpose(stored)
    assert np.array_equal(read_picture(tmp_path / "turned.png"), np.asarray(upright))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_picture_is_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(smooth(20, 30)).convert(mode).save(tmp_path / f"a.{suffix}")
    picture = read_picture(tmp_path / f"a.{suffix}")
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8


def test_dropping_alpha_leaves_no_black_fringe(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20, 4), (200, 100, 50, 0), np.uint8)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == [200, 100, 50]).all()


def test_pictures_of_a_folder_stand_in_natural_order(tmp_path: Path) -> None:
    for index in range(12):
        write_picture(tmp_path / f"frame{index}.png", smooth(16, 16, index))
    (tmp_path / "notes.txt").touch()
    clip = read(tmp_path, fps=Fraction(25))
    assert len(clip) == 12 and clip.times[1] == Fraction(1, 25)
    assert all(np.array_equal(clip.raw(index), smooth(16, 16, index)) for index in range(12))


def test_the_input_is_never_touched(tmp_path: Path) -> None:
    path = make(tmp_path / "in.mp4", PICTURES, sound=["eng"])
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    write(read(path)[3:20], tmp_path / "out.mp4")
    os.link(path, tmp_path / "link.mp4")
    with pytest.raises(ValueError, match="is the input"):
        write(read(path), tmp_path / "link.mp4")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before and len(frames(path)) == 30


def test_a_change_of_size_is_refused_where_it_happens(tmp_path: Path) -> None:
    first, second = (
        make(tmp_path / f"{n}.h264", [smooth(*size)] * 3, container="h264") for n, size in enumerate([(48, 64), (64, 80)])
    )
    (tmp_path / "both.h264").write_bytes(first.read_bytes() + second.read_bytes())
    clip = read(tmp_path / "both.h264")
    assert clip.raw(2).shape == (48, 64, 3)
    with pytest.raises(VideoError, match=r"Frame 3 of .*both\.h264"):
        clip.raw(3)
