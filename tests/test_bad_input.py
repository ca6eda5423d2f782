"""What cannot be done is refused with the right exit code, a message that helps, and nothing left behind."""

import resource
import struct
import zlib
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import pytest

from flowpaint import seams, video
from flowpaint.cli import main
from flowpaint.errors import InputError
from flowpaint.types import Clip


@pytest.fixture(autouse=True)
def negative(monkeypatch):
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "negative": "test_api:Negative"})
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def encode(path, frames, size=(64, 64), tracks=0):
    """A small file made by PyAV alone: `frames` frames of noise and `tracks` tracks of silence."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=24) if frames else None
        sounds = [file.add_stream("aac", rate=8000, layout="mono") for _ in range(tracks)]
        if stream is not None:
            stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
            for _ in range(frames):
                picture = av.VideoFrame.from_ndarray(rng.integers(0, 255, (*size, 3), np.uint8), format="rgb24")
                file.mux(stream.encode(picture))
            file.mux(stream.encode(None))
        for sound in sounds:
            for place in range(8):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 8000, 1024 * place, Fraction(1, 8000)
                file.mux(sound.encode(silence))
            file.mux(sound.encode(None))


def huge_png(path):
    """A picture that claims 100,000 x 100,000 pixels in a hundred bytes."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    blocks = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(blocks))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of all that can be wrong, beside what is right: `in.mp4`, `cut.mp4`, `key.png`, `sound3.mp4`."""
    folder = tmp_path_factory.mktemp("bad")
    encode(folder / "in.mp4", 24)
    encode(folder / "sound.m4a", 0, tracks=1)
    encode(folder / "sound3.mp4", 12, tracks=3)
    encode(folder / "small.mp4", 3, size=(8, 8))
    ramp = np.linspace(0, 255, 80).astype(np.uint8)
    shot = np.broadcast_to(ramp[None, :, None], (64, 80, 3))
    frames = [np.roll(shot, index, axis=1) for index in range(6)] + [
        np.roll(255 - shot[:, ::-1] // 3, index, axis=0) for index in range(6)
    ]
    video.write(Clip.from_array(np.stack(frames)), folder / "cut.mp4")
    noise = np.random.default_rng(0).integers(0, 255, (60, 128, 128, 3), np.uint8)
    video.write(Clip.from_array(noise), folder / "whole.mp4")
    data = (folder / "whole.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(data[: len(data) * 6 // 10])
    (folder / "headless.mp4").write_bytes(data[:1000])
    (folder / "whole.mp4").unlink()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no video.\n" * 50)
    (folder / "broken.png").write_text("This is no picture.")
    (folder / "exists.mp4").write_text("mine")
    video.write_picture(folder / "key.png", np.zeros((64, 64, 3), np.uint8))
    video.write_picture(folder / "key80.png", np.zeros((64, 80, 3), np.uint8))
    video.write_picture(folder / "wide.png", np.zeros((64, 96, 3), np.uint8))
    huge_png(folder / "huge.png")
    encode(folder / "mask.mp4", 7)
    (folder / "clash.json").write_text("{}")  # the report of clash.mov
    return folder


EDIT, OUT = "edit in.mp4 sepia --method negative", "-o out.mp4"
KEY = "propagate in.mp4 --method negative -o out.mp4 --keyframe"

# command, exit code, what the message must name
TABLE = [
    (f"edit missing.mp4 sepia --method negative {OUT}", 4, ["missing.mp4", "does not exist"]),
    (f"edit empty.mp4 sepia --method negative {OUT}", 4, ["empty.mp4", "is empty"]),
    (f"edit text.mp4 sepia --method negative {OUT}", 4, ["text.mp4"]),
    (f"edit headless.mp4 sepia --method negative {OUT}", 4, ["headless.mp4"]),
    (f"edit truncated.mp4 sepia --method negative {OUT}", 4, ["truncated.mp4", "--allow-damaged"]),
    (f"edit sound.m4a sepia --method negative {OUT}", 4, ["sound.m4a"]),
    (f"edit small.mp4 sepia --method negative {OUT}", 4, ["small.mp4", "8x8"]),
    (f"edit huge.png sepia --method negative {OUT}", 4, ["huge.png", "pixels"]),
    (f"{EDIT} {OUT} --start 5 --end 5", 2, ["no frame"]),
    (f"{EDIT} {OUT} --start 0.5s --end 0.5s", 2, ["no frame"]),
    (f"{EDIT} {OUT} --start 24", 2, ["24"]),
    (f"{EDIT} {OUT} --start 99s", 2, ["1.000 s"]),
    (f"{EDIT} {OUT} --end 25", 2, ["24 frames"]),
    (f"{EDIT} {OUT} --end 1:00", 2, ["24 frames"]),
    (f"{EDIT} {OUT} --start soon", 2, ["'soon'", "3.5s"]),
    (f"{EDIT} {OUT} --preview 2", 2, ["2s"]),
    (f"{KEY} 0=wide.png", 2, ["wide.png", "96x64", "64x64"]),
    (f"{KEY} 24=key.png", 2, ["24"]),
    (f"{KEY} 1s=key.png", 2, ["1.000 s"]),
    (f"{KEY} 0=missing.png", 4, ["missing.png"]),
    (f"{KEY} 0=broken.png", 4, ["broken.png"]),
    (f"{KEY} 0=huge.png", 4, ["huge.png", "pixels"]),
    (f"{KEY} key.png", 2, ["TIME=PICTURE"]),
    (f"{KEY} 0=key.png --keyframe 0=key.png", 2, ["two key frames"]),
    (f"{KEY} 0=key.png --other-shots drop", 2, ["'keep'"]),
    ("propagate in.mp4 --method negative -o out.mp4", 2, ["no key frame", "--keyframe"]),
    ("propagate cut.mp4 --method negative -o out.mp4 --keyframe 0=key80.png", 2, ["edit frame 6", "--other-shots keep"]),
    (f"{EDIT} {OUT} --mask mask.mp4", 2, ["mask.mp4", "7 frames"]),
    (f"{EDIT} {OUT} --mask wide.png", 2, ["wide.png", "96x64"]),
    (f"{EDIT} {OUT} --mask missing.png", 4, ["missing.png"]),
    (f"edit in.mp4 --style broken.png --method negative {OUT}", 4, ["broken.png"]),
    (f"edit in.mp4 --style missing.png --method negative {OUT}", 4, ["missing.png"]),
    (f"{EDIT} -o nowhere/out.mp4", 2, ["nowhere", "does not exist"]),
    (f"{EDIT} -o /proc/out.mp4", 2, ["/proc", "not writable"]),
    (f"{EDIT} -o exists.mp4", 2, ["exists.mp4", "--overwrite"]),
    (f"{EDIT} -o in.mp4 --overwrite", 2, ["in.mp4", "is the input"]),
    (f"{EDIT} -o out.avi", 2, ["out.avi", ".mp4"]),
    (f"{EDIT} -o out.webm", 2, [".webm", ".mkv"]),
    ("edit sound3.mp4 sepia --method negative -o out.webm --codec vp9", 2, ["(aac)", ".mkv", "--audio none"]),
    ("edit sound3.mp4 sepia --method negative -o out.webm --codec vp9 --audio aac", 2, ["aac", ".mkv", "--audio none"]),
    (f"{EDIT} {OUT} --audio acc", 2, ["'acc'", "'aac'"]),
    (f"{EDIT} {OUT} --preset quickest", 2, ["'quickest'"]),
    (f"{EDIT} {OUT} --crf 52", 2, ["52", "0..51"]),
    (f"{EDIT} {OUT} --crf -1", 2, ["-1", "0..51"]),
    (f"{EDIT} {OUT} --pixel-format yuv421p", 2, ["'yuv421p'", "'yuv420p'"]),
    (f"{EDIT} -o clash.mkv", 2, ["clash.json exists", "report of clash.mkv", "-o", "--overwrite"]),
    (f"{EDIT} {OUT} --codec h265", 2, ["'h265'", "'h264'"]),
    (f"edit in.mp4 sepiaa-tone-x --method negative {OUT}", 2, ["sepia"]),
    (f"edit in.mp4 'turn him into a robot' --method negative {OUT}", 2, ["no look", "flowpaint frames", "flowpaint propagate"]),
    (f"edit in.mp4 '' --method negative {OUT}", 2, ["prompt is empty"]),
    (f"edit in.mp4 ' \t' --method negative {OUT}", 2, ["prompt is empty"]),
    (f"edit in.mp4 sepia --method analogie {OUT}", 2, ["'analogie'", "'analogy'"]),
    (f"edit in.mp4 sepia --method missing.toml {OUT}", 4, ["missing.toml"]),
    (f"{EDIT} {OUT} --set editor=lokks", 2, ["'lokks'", "'looks'"]),
    (f"{EDIT} {OUT} --set editor.short_sid=3", 2, ["'short_sid'", "'short_side'"]),
    (f"{EDIT} {OUT} --set editor.short_side=big", 2, ["short_side", "'big'"]),
    (f"{EDIT} {OUT} --set nonsense", 2, ["'nonsense'", "part.field=value"]),
    (f"{EDIT} {OUT} --quality god", 2, ["'god'", "'normal'"]),
    (f"{EDIT} {OUT} --extent locale", 2, ["'locale'", "'local'"]),
    (f"{EDIT} {OUT} --extent local", 2, ["--extent local", "--method analogy"]),
    (f"{EDIT} {OUT} --device gpu", 2, ["'gpu'", "auto"]),
    (f"{EDIT} {OUT} --strength 1.2", 2, ["1.2"]),
    (f"{EDIT} {OUT} --seed x", 2, ["--seed"]),
    (f"{EDIT} {OUT} --sed 3", 2, ["--sed"]),
    (f"edit --replay in.mp4 {OUT}", 2, ["in.mp4", "no recipe"]),
    (f"edit --replay missing.mp4 {OUT}", 4, ["missing.mp4"]),
    (f"edit {OUT}", 2, ["no input"]),
    ("colorize in.mp4 -o out.mp4", 2, ["--by"]),
    ("colorize in.mp4 --by missing.mp4 -o out.mp4", 4, ["missing.mp4", "does not exist"]),
    ("colorize in.mp4 --by key.png -o out.mp4", 2, ["key.png", "1 frames", "24", "--resample"]),
    ("colorize in.mp4 --by mask.mp4 -o out.mp4", 2, ["mask.mp4", "7 frames", "24", "--resample"]),
    ("colorize in.mp4 --by cut.mp4 -o out.mp4 --resample", 2, ["cut.mp4", "80x64", "64x64"]),
    ("colorize in.mp4 --by in.mp4 -o out.mp4 --keep-colors", 2, ["--keep-colors", "--strength"]),
    ("resume in.mp4", 2, ["in.mp4"]),
    ("frames in.mp4 --at 99 -o keys", 2, ["99"]),
    ("frames in.mp4 --at , -o keys", 2, ["--at"]),
    ("show analogie", 2, ["'analogy'"]),
    ("list methods", 2, ["'method'"]),
    ("shots text.mp4", 4, ["text.mp4"]),
]


def run(capsys, command):
    import shlex

    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(shlex.split(command))
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


def content(folder):
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize(("command", "code", "named"), TABLE, ids=[row[0] for row in TABLE])
def test_is_refused(capsys, files, monkeypatch, command, code, named):
    monkeypatch.chdir(files)
    before = content(files)
    found, out, err = run(capsys, command)
    assert (found, out) == (code, ""), err
    for words in named:
        assert words in err
    assert "Traceback" not in err
    assert err.startswith("Usage") or err.rstrip().endswith("."), "messages are sentences"
    assert content(files) == before


def test_the_encoders_libraries_say_nothing_of_their_own(capfd, files, monkeypatch):
    monkeypatch.chdir(files)
    for options in ("--preset quickest", "--crf 99", "--pixel-format yuv421p", "--codec av1 --crf 99"):
        code, _, err = run(capfd, f"{EDIT} {OUT} {options}")  # capfd hears C libraries, too
        assert (code, len(err.splitlines())) == (2, 1 + ("Look taken" in err)), err


@pytest.mark.parametrize("method", ["refusing", "negative --set fails_at=0"])
def test_a_command_that_failed_early_does_not_block_the_corrected_one(capsys, files, tmp_path, monkeypatch, method):
    monkeypatch.setitem(seams.TABLE["method"], "refusing", "test_bad_input:Refusing")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, f"edit {files / 'in.mp4'} sepia --method {method} -o out.mp4")
    assert code == (2 if method == "refusing" else 1), err
    assert (tmp_path / "out.mp4.run").exists() == (code == 1)  # what failed of itself may go on, what was refused may not
    code, _, err = run(capsys, f"edit {files / 'in.mp4'} sepia --method negative -o out.mp4")
    assert code == 0, err
    assert not (tmp_path / "out.mp4.run").exists()


@dataclass(frozen=True, kw_only=True)
class Refusing:
    """A method that finds only at its first frame that the edit does not fit."""

    editor: seams.ImageEditor | None = field(default=None, metadata={"kind": "editor"})

    def __call__(self, clip, edit, run):
        raise InputError("This does not fit. Give something else.")


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "output"), [(3_000, "out.mp4"), (30_000, "out.mp4"), (2_000, "out")])
def test_a_full_disk_leaves_a_run_that_goes_on(capsys, files, tmp_path, monkeypatch, limit, output):
    monkeypatch.chdir(tmp_path)
    command = f"edit {files / 'in.mp4'} sepia --method negative -o {output}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # every file may grow to so many bytes, then writing fails
    try:
        code, out, err = run(capsys, command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, out) == (1, ""), err
    assert "disk is full" in err and f"`flowpaint resume {output}.run`" in err and "Traceback" not in err
    assert [one.name for one in tmp_path.iterdir()] == [f"{output}.run"]
    assert not list(tmp_path.rglob("*.part"))
    assert run(capsys, f"resume {output}.run")[0] == 0
    assert len(video.read(output)) == 24


def test_what_can_be_decoded_is_used_where_that_is_asked_for(capsys, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = f"edit {files / 'truncated.mp4'} sepia --method negative -o out.mp4 --allow-damaged"
    code, _, err = run(capsys, command)
    assert code == 0, err
    assert 20 <= len(video.read("out.mp4")) < 60


@pytest.mark.parametrize("tracks", [0, 3])
def test_all_sound_goes_along(capsys, files, tmp_path, monkeypatch, tracks):
    monkeypatch.chdir(tmp_path)
    source = files / ("sound3.mp4" if tracks else "in.mp4")
    code, _, err = run(capsys, f"edit {source} sepia --method negative -o out.mp4")
    assert code == 0, err
    assert len(video.probe("out.mp4").audio) == tracks
