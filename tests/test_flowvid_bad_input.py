"""FlowVid on the command line: what does not fit is refused with the right exit code and words, what is unusual works."""

import json
import shlex
import shutil

import pytest
import skimage.data
import torch
from diffusers import ControlNetModel

from flowpaint import video
from flowpaint.networks.difference import write_difference
from flowpaint.networks.video_unet import VideoUNet
from flowpaint.types import Clip, from_raw, to_raw
from flowpaint.warp import resize
from tiny_models import save_model, save_video_model, tiny_unet

HEIGHT, WIDTH = 96, 128


def pan(photo, num_frames=5, step=3, height=HEIGHT, width=WIDTH):
    """Frames [T, 3, H, W] of a camera that moves to the right over a photograph."""
    wide = resize(from_raw(photo())[None], height, width + step * num_frames)[0]
    return torch.stack([wide[:, :, step * index : step * index + width] for index in range(num_frames)])


def painted(picture):
    """Another look in the same place: a poster's tones, and red where it was blue."""
    return ((5 * picture.flip(0)).round() / 5) ** 0.8


def save_differences(folder):
    """`whole`: what `video` has beside `base`. Its likes say another base: one that is not there, one that is not the same."""
    save_model(folder / "base", "2")
    shutil.copytree(folder / "base", folder / "changed")
    tiny_unet("2", seed=5).save_pretrained(folder / "changed" / "unet")
    own = {"unet": VideoUNet.from_pretrained(folder / "video" / "unet")}
    own["controlnet"] = ControlNetModel.from_pretrained(folder / "video" / "controlnet")
    for name, base in (("whole", "base"), ("orphan", "gone"), ("foster", "changed")):
        write_difference(own, folder / name, folder / "base", name=str(folder / base))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with clips, key pictures that fit and that do not, and tiny models, whole and as differences."""
    folder = tmp_path_factory.mktemp("flowvid")
    frames = pan(skimage.data.astronaut, 6)
    video.write(Clip.from_array(frames), folder / "in.mkv")
    video.write(Clip.from_array(frames[:1]), folder / "one.mkv")
    video.write(Clip.from_array(frames[:2]), folder / "two.mkv")
    video.write(Clip.from_array(pan(skimage.data.coffee, 1)), folder / "coffee.mkv")
    video.write(Clip.from_array(pan(skimage.data.astronaut, step=36)), folder / "fast.mkv")
    grey = pan(skimage.data.astronaut, 3, height=67, width=101).mean(dim=1, keepdim=True).repeat(1, 3, 1, 1)
    video.write(Clip.from_array(grey), folder / "odd.mkv")
    cut = torch.cat([frames[:4], pan(skimage.data.coffee, 4).flip(1) * 0.5])
    video.write(Clip.from_array(cut), folder / "cut.mkv")
    fast = pan(skimage.data.astronaut, step=36)
    pictures = {"key": painted(frames[0]), "other": from_raw(skimage.data.chelsea()), "mirror": painted(frames[0]).flip(-1)}
    pictures |= {"fast0": painted(fast[0]), "fast4": painted(fast[4]), "odd": painted(grey[0])}
    pictures |= {"large": resize(pictures["key"][None], 240, 320)[0], "small": resize(pictures["key"][None], 48, 64)[0]}
    pictures |= {"wide": pictures["key"][:, :64], "other": resize(pictures["other"][None], HEIGHT, WIDTH)[0]}
    for name, picture in pictures.items():
        video.write_picture(folder / f"{name}.png", to_raw(picture))
    save_video_model(folder / "video")
    save_differences(folder)
    (folder / "holiday").mkdir()
    (folder / "holiday" / "letter.txt").write_text("Dear all")
    return folder


@pytest.fixture
def flowpaint(here, call, monkeypatch, tmp_path):
    """One command in `here`, OUT being a file in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(here)
    return lambda command: call(*shlex.split(command.replace("OUT", str(tmp_path / "out.mkv"))))


