"""Writing: segments that survive interruptions, places that are refused, disks that are full."""

import errno
import os
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from flowpaint.errors import ConfigError, FlowpaintError, InputError, WorkError
from flowpaint.outputs import SIGNATURE
from flowpaint.types import Clip
from flowpaint.video import Encoding, check, read, read_picture, write
from flowpaint.video.encoding import PRESETS
from video_files import frames, make, packets, planes, smooth

QUICK = Encoding(crf=20, preset="ultrafast")
PICTURES = np.stack([smooth(48, 64, shift) for shift in range(30)])


class Interrupted(BaseException):
    """Ctrl-C, or worse."""


def decoded(path: Path) -> list[bytes]:
    return [b"".join(plane.tobytes() for plane in planes(frame)) for frame in frames(path)]


def recorded(clip: Clip, pulled: list[int], stop_at: int = -1) -> Clip:
    """The clip, noting which frames are pulled, and failing at one."""

    def raw(index: int) -> np.ndarray:
        if index == stop_at:
            raise Interrupted
        pulled.append(index)
        return clip.raw(index)

    return clip.with_frames(raw)


@pytest.mark.parametrize("codec", ["h264", "hevc", "ffv1", "vp9"])
def test_an_interrupted_run_gives_the_same_frames(tmp_path: Path, codec: str) -> None:
    encoding = Encoding(codec=codec, crf=20, preset="ultrafast")  # type: ignore[arg-type]
    clip = Clip.from_array(PICTURES, fps=Fraction(30000, 1001))
    write(clip, tmp_path / "whole.mkv", encoding=encoding, chunk=8)
    room, out, pulled = tmp_path / "segments", tmp_path / "out.mkv", list[int]()
    for stop in (5, 13, 27):
        with pytest.raises(Interrupted):
            write(recorded(clip, pulled, stop), out, encoding=encoding, chunk=8, segments=room)
        assert not out.exists() and not list(room.glob("*.part"))
    write(recorded(clip, pulled), out, encoding=encoding, chunk=8, segments=room)
    assert decoded(out) == decoded(tmp_path / "whole.mkv") and len(decoded(out)) == 30
    assert sorted(set(pulled)) == list(range(30))
    assert [pulled.count(index) for index in (0, 7, 8, 15, 16, 23)] == [2, 1, 2, 1, 1, 1]  # finished segments stay unread


def test_a_lost_segment_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    clip, room, pulled = Clip.from_array(PICTURES), tmp_path / "segments", list[int]()
    write(clip, tmp_path / "a.mp4", encoding=QUICK, chunk=10, segments=room)
    sorted(room.iterdir())[1].unlink()
    write(recorded(clip, pulled), tmp_path / "b.mp4", encoding=QUICK, chunk=10, segments=room)
    assert pulled == list(range(10, 20))
    assert decoded(tmp_path / "a.mp4") == decoded(tmp_path / "b.mp4")


def test_segments_of_another_encoding_are_not_taken(tmp_path: Path) -> None:
    clip, room, pulled = Clip.from_array(PICTURES), tmp_path / "segments", list[int]()
    write(clip, tmp_path / "a.mp4", encoding=QUICK, segments=room)
    write(recorded(clip, pulled), tmp_path / "b.mp4", encoding=Encoding(crf=35, preset="ultrafast"), segments=room)
    assert pulled == list(range(30))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_segments_join_with_rising_times_and_frames_in_order(tmp_path: Path, suffix: str) -> None:
    ticks = np.cumsum([0, *np.random.default_rng(4).integers(200, 900, 29)]).tolist()
    source = make(tmp_path / "in.mp4", list(PICTURES), ticks=ticks, sound=["eng"], options={"crf": "10"})
    clip, out = read(source), tmp_path / f"out{suffix}"
    write(clip, out, encoding=Encoding(crf=1, preset="medium"), chunk=7)  # medium: with frames out of order
    with av.open(str(out)) as file:
        stamps = [(packet.dts, packet.pts) for packet in file.demux(video=0) if packet.size]
    if suffix == ".mp4":  # Matroska stores no decoding times
        assert all(late[0] > early[0] for early, late in pairwise(stamps))
        assert all(dts <= pts for dts, pts in stamps)
    result = read(out)
    assert suffix == ".mkv" or (result.times, result.end) == (clip.times, clip.end)
    assert all(np.abs(result.raw(n).astype(int) - clip.raw(n)).mean() < 3 for n in range(30))


