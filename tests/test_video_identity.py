"""A copy through `read` and `write` keeps pixels, time stamps, tags, and all that is not the picture."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from flowpaint.types import Clip, ColourTags
from flowpaint.video import Encoding, probe, read, read_comment, write
from video_files import frames, make, packets, planes, smooth

LOSSLESS = Encoding(crf=0, preset="ultrafast")
FFV1 = Encoding(codec="ffv1")
PICTURES = [smooth(48, 64, shift) for shift in range(12)]


def copied(source: Path, out: Path, encoding: Encoding = LOSSLESS) -> Clip:
    write(read(source), out, encoding=encoding)
    return read(out)


def same(a: Clip, b: Clip) -> bool:
    return len(a) == len(b) and all(np.array_equal(a.raw(index), b.raw(index)) for index in range(len(a)))


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("ffv1", "bgr0", ".mkv"),
        ("ffv1", "gbrp10le", ".mkv"),
        ("ffv1", "gbrp16le", ".mkv"),
        ("libx264rgb", "rgb24", ".mp4"),
        ("png", "rgb24", ".mov"),
        ("rawvideo", "bgr24", ".nut"),
    ],
)
def test_rgb_is_exact(tmp_path: Path, codec: str, pixel_format: str, suffix: str) -> None:
    rng, deep = np.random.default_rng(1), pixel_format.endswith("le")
    top, dtype = (65536, np.uint16) if deep else (256, np.uint8)
    pictures = [rng.integers(0, top, (34, 50, 3)).astype(dtype) for _ in range(3)]  # every colour, the extreme ones too
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    source = make(tmp_path / f"in{suffix}", pictures, codec=codec, pixel_format=pixel_format, options=options)
    clip = read(source)
    if pixel_format != "gbrp10le":
        assert all(np.array_equal(clip.raw(index), picture) for index, picture in enumerate(pictures))
    result = copied(source, tmp_path / "out.mkv", FFV1)
    assert same(clip, result) and result.bits == (16 if deep else 8)
    assert same(clip, copied(source, tmp_path / "pictures"))


def test_bottom_up_rows_are_read_the_right_way_up(tmp_path: Path) -> None:
    source = make(tmp_path / "in.avi", [PICTURES[0]], codec="rawvideo", pixel_format="bgr24", options={})
    assert np.array_equal(read(source).raw(0), PICTURES[0])


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize("tags", [(2, 2, 2, 0), (1, 1, 1, 1), (9, 9, 14, 1), (5, 5, 6, 2)])
def test_yuv_is_exact_and_keeps_its_tags(tmp_path: Path, pixel_format: str, tags: tuple[int, int, int, int]) -> None:
    rng = np.random.default_rng(3)  # colours that RGB cannot hold must survive too
    source = make(
        tmp_path / "in.mkv",
        [rng.integers(0, 256, (34, 50, 3)).astype(np.uint8) for _ in range(2)],
        codec="ffv1",
        pixel_format=pixel_format,
        options={},
        tags=tags,
    )
    result = copied(source, tmp_path / "out.mkv", FFV1)
    matrix, primaries, transfer, span = tags
    assert result.colour == ColourTags(matrix=matrix, primaries=primaries, transfer=transfer, range=span)
    assert result.codec == pixel_format
    for stored, returned in zip(frames(source), frames(tmp_path / "out.mkv"), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(planes(stored), planes(returned), strict=True))


def test_noise_in_420_returns_within_one_level_after_h264(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", PICTURES, tags=(1, 1, 1, 1))
    result = copied(source, tmp_path / "out.mp4")
    assert result.colour == ColourTags(matrix=1, primaries=1, transfer=1, range=1)
    for stored, returned in zip(frames(source), frames(tmp_path / "out.mp4"), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(planes(stored), planes(returned), strict=True))


@pytest.mark.parametrize("codec", ["h264", "hevc", "ffv1", "prores", "av1"])
def test_ten_bit_stays_ten_bit(tmp_path: Path, codec: str) -> None:
    pictures = [smooth(64, 80, shift) for shift in range(3)]
    source = make(tmp_path / "in.mkv", pictures, codec="ffv1", pixel_format="yuv420p10le", options={})
    clip = read(source)
    result = copied(source, tmp_path / ("out.mov" if codec == "prores" else "out.mkv"), Encoding(codec=codec, crf=4))  # type: ignore[arg-type]
    assert clip.bits == result.bits == 16 and "10le" in result.codec
    assert np.abs(clip.raw(2).astype(int) - result.raw(2)).mean() < 0.01 * 65535


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_odd_size_aspect_and_gaps_are_kept(tmp_path: Path, suffix: str) -> None:
    ticks = [0, 400, 800, 1600, 2000, 3200, 3600]
    source = make(
        tmp_path / "in.mp4",
        [smooth(35, 51, shift) for shift in range(7)],
        pixel_format="yuv444p",
        ticks=ticks,
        time_base=Fraction(1, 11988),
        aspect=Fraction(128, 117),
    )
    heard: list[str] = []
    write(read(source), tmp_path / f"out{suffix}", encoding=LOSSLESS, warn=heard.append)
    clip, result = read(source), read(tmp_path / f"out{suffix}")
    assert clip.times == tuple(Fraction(tick, 11988) for tick in ticks)
    assert (result.height, result.width, result.aspect) == (35, 51, Fraction(128, 117))
    assert "odd" in heard[0]
    if suffix == ".mkv":  # counts milliseconds
        assert all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(clip.times, result.times, strict=True))
    else:
        assert (result.times, result.end) == (clip.times, clip.end)


def test_pad_even_adds_a_row_and_a_column(tmp_path: Path) -> None:
    clip = Clip.from_array(np.stack([smooth(35, 51)]))
    write(clip, tmp_path / "out.mp4", encoding=Encoding(pad_even=True, crf=0))
    result = read(tmp_path / "out.mp4")
    assert (result.height, result.width, result.codec) == (36, 52, "yuv420p")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_sound_packet_is_copied(tmp_path: Path, suffix: str) -> None:
    source = make(tmp_path / "in.mp4", PICTURES, sound=["eng", "deu", "fra"])
    copied(source, tmp_path / f"out{suffix}")
    expected, found = packets(source), packets(tmp_path / f"out{suffix}")
    assert len(found) == 3
    for ours, theirs in zip(found, expected, strict=True):
        assert [data for _, data in ours] == [data for _, data in theirs]
        assert all(abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(ours, theirs, strict=True))
    assert [track.language for track in probe(tmp_path / f"out{suffix}").audio] == ["eng", "deu", "fra"]


def test_sound_of_a_range_is_in_sync(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", [PICTURES[index % 12] for index in range(40)], sound=["eng"])
    clip = read(source)[13:31]
    for suffix in (".mp4", ".mkv"):
        write(clip, tmp_path / f"out{suffix}", encoding=LOSSLESS)
        result = read(tmp_path / f"out{suffix}")
        (whole,), (cut,) = packets(source), packets(tmp_path / f"out{suffix}")
        instants = {data: instant for instant, data in whole}
        assert result.times[0] == 0 and same(clip, result)
        assert all(abs(instants[data] - clip.times[0] - instant) <= Fraction(1, 1000) for instant, data in cut)
        assert cut[0][0] <= 0 < cut[1][0] and cut[-1][0] < result.end <= cut[-1][0] + Fraction(1025, 48000)


def test_sound_can_be_recoded_or_left_out(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", PICTURES * 4, sound=["eng"])
    write(read(source), tmp_path / "aac.mp4", encoding=Encoding(crf=30, audio="aac"))
    write(read(source), tmp_path / "none.mp4", encoding=Encoding(crf=30, audio="none"))
    assert packets(tmp_path / "none.mp4") == []
    before, after = (_samples(path) for path in (source, tmp_path / "aac.mp4"))
    length = min(len(before), len(after))
    assert abs(len(before) - len(after)) <= 2048
    assert np.corrcoef(before[:length], after[:length])[0, 1] > 0.99  # a sine: any shift would show


def _samples(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def test_metadata_and_chapters_are_kept_and_the_comment_is_ours(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", PICTURES, metadata={"title": "Ein Spaß", "comment": "old"}, chapters=True)
    for suffix in (".mp4", ".mkv"):
        out = tmp_path / f"out{suffix}"
        copied(source, out, Encoding(crf=30, comment='{"method": "analogy"}'))
        with av.open(str(out)) as file:
            tags = {name.lower(): text for name, text in file.metadata.items()}
        assert tags["title"] == "Ein Spaß"
        assert read_comment(out) == '{"method": "analogy"}'
        assert probe(out).chapters == ((0.0, "one"), (0.24, "two"))
    copied(source, tmp_path / "plain.mp4")
    assert read_comment(tmp_path / "plain.mp4") == "old"
    write(read(source)[8:], tmp_path / "end.mp4", encoding=LOSSLESS)
    assert probe(tmp_path / "end.mp4").chapters == ((0.0, "two"),)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_subtitles_are_kept_in_the_containers_own_kind(tmp_path: Path, suffix: str) -> None:
    source = _with_subtitles(tmp_path / "in.mkv")
    out = tmp_path / f"out{suffix}"
    copied(source, out)
    assert [(track.codec, track.language) for track in probe(out).subtitles] == [
        ("subrip" if suffix == ".mkv" else "mov_text", "eng")
    ]
    shown = [(instant, data) for instant, data in packets(out, "subtitle")[0] if len(data) > 2]
    assert [float(instant) for instant, _ in shown] == [0.1, 0.3]
    assert all(word in data for (_, data), word in zip(shown, (b"hello", "wörld".encode()), strict=True))


def _with_subtitles(path: Path) -> Path:
    picture = make(path.with_suffix(".mp4"), PICTURES)
    with av.open(str(picture)) as source, av.open(str(path), "w") as file:
        video = file.add_stream_from_template(source.streams.video[0], opaque=True)
        text = file.add_mux_stream("subrip")
        text.metadata["language"] = "eng"
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                file.mux(packet)
        for start, words in ((100, "hello"), (300, "wörld")):
            packet = av.Packet(words.encode())
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), text
            file.mux(packet)
    return path


@pytest.mark.parametrize(("degrees", "flip"), [(0, False), (90, False), (180, False), (270, False), (0, True), (90, True)])
def test_frames_are_upright(tmp_path: Path, degrees: int, flip: bool) -> None:
    plain = make(tmp_path / "plain.mp4", PICTURES[:2])
    turned = make(tmp_path / "turned.mp4", PICTURES[:2], rotate=degrees, flip=flip)
    stored = read(plain).raw(1)
    expected = np.rot90(stored, degrees // 90)
    expected = expected[:, ::-1] if flip else expected
    clip = read(turned)
    assert np.array_equal(clip.raw(1), expected)
    assert (clip.height, clip.width) == expected.shape[:2]
    assert flip or probe(turned).rotation % 360 == degrees
    write(clip, tmp_path / "out.mp4", encoding=LOSSLESS)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert next(file.decode(video=0)).rotation == 0
    assert np.array_equal(read(tmp_path / "out.mp4").raw(1), expected)


@pytest.mark.parametrize("options", [{}, {"g": "4", "bf": "3"}, {"x264-params": "open-gop=1:keyint=6:bframes=3:min-keyint=2"}])
def test_random_access_equals_reading_in_order(tmp_path: Path, options: dict[str, str]) -> None:
    pictures = [smooth(48, 64, shift) for shift in range(40)]
    for suffix in (".mp4", ".mkv", ".ts"):
        source = make(tmp_path / f"in{suffix}", pictures, options={"crf": "20", **options})
        order = [frame.to_ndarray(format="yuv420p") for frame in frames(source)]
        clip, ahead = read(source), read(source)
        first = [ahead.raw(index) for index in range(40)]
        assert len(order) == len(clip) == 40
        for index in np.random.default_rng(0).permutation(40):
            assert np.array_equal(clip.raw(int(index)), first[index]), (suffix, index)
        assert all(late > early for early, late in pairwise(clip.times))


def test_a_late_start_is_kept_and_a_running_clock_is_not(tmp_path: Path) -> None:
    ticks = [6401 + 512 * index for index in range(12)]  # no whole number of milliseconds
    late = make(tmp_path / "late.mp4", PICTURES, ticks=ticks, sound=["eng"])
    result = copied(late, tmp_path / "out.mp4")
    assert result.times[0] == read(late).times[0] == Fraction(6401, 12800)
    (before,), (after,) = packets(late), packets(tmp_path / "out.mp4")
    assert before == after
    stream = make(tmp_path / "clock.ts", PICTURES, ticks=[7 * one for one in ticks], time_base=Fraction(1, 90000))
    assert read(stream).times[0] == 0


def test_the_sound_of_a_late_range_is_found_without_the_rest(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", [PICTURES[index % 12] for index in range(120)], sound=["eng"], options={"crf": "40"})
    clip = read(source)[80:100]
    write(clip, tmp_path / "out.mp4", encoding=Encoding(crf=40))
    (whole,), (cut,) = packets(source), packets(tmp_path / "out.mp4")
    wanted = [data for instant, data in whole if clip.times[0] - Fraction(1024, 48000) < instant < clip.end]
    assert [data for _, data in cut] == wanted


def test_the_cover_is_kept(tmp_path: Path) -> None:
    picture = make(tmp_path / "picture.mp4", PICTURES)
    cover = make(tmp_path / "cover.mov", PICTURES[:1], codec="mjpeg", pixel_format="yuvj420p", options={})
    with av.open(str(picture)) as film, av.open(str(cover)) as still, av.open(str(tmp_path / "in.mp4"), "w") as file:
        streams = [file.add_stream_from_template(one.streams.video[0], opaque=True) for one in (film, still)]
        streams[1].disposition = av.stream.Disposition.attached_pic
        for one, stream in zip((film, still), streams, strict=True):
            for packet in one.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    file.mux(packet)
    clip = copied(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert len(clip) == 12
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [bool(one.disposition & av.stream.Disposition.attached_pic) for one in file.streams] == [False, True]


def test_rgb_that_becomes_yuv_says_with_which_matrix(tmp_path: Path) -> None:
    clip = Clip.from_array(np.stack([np.full((48, 64, 3), (220, 60, 30), np.uint8)] * 2))
    write(clip, tmp_path / "out.mp4", encoding=LOSSLESS)
    result = read(tmp_path / "out.mp4")
    assert (result.colour.matrix, result.colour.range) == (1, 1)
    assert np.abs(result.raw(1).astype(int) - clip.raw(1)).max() <= 2
    source = make(tmp_path / "rgb.mp4", PICTURES[:2], codec="libx264rgb", pixel_format="rgb24", tags=(0, 1, 1, 2))
    assert copied(source, tmp_path / "yuv.mp4").colour == ColourTags(matrix=1, primaries=1, transfer=1, range=1)


def test_frames_hidden_by_an_edit_list_stay_hidden(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", PICTURES, ticks=[512 * index - 1536 for index in range(12)])
    shown = frames(source)
    clip = read(source)
    assert len(clip) == len(shown) == 9 and clip.times[0] == 0
    assert np.abs(clip.raw(0).astype(int) - PICTURES[3]).mean() < 3
    assert same(clip, copied(source, tmp_path / "out.mp4"))
