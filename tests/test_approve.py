"""`edit --approve`: the first frame, made as the run makes it, and a command that goes on with exactly that picture."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import flowpaint
from conftest import smooth_texture
from flowpaint import seams, video
from flowpaint.carry import finished
from flowpaint.errors import InputError, WorkError
from flowpaint.register import register
from flowpaint.types import Clip, Edit, from_raw, to_raw

METHODS = ["analogy", "warp", "freeze", "frame-by-frame"]
LOOK = ("--set", "editor=shifted", "--device", "cpu")


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """Two pixels to the right, other colours by lot and by words: an edit that registering takes for a drift."""

    model: str = ""  # it reads words
    fails: bool = False

    def __call__(self, image, edit, generator):
        if self.fails:
            raise WorkError("The editor fails. It was asked to.")
        gain = 0.5 + 0.5 * torch.rand(3, 1, 1, generator=generator)
        tint = 0.1 * (edit.prompt == "red") * torch.tensor([1.0, 0.0, -1.0])[:, None, None]
        return finished((image.roll(2, dims=-1) * gain + tint).clamp(0, 1), image, edit)


@pytest.fixture(autouse=True)
def shifted(monkeypatch):
    monkeypatch.setitem(seams.TABLE, "editor", {**seams.TABLE["editor"], "shifted": "test_approve:Shifted"})
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def here(tmp_path, monkeypatch, moving_square):
    """A folder with a video in it, to work in."""
    video.write(moving_square.clip, tmp_path / "in.mkv", encoding=video.Encoding(codec="ffv1"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def edit(call):
    """`flowpaint edit` into a lossless file or a folder: exit code, lines on stdout, stderr."""

    def run(*arguments, source="in.mkv", output="out.mkv", look=LOOK):
        lossless = ("--codec", "ffv1") if Path(output).suffix else ()
        code, out, err = call("edit", source, *arguments, *look, *lossless, "-o", output)
        return code, out.splitlines(), err

    return run


def go_on(call, command):
    program, *arguments = shlex.split(command)
    assert program == "flowpaint" and "--approve" not in arguments
    return call(*arguments)


def raws(path):
    clip = video.read(path)
    return [clip.raw(index) for index in range(len(clip))]


def assert_same(a, b):
    ours, theirs = raws(a), raws(b)
    assert len(ours) == len(theirs)
    assert [index for index, pair in enumerate(zip(ours, theirs, strict=True)) if not np.array_equal(*pair)] == []


# ------------------------------------------------------------------------------------------------ the same picture, and film


@pytest.mark.parametrize("method", METHODS)
def test_the_film_begins_with_the_picture_and_is_that_of_the_run_without(call, here, edit, method):
    given = ("red", "--method", method, "--start", "2", "--end", "6")
    code, (picture, command), err = edit(*given, "--approve")
    assert (code, picture) == (0, "out.mkv.run/first.png"), err
    assert "--seed" in err and not Path("out.mkv").exists()
    shown = video.read_picture(picture)
    assert register(from_raw(shown), video.read("in.mkv").frame(2)).moved, "or nothing here tells a picture laid anew"
    code, _, err = go_on(call, command)
    assert code == 0 and "warning" not in err, err
    assert edit(*given, output="plain.mkv")[0] == 0
    assert_same("out.mkv", "plain.mkv")
    assert np.array_equal(shown, video.read("out.mkv").raw(0))
    job = json.loads(Path("out.json").read_text())["job"]
    assert job["keyframes"] == {"2": str(here / picture)}


@pytest.mark.parametrize(
    "more", [("--strength", "0.4"), ("--keep-colors",), ("--mask", "mask.png"), ("--mask", "masks", "--strength", ".4")]
)
def test_what_is_asked_of_every_edit_is_asked_once(call, here, edit, more):
    rows = np.clip(np.arange(72) * 8, 0, 255).astype(np.uint8)[:, None, None]  # black on top, grey, then white
    video.write_picture("mask.png", np.broadcast_to(rows, (72, 96, 3)))
    Path("masks").mkdir()
    for index in range(12):
        video.write_picture(f"masks/{index}.png", np.roll(np.broadcast_to(rows, (72, 96, 3)), 4 * index, axis=0))
    given = ("red", "--start", "3", "--end", "6", *more)
    code, (picture, command), err = edit(*given, "--approve")
    assert code == 0, err
    shown, source = video.read_picture(picture), video.read("in.mkv").raw(3)
    whole = to_raw(Shifted()(from_raw(source), Edit(prompt="red"), torch.Generator().manual_seed(0)))
    assert not np.array_equal(shown, whole) and not np.array_equal(shown, source)
    if more[-1] == "mask.png":
        assert np.array_equal(shown[0], source[0]) and np.array_equal(shown[-1], whole[-1])
    assert go_on(call, command)[0] == 0 and edit(*given, output="plain.mkv")[0] == 0
    assert_same("out.mkv", "plain.mkv")
    assert np.array_equal(shown, video.read("out.mkv").raw(0))


def test_a_drawn_look_of_a_deep_source(call, here, edit, textured):
    Path("deep").mkdir()
    for index in range(2):
        video.write_picture(f"deep/{index}.png", to_raw(textured[0].roll(index, dims=-1), 16))
    given = {"source": "deep", "look": ()}
    code, (picture, command), err = edit("pencil", "--approve", output="out", **given)
    assert code == 0, err
    assert video.read_picture(picture).dtype == np.uint16
    assert go_on(call, command)[0] == 0 and edit("pencil", output="plain", **given)[0] == 0
    assert_same("out", "plain")
    assert np.array_equal(video.read_picture(picture), video.read("out").raw(0))


def test_several_shots(call, here, edit, cut):
    video.write(cut.clip, "cut.mkv", encoding=video.Encoding(codec="ffv1"))
    for method in ("warp", "frame-by-frame"):
        given = {"source": "cut.mkv", "output": f"{method}.mkv"}
        code, (picture, command), err = edit("red", "--method", method, "--strength", "0.7", "--approve", **given)
        assert code == 0, err
        assert go_on(call, command)[0] == 0
        assert (
            edit(
                "red", "--method", method, "--strength", "0.7", source="cut.mkv", output="plain.mkv", look=(*LOOK, "--overwrite")
            )[0]
            == 0
        )
        report = json.loads(Path(f"{method}.json").read_text())
        assert len(report["shots"]) == 2
        assert_same(f"{method}.mkv", "plain.mkv")
        assert np.array_equal(video.read_picture(picture), video.read("plain.mkv").raw(0))


def test_the_words_of_that_frame(here, edit):
    pictures = {}
    for start in ("2", "3"):
        code, (picture, _), err = edit("blue", "--prompt", "3=red", "--start", start, "--end", "5", "--approve")
        assert code == 0, err
        pictures[start] = video.read_picture(picture)
    clip, seed = video.read("in.mkv"), torch.Generator
    for start, words in (("2", "blue"), ("3", "red")):
        wanted = Shifted()(clip.frame(int(start)), Edit(prompt=words), seed().manual_seed(0))
        assert np.array_equal(pictures[start], to_raw(wanted))


def test_a_preview_is_small_and_another_seed_is_another_picture(call, here, edit):
    frames = smooth_texture(288, 320, seed=3)[None].repeat(6, 1, 1, 1)
    video.write(Clip.from_array(frames), "large.mkv", encoding=video.Encoding(codec="ffv1"))
    given = {"source": "large.mkv"}
    code, (picture, command), _ = edit("red", "--method", "freeze", "--preview", "0.1s", "--approve", **given)
    first = video.read_picture(picture)
    assert code == 0 and first.shape == (256, 284, 3)
    assert go_on(call, command)[0] == 0
    assert all(np.array_equal(one, first) for one in raws("out.mkv"))
    edit("red", "--method", "freeze", "--preview", "0.1s", "--seed", "5", "--approve", **given, look=(*LOOK, "--overwrite"))
    assert not np.array_equal(video.read_picture(picture), first)


def test_in_a_program(here):
    options = {"method": Shifting(), "start": 1, "end": 3, "strength": 0.6}
    result = flowpaint.edit("in.mkv", **options)
    assert torch.equal(result.first(), result.frames.frame(0))
    assert torch.equal(flowpaint.edit(video.read("in.mkv"), **options).first(), result.first())
    with pytest.raises(flowpaint.FlowpaintError, match="in memory"):
        result.approve()
    with pytest.raises(InputError, match="frame 1 comes from a key frame"):
        flowpaint.edit("in.mkv", **options, keyframes={1: result.first()}).first()
    assert [one.name for one in here.iterdir()] == ["in.mkv"]


@dataclass(frozen=True, kw_only=True)
class Shifting:
    """A method that no file can hold."""

    editor: seams.ImageEditor = Shifted()

    def __call__(self, clip, edit, run):
        return clip.with_frames(lambda index: to_raw(self.editor(clip.frame(index), edit.at(index), run.generator())))


# -------------------------------------------------------------------------------------------------------------- the run folder


def test_the_picture_stays_and_the_command_works_again(call, here, edit):
    _, (_, command), _ = edit("red", "--method", "freeze", "--approve")
    assert sorted(one.name for one in Path("out.mkv.run").iterdir() if one.is_file()) == [
        "approved.json",
        "first.png",
        "run.json",
    ]
    for overwrite in ("", " --overwrite"):
        code, _, err = go_on(call, command + overwrite)
        assert code == 0, err
        assert sorted(one.name for one in Path("out.mkv.run").iterdir()) == ["approved.json", "first.png"]
    first = video.read("out.mkv").raw(0)
    code, _, err = call("edit", "--replay", "out.json", "-o", "again.mkv")
    assert code == 0 and np.array_equal(video.read("again.mkv").raw(0), first), err


def test_resuming_goes_on_with_the_picture(call, here, edit):
    edit("red", "--method", "freeze", "--seed", "1", "--approve")
    _, (picture, _), _ = edit("red", "--method", "freeze", "--seed", "2", "--approve")
    assert call("resume", "out.mkv.run")[0] == 0
    assert json.loads(Path("out.json").read_text())["job"]["keyframes"] == {"0": str(here / picture)}
    assert np.array_equal(video.read("out.mkv").raw(0), video.read_picture(picture))


def test_a_mask_of_before_is_forgotten(here, edit):
    video.write_picture("mask.png", np.full((72, 96, 3), 255, np.uint8))
    edit("red", "--mask", "mask.png", "--approve")
    assert Path("out.mkv.run/first_unmasked.png").exists()
    assert edit("red", "--approve")[0] == 0
    assert not Path("out.mkv.run/first_unmasked.png").exists()


def test_a_picture_painted_over_is_a_key_frame_like_any_other(call, here, edit):
    given = ("red", "--method", "freeze", "--strength", "0.5")
    _, (picture, command), _ = edit(*given, "--approve")
    source = video.read("in.mkv").raw(0)
    video.write_picture(picture, 255 - source)
    code, _, err = edit(*given, "--seed", "3", "--approve")
    assert code == 2 and "not as flowpaint wrote it" in err
    assert np.array_equal(video.read_picture(picture), 255 - source) and Path("out.mkv.run/run.json").exists()
    code, _, err = go_on(call, command)
    assert code == 0, err
    assert np.abs(video.read("out.mkv").raw(0).astype(int) - 127).max() <= 1, "half the negative, half the source"


@pytest.mark.parametrize("other", [("--start", "1"), ("--strength", "0.5")])
def test_a_picture_of_another_frame_or_strength_is_mixed_as_any_other(here, edit, other):
    _, (picture, _), _ = edit("red", "--method", "freeze", "--approve")
    number, mixed = (1, 1.0) if other[0] == "--start" else (0, 0.5)
    shown, source = from_raw(video.read_picture(picture)), video.read("in.mkv").frame(number)
    code, _, err = edit("red", "--method", "freeze", *other, "--keyframe", f"{number}={picture}")
    assert code == 0, err
    laid = register(shown, source).picture if number else shown
    assert np.array_equal(video.read("out.mkv").raw(0), to_raw(torch.lerp(source, laid, mixed)))


def test_a_run_that_has_begun_is_left_alone(call, here, edit, monkeypatch):
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "negative": "test_api:Negative"})
    given = ("red", "--method", "negative")
    assert edit(*given, "--set", "fails_at=5", output="out")[0] == 1
    kept = sorted(Path("out.run").rglob("*"))
    code, _, err = edit(*given, "--set", "fails_at=5", "--approve", output="out")
    assert code == 2 and "more of this job than its first frame" in err
    code, _, err = edit(*given, "--approve", output="out")
    assert code == 2 and "another job" in err
    assert sorted(Path("out.run").rglob("*")) == kept
    assert edit(*given, "--approve", "--fresh", output="out")[0] == 0


def test_an_editor_that_fails_leaves_nothing(here, edit):
    code, out, _ = edit("red", "--set", "editor.fails=true", "--approve")
    assert (code, out, Path("out.mkv.run").exists()) == (1, [], False)


# -------------------------------------------------------------------------------------------------------------- what is said


def test_json(here, edit):
    code, lines, _ = edit("pencil", "--start", "0.25s", "--approve", "--json", "--quality", "draft", look=())
    found = json.loads("".join(lines))
    assert code == 0 and (found["first"], found["frame"]) == ("out.mkv.run/first.png", 6)
    assert found["command"].endswith("--keyframe 6=out.mkv.run/first.png")
    assert (found["output"], found["method"], found["warnings"]) == ("out.mkv", "analogy", [])
    assert found["look"].startswith("Look taken: pencil")


def test_the_command_survives_a_shell_and_names_that_look_like_options(call, here):
    Path("in.mkv").rename(here / '-it\'s "in" $HOME.mkv')
    words = (
        "--approve",
        "--method",
        "freeze",
        *LOOK,
        "-o",
        "my out.mkv",
        "--run",
        "a=b c",
        "--",
        '-it\'s "in" $HOME.mkv',
        "re\td",
    )
    code, out, err = call("edit", "-q", *words)
    picture, command = out.splitlines()
    assert (code, picture, err) == (0, "a=b c/first.png", "")
    assert shlex.split(command)[-5:] == ["--keyframe", "0=a=b c/first.png", *words[-3:]]
    assert go_on(call, command)[0] == 0
    assert np.array_equal(video.read("my out.mkv").raw(0), video.read_picture(picture))


def test_the_default_output(call, here):
    code, out, _ = call("edit", "in.mkv", "red", "--method", "freeze", *LOOK, "--seed", "7", "--approve")
    assert (code, out.splitlines()[0]) == (0, "in_freeze_7.mkv.run/first.png")
    assert go_on(call, out.splitlines()[1])[1].splitlines()[0] == "in_freeze_7.mkv"


def test_frame_by_frame_says_that_it_uses_no_key_frames_of_ours(here, edit):
    video.write_picture("own.png", 255 - video.read("in.mkv").raw(0))
    assert "key frames are not used" in edit("red", "--method", "frame-by-frame", "--end", "2", "--keyframe", "0=own.png")[2]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("red", "--dry-run"), 2, "--dry-run"),
        (("--replay", "in.mkv"), 2, "--replay"),
        (("red", "--keyframe", "0=own.png"), 2, "frame 0 comes from a key frame"),
        (("red", "--start", "2", "--keyframe", "2=own.png"), 2, "frame 2 comes from a key frame"),
        (("--method", "analogy", "--keyframe", "3=own.png"), 2, "no editor"),
        (("a statue", "--method", "fresco"), 2, "no editor"),
        (("--method", "deflicker"), 2, "no editor"),
        (("zzzz", "--method", "warp"), 2, "zzzz"),
        (("pencil", "--start", "99"), 2, "99"),
        (("pencil", "--mask", "small.png"), 2, "same size"),
        (("pencil", "--strength", "2"), 2, "strength"),
        (("pencil", "--keyframe", "1=missing.png"), 4, "missing.png"),
        (("pencil", "--run", "holiday"), 2, "not a run folder"),
    ],
)
def test_what_does_not_fit_is_found_and_nothing_is_written(here, edit, arguments, code, said):
    video.write_picture("own.png", np.zeros((72, 96, 3), np.uint8))
    video.write_picture("small.png", np.zeros((8, 8, 3), np.uint8))
    Path("holiday").mkdir()
    Path("holiday/photo.jpg").touch()
    before = sorted(here.rglob("*"))
    look = LOOK if arguments[0] == "red" else ()
    found, out, err = edit(*arguments, "--approve", look=look)
    assert (found, out) == (code, []) and said in err and "Traceback" not in err, err
    assert err.strip().count(". ") >= 1 and err.strip().endswith("."), "two sentences"
    assert sorted(here.rglob("*")) == before


def test_an_output_that_exists_and_a_missing_input(here, edit):
    Path("out.mkv").touch()
    code, _, err = edit("red", "--approve")
    assert code == 2 and "exists" in err
    assert edit("red", "--approve", source="nowhere.mkv", output="other.mkv")[0] == 4
    assert sorted(one.name for one in here.iterdir()) == ["in.mkv", "out.mkv"]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"frame": 0, "asked": {}, "sha256": []}', '{"sha256": {"../x": "0"}}'])
def test_a_record_that_is_none_makes_a_picture_like_any_other(call, here, edit, record):
    _, (picture, command), _ = edit("red", "--method", "freeze", "--approve")
    shown, source = from_raw(video.read_picture(picture)), video.read("in.mkv").frame(0)
    Path("out.mkv.run/approved.json").write_text(record)
    code, _, err = go_on(call, command)
    assert code == 0 and "was moved onto frame 0" in err
    assert np.array_equal(video.read("out.mkv").raw(0), to_raw(register(shown, source).picture))


def test_an_edit_knows_finished_pictures(here):
    picture, source = torch.zeros(3, 72, 96), video.read("in.mkv")[:1]
    for done, wanted in ((frozenset(), source.frame(0) / 2), (frozenset({0}), picture)):
        job = Edit(keyframes={0: picture}, strength=0.5, finished=done)
        made = seams.build("method", "freeze")(source, job, flowpaint.Run())
        assert np.array_equal(made.raw(0), to_raw(wanted)), done
    assert replace(job, strength=1.0).finished == {0}
