"""`edit --approve`: the first frame, made as the run makes it, and a command that goes on with exactly that picture."""

import json
import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import flowpaint
from conftest import smooth_texture
from flowpaint import api, seams, video
from flowpaint.carry import finished
from flowpaint.errors import InputError, WorkError
from flowpaint.register import register
from flowpaint.types import Clip, Edit, from_raw, to_raw

METHODS = ["analogy", "warp", "freeze", "frame-by-frame"]
LOOK = ("--set", "editor=shifted", "--device", "cpu")


WIDE = smooth_texture(36, 64, seed=11, waves=6)


def write(name, frames):
    video.write(Clip.from_array(torch.stack(frames)), name, encoding=video.Encoding(codec="ffv1"))


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
def here(tmp_path, monkeypatch):
    """A folder with a video in it, a pan over a texture, to work in."""
    monkeypatch.chdir(tmp_path)
    write("in.mkv", [WIDE[:, :, index : index + 48] for index in range(7)])
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


def film(prompt="red", *, source="in.mkv", **options):
    return flowpaint.edit(source, prompt, settings={"editor": "shifted"}, device="cpu", **options)


def raws(clip):
    return [clip.raw(index).copy() for index in range(len(clip))]


def assert_goes_on(make, folder="run"):
    """The picture that was shown, after the film that goes on with it was found to be the one without."""
    first = make().approve(run=folder)
    shown = video.read_picture(first.path)
    plain, result = make(), make(keyframes={first.frame: first.path})
    assert result.report["warnings"] == plain.report["warnings"], "nothing is said of a shift"
    assert np.array_equal(shown, plain.frames.raw(0))
    ours, theirs = raws(result.frames), raws(plain.frames)
    assert [index for index, pair in enumerate(zip(ours, theirs, strict=True)) if not np.array_equal(*pair)] == []
    return shown


# ------------------------------------------------------------------------------------------------ the same picture, and film


@pytest.mark.slow
def test_a_command_and_what_it_prints(call, here, edit):
    given = ("red", "--method", "warp", "--start", "2", "--end", "6")
    code, (picture, command), err = edit(*given, "--approve")
    assert (code, picture) == (0, "out.mkv.run/first.png"), err
    assert "--seed" in err and not Path("out.mkv").exists()
    code, _, err = go_on(call, command)
    assert code == 0 and "warning" not in err, err
    assert json.loads(Path("out.json").read_text())["job"]["keyframes"] == {"2": str(here / picture)}
    plain = film(method="warp", start=2, end=6).frames
    assert all(map(np.array_equal, raws(video.read("out.mkv")), raws(plain)))
    assert np.array_equal(video.read_picture(picture), plain.raw(0))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_film_begins_with_the_picture_and_is_that_of_the_run_without(here, method):
    shown = assert_goes_on(partial(film, method=method, start=2, end=6))
    assert register(from_raw(shown), video.read("in.mkv").frame(2)).moved, "or nothing here tells a picture laid anew"


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{"strength": 0.4}, {"keep_colors": True}, {"mask": "mask.png"}, {"strength": 0.4, "mask": "masks"}], ids=str
)
def test_what_is_asked_of_every_edit_is_asked_once(here, more):
    rows = np.clip(np.arange(36) * 16, 0, 255).astype(np.uint8)[:, None, None]  # black on top, grey, then white
    video.write_picture("mask.png", np.broadcast_to(rows, (36, 48, 3)))
    Path("masks").mkdir()
    for index in range(7):
        video.write_picture(f"masks/{index}.png", np.roll(np.broadcast_to(rows, (36, 48, 3)), 4 * index, axis=0))
    shown = assert_goes_on(partial(film, start=3, end=6, **more))
    source = video.read("in.mkv").raw(3)
    whole = to_raw(Shifted()(from_raw(source), Edit(prompt="red"), torch.Generator().manual_seed(0)))
    assert not np.array_equal(shown, whole) and not np.array_equal(shown, source)
    if more == {"mask": "mask.png"}:
        assert np.array_equal(shown[0], source[0]) and np.array_equal(shown[-1], whole[-1])


def test_a_drawn_look_of_a_deep_source(here, textured):
    Path("deep").mkdir()
    for index in range(3):
        video.write_picture(f"deep/{index}.png", to_raw(textured[0].roll(index, dims=-1), 16))
    assert assert_goes_on(partial(flowpaint.edit, "deep", "pencil", method="freeze")).dtype == np.uint16


