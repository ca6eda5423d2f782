"""`edit`, `propagate`, `deflicker` around methods whose answers are known."""

import json
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flowpaint
from flowpaint import api, seams, video
from flowpaint.api import toml
from flowpaint.api.job import provenance
from flowpaint.api.render import inner_edge
from flowpaint.errors import ConfigError, InputError, WorkError
from flowpaint.outputs import SIGNATURE
from flowpaint.types import Clip, ColourTags, to_raw


@dataclass(frozen=True, kw_only=True)
class Negative:
    """The negative of every frame; remembers what it was called with."""

    editor: seams.ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    fails_at: int = -1
    calls: ClassVar[list] = []

    def __call__(self, clip, edit, run):
        self.calls.append((clip, edit, run))

        def read(index):
            if run.offset + index == self.fails_at:
                raise WorkError(f"Frame {index} fails. It was asked to.")
            run.notes.frame(run.offset + index, confidence=0.5)
            top = 255 if clip.bits == 8 else 65535
            return top - clip.raw(index)

        return clip.with_frames(read)


@pytest.fixture(autouse=True)
def negative(monkeypatch):
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "negative": "test_api:Negative"})
    Negative.calls.clear()
    yield Negative.calls
    Negative.calls.clear()  # clips in it hold their files open


@pytest.fixture
def moving_file(tmp_path, moving_square):
    path = tmp_path / "in.mp4"
    video.write(moving_square.clip, path)
    return path


@pytest.fixture
def cut_file(tmp_path, cut):
    path = tmp_path / "cut.mp4"
    video.write(cut.clip, path, encoding=video.Encoding(codec="h264", crf=4))
    return path


def raws(clip):
    return np.stack([clip.raw(index) for index in range(len(clip))])


# --------------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("kind", ["array", "tensor", "clip", "path"])
def test_takes_video_in_any_form(kind, moving_square, moving_file):
    clip = moving_square.clip
    given = {"array": raws(clip), "tensor": clip.frames, "clip": clip, "path": moving_file}[kind]
    source = video.read(moving_file) if kind == "path" else clip
    result = flowpaint.edit(given, "night", method="negative")
    assert result.frames.times == source.times
    np.testing.assert_array_equal(raws(result.frames), 255 - raws(source))


def test_makes_nothing_until_it_is_asked_for(moving_square, negative):
    result = flowpaint.edit(moving_square.clip, "night", method="negative")
    assert not negative and result.report["look"].startswith("Look taken: night")
    result.frames.raw(3)
    assert len(negative) == 1


def test_times_and_tags_of_the_source_stay(moving_square):
    clip = moving_square.clip
    uneven = Clip(
        clip.raw, times=[Fraction(i * i, 7) for i in range(12)], end=Fraction(30), height=72, width=96,
        colour=ColourTags(matrix=1), aspect=Fraction(4, 3),
    )  # fmt: skip
    result = flowpaint.edit(uneven, "night", method="negative", start=2, end=9).frames
    assert result.times == uneven.times[2:9] and result.end == uneven.times[9]
    assert (result.colour, result.aspect) == (uneven.colour, uneven.aspect)


def test_each_shot_is_worked_on_alone_with_one_colour_anchor(cut, negative):
    result = flowpaint.edit(cut.clip, "sepia", method="negative", start=1)
    assert [list(shot) for shot in result.prepared.shots] == [list(range(6)), list(range(6, 11))]
    np.testing.assert_array_equal(raws(result.frames), 255 - raws(cut.clip[1:]))
    (first, edit_a, run_a), (second, edit_b, run_b) = negative
    assert (len(first), len(second)) == (6, 5)
    assert (run_a.offset, run_b.offset) == (1, 7)
    assert edit_a.anchor is edit_b.anchor
    torch.testing.assert_close(edit_a.anchor[0], cut.clip.frame(1))
    assert (edit_a.anchor[1] - edit_a.anchor[0]).abs().mean() > 0.02
    run_a.store.put("state", {"x": np.ones(1)})
    assert run_b.store.get("state") is None


def test_one_shot_needs_no_anchor(moving_square, negative):
    flowpaint.edit(moving_square.clip, "sepia", method="negative").frames.raw(0)
    assert negative[0][1].anchor is None