def test_progress_counts_frames(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    write(Clip.from_array(PICTURES[:5]), tmp_path / "a.mp4", encoding=QUICK, progress=lambda *row: seen.append(row))
    assert seen[-1] == ("write", 5, 5) and [row[1] for row in seen] == sorted(row[1] for row in seen)


def test_nothing_but_the_output_is_left(tmp_path: Path) -> None:
    write(Clip.from_array(PICTURES[:3]), tmp_path / "a.mp4", encoding=QUICK)
    with pytest.raises(Interrupted):
        write(recorded(Clip.from_array(PICTURES), [], 4), tmp_path / "b.mp4", encoding=QUICK, chunk=2)
    write(Clip.from_array(PICTURES[:3]), tmp_path / "pictures")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "pictures"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_folder_of_pictures_there_and_back(tmp_path: Path, dtype: type) -> None:
    array = (PICTURES[:11].astype(np.uint16) * 257 + 3).astype(dtype) if dtype is np.uint16 else PICTURES[:11]
    pulled: list[int] = []
    room = tmp_path / "room"
    with pytest.raises(Interrupted):
        write(recorded(Clip.from_array(array), [], 6), tmp_path / "out", segments=room)
    assert not (tmp_path / "out").exists()
    write(recorded(Clip.from_array(array), pulled), tmp_path / "out", segments=room)
    assert pulled == [6, 7, 8, 9, 10]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [SIGNATURE, *(f"{n:06d}.png" for n in range(11))]
    back = read(tmp_path / "out", fps=Fraction(12))
    assert back.rate == 12 and all(np.array_equal(back.raw(index), array[index]) for index in range(11))


@pytest.mark.parametrize("name", ["-dash.mp4", "with space.mp4", "quote'\".mp4", "100%d.mp4", "a:b.mp4", "日本語 – ü.mp4"])
def test_file_names_hold_any_character(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = make(Path(f"in {name}"), list(PICTURES[:2]), sound=["eng"])
    clip = read(Path(f"in {name}"))
    check(clip, Path(name), QUICK)
    write(clip, Path(name), encoding=QUICK)
    assert len(read(Path(name))) == 2
    assert packets(Path(name)) == packets(source)


@pytest.mark.parametrize(("frames", "size"), [(1, (16, 16)), (1, (48, 64)), (2, (17, 19)), (3, (16, 250))])
def test_the_smallest_videos(tmp_path: Path, frames: int, size: tuple[int, int]) -> None:
    clip = Clip.from_array(np.stack([smooth(*size, shift) for shift in range(frames)]))
    for codec in ("h264", "hevc", "vp9", "ffv1", "prores"):
        out = tmp_path / f"{codec}.{'mov' if codec == 'prores' else 'mkv'}"
        write(clip, out, encoding=Encoding(codec=codec, crf=5))  # type: ignore[arg-type]
        result = read(out)
        assert (len(result), result.height, result.width) == (frames, *size)
        assert np.abs(result.raw(frames - 1).astype(float) / (257 if result.bits == 16 else 1) - clip.raw(frames - 1)).mean() < 4


def test_tags_for_players(tmp_path: Path) -> None:
    clip = Clip.from_array(PICTURES[:3])
    write(clip, tmp_path / "hevc.mp4", encoding=Encoding(codec="hevc"))
    write(clip, tmp_path / "prores.mov", encoding=Encoding(codec="prores"))
    write(clip, tmp_path / "h264.mp4")
    for name, tag in (("hevc.mp4", "hvc1"), ("prores.mov", "apch"), ("h264.mp4", "avc1")):
        with av.open(str(tmp_path / name)) as file:
            assert file.streams.video[0].codec_tag == tag
    data = (tmp_path / "h264.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart


def _refusals() -> list[tuple[str, type[FlowpaintError], int, Callable[[Path], tuple[Clip, Path, Encoding]], str]]:
    def clip() -> Clip:
        return Clip.from_array(PICTURES[:2])

    def existing(folder: Path) -> tuple[Clip, Path, Encoding]:
        (folder / "a.mp4").write_bytes(b"x")
        return clip(), folder / "a.mp4", Encoding()

    def full_folder(folder: Path) -> tuple[Clip, Path, Encoding]:
        (folder / "out").mkdir()
        (folder / "out" / "letter.txt").touch()
        return clip(), folder / "out", Encoding()

    def itself(folder: Path) -> tuple[Clip, Path, Encoding]:
        return read(make(folder / "in.mp4", list(PICTURES[:2]))), folder / "in.mp4", Encoding()

    def sound(suffix: str, **wish: str) -> Callable[[Path], tuple[Clip, Path, Encoding]]:
        def case(folder: Path) -> tuple[Clip, Path, Encoding]:
            source = make(folder / "in.mp4", list(PICTURES[:2]), sound=["eng"])
            return read(source), folder / f"out{suffix}", Encoding(codec="vp9", **wish)  # type: ignore[arg-type]

        return case

    return [
        ("exists", InputError, 2, existing, "--overwrite"),
        ("holds other files", InputError, 2, full_folder, "Choose another name."),
        ("is the input", InputError, 2, itself, "another name"),
        ("no folder", InputError, 2, lambda folder: (clip(), folder / "no" / "a.mp4", Encoding()), "does not exist"),
        ("suffix", InputError, 2, lambda folder: (clip(), folder / "a.xyz", Encoding()), ".mkv"),
        ("codec and container", InputError, 2, lambda folder: (clip(), folder / "a.mp4", Encoding(codec="prores")), ".mkv"),
        ("format", ConfigError, 2, lambda folder: (clip(), folder / "a.mp4", Encoding(pixel_format="yuv421p")), "yuv420p"),
        ("sound", InputError, 2, sound(".webm"), "Write to .mkv, or use --audio none."),
        ("sound coded anew", InputError, 2, sound(".webm", audio="aac"), "Write to .mkv, or use --audio none."),
    ]


@pytest.mark.parametrize(
    ("error", "code", "case", "words"), [row[1:] for row in _refusals()], ids=[row[0] for row in _refusals()]
)
def test_what_cannot_work_is_refused_before_work_starts(
    tmp_path: Path, error: type[FlowpaintError], code: int, case: Callable[[Path], tuple[Clip, Path, Encoding]], words: str
) -> None:
    clip, out, encoding = case(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(error) as caught:
        check(clip, out, encoding)
    assert type(caught.value) is error and caught.value.exit_code == code and words in str(caught.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_the_advice_about_sound_works(tmp_path: Path) -> None:
    clip = read(make(tmp_path / "in.mp4", list(PICTURES[:2]), sound=["eng"]))
    for name, audio in (("a.mkv", "copy"), ("a.webm", "none"), ("b.mkv", "aac")):
        encoding = Encoding(codec="vp9", audio=audio)  # type: ignore[arg-type]
        check(clip, tmp_path / name, encoding)
        write(clip, tmp_path / name, encoding=encoding)
    silent = read(make(tmp_path / "silent.mp4", list(PICTURES[:2])))
    check(silent, tmp_path / "c.webm", Encoding(codec="vp9", audio="aac"))  # there is nothing to code anew


@pytest.mark.parametrize(
    ("suffix", "codec", "out", "advice"),
    [
        (".mkv", "wavpack", "a.mov", r"wavpack\)\. Write to \.mkv, or use --audio aac"),
        (".mov", "pcm_mulaw", "a.mkv", r"pcm_mulaw\)\. Use --audio aac"),  # Matroska is no way out here
    ],
)
def test_what_is_advised_fits(tmp_path: Path, suffix: str, codec: str, out: str, advice: str) -> None:
    source = tmp_path / f"in{suffix}"
    with av.open(str(source), "w") as file:
        picture, sound = file.add_stream("libx264", rate=25), file.add_stream(codec, rate=48000)
        picture.width, picture.height = 64, 48
        sound.codec_context.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        for packet in (
            *picture.encode(av.VideoFrame.from_ndarray(PICTURES[0], "rgb24")),
            *picture.encode(None),
            *sound.encode(frame),
            *sound.encode(None),
        ):
            file.mux(packet)
    clip = read(source)
    with pytest.raises(InputError, match=advice):
        check(clip, tmp_path / out, Encoding())
    check(clip, tmp_path / out, Encoding(audio="aac"))
    write(clip, tmp_path / out, encoding=Encoding(audio="aac"))
    assert len(packets(tmp_path / out)) == 1


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        ({"codec": "h256"}, ConfigError, "'h264'"),
        ({"preset": "fastt"}, ConfigError, "'fast'"),
        ({"audio": "acc"}, ConfigError, "'aac'"),
        ({"crf": -1}, InputError, r"0\.\.51"),
        ({"crf": 52}, InputError, r"0\.\.51"),
        ({"codec": "hevc", "crf": 52}, InputError, r"0\.\.51"),
        ({"codec": "av1", "crf": 64}, InputError, r"0\.\.63"),
    ],
)
def test_an_encoding_refuses_values_that_no_encoder_has(wish: dict[str, object], error: type[FlowpaintError], words: str) -> None:
    with pytest.raises(error, match=words):
        Encoding(**wish)  # type: ignore[arg-type]


@pytest.mark.parametrize("wish", [{"crf": 0}, {"crf": 51}, {"codec": "vp9", "crf": 63}, {"codec": "ffv1", "crf": 99}])
def test_an_encoding_takes_the_whole_range(wish: dict[str, object]) -> None:
    Encoding(**wish)  # type: ignore[arg-type]


def test_every_preset_is_one_that_x264_has(tmp_path: Path) -> None:
    for preset in PRESETS:
        write(Clip.from_array(PICTURES[:1]), tmp_path / f"{preset}.mp4", encoding=Encoding(preset=preset))


def test_overwriting_is_allowed_when_asked_for(tmp_path: Path) -> None:
    clip = Clip.from_array(PICTURES[:2])
    for out in (tmp_path / "a.mp4", tmp_path / "pictures"):
        for _ in range(2):
            check(clip, out, QUICK, overwrite=True)
            write(clip, out, encoding=QUICK)
        assert len(read(out)) == 2


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write anywhere, so the system's word is played
    with pytest.raises(InputError, match="not writable"):
        check(Clip.from_array(PICTURES[:2]), tmp_path / "a.mp4", QUICK)


@pytest.mark.parametrize("suffix", [".mp4", ""])
def test_a_full_disk_says_that_the_run_can_go_on(tmp_path: Path, suffix: str) -> None:
    """A real limit on file size, in a child, stands in for the full disk: FFmpeg sees the same failing write."""
    out, room = tmp_path / f"out{suffix}", tmp_path / "room"
    noise = np.random.default_rng(5).integers(0, 256, (12, 64, 96, 3)).astype(np.uint8)
    clip = Clip.from_array(noise)
    child = os.fork()
    if child == 0:
        os._exit(_limited(clip, out, room))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    assert not out.exists() and not list(tmp_path.rglob("*.part"))
    write(clip, out, encoding=QUICK, chunk=4, segments=room)
    assert len(read(out)) == 12


def _limited(clip: Clip, out: Path, room: Path) -> int:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
    try:
        write(clip, out, encoding=QUICK, chunk=4, segments=room)
    except WorkError as error:
        return 17 if "disk is full" in str(error) and "goes on" in str(error) else 1
    except BaseException:
        return 2
    return 3


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowpaint.video import write_picture

    write_picture(tmp_path / "a.png", PICTURES[0])
    assert np.array_equal(read_picture(tmp_path / "a.png"), PICTURES[0])

    def fail(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(WorkError, match="disk is full"):
        write_picture(tmp_path / "b.png", PICTURES[0])
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
