"""What an interrupted run has finished is kept where only the file that is put together in the end is wanted otherwise."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import flowpaint
from flowpaint import api, video
from flowpaint.errors import InputError
from flowpaint.runs import RunFolder, read_manifest
from test_rehearse import film

Call = Callable[..., tuple[int, str, str]]


class Interrupted(BaseException):
    """Ctrl-C, or worse."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, negative: None) -> Path:
    """A folder with `in.mkv`: 12 pictures, sound, a font; segments are of four frames."""
    monkeypatch.setattr("flowpaint.api.result.CHUNK", 4)
    monkeypatch.chdir(tmp_path)
    film(Path("in.mkv"), "aac", extra=lambda file: file.add_attachment("font.ttf", "font/ttf", b"0123456789") and None)
    return tmp_path


def planned(output: str, **options: object) -> api.Result:
    job, _ = api.plan_job("edit", "in.mkv", prompt="sepia", method="negative", **options)  # type: ignore[arg-type]
    return api.Result(api.Job.from_dict({**job.to_dict(), "output": output}))


def interrupted(output: str, at: int = 9, **options: object) -> None:
    """Two segments are finished when the run is interrupted at frame 9."""

    def stop(index: int, _: object) -> None:
        if index == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        planned(output, **options).save(shown=stop)
    assert len(list(Path(f"{output}.run", "segments").glob("*.mkv"))) == at // 4


def made(result: api.Result, **saving: object) -> list[int]:
    """The frames that were made until the result was written."""
    seen: list[int] = []
    result.save(shown=lambda index, _: seen.append(index), **saving)  # type: ignore[arg-type]
    return seen


REST = [8, 9, 10, 11]


@pytest.mark.parametrize("audio", ["none", "aac"])
def test_the_sound_may_change(here: Path, audio: str) -> None:
    interrupted("out.mp4")
    assert made(planned("out.mp4", encoding={"audio": audio})) == REST
    assert len(video.probe("out.mp4").audio) == (audio != "none") and len(video.read("out.mp4")) == 12
    assert not Path("out.mp4.run").exists()
    flowpaint.edit("in.mkv", "sepia", method="negative", encoding={"audio": audio}).save("whole.mp4")
    one, other = video.read("out.mp4"), video.read("whole.mp4")
    assert all(np.array_equal(one.raw(index), other.raw(index)) for index in range(12))
    assert api.recorded("out.mp4").encoding == {"audio": audio}


def test_the_kind_of_file_may_change(here: Path) -> None:
    interrupted("out.mp4")
    assert made(planned("out.mkv"), run="out.mp4.run") == REST
    assert not Path("out.mp4").exists() and len(video.read("out.mkv")) == 12
    report = json.loads(Path("out.json").read_text())
    assert report["output"]["video"] == "out.mkv" and Path(report["job"]["output"]).name == "out.mkv"


def test_the_tags_may_change(here: Path) -> None:
    interrupted("out.mp4")
    assert made(planned("out.mp4"), provenance=False) == REST
    assert video.read_comment("out.mp4") == ""


def test_what_is_said_last_holds(here: Path) -> None:
    """Also when it is interrupted again, and for `resume`."""
    interrupted("out.mp4")
    seen: list[int] = []

    def stop(index: int, _: object) -> None:
        seen.append(index)
        raise Interrupted

    with pytest.raises(Interrupted):
        planned("out.mp4", encoding={"audio": "none"}).save(shown=stop, provenance=False)
    assert seen == [8]
    kept = read_manifest(Path("out.mp4.run"))
    assert kept["job"]["encoding"] == {"audio": "none"} and kept["saving"] == {"provenance": False}
    result, saving = api.resume("out.mp4.run")
    assert made(result, **saving) == REST
    assert video.probe("out.mp4").audio == () and video.read_comment("out.mp4") == ""


def test_resume_takes_another_file_and_sound(here: Path, call: Call) -> None:
    interrupted("out.mp4")
    Path("other.mov").write_text("mine")
    assert call("resume", "out.mp4.run", "-o", "other.mov", "--audio", "none")[0] == 2
    assert Path("other.mov").read_text() == "mine"
    assert call("resume", "out.mp4.run", "--audio", "nine")[0] == 2
    code, _, err = call("resume", "out.mp4.run", "-o", "other.mov", "--audio", "none", "--overwrite")
    assert code == 0, err
    assert len(video.read("other.mov")) == 12 and video.probe("other.mov").audio == ()
    assert not Path("out.mp4").exists() and not Path("out.mp4.run").exists()