def test_side_by_side_is_source_and_result(moving_square):
    clip = moving_square.clip
    both = flowpaint.edit(clip, "night", method="negative", side_by_side=True).frames
    np.testing.assert_array_equal(both.raw(5), np.concatenate([clip.raw(5), 255 - clip.raw(5)], axis=1))


def test_a_preview_is_short_and_small(negative):
    clip = Clip.from_array(np.zeros((40, 300, 600, 3), np.uint8), fps=10)
    result = flowpaint.edit(clip, "night", method="negative", start="1s", preview="2s").frames
    assert (len(result), result.height, result.width) == (20, 256, 512)
    assert result.times[0] == 1


# ---------------------------------------------------------------------------------------------------------------- masks


def test_outside_the_mask_the_source_stays_bit_for_bit(moving_square):
    clip = moving_square.clip
    square = torch.zeros(1, 3, 72, 96)
    square[..., 20:50, 30:70] = 1
    result = flowpaint.edit(clip, "night", method="negative", mask=Clip.from_array(square)).frames
    source, made = raws(clip), raws(result)
    inside = square[0, 0].bool().numpy()
    np.testing.assert_array_equal(made[:, ~inside], source[:, ~inside])
    np.testing.assert_array_equal(made[:, 24:46, 34:66], 255 - source[:, 24:46, 34:66])
    edge = made[:, 20, 40].astype(float)
    expected = 0.75 * source[:, 20, 40] + 0.25 * (255 - source[:, 20, 40].astype(float))
    np.testing.assert_allclose(edge, expected, atol=0.51)


def test_a_mask_moves_with_its_video(moving_square, negative):
    clip = moving_square.clip
    mask = Clip.from_array(torch.cat([moving_square.mask(index).repeat(1, 3, 1, 1) for index in range(12)]))
    result = flowpaint.edit(clip, "night", method="negative", mask=mask, start=3).frames
    for index in (0, 8):
        inside = moving_square.mask(index + 3)[0, 0].bool().numpy()
        np.testing.assert_array_equal(result.raw(index)[~inside], clip.raw(index + 3)[~inside])
        assert (result.raw(index)[inside] != clip.raw(index + 3)[inside]).mean() > 0.9
    assert len(negative[0][1].mask) == 9


def test_the_edge_of_a_mask_rises_inside_it():
    mask = torch.zeros(1, 20, 20)
    mask[:, 5:15, 5:15] = 1
    weight = inner_edge(mask, feather=4)[0]
    assert weight[10, 4:10].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert torch.equal(inner_edge(torch.ones(1, 8, 8)), torch.ones(1, 8, 8))


@pytest.mark.parametrize(("frames", "size"), [(5, (72, 96)), (1, (72, 97)), (12, (36, 48))])
def test_refuses_a_mask_of_another_length_or_size(moving_square, frames, size):
    mask = Clip.from_array(np.full((frames, *size, 3), 255, np.uint8))
    with pytest.raises(InputError, match="The mask"):
        flowpaint.edit(moving_square.clip, "night", method="negative", mask=mask)


# ----------------------------------------------------------------------------------------------------------- key frames


@pytest.mark.parametrize("form", ["array", "tensor", "path"])
def test_key_frames_reach_their_frames(tmp_path, moving_square, negative, form):
    clip = moving_square.clip
    video.write_picture(tmp_path / "key.png", clip.raw(4))
    picture = {"array": clip.raw(4), "tensor": clip.frame(4), "path": tmp_path / "key.png"}[form]
    flowpaint.propagate(clip, {4: picture}, method="negative", start=1).frames.raw(0)
    (edit,) = [edit for _, edit, _ in negative]
    assert list(edit.keyframes) == [3]
    assert (edit.keyframes[3] - clip.frame(4)).abs().max() < 0.02


def test_a_key_picture_may_be_of_another_size_but_not_shape(moving_square):
    clip = moving_square.clip
    for height, width, fits in ((144, 192, True), (144, 195, True), (144, 199, False), (192, 144, False)):
        picture = np.zeros((height, width, 3), np.uint8)
        if fits:
            assert flowpaint.propagate(clip, {0: picture}, method="negative").prepared.keyframes[0].shape == (3, 72, 96)
        else:
            with pytest.raises(InputError, match="another shape"):
                flowpaint.propagate(clip, {0: picture}, method="negative")