EDIT = "edit in.mkv 'turn her into bronze' --method flowvid -o OUT"
OWN = f"{EDIT} --model video"
PROPAGATE = "propagate in.mkv --method flowvid --set model.weights=video -o OUT"
SIX = " ".join(f"--keyframe {index}=key.png" for index in (0, 1, 2, 3, 4, 5))

# command, exit code, what the message must name
TABLE = [
    (f"{EDIT} --keyframe 0=key.png --model vidoe", 3, ["vidoe"]),
    (f"{EDIT} --keyframe 0=key.png --model holiday", 3, ["holiday"]),
    (f"{EDIT} --keyframe 0=key.png --model orphan", 3, ["orphan", "gone", "not here"]),
    (f"{EDIT} --keyframe 0=key.png --model foster", 3, ["foster", "changed", "trained from"]),
    (f"{EDIT}", 2, ["no look", "flowpaint frames", "flowpaint propagate"]),
    (f"{OWN}", 2, ["No look is called 'turn her into bronze'", "--keyframe", "--set editor=diffusion"]),
    ("edit in.mkv '' --method flowvid --model video -o OUT", 2, ["prompt is empty", "--keyframe"]),
    (PROPAGATE, 2, ["no key frame", "--keyframe"]),
    (f"{OWN} --keyframe 0=wide.png", 2, ["wide.png", "128x64", "128x96", "Crop"]),
    (f"{OWN} --keyframe 6=key.png", 2, ["no frame 6", "from 0 to 5"]),
    (f"{OWN} --keyframe 0=gone.png", 4, ["gone.png"]),
    (f"{OWN} {SIX}", 2, ["6 edited frames", "the 5 that FlowVid looks at", "--method analogy"]),
    (f"{OWN} --keyframe 0=key.png --control cany", 2, ["'cany'", "'canny'"]),
    (f"{OWN} --keyframe 0=key.png --set window=1", 2, ["Windows of 1", "Give 2"]),
    (f"{OWN} --keyframe 0=key.png --set stride=0", 2, ["0 apart"]),
    (f"{OWN} --keyframe 0=key.png --set inject=never", 2, ["inject", "'never'"]),
    (f"{OWN} --keyframe 0=other.png --strict", 2, ["other.png does not show what frame 0 shows", "0.25 is the least"]),
    (f"{OWN} --keyframe 0=mirror.png --strict", 2, ["mirror.png does not show what frame 0 shows"]),
    (f"{PROPAGATE} --keyframe 0=other.png --strict", 2, ["other.png does not show"]),
]


@pytest.mark.parametrize(("command", "code", "named"), TABLE, ids=[row[0] for row in TABLE])
def test_is_refused(flowpaint, tmp_path, command, code, named):
    found, out, err = flowpaint(command)
    assert (found, out) == (code, ""), err
    for words in named:
        assert words in err
    assert "Traceback" not in err and err.rstrip().endswith(".")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------- key frames that do not match theirs


def test_a_picture_that_does_not_match_is_a_warning_with_its_score(flowpaint):
    code, out, err = flowpaint(f"{OWN} --keyframe 0=other.png --dry-run --json")
    assert code == 0, err
    (said,) = [one for one in json.loads(out)["warnings"] if "other.png" in one]
    assert "does not show what frame 0 shows" in said and "0.25 is the least" in said and "keep the picture's layout" in said
    assert "swapped" not in said and said in err


def test_a_picture_that_matches_is_none(flowpaint):
    for picture in ("key", "large", "small"):
        code, out, err = flowpaint(f"{OWN} --keyframe 0={picture}.png --strict --dry-run --json")
        assert code == 0, err
        assert not [one for one in json.loads(out)["warnings"] if "frame" in one]


