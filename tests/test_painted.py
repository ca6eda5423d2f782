"""What a report and `evaluate` say of the texture that a result kept, by editors and methods whose answers are known."""

import json
import re
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

import flowpaint
from flowpaint import api, seams, video
from flowpaint.errors import WorkError
from flowpaint.methods import keys
from flowpaint.smoothing import gaussian
from flowpaint.types import Clip, to_raw

SIZE = (64, 96)
LOSSLESS = video.Encoding(codec="ffv1")


@dataclass(frozen=True, kw_only=True)
class Double:
    """Doubles the contrast of a picture; counts its pictures."""

    repeats_after: ClassVar[int] = 8
    calls: ClassVar[list] = []

    def __call__(self, image, edit, generator):
        self.calls.append(image)
        return doubled(image)


@dataclass(frozen=True, kw_only=True)
class Slow(Double):
    """The same, and not to be run for a measurement."""

    repeats_after: ClassVar[int] = 9


@dataclass(frozen=True, kw_only=True)
class Failing(Double):
    """Fails where it is run again."""

    def __call__(self, image, edit, generator):
        raise WorkError("The editor has gone. It was asked to.")


@dataclass(frozen=True, kw_only=True)
class Half:
    """A method that shows frames with half of the editor's contrast, so a quarter of its texture."""

    editor: seams.ImageEditor = seams.default("editor", "double")

    def __call__(self, clip, edit, run):
        return clip