def test_every_shot_needs_a_key_frame(cut, negative):
    key = {0: cut.clip.frame(0)}
    with pytest.raises(InputError, match=r"frames 7 to 11: edit frame 7.*--other-shots keep"):
        flowpaint.propagate(cut.clip, key, method="negative")
    result = flowpaint.propagate(cut.clip, key, method="negative", other_shots="keep")
    assert any("stay as they are" in one for one in result.report["warnings"])
    np.testing.assert_array_equal(raws(result.frames)[7:], raws(cut.clip)[7:])
    np.testing.assert_array_equal(raws(result.frames)[:7], 255 - raws(cut.clip)[:7])


@pytest.mark.parametrize(
    ("keys", "options"),
    [({12: 0}, {}), ({"1s": 0}, {}), ({2: 0}, {"start": 5}), ({0: 0, "0s": 0}, {}), ({}, {})],
    ids=["beyond", "late", "before the start", "twice", "none"],
)
def test_refuses_key_frames_that_do_not_fit(moving_square, keys, options):
    pictures = dict.fromkeys(keys, moving_square.clip.frame(0))
    with pytest.raises(InputError):
        flowpaint.propagate(moving_square.clip, pictures, method="negative", **options)


# -------------------------------------------------------------------------------------------------------------- methods


def test_methods_by_name_object_and_file(tmp_path, moving_square):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('part = "negative"\nfails_at = 5\n')
    for method in (recipe, Negative(fails_at=5)):
        assert flowpaint.edit(moving_square.clip, "night", method=method).job.method["fails_at"] == 5
    by_name = flowpaint.edit(moving_square.clip, "night", method="negative", settings={"fails_at": 7, "editor.short_side": 99})
    assert by_name.job.method["fails_at"] == 7
    assert by_name.job.method["editor"] | {"kind": "editor", "part": "looks", "short_side": 99} == by_name.job.method["editor"]


def test_an_editor_that_is_set_needs_no_words(moving_square):
    result = flowpaint.edit(moving_square.clip, method="negative", settings=["editor=looks"])
    assert result.job.method["editor"]["part"] == "looks"


@pytest.mark.parametrize(
    "setting", ["nonsense", "=3", "fails_at", "faild_at=3", "fails_at=x", "editor.short_side=3", "fails_at.x=1"]
)
def test_refuses_settings_that_are_none(moving_square, setting):
    with pytest.raises((ConfigError, InputError)):
        flowpaint.edit(moving_square.clip, method="negative", keyframes={0: moving_square.clip.frame(0)}, settings=[setting])


@pytest.mark.parametrize(
    "options",
    [
        *({"quality": "good"}, {"strength": 1.5}, {"device": "cuda:99"}, {"device": "gpu"}),
        *({"encoding": wish} for wish in ({"crff": 3}, {"crf": 52}, {"crf": "16"}, {"preset": "x"}, {"audio": 3})),
    ],
)
def test_refuses_words_it_does_not_know(moving_square, options):
    with pytest.raises((ConfigError, InputError)):
        flowpaint.edit(moving_square.clip, "night", method="negative", **options)


# --------------------------------------------------------------------------------------------------------------- saving


def test_saves_the_video_its_report_and_a_sheet(tmp_path, moving_file):
    result = flowpaint.edit(moving_file, "night", method="negative")
    out = result.save(tmp_path / "out.mp4")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report == result.report
    assert len(video.read(out)) == 12 == report["input"]["num_frames"] == len(report["frames"])
    assert report["frames"][3]["confidence"] == 0.5
    assert report["metrics"]["flicker"]["relative"] == pytest.approx(1, abs=0.05)
    assert {"edit", "write", "measure", "total"} <= report["seconds"].keys()
    assert video.read_picture(tmp_path / "out.sheet.png").shape[1] == 1600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.mp4", "out.json", "out.mp4", "out.sheet.png"]


def test_writes_nothing_over_what_is_there(tmp_path, moving_file):
    result = flowpaint.edit(moving_file, "night", method="negative")
    for name in ("out.mp4", "out.json", "out.sheet.png"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(InputError, match="exists"):
            result.save(tmp_path / "out.mp4")
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="is the input"):
        result.save(moving_file, overwrite=True)
    result.save(tmp_path / "out.mp4")
    result.save(tmp_path / "out.mp4", overwrite=True)


