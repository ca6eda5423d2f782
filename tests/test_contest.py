"""`benchmark` and `vote`, through Python and the command line."""

import json

import pytest
import torch
from PIL import Image

from flowpaint import api, video
from flowpaint.errors import ConfigError, InputError
from flowpaint.types import Clip, to_raw
from moving_discs import Discs

pytestmark = pytest.mark.usefixtures("negative")


@pytest.fixture
def here(tmp_path, monkeypatch, moving_square):
    """A folder `data` of two videos."""
    (tmp_path / "data").mkdir()
    video.write(moving_square.clip[:5], tmp_path / "data" / "a.mp4")
    video.write(moving_square.clip[2:7], tmp_path / "data" / "b.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FAST = ("--metrics", "warp-error,edit-strength,cost", "--prompt", "van gogh")


def test_methods_are_judged_over_a_folder(call, here):
    code, out, err = call("benchmark", "folder", "data", "--methods", "negative,freeze", *FAST, "--report", "r.html")
    assert code == 0, err
    assert "negative" in out.splitlines()[0] and "Edit strength" in out
    rows = sorted(one.name for one in (here / "r.files" / "rows").iterdir())
    assert rows == ["a--freeze.json", "a--negative.json", "b--freeze.json", "b--negative.json"]
    summary = json.loads((here / "r.json").read_text("utf-8"))["summaries"][0]
    assert summary["cases"] == ["a", "b"] and summary["methods"] == ["negative", "freeze"]
    made = {one: one.stat().st_mtime_ns for one in (here / "r.files" / "videos").iterdir()}
    code, again, _ = call("benchmark", "folder", "data", "--methods", "negative,freeze", *FAST, "--report", "r.html")
    assert code == 0 and again == out
    assert made == {one: one.stat().st_mtime_ns for one in (here / "r.files" / "videos").iterdir()}, "nothing is made twice"


def test_a_table_names_prompts_and_a_failing_case_is_noted(here):
    (here / "data" / "tasks.csv").write_text("video,prompt\na.mp4,van gogh\nb.mp4,turn him into a robot\n", "utf-8")
    verdict = api.benchmark("folder", "data", methods=["analogy"], folder="out", metrics="edit-strength")
    assert verdict.summaries[0].cases == ("a",) and len(verdict.notes) == 1 and "b by analogy" in verdict.notes[0]


@pytest.mark.slow
def test_scenes_know_the_answer(here):
    verdict = api.benchmark("scenes", methods=["analogy", "freeze"], folder="out", count=1, only="restyle", metrics="truth")
    means = {one.method: one.mean for one in verdict.summaries[0].averages if one.measure == "psnr_true"}
    assert means["analogy"] > means["freeze"] + 3


def test_known_edits_stand_beside_a_table(here):
    frames = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)).repeat(31, 1, 1, 1)
    (here / "known").mkdir()
    video.write(Clip.from_array(frames), here / "known" / "still.mp4")
    rows = "".join(f"still,64,colour,{t},20.5,20.0\n" for t in (8, 16, 30))
    (here / "other.csv").write_text("clip,size,filter,t,other_psnr_db,freeze_psnr_db\n" + rows, "utf-8")
    verdict = api.benchmark(
        "known-edits", "known", methods=["freeze"], folder="out", sizes=[64], only="colour", metrics="truth", against="other.csv"
    )
    means = {one.method: one.mean for one in verdict.summaries[0].averages if one.measure == "psnr_true"}
    assert means["other"] == 20.5 and means["freeze in other.csv"] == 20.0 and means["freeze"] > 30, "a still stays right"


@pytest.mark.parametrize(
    ("layout", "path", "said"),
    [
        ("davsi", "data", "Nearest: 'davis'"),
        ("folder", None, "no folder"),
        ("davis", "data", "JPEGImages"),
        ("folder", "nowhere", "no folder"),
    ],
)
def test_what_is_no_data_is_refused(here, layout, path, said):
    with pytest.raises((ConfigError, InputError), match=said):
        api.benchmark(layout, path, methods=["freeze"], folder="out", metrics="cost")


def test_no_case_of_that_name(here):
    with pytest.raises(InputError, match="Nearest: 'b', 'a'"):
        api.benchmark("folder", "data", methods=["freeze"], folder="out", metrics="cost", only="zebra")


def test_people_vote_on_a_page(call, here):
    for method in ("ours", "theirs"):
        (here / "poll" / method).mkdir(parents=True)
        (here / "poll" / method / "walk.mp4").write_bytes((here / "data" / "a.mp4").read_bytes())
    code, out, _ = call("vote", "poll")
    assert code == 0 and out.strip() == "poll/vote.html" and "walk.mp4" in (here / "poll" / "vote.html").read_text("utf-8")
    code, _, err = call("vote", "poll")
    assert code == 2 and "exists" in err
    code, _, err = call("vote", "poll", "--tally")
    assert code == 2 and "votes" in err
    code, _, err = call("vote", "data")
    assert code == 2 and "Traceback" not in err


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.mark.slow
def test_davis_edit_goes_out_from_the_same_first_frames(call, here):
    discs = Discs(count=4, size=(64, 80), radius=10.0, start=(30.0, 30.0))
    root, words = here / "edits", {"bear": {"original": "a disc", "similar": "an orange disc", "changing": "a bar"}}
    for k in range(4):
        save(root / "JPEGImages" / "bear" / f"{k:05d}.png", to_raw(discs.frames[k]))
        save(root / "Annotations" / "bear" / f"{k:05d}.png", to_raw(discs.masks[k].expand(3, -1, -1)))
    for kind in ("text", "image"):
        (root / f"edited_video_caption_dict_{kind}.json").write_text(json.dumps(words))
    edited = torch.where(discs.masks[0] > 0.5, torch.tensor([1.0, 0.5, 0.0])[:, None, None], discs.frames[0])
    save(here / "first" / "bear-text-changing.png", to_raw(edited))
    begin = ("benchmark", "davis-edit", "edits", "--methods", "stablev2v,freeze", "--metrics", "edit-strength")
    code, _, err = call(*begin, "--report", "r.html", "--first-frames", "first", "--count", "4")
    assert code == 0, err
    assert "bear-text-similar has no edited first frame" in err
    made = {
        name: video.read(next((here / "r.files" / "videos").glob(f"*--{name}.mkv"))).frame(3) for name in ("stablev2v", "freeze")
    }
    x, y = 30 + round(3 * 2.5), 30 + round(3 * 0.75)
    assert made["stablev2v"][:, y, x].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=0.1)
    assert made["freeze"][:, 31, 34].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=0.1)
    code, _, err = call(*begin, "--report", "s.html", "--first-frames", "data")
    assert code == 2 and "holds no edited first frame" in err