@pytest.mark.slow
@pytest.mark.parametrize("method", ["freeze", "frame-by-frame"])
def test_several_shots(here, method):
    write("cut.mkv", [WIDE[:, :, index : index + 48] if index < 6 else 1 - WIDE[:, :, :48].flip(0, 1) for index in range(9)])
    make = partial(film, method=method, strength=0.7, source="cut.mkv")
    assert len(make().prepared.shots) == 2
    assert_goes_on(make)
    if method == "freeze":  # the picture of a later shot, in the whole film
        later = make(start=6).approve(run="later")
        assert np.array_equal(make(keyframes={6: later.path}).frames.raw(6), video.read_picture(later.path))


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


def test_a_preview_is_small(here):
    write("large.mkv", [smooth_texture(288, 320, seed=3)] * 3)
    assert assert_goes_on(partial(film, source="large.mkv", method="freeze", preview="0.05s")).shape == (256, 284, 3)


def test_another_seed_is_another_picture(here):
    assert not torch.equal(film(seed=5).first(), film().first())


def test_in_a_program(here):
    options = {"method": Shifting(), "start": 1, "end": 3, "strength": 0.6}
    result = flowpaint.edit("in.mkv", **options)
    assert torch.equal(result.first(), result.frames.frame(0))
    assert torch.equal(flowpaint.edit(video.read("in.mkv"), **options).first(), result.first())
    with pytest.raises(flowpaint.FlowpaintError, match="in memory"):
        result.approve(run="run")
    with pytest.raises(InputError, match="neither an output nor a run folder"):
        film().approve()
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


@pytest.mark.slow
def test_the_picture_stays_and_the_command_works_again(call, here, edit):
    _, (_, command), _ = edit("red", "--method", "freeze", "--approve")
    assert sorted(one.name for one in Path("out.mkv.run").iterdir() if one.is_file()) == [
        "approved.json",
        "first.png",
        "run.json",
    ]
    for more in (" --end 2", " --end 2 --overwrite"):
        code, _, err = go_on(call, command + more)
        assert code == 0, err
        assert sorted(one.name for one in Path("out.mkv.run").iterdir()) == ["approved.json", "first.png"]
    again = api.Result(api.recorded("out.json"))
    assert np.array_equal(again.frames.raw(0), video.read("out.mkv").raw(0))


@pytest.mark.slow
def test_resuming_goes_on_with_the_picture(call, here, edit):
    edit("red", "--method", "freeze", "--seed", "1", "--approve")
    _, (picture, _), _ = edit("red", "--method", "freeze", "--seed", "2", "--approve")
    assert call("resume", "out.mkv.run")[0] == 0
    assert json.loads(Path("out.json").read_text())["job"]["keyframes"] == {"0": str(here / picture)}
    assert np.array_equal(video.read("out.mkv").raw(0), video.read_picture(picture))


def test_a_mask_of_before_is_forgotten(here):
    video.write_picture("mask.png", np.full((36, 48, 3), 255, np.uint8))
    for mask in ("mask.png", None):
        film(mask=mask).approve(run="run")
        assert Path("run/first_unmasked.png").exists() == (mask is not None)


def test_a_picture_painted_over_is_a_key_frame_like_any_other(here):
    make = partial(film, method="freeze", strength=0.5)
    first = make().approve(run="run")
    source = video.read("in.mkv").raw(0)
    video.write_picture(first.path, 255 - source)
    with pytest.raises(InputError, match="not as flowpaint wrote it"):
        make(seed=3).approve(run="run")
    assert np.array_equal(video.read_picture(first.path), 255 - source)
    assert json.loads(Path("run/run.json").read_text())["job"]["seed"] == 0
    half = make(keyframes={0: first.path}).frames.raw(0)
    assert np.abs(half.astype(int) - 127).max() <= 1, "half the negative, half the source"


@pytest.mark.parametrize("other", [{"start": 1}, {"strength": 0.5}, {"keep_colors": True}], ids=str)
def test_a_picture_of_another_frame_or_strength_is_mixed_as_any_other(here, other):
    first = film(method="freeze").approve(run="run")
    number = other.get("start", 0)
    shown, source = from_raw(video.read_picture(first.path)), video.read("in.mkv").frame(number)
    laid = register(shown, source).picture if number else shown
    wanted = finished(laid, source, Edit(**{name: value for name, value in other.items() if name != "start"}))
    result = film(method="freeze", **other, keyframes={number: first.path})
    assert np.array_equal(result.frames.raw(0), to_raw(wanted))