def test_a_failed_run_goes_on_where_it_stopped(tmp_path, moving_square, negative):
    path = tmp_path / "folder"
    source = tmp_path / "in.mp4"
    video.write(moving_square.clip, source)
    job, _ = api.plan_job("edit", source, prompt="night", method="negative", settings=["fails_at=6"])
    with pytest.raises(WorkError):
        api.Result(job).save(path)
    assert not path.exists() and (tmp_path / "folder.run" / "run.json").exists()
    result, saving = api.resume(tmp_path / "folder.run")
    object.__setattr__(result.prepared.method, "fails_at", -1)
    result.save(**saving)
    assert sorted(one.name for one in path.iterdir()) == [SIGNATURE, *(f"{index:06d}.png" for index in range(12))]
    assert [row["frame"] for row in result.report["frames"]] == list(range(12))
    assert all({"confidence", "result_sharpness"} <= row.keys() for row in result.report["frames"])
    assert not (tmp_path / "folder.run").exists()


def test_another_job_in_the_run_folder_is_refused(tmp_path, moving_file):
    failing = {"method": "negative", "settings": ["fails_at=6"]}
    for seed, message in ((0, "asked to"), (1, "--fresh")):
        with pytest.raises((WorkError, InputError), match=message):
            flowpaint.edit(moving_file, "night", seed=seed, **failing).save(tmp_path / "out")
    flowpaint.edit(moving_file, "night", method="negative").save(tmp_path / "out", fresh=True, keep_run=True)
    assert (tmp_path / "out.run" / "run.json").exists()


def test_a_changed_key_picture_is_another_run(tmp_path, moving_file, moving_square):
    key = tmp_path / "key.png"
    for index, message in ((0, "asked to"), (3, "other files")):
        video.write_picture(key, moving_square.clip.raw(index))
        with pytest.raises((WorkError, InputError), match=message):
            flowpaint.propagate(moving_file, {0: key}, method="negative", settings=["fails_at=6"]).save(tmp_path / "out")


# ----------------------------------------------------------------------------------------------------------------- jobs

TEXT = st.text(max_size=30)
JOBS = st.builds(
    api.Job,
    kind=st.sampled_from(["edit", "propagate", "deflicker"]),  # colorize keeps no colours: test_colorize.py
    input=TEXT,
    prompt=TEXT,
    style=st.none() | TEXT,
    keyframes=st.dictionaries(TEXT, TEXT, max_size=3),
    method=st.dictionaries(TEXT, TEXT | st.integers(-(2**62), 2**62) | st.booleans() | st.lists(st.floats(0, 1)), max_size=3),
    strength=st.floats(0, 1),
    keep_colors=st.booleans(),
    seed=st.integers(0, 2**62),
    start=st.none() | TEXT,
    encoding=st.fixed_dictionaries({}, optional={"crf": st.integers(0, 51), "audio": st.just("aac")}),
)


@given(JOBS)
def test_a_job_reads_back_from_json_and_toml(job):
    import tomllib

    assert api.Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
    assert api.Job.from_dict(tomllib.loads(job.to_toml())) == job


@pytest.mark.parametrize(
    ("values", "message"),
    [({"sed": 1}, "'seed'"), ({"seed": "1"}, "seed"), ({"keep_colors": 1}, "keep_colors"), ({"prompt": None}, "prompt")],
)
def test_a_job_refuses_what_it_does_not_know(values, message):
    with pytest.raises(ConfigError, match=message):
        api.Job.from_dict(values)


def test_nested_values_stand_in_toml_as_they_are():
    import tomllib

    values = {"a": {"b c": [1, 2.5, True, 'x"\n\x7fü'], "d": {"e": []}}, "f": [[["night", 0.5]]]}
    assert tomllib.loads(toml.dumps(values)) == values