def test_a_run_that_a_refused_sound_had_stopped_goes_on(here: Path, call: Call) -> None:
    """As runs of earlier versions were left: all frames finished, and a file that does not take the sound."""
    film(Path("in.mkv"), "flac")
    interrupted("out.mp4")
    path = Path("out.mp4.run") / "run.json"
    path.write_text(path.read_text().replace("out.mp4", "out.mov"))
    code, _, err = call("resume", "out.mp4.run")
    assert code == 2 and "(flac). Write to .mkv, or use --audio aac." in err
    result, saving = api.resume("out.mp4.run", audio="aac")
    assert made(result, **saving) == REST and len(video.probe("out.mov").audio) == 1


@pytest.mark.parametrize(
    "options", [{"encoding": {"crf": 30}}, {"seed": 1}, {"strength": 0.5}, {"side_by_side": True}, {"end": 10}]
)
def test_all_else_makes_another_job(here: Path, options: dict[str, object]) -> None:
    interrupted("out.mp4")
    before = sorted(Path("out.mp4.run").rglob("*"))
    with pytest.raises(InputError, match="--fresh"):
        planned("out.mp4", **options).save()
    assert sorted(Path("out.mp4.run").rglob("*")) == before


def test_no_word_about_the_old_file_is_carried_over(here: Path) -> None:
    interrupted("out.mp4")
    result = planned("out.mkv")
    made(result, run="out.mp4.run")
    assert result.report["warnings"] == []
    again = planned("again.mp4")
    again.save()
    assert again.report["warnings"] == ["The output cannot hold the attached file font.ttf. It is left out; .mkv would keep it."]


def test_a_dry_run_says_what_the_file_cannot_hold(here: Path, call: Call) -> None:
    film(Path("flac.mkv"), "flac")
    before = sorted(here.iterdir())
    code, out, err = call("edit", "flac.mkv", "sepia", "--method", "negative", "-o", "out.mov", "--dry-run")
    assert (code, out) == (2, "") and "cannot hold the sound of flac.mkv (flac). Write to .mkv, or use --audio aac." in err
    code, _, err = call("edit", "in.mkv", "sepia", "--method", "negative", "-o", "out.mp4", "--dry-run")
    assert code == 0 and "warning: The output cannot hold the attached file font.ttf" in err
    assert sorted(here.iterdir()) == before


def test_minor_fields_tell_no_jobs_apart(tmp_path: Path) -> None:
    def manifest(**job: object) -> dict[str, object]:
        return {"job": job, "files": {}, "versions": {}, "saving": {"overwrite": job.get("output") == "b"}}

    first = RunFolder.open(tmp_path / "run", manifest(output="a", encoding={"audio": "aac", "crf": 3}))
    first.store.put("key", {"x": np.ones(1)})
    minor = ("output", "encoding.audio")
    for job in ({"output": "b", "encoding": {"crf": 3}}, {"encoding": {"crf": 3, "audio": "none"}}):
        again = RunFolder.open(tmp_path / "run", manifest(**job), minor=minor)
        assert again.store.get("key") is not None
        assert read_manifest(again.path)["job"] == job and read_manifest(again.path)["saving"] == manifest(**job)["saving"]
    for job in ({"encoding": {"crf": 4}}, {"encoding": {"crf": 3}, "seed": 1}, {}, {"encoding": None}):
        with pytest.raises(InputError, match="--fresh"):
            RunFolder.open(tmp_path / "run", manifest(**job), minor=minor)
    with pytest.raises(InputError, match="--fresh"):
        RunFolder.open(tmp_path / "run", manifest(output="b", encoding={"crf": 3}))


def test_a_folder_that_only_looks_like_a_run_s_is_left(tmp_path: Path) -> None:
    (tmp_path / "run" / "segments").mkdir(parents=True)
    (tmp_path / "run" / "segments" / "letter.txt").write_text("mine")
    (tmp_path / "run" / "run.json").write_text('{"job": {"name": "of another program"}}')
    for fresh in (False, True):
        with pytest.raises(InputError, match="no job of flowpaint"):
            RunFolder.open(tmp_path / "run", {"job": {}, "files": {}, "versions": {}}, fresh=fresh)
    assert (tmp_path / "run" / "segments" / "letter.txt").read_text() == "mine"