@pytest.mark.parametrize("strict", [False, True])
def test_swapped_pictures_are_named(flowpaint, strict):
    fast = OWN.replace("in.mkv", "fast.mkv") + " --dry-run" + " --strict" * strict
    assert flowpaint(f"{fast} --keyframe 0=fast0.png --keyframe 4=fast4.png")[0] == 0
    code, _, err = flowpaint(f"{fast} --keyframe 0=fast4.png --keyframe 4=fast0.png")
    assert code == (2 if strict else 0), err
    assert "fast4.png does not show what frame 0 shows" in err
    assert "It fits frame 4" in err and "better than frame 0, for which it was given: were they swapped?" in err
    assert ("fast0.png does not show what frame 4 shows" in err) == (not strict)  # refused at the first


def test_one_wrong_picture_among_right_ones_is_not_called_swapped(flowpaint):
    fast = OWN.replace("in.mkv", "fast.mkv") + " --dry-run"
    code, _, err = flowpaint(f"{fast} --keyframe 0=fast0.png --keyframe 4=other.png")
    assert code == 0 and "other.png does not show what frame 4 shows" in err and "swapped" not in err


# ------------------------------------------------------------------------------------------------------------------ shots


@pytest.mark.parametrize("command", [OWN, PROPAGATE])
def test_every_shot_needs_a_key_frame_of_its_own(flowpaint, tmp_path, command):
    code, out, err = flowpaint(f"{command.replace('in.mkv', 'cut.mkv')} --keyframe 0=key.png")
    assert (code, out) == (2, ""), err
    assert "1 of the 2 shots have no key frame of their own" in err and "none is carried over a cut" in err
    assert "frames 4 to 7: edit frame 4" in err
    assert ("--other-shots keep" in err) == (command == PROPAGATE) and ("--start and --end" in err) == (command == OWN)
    assert list(tmp_path.iterdir()) == []


def test_a_look_edits_the_shots_without_a_key_frame(flowpaint):
    command = "edit cut.mkv pencil --method flowvid --model video -o OUT --dry-run --json --keyframe 0=key.png"
    code, out, err = flowpaint(command)
    assert code == 0, err
    assert json.loads(out)["keyframes_made"] == [4]


# --------------------------------------------------------------------------------------------------------- what must work

QUICK = "--set num_steps=1 --set window=2 --set side=64 --set stride=2 --set inject=none -q"


def result(tmp_path):
    return video.read(tmp_path / "out.mkv"), json.loads((tmp_path / "out.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "two", "odd"])
def test_short_clips_and_grey_ones_of_an_odd_size_come_back_whole(flowpaint, here, tmp_path, name):
    key = "odd" if name == "odd" else "key"
    model = "whole" if name == "two" else "video"  # as a difference, too
    code, _, err = flowpaint(f"{EDIT} --model {model} {QUICK} --keyframe 0={key}.png".replace("in.mkv", f"{name}.mkv"))
    assert code == 0, err
    made, report = result(tmp_path)
    source = video.read(here / f"{name}.mkv")
    assert (len(made), made.width, made.height, made.times) == (len(source), source.width, source.height, source.times)
    picture = from_raw(video.read_picture(here / f"{key}.png"))
    assert (made.frame(0) - picture).abs().mean() < 0.05 < (made.frame(0) - source.frame(0)).abs().mean()
    (row,) = report["keyframes"]
    assert row["frame"] == 0 and row["picture"].endswith(f"{key}.png") and row["matches"] and row["agreement"] > 0.4


def test_the_score_is_in_the_report_and_strict_is_kept_with_the_job(flowpaint, tmp_path):
    code, out, err = flowpaint(f"{OWN.replace('in.mkv', 'one.mkv')} {QUICK} --keyframe 0=key.png --strict --json")
    assert code == 0, err
    report = result(tmp_path)[1]
    assert json.loads(out)["keyframes"] == report["keyframes"] and report["job"]["strict"] is True
    # The same job on another video, which the picture does not show:
    again = shlex.quote(str(tmp_path / "out.mkv"))
    code, _, err = flowpaint(f"edit coffee.mkv --replay {again} -o {shlex.quote(str(tmp_path / 'two.mkv'))}")
    assert code == 2 and "key.png does not show what frame 0 shows" in err, err