def test_a_run_that_has_begun_is_left_alone(here):
    with pytest.raises(WorkError):
        film(method="frame-by-frame").save("out", run="run", progress=_interrupt)
    kept = sorted(Path("run").rglob("*"))
    again = film(method="frame-by-frame")
    again.job = replace(again.job, output="out")
    with pytest.raises(InputError, match="more of this job than its first frame"):
        again.approve(run="run")
    with pytest.raises(InputError, match="another job"):
        film(method="warp").approve(run="run")
    assert sorted(Path("run").rglob("*")) == kept and len(kept) > 3
    again.approve(run="run", fresh=True)
    assert Path("run/first.png").exists() and not list(Path("run").rglob("0*.png"))


def _interrupt(stage, done, _):
    if (stage, done) == ("write", 2):
        raise WorkError("It stops here. It was asked to.")


def test_an_editor_that_fails_leaves_nothing(here, edit):
    code, out, _ = edit("red", "--approve", look=(*LOOK, "--set", "editor.fails=true"))
    assert (code, out, Path("out.mkv.run").exists()) == (1, [], False)


# -------------------------------------------------------------------------------------------------------------- what is said


def test_json(here, edit):
    code, lines, _ = edit("pencil", "--start", "0.125s", "--approve", "--json", "--quality", "draft", look=())
    found = json.loads("".join(lines))
    assert code == 0 and (found["first"], found["frame"]) == ("out.mkv.run/first.png", 3)
    assert found["command"].endswith("--keyframe 3=out.mkv.run/first.png")
    assert (found["output"], found["method"], found["warnings"]) == ("out.mkv", "analogy", [])
    assert found["look"].startswith("Look taken: pencil")


def test_the_command_survives_a_shell_and_names_that_look_like_options(call, here):
    name = '-it\'s "in" $HOME.mkv'
    Path("in.mkv").rename(here / name)
    more = ("--method", "freeze", *LOOK, "-o", "my out.mkv", "--run", "a=b c")
    code, out, err = call("edit", "-q", "--approve", *more, "--", name, "re\td")
    picture, command = out.splitlines()
    assert (code, picture, err) == (0, "a=b c/first.png", "")
    said = shlex.split(command)
    assert said == ["flowpaint", "edit", "-q", *more, "--keyframe", "0=a=b c/first.png", "--", name, "re\td"]
    assert json.loads(call("edit", "--dry-run", "--json", *said[2:])[1])["keyframes_given"] == [0]


def test_the_default_output(call, here):
    code, out, _ = call("edit", "in.mkv", "red", "--method", "freeze", *LOOK, "--seed", "7", "--approve")
    picture, command = out.splitlines()
    assert (code, picture) == (0, "in_freeze_7.mkv.run/first.png")
    assert "output in_freeze_7.mkv: 48x36" in go_on(call, command + " --dry-run")[1]


def test_frame_by_frame_says_that_it_uses_no_key_frames_of_ours(here, edit):
    video.write_picture("own.png", 255 - video.read("in.mkv").raw(0))
    assert "key frames are not used" in edit("red", "--method", "frame-by-frame", "--end", "2", "--keyframe", "0=own.png")[2]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("red", "--dry-run"), 2, "before the run"),
        (("--replay", "in.mkv"), 2, "before the run"),
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
    video.write_picture("own.png", np.zeros((36, 48, 3), np.uint8))
    video.write_picture("small.png", np.zeros((16, 16, 3), np.uint8))
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


@pytest.mark.slow
@pytest.mark.parametrize("record", ["", "[]", "{}", '{"frame": 0, "asked": {}, "sha256": []}', '{"sha256": {"../x": "0"}}'])
def test_a_record_that_is_none_makes_a_picture_like_any_other(here, record):
    first = film(method="freeze").approve(run="run")
    Path("run/approved.json").write_text(record)
    result = film(method="freeze", keyframes={0: first.path})
    assert "was moved onto frame 0" in result.report["warnings"][0]
    laid = register(from_raw(video.read_picture(first.path)), video.read("in.mkv").frame(0)).picture
    assert np.array_equal(result.frames.raw(0), to_raw(laid))


def test_an_edit_knows_finished_pictures(here):
    picture, source = torch.zeros(3, 36, 48), video.read("in.mkv")[:1]
    for done, wanted in ((frozenset(), source.frame(0) / 2), (frozenset({0}), picture)):
        job = Edit(keyframes={0: picture}, strength=0.5, finished=done)
        made = seams.build("method", "freeze")(source, job, flowpaint.Run())
        assert np.array_equal(made.raw(0), to_raw(wanted)), done
    assert replace(job, strength=1.0).finished == {0}
