"""Jobs and recipes in files that people write: what the rest implies may be left out."""

import json

import pytest

import flowpaint
from flowpaint import api, seams, video
from flowpaint.errors import ConfigError


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