@dataclass(frozen=True, kw_only=True)
class Carried(Half):
    """A method that has the editor paint frame 0 and shows every frame with as much contrast."""

    def __call__(self, clip, edit, run):
        assert keys.edited(clip, edit, self.editor, [0], run)[0].shape == (3, *SIZE)
        return Shown(factor=2.0)(clip, edit, run)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A method without an editor that shows every frame with `factor` times its contrast."""

    factor: float

    def __call__(self, clip, edit, run):
        return clip.with_frames(lambda index: to_raw((0.5 + self.factor * (clip.frame(index) - 0.5)).clamp(0, 1), clip.bits))


def doubled(picture):
    return (0.5 + 2 * (picture - 0.5)).clamp(0, 1)


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    editors = {"double": "test_painted:Double", "slow": "test_painted:Slow", "failing": "test_painted:Failing"}
    monkeypatch.setitem(seams.TABLE, "editor", {**seams.TABLE["editor"], **editors})
    monkeypatch.setitem(
        seams.TABLE, "method", {**seams.TABLE["method"], "half": "test_painted:Half", "carried": "test_painted:Carried"}
    )
    Double.calls.clear()


def panned(frames=20, seed=4):
    """A texture of low contrast that moves a pixel a frame."""
    wide = torch.rand(1, 3, SIZE[0], SIZE[1] + frames, generator=torch.Generator().manual_seed(seed))
    soft = gaussian(wide, 1.5)[0]
    soft = (0.5 + 0.07 * (soft - soft.mean()) / soft.std()).clamp(0.25, 0.75)
    return Clip.from_array(torch.stack([soft[..., index : index + SIZE[1]] for index in range(frames)]))


def kept_of(tmp_path, clip, **options):
    result = flowpaint.edit(clip, **options)
    result.save(tmp_path / "out.mkv")
    assert json.loads((tmp_path / "out.json").read_text())["metrics"] == result.report["metrics"]
    return result.report["metrics"]["texture_kept"]


def test_a_report_compares_with_what_the_editor_makes(tmp_path):
    kept = kept_of(tmp_path, panned(), method="half")
    assert kept["fast"] == pytest.approx(0.25, abs=0.01) and kept["still"] == pytest.approx(0.25, abs=0.01)
    assert kept["compared_with"] == "the same frames edited by themselves" and kept["missing"] is None
    assert len(kept["frames"]) == 1 == len(Double.calls), "one frame in 64 is painted once more, and at least one"


def test_frame_by_frame_keeps_everything(tmp_path):
    assert kept_of(tmp_path, panned(), method="frame-by-frame", settings=["editor=double"])["fast"] == 1.0


def test_frames_count_in_the_input(tmp_path):
    whole = kept_of(tmp_path, panned(), method="half")["frames"]
    video.write(panned(40), tmp_path / "in.mkv", encoding=LOSSLESS)
    result = flowpaint.edit(tmp_path / "in.mkv", method="half", start="20")
    result.save(tmp_path / "part.mkv")
    assert result.report["metrics"]["texture_kept"]["frames"] == [one + 20 for one in whole]


def test_inside_a_mask_alone(tmp_path):
    mask = torch.zeros(1, 3, *SIZE)
    mask[..., :48] = 1
    kept = kept_of(tmp_path, panned(), method="half", mask=Clip.from_array(mask))
    assert kept["still"] == pytest.approx(0.25, abs=0.06), "outside, source and result are the same"


def test_a_slow_editor_is_not_run_again(tmp_path):
    kept = kept_of(tmp_path, panned(), method="carried", settings=["editor=slow"])
    assert kept["compared_with"] == "the nearest key frames, where they show the same" and len(Double.calls) == 1
    assert kept["still"] == pytest.approx(1, abs=0.15), "against the key frame that the run made"


def test_without_a_picture_of_a_slow_editor_there_is_no_number(tmp_path):
    kept = kept_of(tmp_path, panned(), method="half", settings=["editor=slow"])
    assert kept["fast"] is kept["still"] is None and not kept["frames"] and "no frame" in kept["missing"]


def test_an_editor_that_fails_loses_no_video(tmp_path):
    kept = kept_of(tmp_path, panned(), method="half", settings=["editor=failing"])
    assert kept["fast"] is None and "has gone" in kept["missing"]
    assert len(video.read(tmp_path / "out.mkv")) == 20


def propagated(tmp_path, clip, key, method):
    """The texture kept of the frames that `method` shows, given a key picture of frame 0."""
    job, given = api.plan_job("propagate", clip, keyframes={0: key}, method=method)
    result = api.Result(job, given)
    result.save(tmp_path / "out.mkv")
    return result.report["metrics"]["texture_kept"]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_hand_made_edit_is_compared_with_its_key_frame(tmp_path, bits):
    clip = Clip.from_array(np.stack([to_raw(one, bits) for one in panned()]))
    key = doubled(clip.frame(0))
    kept = propagated(tmp_path, clip, key, Shown(factor=2.0))
    assert kept["still"] == pytest.approx(1, abs=0.1) and kept["compared_with"].startswith("the nearest key")
    for name in ("out.mkv", "out.json", "out.sheet.png"):
        (tmp_path / name).unlink()
    assert propagated(tmp_path, clip, key, Shown(factor=1.0))["still"] == pytest.approx(0.25, abs=0.03)


def test_a_local_edit_is_compared_where_it_is(tmp_path):
    """Outside the edit the result equals the source: what is lost inside must not hide behind that."""
    clip = panned()
    key = clip.frame(0).clone()
    key[:, 16:48, 24:72] = doubled(key[:, 16:48, 24:72])
    assert propagated(tmp_path, clip, key, Shown(factor=1.0))["still"] < 0.6


def test_a_shot_that_was_left_as_it_is_is_not_compared(tmp_path):
    """140 frames have two samples: one lies in the second shot, which has no key frame."""
    clip = Clip.from_array(torch.cat([panned(70).frames, 0.4 * panned(70, seed=9).frames]))
    job, given = api.plan_job("propagate", clip, keyframes={0: doubled(clip.frame(0))}, method=Shown(factor=2.0))
    result = api.Result(replace(job, other_shots="keep"), given)
    assert len(result.prepared.passed) == 1
    result.save(tmp_path / "out.mkv")
    kept = result.report["metrics"]["texture_kept"]
    assert len(kept["frames"]) == 1 and kept["frames"][0] < 70


def test_what_has_no_reference_says_so(tmp_path):
    result = flowpaint.deflicker(panned())
    result.save(tmp_path / "out.mkv")
    kept = result.report["metrics"]["texture_kept"]
    assert kept["fast"] is kept["still"] is kept["compared_with"] is None and "neither an editor" in kept["missing"]


def test_one_frame_has_no_motion(tmp_path):
    kept = kept_of(tmp_path, panned(1), method="half")
    assert kept["fast"] is None and "two neighbours" in kept["missing"]
    assert json.loads((tmp_path / "out.json").read_text())["metrics"]["flicker"]["result"] is None


def test_the_command_says_both_numbers_or_none(tmp_path, call):
    video.write(panned(), tmp_path / "in.mkv", encoding=LOSSLESS)
    code, _, err = call("edit", tmp_path / "in.mkv", "--method", "half", "-o", tmp_path / "out.mkv")
    assert code == 0 and re.search(
        r"Flicker [0-9.]+ levels of 255 \(source [0-9.]+\), texture kept 0\.2\d where .*, 0\.2\d where", err
    )
    code, _, err = call("deflicker", tmp_path / "in.mkv", "-o", tmp_path / "calm.mkv")
    assert code == 0 and "20 frames in" in err and "Flicker" not in err


# ---------------------------------------------------------------------------------------------------------------- evaluate


def test_evaluate_edits_again_what_the_recipe_names(tmp_path):
    video.write(panned(), tmp_path / "in.mkv", encoding=LOSSLESS)
    flowpaint.edit(tmp_path / "in.mkv", method="half", encoding={"codec": "ffv1"}).save(tmp_path / "out.mkv")
    Double.calls.clear()
    (card,) = api.evaluate(tmp_path / "out.mkv", tmp_path / "in.mkv", metrics="texture").cards.values()
    assert card.values["texture_kept_fast"] == pytest.approx(0.25, abs=0.01) and len(Double.calls) == 12
    given = api.evaluate(tmp_path / "out.mkv", tmp_path / "in.mkv", metrics="texture", frame_by_frame=tmp_path / "in.mkv")
    assert next(iter(given.cards.values())).values["texture_kept_still"] == 1.0 and len(Double.calls) == 12
    (tmp_path / "out.json").unlink()
    flowpaint.edit(tmp_path / "in.mkv", method="half").save(tmp_path / "bare.mkv", provenance=False)
    (tmp_path / "bare.json").unlink()
    (bare,) = api.evaluate(tmp_path / "bare.mkv", tmp_path / "in.mkv", metrics="texture").cards.values()
    assert not bare.values and "--frame-by-frame" in bare.missing["texture_kept_fast"]


def test_the_command_takes_a_frame_by_frame_edit(tmp_path, call):
    video.write(panned(4), tmp_path / "in.mkv", encoding=LOSSLESS)
    video.write(panned(3), tmp_path / "short.mkv", encoding=LOSSLESS)
    base = ("evaluate", tmp_path / "in.mkv", "--source", tmp_path / "in.mkv", "--metrics", "texture", "--json")
    code, out, _ = call(*base, "--frame-by-frame", tmp_path / "in.mkv")
    assert code == 0 and json.loads(out)["cards"][0]["values"]["texture_kept_still"] == 1.0
    code, out, err = call(*base, "--frame-by-frame", tmp_path / "short.mkv")
    assert code == 2 and not out and "frame by frame 3" in err


def test_compare_needs_no_frame_by_frame_video(tmp_path):
    video.write(panned(4), tmp_path / "in.mkv", encoding=LOSSLESS)
    verdict = api.compare(
        tmp_path / "in.mkv", "sepia", methods=["freeze", "frame-by-frame"], folder=tmp_path / "made", metrics="texture"
    )
    assert verdict.cards["frame-by-frame"].values["texture_kept_still"] == pytest.approx(1, abs=0.1)