def test_the_comment_of_a_result_names_no_folder_and_repeats_it(tmp_path, moving_file, moving_square):
    key = tmp_path / "secret place" / "key.png"
    key.parent.mkdir()
    video.write_picture(key, moving_square.clip.raw(0))
    result = flowpaint.edit(moving_file, method="negative", style=key, seed=3)
    out = result.save(tmp_path / "out.mp4")
    comment = video.read_comment(out)
    assert str(tmp_path) not in comment and "secret place" not in comment
    again = api.recorded(out)
    assert (again.seed, again.kind, again.input, again.style) == (3, "edit", str(moving_file), "key.png")
    assert replace(result.job, output="", input="") == replace(
        again, output="", input="", style=str(key), method=result.job.method
    )
    whole = api.recorded(tmp_path / "out.json")
    assert whole.style == str(key) and whole.method == result.job.method


def test_without_provenance_there_is_no_comment(tmp_path, moving_file):
    out = flowpaint.edit(moving_file, "night", method="negative").save(tmp_path / "out.mp4", provenance=False)
    assert "flowpaint" not in video.read_comment(out)
    with pytest.raises(InputError, match="holds no recipe"):
        api.recorded(out)
    assert "night" in provenance(api.Job(prompt="night"))


# ----------------------------------------------------------------------------------------------------------- the others


def test_a_plan_says_what_would_be_done_and_does_nothing(tmp_path, cut_file, negative):
    job, _ = api.plan_job("edit", cut_file, prompt="sepia", method="negative")
    plan = api.plan(api.Result(replace(job, output=str(tmp_path / "out.mp4"))))
    assert [(shot["first"], shot["last"]) for shot in plan["shots"]] == [(0, 6), (7, 11)]
    assert plan["keyframes_made"] == [0, 7]
    assert (plan["output"]["codec"], plan["output"]["width"]) == ("h264", 80)
    assert plan["estimate"]["seconds"] > 0 and json.dumps(plan)
    assert [one.name for one in tmp_path.iterdir()] == ["cut.mp4"] and not negative


def test_takes_frames_out(tmp_path, moving_file):
    files = api.take_frames(moving_file, ["0.25s", 0, 6], tmp_path / "keys")
    assert [one.name for one in sorted((tmp_path / "keys").iterdir())] == ["000000.png", "000006.png"]
    np.testing.assert_array_equal(video.read_picture(files[6]), video.read(moving_file).raw(6))
    with pytest.raises(InputError, match="exists"):
        api.take_frames(moving_file, [0], tmp_path / "keys")


def test_lists_the_shots(cut_file):
    assert [(one["first"], one["last"], one["from"]) for one in api.shots(cut_file)] == [
        (0, 6, "00:00:00.000"), (7, 11, "00:00:00.292")]  # fmt: skip


def test_deep_video_stays_deep(moving_square):
    deep = Clip.from_array(np.stack([to_raw(frame, 16) for frame in moving_square.clip[:3]]))
    made = flowpaint.edit(deep, "night", method="negative").frames
    assert made.bits == 16 and made.raw(1).dtype == np.uint16


@dataclass(frozen=True, kw_only=True)
class Reader(Negative):
    """Reads words, as a method with an image model does."""

    model: str = ""


def test_words_by_time_reach_each_shot_at_its_own_frames(monkeypatch, cut):
    """A cut at frame 7 of 12; the clip begins at 2: words at 3 hold in the first shot from its frame 1 on, and so on."""
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "reader": "test_api:Reader"})
    made = flowpaint.edit(
        cut.clip, "sepia", method="reader", start=2, prompts={0: "wood", 3: "clay", 8: "glass", "0.42s": "snow"}, negative="dull"
    )
    assert len(list(made.frames)) == 10
    said = [[edit.words(frame) for frame in range(len(clip))] for clip, edit, _ in Negative.calls]
    assert said == [["wood", "clay", "clay", "clay", "clay"], ["clay", "glass", "glass", "snow", "snow"]]
    assert all(edit.negative == "dull" and edit.anchor is None for _, edit, _ in Negative.calls), "no grade for other words"
    assert api.Job.from_dict(made.job.to_dict()).prompts == {"0": "wood", "3": "clay", "8": "glass", "0.42s": "snow"}
    with pytest.raises(InputError, match="not the only ones"):
        flowpaint.edit(cut.clip, "sepia", method="reader", prompts={2: "clay", "2": "wood", "0.09s": "snow"})
