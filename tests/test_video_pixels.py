"""YUV and RGB: closed forms, FFmpeg's own scaler, and the way there and back."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpaint.types import ColourTags
from flowpaint.video.pixels import decoding_matrix, encoding_matrix, from_rgb, keep_samples, layout, plain_format, to_rgb
from video_files import planes, smooth

YUV = ["yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuvj420p", "yuva420p", "nv12", "yuyv422"]
DEEP = ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv444p16le", "yuv420p10be", "p010le"]


def test_bt709_has_the_coefficients_of_the_standard() -> None:
    forward = encoding_matrix(1, False, 8, 255)
    assert forward @ [255, 255, 255, 1] == pytest.approx([235, 128, 128])
    assert forward @ [0, 0, 0, 1] == pytest.approx([16, 128, 128])
    assert forward @ [0, 0, 255, 1] == pytest.approx([16 + 219 * 0.0722, 240, 128 - 224 * 0.0722 / (2 * (1 - 0.2126))])
    assert encoding_matrix(6, True, 8, 255) @ [255, 0, 0, 1] == pytest.approx([255 * 0.299, 128 - 255 * 0.299 / 1.772, 255.5])
    assert encoding_matrix(9, False, 10, 65535) @ [65535, 65535, 65535, 1] == pytest.approx([940, 512, 512])


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("full", [False, True])
def test_matrices_are_inverse(matrix: int, full: bool) -> None:
    forward, back = (np.vstack([one(matrix, full, 8, 255), [0, 0, 0, 1]]) for one in (encoding_matrix, decoding_matrix))
    assert forward @ back == pytest.approx(np.eye(4), abs=1e-9)


@pytest.mark.parametrize("name", [*YUV, *DEEP])
@pytest.mark.parametrize("size", [(32, 48), (33, 51)])
def test_samples_survive_the_way_through_rgb(name: str, size: tuple[int, int]) -> None:
    if name == "yuyv422" and size[1] % 2:
        pytest.skip("packed 4:2:2 has no odd widths")
    start = av.VideoFrame.from_ndarray(smooth(*size), "rgb24").reformat(format=name, threads=1)
    plain = plain_format(name)
    tags = ColourTags(matrix=1, range=2 if "j" in name else 1)
    back = from_rgb(to_rgb(start, tags), plain, tags)
    expected = start.reformat(format=plain, threads=1) if plain != name else start
    for stored, returned in zip(planes(expected)[:3], planes(back)[:3], strict=True):
        assert np.array_equal(stored, returned)


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 235), st.integers(16, 240), st.integers(16, 240), st.sampled_from([1, 6, 9]))
def test_every_limited_range_colour_inside_rgb_is_exact(y: int, u: int, v: int, matrix: int) -> None:
    exact = decoding_matrix(matrix, False, 8, 255) @ [y, u, v, 1]
    tags = ColourTags(matrix=matrix, range=1)
    frame = av.VideoFrame(16, 16, "yuv420p")
    for part, level in zip(frame.planes, (y, u, v), strict=True):
        part.update(bytes([level]) * part.buffer_size)
    raw = to_rgb(frame, tags)
    assert np.array_equal(raw[3, 5], np.clip(np.rint(exact), 0, 255))
    if exact.min() >= 0 and exact.max() <= 255:
        assert [int(plane[0, 0]) for plane in planes(from_rgb(raw, "yuv420p", tags))] == [y, u, v]


@pytest.mark.parametrize(
    "name", ["yuv444p", "yuv444p10le", "gbrp", "gbrp12le", "rgb24", "bgra", "rgb48le", "gray", "pal8", "gbrp10be"]
)
def test_agrees_with_the_scaler_of_ffmpeg(name: str) -> None:
    frame = av.VideoFrame.from_ndarray(smooth(32, 48), "rgb24")
    frame = frame.reformat(format="rgb8" if name == "pal8" else name)
    raw = to_rgb(frame, ColourTags(matrix=6))
    scale = 257 if raw.dtype == np.uint16 else 1
    assert np.abs(raw / scale - frame.to_ndarray(format="rgb24")).max() <= 2


def test_untagged_video_is_bt709_from_720_lines() -> None:
    colour = np.full((720, 16, 3), (200, 90, 40), np.uint8)
    small, large = (from_rgb(picture, "yuv444p", ColourTags()) for picture in (colour[:719], colour))
    assert planes(small)[0][0, 0] == round(16 + 219 * (0.299 * 200 + 0.587 * 90 + 0.114 * 40) / 255)
    assert planes(large)[0][0, 0] == round(16 + 219 * (0.2126 * 200 + 0.7152 * 90 + 0.0722 * 40) / 255)


@pytest.mark.parametrize("name", sorted(name for name in av.video.frame.supported_np_pix_fmts if "bayer" not in name))
def test_every_format_becomes_one_that_is_known(name: str) -> None:
    assert layout(plain_format(name)) is not None


def test_source_samples_are_kept_where_the_picture_is_the_source() -> None:
    source = av.VideoFrame(32, 32, "yuv420p")
    rng = np.random.default_rng(2)
    for part in source.planes:
        part.update(rng.integers(0, 256, part.buffer_size, np.uint8).tobytes())  # mostly colours that RGB cannot show
    edited = to_rgb(source, ColourTags(matrix=1)).copy()
    edited[:, 15:] = 90
    frame = from_rgb(edited, "yuv420p", ColourTags(matrix=1))
    painted = planes(frame)
    keep_samples(frame, planes(source), (edited == to_rgb(source, ColourTags(matrix=1))).all(axis=2))
    luma, blue, _ = planes(frame)
    assert np.array_equal(luma[:, :15], planes(source)[0][:, :15])
    assert np.array_equal(luma[:, 16:], painted[0][:, 16:])
    assert np.array_equal(blue[:, :7], planes(source)[1][:, :7])
    assert np.array_equal(blue[:, 7:], painted[1][:, 7:])  # the cell that the edit touches is the edit's
