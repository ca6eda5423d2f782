"""Jobs and recipes in files that people write: what the rest implies may be left out. And the files that jobs name."""

import json
import os
from dataclasses import dataclass

import pytest

import flowpaint
from flowpaint import api, seams, video
from flowpaint.api.job import provenance
from flowpaint.errors import ConfigError, InputError, WorkError
from test_api import Negative


@dataclass(frozen=True, kw_only=True)
class Named(Negative):
    """A method that names weights as image models do."""

    weights: str = ""
    lora: tuple[str, ...] = ()


@pytest.fixture
def moving_file(tmp_path, moving_square):
    path = tmp_path / "in.mp4"
    video.write(moving_square.clip, path)
    return path


@pytest.fixture(autouse=True)
def negative(monkeypatch):
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "negative": "test_api:Negative"})


@pytest.mark.parametrize(
    ("text", "part", "editor"),
    [
        ('prompt = "sepia"', "analogy", "looks"),
        ('prompt = "sepia"\nmethod = "negative"', "negative", "looks"),
        ('kind = "deflicker"', "deflicker", None),
        ('kind = "colorize"\nby = "out.mp4"', "colorize", None),
        ('[method]\npart = "analogy"\n[method.propagate]\npart = "analogy"\nflow = {part = "dis"}', "analogy", None),
        ('[method]\npart = "negative"\neditor = {part = "looks", looks = [["noir", 1.0]]}', "negative", "looks"),
    ],
    ids=["no method", "a name", "deflicker", "colorize", "nested", "editor"],
)
def test_a_job_file_needs_only_what_nothing_implies(tmp_path, moving_file, text, part, editor):
    (tmp_path / "job.toml").write_text(f"input = {json.dumps(str(moving_file))}\n{text}\n")
    job = api.recorded(tmp_path / "job.toml")
    assert job.method["part"] == part and (job.method.get("editor") or {}).get("part") == editor
    assert ("sepia" in job.look) == ("sepia" in text)
    assert seams.from_dict(job.method)


def test_a_recipe_needs_no_kinds_that_its_fields_imply(tmp_path, moving_square):
    (tmp_path / "mine.toml").write_text('part = "analogy"\n[propagate]\npart = "analogy"\n[propagate.flow]\npart = "dis"\n')
    assert (
        flowpaint.edit(moving_square.clip, "night", method=tmp_path / "mine.toml").job.method["propagate"]["kind"] == "propagator"
    )
    (tmp_path / "mine.toml").write_text('part = "analogy"\n[propagate]\nmatch_side = 128\n')
    with pytest.raises(ConfigError, match="'part'"):
        flowpaint.edit(moving_square.clip, "night", method=tmp_path / "mine.toml")


def test_a_job_whose_method_is_in_no_file_says_so(moving_file):
    with pytest.raises(ConfigError, match="holds no method"):
        api.Result(api.Job(input=str(moving_file), prompt="night"))


# ------------------------------------------------------------------------------------------------------- paths in recipes


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in: weights of each form, and files called as things that are no files in a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("model", "sd15", "canny", "noir", "home/control", "nets/inner"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("one.safetensors", "home/two.safetensors", "mask.png", "ebsynth", "nets/inner/unet.bin", "in.mp4"):
        (tmp_path / file).write_bytes(b"0")
    return tmp_path


def recipe(**model):
    """A recipe for FRESCO on such a model, with a segmenter that reads a file."""
    return {
        "kind": "method",
        "part": "fresco",
        "model": {"kind": "model", "part": "stable-diffusion", **model},
        "control": {"kind": "condition", "part": "canny"},
        "saliency": {"kind": "segmenter", "part": "mask", "path": "mask.png"},
        "propagate": {"kind": "propagator", "part": "ebsynth", "program": "ebsynth", "looks": [["noir", 1.0]]},
    }


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({"weights": "model", "lora": ["one.safetensors", "sd15"]}, ["model", "one.safetensors"]),
        ({"weights": "./sd15", "lora": ("~/two.safetensors",)}, ["./sd15", "home/two.safetensors"]),
        ({"weights": "sd15", "controlnets": ["~/control", "canny", "canny-sd15"]}, ["canny", "home/control"]),
        ({"weights": "nets/inner", "shape": "owner/name"}, ["nets/inner"]),
        ({"weights": "gone", "lora": ["gone.safetensors"]}, []),
    ],
)
def test_files_and_folders_that_a_recipe_names_are_the_jobs(here, model, found):
    job = api.Job(input="in.mp4", method=recipe(**model))
    assert sorted(map(os.path.abspath, job.files())) == sorted(map(os.path.abspath, ["in.mp4", "mask.png", *found]))
    absolute = job.named(os.path.abspath)
    assert [*absolute.files()] == sorted(map(os.path.abspath, job.files()))
    assert absolute.method["control"] == job.method["control"] and absolute.method["propagate"] == job.method["propagate"]


def test_the_comment_holds_no_folder_and_finds_weights_beside_the_result_again(here, monkeypatch):
    model = {
        "weights": str(here / "nets" / "inner"),
        "shape": str(here / "sd15"),
        "lora": [str(here / "one.safetensors"), "sd15"],
    }
    job = api.Job(input=str(here / "in.mp4"), method=recipe(**model))
    (here / "out.json").write_text(provenance(job))
    assert str(here) not in (here / "out.json").read_text()
    (here / "nets" / "inner").rename(here / "inner")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    found = api.recorded("../out.json").method
    assert found["model"]["weights"] == "../inner" and found["model"]["shape"] == "../sd15", "a folder, not the public model"
    assert found["model"]["lora"] == ["../one.safetensors", "sd15"] and found["saliency"]["path"] == "../mask.png"
    monkeypatch.chdir(here)
    assert api.recorded("out.json").method["model"]["shape"] == "./sd15"


@pytest.mark.parametrize("change", ["one.safetensors", "nets/inner/unet.bin"])
def test_other_weights_make_another_run_and_resume_finds_them_from_anywhere(here, monkeypatch, moving_file, change):
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "named": "test_job_files:Named"})
    settings = {"lora": "one.safetensors", "weights": "nets", "fails_at": 6}
    with pytest.raises(WorkError, match="asked to"):
        flowpaint.edit(moving_file, "night", method="named", settings=settings).save("out")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    result, saving = api.resume(here / "out.run")
    method = result.prepared.method
    assert (method.lora, method.weights) == ((str(here / "one.safetensors"),), str(here / "nets"))
    (here / change).write_bytes(b"11")
    with pytest.raises(InputError, match="other files"):
        result.save(**saving)
