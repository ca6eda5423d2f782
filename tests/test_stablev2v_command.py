"""StableV2V on the command line: objects marked in every way, what does not fit refused with its words and exit code."""

import json
import shlex
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from flowpaint import seams, video
from flowpaint.errors import WorkError
from flowpaint.types import Clip, to_raw
from moving_discs import Discs

SIZE = (96, 128)
KEY = ("--keyframe", "0=key.png")


@dataclass(frozen=True, kw_only=True)
class Orange:
    """Paints an orange bar where it is told; fails a given number of times first."""

    tasks: ClassVar[frozenset[str]] = frozenset({"words", "instruction", "reference", "sketch", "removal"})
    fails: bool = False

    def __call__(self, image, edit, generator):
        if self.fails:
            raise WorkError("The endpoint does not answer. Repeat the command.")
        where = edit.mask.frame(0)[:1]
        colour = edit.reference.mean(dim=(1, 2)) if edit.reference is not None else torch.tensor([1.0, 0.5, 0.0])
        shift = float(torch.rand((), generator=generator)) * 0.2
        return torch.where(where > 0.5, (colour - shift)[:, None, None], image).clamp(0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stablev2v")
    discs = Discs(count=5, size=SIZE, velocity=(2.0, 0.0))
    video.write(Clip.from_array(discs.frames), path / "in.mkv", encoding=video.Encoding(codec="ffv1"))
    cut = torch.cat([discs.frames, 1 - discs.frames.flip(-1)])
    video.write(Clip.from_array(cut), path / "cut.mkv", encoding=video.Encoding(codec="ffv1"))
    key = torch.where(discs.masks[0] > 0.5, torch.tensor([1.0, 0.5, 0.0])[:, None, None], discs.frames[0])
    wide = torch.zeros(1, *SIZE)
    wide[:, 20:62, 26:60] = 1
    masks = {"mask": discs.masks[0], "wide": wide, "empty": torch.zeros(1, *SIZE), "small": torch.ones(1, 20, 30)}
    for name, mask in masks.items():
        Image.fromarray(to_raw(mask.expand(3, -1, -1)).astype(np.uint8)).save(path / f"{name}.png")
    video.write_picture(path / "key.png", to_raw(key))
    video.write_picture(path / "blue.png", to_raw(torch.tensor([0.1, 0.2, 0.9])[:, None, None].expand(3, 40, 30)))
    return path


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(seams.TABLE, "editor", {**seams.TABLE["editor"], "orange": "test_stablev2v_command:Orange"})
    return folder


def edit(call, *args, name="out.mkv", video="in.mkv"):
    return call("edit", video, *args, "--method", "stablev2v", "-o", name, "--overwrite", "--fresh", "--codec", "ffv1")


def last_at_the_object(path):
    """The colour of the last frame where the disc has come to."""
    return video.read(path).frame(4)[:, 44, 48].tolist()


@pytest.mark.parametrize(
    "mark", ["mask.png", *(pytest.param(one, marks=pytest.mark.slow) for one in ("click:40,44", "box:24,28,57,61"))]
)
def test_an_object_is_marked_in_every_way(call, here, mark):
    code, _, said = edit(call, *KEY, "--object", mark, name="marked.mkv")
    assert code == 0, said
    assert last_at_the_object(here / "marked.mkv") == pytest.approx([1.0, 0.5, 0.0], abs=0.1)


@pytest.mark.slow
def test_an_editor_paints_the_first_frame_and_candidates_are_shown(call, here):
    words = ("a bar", "--editor", "orange", "--candidates", "3", "--object", "mask.png")
    code, _, said = edit(call, *words)
    assert code == 0, said
    report = json.loads((here / "out.json").read_text())
    found = report["facts"]["candidates"]
    assert len(found["scores"]) == 3 and 1 <= found["chosen"] <= 3
    sheet = video.read_picture(report["output"]["candidates"])
    assert sheet.shape[1] == 4 * round(128 * 256 / 96)  # the source and three candidates
    red, green, blue = last_at_the_object(here / "out.mkv")
    assert red > green + 0.3 and green > blue + 0.2


@pytest.mark.slow
def test_approval_shows_the_same_first_frame(call, here):
    words = ("a bar", "--editor", "orange", "--object", "mask.png")
    assert edit(call, *words, name="whole.mkv")[0] == 0
    code, out, said = edit(call, *words, "--approve", name="approved.mkv")
    assert code == 0, said
    first = video.read_picture(here / "approved.mkv.run" / "first.png")
    assert np.abs(first.astype(int) - video.read(here / "whole.mkv").raw(0)).max() <= 1
    going_on = shlex.split(out.strip().splitlines()[-1])[1:]
    assert call(*[one for one in going_on if one != "--fresh"])[0] == 0
    assert last_at_the_object(here / "approved.mkv") == pytest.approx(last_at_the_object(here / "whole.mkv"), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, task",
    [
        (("--instruct", "make it orange"), "instruction"),
        (("--reference", "blue.png"), "reference"),
        (("a bar", "--sketch", "blue.png"), "sketch"),
    ],
)
def test_every_kind_of_edit_reaches_the_editor(call, here, words, task):
    code, _, said = edit(call, *words, "--editor", "orange", "--object", "mask.png", name=f"{task}.mkv")
    assert code == 0, said
    colour = last_at_the_object(here / f"{task}.mkv")
    assert (colour[2] > 0.6) == (task == "reference")


def test_an_object_is_taken_away_without_any_editor(call, here):
    code, _, said = edit(call, "--remove", "--object", "mask.png", name="gone.mkv")
    assert code == 0, said
    source, made = (video.read(here / name).frame(2) for name in ("in.mkv", "gone.mkv"))
    assert (source - made).abs().mean(dim=0)[30:58, 30:58].mean() > 0.05
    assert torch.equal(source[:, 80:], made[:, 80:])


@pytest.mark.slow
def test_a_job_is_kept_with_its_marks(call, here):
    assert edit(call, *KEY, "--object", "mask.png", "--new-object", "mask.png", name="kept.mkv")[0] == 0
    job = json.loads((here / "kept.json").read_text())["job"]
    assert job["objects"] == [str(here / "mask.png")] and job["new_object"] == str(here / "mask.png")
    assert call("edit", "--replay", "kept.json", "in.mkv", "-o", "again.mkv", "--overwrite")[0] == 0
    assert (video.read(here / "again.mkv").raw(3) == video.read(here / "kept.mkv").raw(3)).all()


@pytest.mark.parametrize(
    "args, words",
    [
        ((*KEY, "--object", "empty.png"), "its mask is empty"),
        ((*KEY, "--object", "small.png"), "30x20 where the video is 128x96"),
        ((*KEY, "--object", "click:500,20"), "outside the picture"),
        ((*KEY, "--object", "click:5"), "is not understood"),
        ((*KEY, "--object", "box:50,50,20,20"), "is empty"),
        (("a rabbit", "--object", "mask.png"), "no editor for 'a rabbit'"),
        (("--remove",), "which object is meant"),
        ((*KEY, "--new-object", "mask.png"), "which object is meant"),
        (("--instruct", "", "--object", "mask.png"), "instruction is empty"),
        (("x", "--instruct", "y", "--object", "mask.png"), "both a prompt and an instruction"),
        (("x", "--sketch", "blue.png", "--reference", "blue.png", "--object", "mask.png"), "different edits"),
        (("x", "--editor", "nobody", "--object", "mask.png"), "no editor called 'nobody'"),
        (("x", "--editor", "orange", "--candidates", "0", "--object", "mask.png"), "cannot be"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call, args, words):
    code, _, said = edit(call, *args)
    assert code == 2 and words in " ".join(said.split()), said


@pytest.mark.parametrize(
    "args", [("--object", "gone.png"), ("--reference", "gone.png", "--object", "mask.png", "--editor", "orange")]
)
def test_a_file_that_is_not_there_is_named(call, args):
    code, _, said = edit(call, *(KEY if "--reference" not in args else ()), *args)
    assert code == 4 and "gone.png" in said, said


@pytest.mark.slow
def test_several_shots_need_masks_for_all_frames(call, here):
    code, _, said = edit(call, *KEY, "--object", "mask.png", video="cut.mkv")
    assert code == 2 and "2 shots" in said and "--start" in said
    code, _, said = edit(call, *KEY, "--object", "mask.png", "--end", "5", video="cut.mkv")
    assert code == 0, said


@pytest.mark.slow
def test_a_failed_editor_loses_nothing_and_the_run_goes_on(call, here):
    args = ("edit", "in.mkv", "a bar", "--method", "stablev2v", "--editor", "orange", "--object", "mask.png", "-o", "late.mkv")
    code, _, said = call(*args, "--set", "editor.fails=true")
    assert code != 0 and "endpoint does not answer" in said
    code, _, said = call(*args, "--fresh")
    assert code == 0, said
    assert (here / "late.mkv").exists()


def test_a_depth_video_hides_the_new_object_behind_what_is_nearer(call, here):
    post = torch.full((5, 3, *SIZE), 0.3)
    post[..., 62:68] = 0.9  # something near, beside the disc
    video.write(Clip.from_array(post), here / "depth.mkv", encoding=video.Encoding(codec="ffv1"))
    bar = video.read_picture(here / "key.png").copy()
    bar[20:62, 26:60] = (255, 128, 0)
    video.write_picture(here / "bar.png", bar)
    begin = ("--keyframe", "0=bar.png", "--object", "mask.png", "--new-object", "wide.png")
    for more, hidden in (((), False), (("--depth", "depth.mkv"), True)):
        code, _, said = edit(call, *begin, *more, name="post.mkv")
        assert code == 0, said
        made, source = (video.read(here / name).frame(2)[:, 41:47, 62:64] for name in ("post.mkv", "in.mkv"))
        assert (float((made - source).abs().mean()) < 0.02) is hidden
    assert json.loads((here / "post.json").read_text())["facts"]["depth"] == "given"


@pytest.mark.parametrize("name, words", [("blue.png", "another shape"), ("key.png", "1 frames where the video has 5")])
def test_a_depth_video_that_does_not_fit_is_refused(call, name, words):
    code, _, said = edit(call, *KEY, "--object", "mask.png", "--depth", name)
    assert code == 2 and words in said


@pytest.mark.slow
def test_an_object_alone_says_which_method(call, here):
    code, _, said = call("edit", "in.mkv", "--remove", "--object", "mask.png", "-o", "plain.mkv", "--overwrite")
    assert code == 0, said
    assert json.loads((here / "plain.json").read_text())["method"] == "stablev2v"


def test_methods_that_take_no_objects_say_so(call, here):
    code, _, said = call("edit", "in.mkv", *KEY, "--method", "analogy", "--object", "mask.png", "-o", "no.mkv", "--overwrite")
    assert code == 2 and "takes no objects" in said and "stablev2v" in said
