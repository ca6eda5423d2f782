"""A table of jobs: read whole before anything starts, done row by row, and done again only where something is missing."""

import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from flowpaint import api, video
from flowpaint.errors import ConfigError, InputError, MissingExtraError, VideoError, WorkError
from flowpaint.jobs import remote
from flowpaint.jobs.batch import Batch, Outcome, finished, run_batch, write_summary
from flowpaint.jobs.rows import COLUMNS, read_rows
from flowpaint.outputs import SIGNATURE
from flowpaint.parts.execute import LocalExecutor
from flowpaint.runs import fingerprint

pytestmark = pytest.mark.usefixtures("negative")


class Elsewhere(MemoryFileSystem):
    """A store of its own protocol, as a driver would add it: what it was asked for is noted."""

    protocol = "elsewhere"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    asked: list = []  # noqa: RUF012
    fails: set = set()  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("elsewhere://", "memory://"))

    def cat_file(self, path, version_id=None, start=None, end=None):
        """With its arguments in the order of s3fs, which is not that of fsspec."""
        assert version_id is None
        return super().cat_file(path, start=start, end=end)

    def get_file(self, path, *rest, **more):
        self.asked.append(("get", path))
        return super().get_file(path, *rest, **more)

    def put_file(self, local, path, *rest, **more):
        self.asked.append(("put", path))
        if any(path.rpartition("/")[2].startswith((one, f".{one}")) for one in self.fails):
            raise ConnectionResetError("the line is dead")
        return super().put_file(local, path, *rest, **more)


@pytest.fixture
def elsewhere():
    fsspec.register_implementation("elsewhere", Elsewhere, clobber=True)
    system = fsspec.filesystem("elsewhere")
    for kept in (system.store, system.asked, system.fails):
        kept.clear()
    system.pseudo_dirs[:] = [""]
    return system


@pytest.fixture
def here(tmp_path, monkeypatch, moving_square):
    """A folder with a short video in it; the current folder is another one."""
    video.write(moving_square.clip[:4], tmp_path / "in.mp4")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    monkeypatch.setenv("FLOWPAINT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def table(folder, text, name="jobs.csv"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def rows_of(folder, text, name="jobs.csv", **how):
    return read_rows(table(folder, text, name), cache=folder / "cache", **how)


def done(folder, rows, **how):
    return run_batch(rows, Batch(cache=folder / "cache", **how), LocalExecutor())


def bytes_of(path):
    return path.stat().st_mtime_ns, path.read_bytes()


# ------------------------------------------------------------------------------------------------------------ the table


def test_a_row_says_what_the_command_line_says(here):
    video.write_picture(here / "mask.png", np.full((72, 96, 3), 255, np.uint8))
    row, other = rows_of(
        here,
        "input,prompt,method,mask,strength,keep-colors,seed,start,end,crf,codec,output,set\n"
        "in.mp4,van gogh,negative,mask.png,.5,yes,3,1,3,20,hevc,o.mkv,fails_at=-2; editor.short_side=128\n"
        "in.mp4,sepia,negative,,,,,,,,,,\n",
    )
    job = api.Job.from_dict(row.job)
    assert (job.input, job.output, job.mask) == tuple(str(here / one) for one in ("in.mp4", "o.mkv", "mask.png"))
    assert (job.prompt, job.strength, job.keep_colors, job.seed) == ("van gogh", 0.5, True, 3)
    assert (job.start, job.end, dict(job.encoding)) == ("1", "3", {"crf": 20, "codec": "hevc"})
    assert job.method["fails_at"] == -2 and job.method["editor"]["short_side"] == 128
    assert other.job["output"] == str(here / "in_negative_0.mp4") and other.number == 2


def test_the_three_kinds_of_file_say_the_same(here):
    csv = rows_of(
        here, "input,prompt,method,seed,keep_colors,keyframes,output\nin.mp4,sepia,negative,7,true,0=a.png;2=b.png,x.mp4\n"
    )
    toml = rows_of(
        here,
        '[[job]]\ninput = "in.mp4"\nprompt = "sepia"\nmethod = "negative"\nseed = 7\nkeep_colors = true\noutput = "x.mp4"\n'
        '[job.keyframes]\n0 = "a.png"\n2 = "b.png"\n',
        "jobs.toml",
    )
    values = {"input": "in.mp4", "prompt": "sepia", "method": "negative", "seed": 7, "keep_colors": True, "output": "x.mp4"}
    jsonl = rows_of(here, json.dumps(values | {"keyframes": {"0": "a.png", "2": "b.png"}}) + "\n\n", "jobs.jsonl")
    assert csv == toml == jsonl
    assert csv[0].job["keyframes"] == {"0": str(here / "a.png"), "2": str(here / "b.png")}


def test_what_settings_name_is_looked_for_beside_the_table(here):
    (here / "mymodel").mkdir()
    text = "input,prompt,method,settings\nin.mp4,a fox,fresco,model.weights=mymodel\n"
    assert rows_of(here, text)[0].job["method"]["model"]["weights"] == str(here / "mymodel")


@pytest.mark.slow
def test_other_kinds_of_edit(here):
    rows = rows_of(here, "kind,input,by,keyframe,output\ndeflicker,in.mp4,,,a.mp4\ncolorize,in.mp4,in.mp4,,b.mp4\n"
                         "propagate,in.mp4,,0=k.png,c.mp4\n")  # fmt: skip
    assert [row.job["method"]["part"] for row in rows] == ["deflicker", "colorize", "analogy"]


def test_outputs_go_where_they_are_told_to(here):
    text = "input,prompt,output\nin.mp4,sepia,sub/x.mp4\nin.mp4,sepia,/y.mp4\nin.mp4,sepia,s3://b/z.mp4\nin.mp4,sepia,\n"
    for place, start in ((str(here / "out"), f"{here}/out/"), ("s3://bucket/out/", "s3://bucket/out/")):
        outputs = [row.job["output"] for row in rows_of(here, text, output_dir=place)]
        assert outputs == [f"{start}sub/x.mp4", "/y.mp4", "s3://b/z.mp4", f"{start}in_analogy_0.mp4"]


@pytest.mark.parametrize(("text", "said"), [
    ("input,promt\nin.mp4,sepia\n", "row 1: There is no column 'promt'. Nearest: 'prompt'"),
    ("input,prompt\nin.mp4,sepia\nin.mp4,vna gog\n", "row 2: "),
    ("input,prompt,method\nin.mp4,sepia,analgy\n", "row 1: There is no method called 'analgy'"),
    ("prompt\nsepia\n", "row 1: It has no input"),
    ("input,seed\nin.mp4,many\n", "row 1: The column 'seed' cannot be 'many'. Give a whole number."),
    ("input,strict\nin.mp4,perhaps\n", "Give true or false"),
    ("input,strength\nin.mp4,2\n", "row 1: The strength 2.0 is outside 0..1"),
    ("input,keyframes\nin.mp4,a.png\n", "Write TIME=VALUE"),
    ("input,keyframes\nin.mp4,0=a;0=b\n", "each time once"),
    ("input,kind\nin.mp4,editt\n", "There is no kind 'editt'. Nearest: 'edit'"),
    ("input,prompt,output\nin.mp4,sepia,a.mp4\nin.mp4,ink,./a.mp4\n", "row 2: its output"),
    ("input,prompt,style\nin.mp4,,none.png\n", "row 1: "),
    ("input\n", "no rows"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_its_row_before_anything_starts(call, here, text, said):
    code, out, err = call("batch", table(here, text))
    assert code in (2, 4) and out == "" and said in err, err
    assert sorted(one.name for one in here.iterdir()) == ["in.mp4", "jobs.csv", "other"]


SAME = "a.mp4 a.mkv;a.mp4 a;a.mp4 x/../a.mp4;./a.mp4 a.mp4;a/ a.mp4;s3://b/a.mp4 S3://b/a.mov;s3://b/a/ s3://b/x/../a"


@pytest.mark.parametrize(
    ("one", "other"),
    [pair.split() for pair in SAME.split(";")] + [("a.mp4", "file://{here}/a.mkv"), ("link/a.mp4", "other/a.mp4")],
)
def test_no_two_rows_write_the_same_files(here, one, other):
    (here / "link").symlink_to("other")
    text = f"input,prompt,method,output\nin.mp4,sepia,negative,b.mp4\nin.mp4,sepia,negative,{one}\n"
    with pytest.raises(InputError, match=r"row 3: its output .*a.* row 2\. Give each its own\."):
        rows_of(here, text + f"in.mp4,sepia,negative,{other.format(here=here)}\n")


@pytest.mark.parametrize(("one", "other"), [("a.mp4", "x/a.mp4"), ("s3://b/a.mp4", "gs://b/a.mp4"), ("a.b.mp4", "a.mp4")])
def test_rows_of_the_same_name_elsewhere_are_fine(here, one, other):
    text = f"input,prompt,method,output\nin.mp4,sepia,negative,{one}\nin.mp4,sepia,negative,{other}\n"
    assert len(rows_of(here, text)) == 2


def test_all_rows_that_are_wrong_are_listed(here):
    with pytest.raises(InputError) as caught:
        rows_of(here, "input,prompt,colour\nin.mp4,vna gog,\n,sepia,\nin.mp4,sepia,red\n")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()[1:]] == ["row 1", "row 2", "row 3"]


@pytest.mark.parametrize(("name", "text", "error"), [
    ("jobs.xls", "", ConfigError), ("jobs.toml", "input = 3", ConfigError), ("jobs.toml", "[[job]]\n[[jobs]]\n", ConfigError),
    ("jobs.jsonl", "{", ConfigError), ("jobs.jsonl", "[1]", ConfigError), ("jobs.csv", "input,seed\nin.mp4\n", ConfigError),
    ("jobs.csv", "input\nin.mp4,7\n", ConfigError),
])  # fmt: skip
def test_what_is_no_table_is_refused(here, name, text, error):
    with pytest.raises(error, match="jobs"):
        rows_of(here, text, name)


def test_a_table_that_is_not_there(here):
    with pytest.raises(VideoError, match="cannot be read"):
        read_rows(here / "none.csv", cache=here)


def test_every_field_of_a_job_has_a_column():
    assert {*api.Job.__dataclass_fields__} - {"look", "encoding"} <= COLUMNS


# ------------------------------------------------------------------------------------------------------------- the work

TWO = "input,prompt,method,output\nin.mp4,sepia,negative,a.mp4\nin.mp4,sepia,negative,b.mp4\n"


def test_a_table_is_done_once(call, here):
    path = table(here, TWO)
    code, out, err = call("batch", path, "--summary", here / "sum.csv")
    assert code == 0, err
    assert (
        "1/2 row 1: done" in err
        and "2 done, 0 kept, 0 failed." in err
        and out.splitlines()[0].split()[:3] == ["row", "state", "frames"]
    )
    assert (here / "sum.csv").read_text().splitlines()[0] == "row,output,state,frames,seconds,code,message"
    before = {one: bytes_of(here / one) for one in ("a.mp4", "a.json", "b.mp4", "b.json")}
    code, out, _ = call("batch", path, "--json")
    found = json.loads(out)
    assert code == 0 and [row["state"] for row in found["rows"]] == ["kept", "kept"] and found["rows"][0]["frames"] == 4
    assert before == {one: bytes_of(here / one) for one in before}
    assert not list(here.glob("*.run"))


def test_a_bad_row_stops_no_other(call, here):
    (here / "bad.mp4").write_bytes(b"no video")
    text = TWO.replace("in.mp4,sepia,negative,a", "bad.mp4,sepia,negative,a") + "gone.mp4,sepia,negative,c.mp4\n"
    code, out, _ = call("batch", table(here, text), "--json", "--summary", here / "sum.json")
    found = json.loads(out)["rows"]
    assert code == 1 and [(row["state"], row["code"]) for row in found] == [("failed", 4), ("done", 0), ("failed", 4)]
    assert "bad.mp4" in found[0]["message"] and "gone.mp4" in found[2]["message"]
    assert json.loads((here / "sum.json").read_text())["rows"] == found
    (here / "bad.mp4").write_bytes((here / "in.mp4").read_bytes())
    assert [one.state for one in done(here, rows_of(here, text))] == ["done", "kept", "failed"]


@pytest.mark.parametrize("change", ["seed", *(pytest.param(one, marks=pytest.mark.slow) for one in ("input", "report", "sheet"))])
def test_what_was_made_otherwise_is_not_taken_for_done(here, moving_square, change):
    text = "input,prompt,method,output,seed\nin.mp4,sepia,negative,a.mp4,0\n"
    assert done(here, rows_of(here, text))[0].state == "done"
    if change == "seed":
        text = text.replace(",0\n", ",1\n")
    elif change == "input":
        (here / "in.mp4").unlink()
        video.write(moving_square.clip[1:5], here / "in.mp4")
    else:
        (here / "a.json").write_text({"report": "{}", "sheet": "no report"}[change])
    assert finished(api.Job.from_dict(rows_of(here, text)[0].job), here / "cache") is None
    refused = done(here, rows_of(here, text))[0]
    assert refused.state == "failed" and refused.code == 2 and "exists" in refused.message
    assert done(here, rows_of(here, text), overwrite=True)[0].state == "done"
    assert done(here, rows_of(here, text))[0].state == "kept"


@pytest.mark.slow
def test_a_video_that_was_deleted_is_made_again(here):
    rows = rows_of(here, "input,prompt,method,output\nin.mp4,sepia,negative,a.mp4\n")
    assert done(here, rows)[0].state == "done"
    (here / "a.mp4").unlink()
    assert done(here, rows)[0].state == "done" and (here / "a.mp4").exists()


@pytest.mark.slow
def test_policy_does_not_make_another_job(here):
    assert done(here, rows_of(here, "input,prompt,method,output\nin.mp4,sepia,negative,a.mp4\n"))[0].state == "done"
    again = rows_of(here, "input,prompt,method,output,offline\nin.mp4,sepia,negative,a.mp4,yes\n")
    assert done(here, again)[0].state == "kept"


def test_an_unfinished_row_is_gone_on_with(here):
    """As after a kill between the video and its report: both the output and the run folder are there."""
    rows = rows_of(here, "input,prompt,method,output\nin.mp4,sepia,negative,a.mp4\n")
    api.Result(api.Job.from_dict(rows[0].job)).save(keep_run=True)
    (here / "a.json").unlink()
    (here / "a.sheet.png").unlink()
    segment = next((here / "a.mp4.run" / "segments").iterdir())
    made = segment.stat().st_mtime_ns
    os.utime(segment, ns=(made - 10**9, made - 10**9))
    assert done(here, rows)[0].state == "done"
    assert (here / "a.json").exists() and not (here / "a.mp4.run").exists()


@pytest.mark.slow
def test_the_output_folder_is_made(here):
    assert done(here, rows_of(here, TWO, output_dir=str(here / "deep" / "er")))[1].state == "done"
    assert (here / "deep" / "er" / "b.mp4").exists()


def test_a_summary_of_another_kind_is_refused_first(call, here):
    for name in ("sum.txt", "none/sum.csv"):
        code, _, err = call("batch", table(here, TWO), "--summary", here / name)
        assert code == 2 and "summary" in err
    assert not (here / "a.mp4").exists()


def test_a_summary_holds_any_message(tmp_path):
    write_summary(tmp_path / "s.csv", [Outcome(row=1, output='a,"b".mp4', state="failed", code=2, message="one,\ntwo")])
    import csv

    with (tmp_path / "s.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["message"] == "one,\ntwo"


def test_an_address_without_ray_is_refused(call, here):
    code, _, err = call("batch", table(here, TWO), "--address", "auto")
    assert code == 2 and "--executor ray" in err
    code, _, err = call("batch", table(here, TWO), "--executor", "rya")
    assert code == 2 and "'ray'" in err


# ------------------------------------------------------------------------------------------------------------ elsewhere


def test_videos_elsewhere_are_fetched_and_put_back(here, elsewhere):
    elsewhere.pipe("/films/in.mp4", (here / "in.mp4").read_bytes())
    text = "input,prompt,method,output\nelsewhere://films/in.mp4,sepia,negative,elsewhere://made/x/a.mp4\n"
    rows = rows_of(here, text)
    assert [one.state for one in done(here, rows)] == ["done"], done(here, rows)
    assert sorted(elsewhere.find("/made")) == ["/made/x/a.json", "/made/x/a.mp4", "/made/x/a.sheet.png"]
    report = json.loads(elsewhere.cat_file("/made/x/a.json"))
    assert report["job"]["input"] == "elsewhere://films/in.mp4" and report["output"]["video"] == "elsewhere://made/x/a.mp4"
    assert report["input"]["path"] == "elsewhere://films/in.mp4" and [*report["files"]] == ["elsewhere://films/in.mp4"]
    assert str(here) not in elsewhere.cat_file("/made/x/a.json").decode()
    local = api.edit(here / "in.mp4", "sepia", method="negative").save(here / "local.mp4")
    remote.fetch("elsewhere://made/x/a.mp4", here / "back")
    there = next((here / "back").rglob("a.mp4"))
    assert all((video.read(there).raw(i) == video.read(local).raw(i)).all() for i in range(4))
    elsewhere.asked.clear()
    assert [one.state for one in done(here, rows)] == ["kept"]
    assert elsewhere.asked == []  # a look at it moves no video
    elsewhere.pipe("/films/in.mp4", (here / "in.mp4").read_bytes() + b"more")
    assert [one.state for one in done(here, rows)] == ["failed"]


def test_the_report_comes_last(here, elsewhere, monkeypatch):
    elsewhere.pipe("/films/in.mp4", (here / "in.mp4").read_bytes())
    rows = rows_of(here, "input,prompt,method,output\nelsewhere://films/in.mp4,sepia,negative,elsewhere://made/a.mp4\n")
    elsewhere.fails.add("a.sheet.png")
    lost = done(here, rows)[0]
    assert lost.state == "failed" and "a.sheet.png could not be written: ConnectionResetError" in lost.message
    assert sorted(elsewhere.find("/made")) == ["/made/a.mp4"]
    elsewhere.fails.clear()
    monkeypatch.setattr(api, "Result", None)  # it was made, and is not made again
    assert done(here, rows, overwrite=True)[0].state == "done"
    puts = [path for what, path in elsewhere.asked if what == "put"]
    assert all(".part" in path for path in puts) and puts[-1].startswith("/made/.a.json")


def test_what_was_being_replaced_is_not_taken_for_done(here, elsewhere):
    elsewhere.pipe("/films/in.mp4", (here / "in.mp4").read_bytes())
    head = "input,prompt,method,seed,output\n"
    before, after = (
        rows_of(here, f"{head}elsewhere://films/in.mp4,sepia,negative,{seed},elsewhere://made/a.mp4\n") for seed in (0, 1)
    )
    assert done(here, before)[0].state == "done"
    elsewhere.fails.add("a.sheet.png")
    assert done(here, after, overwrite=True)[0].state == "failed"
    elsewhere.fails.clear()
    assert done(here, before, overwrite=True)[0].state == "done", "the video is another job's by now"


@pytest.mark.slow
def test_a_file_url_is_as_good_as_a_path(here):
    rows = rows_of(here, f"input,prompt,method,output\nfile://{here}/in.mp4,sepia,negative,file://{here}/out/a.mp4\n")
    assert [one.state for _ in range(2) for one in done(here, rows)] == ["done", "kept"]
    assert sorted(one.name for one in (here / "out").iterdir()) == ["a.json", "a.mp4", "a.sheet.png"]


def test_a_style_elsewhere_goes_along(here, elsewhere):
    video.write_picture(here / "style.png", np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    elsewhere.pipe("/style.png", (here / "style.png").read_bytes())
    row = rows_of(here, "input,style,method\nin.mp4,elsewhere://style.png,negative\n")[0]
    assert row.job["style"] == row.job["method"]["editor"]["picture"] == "elsewhere://style.png"
    here_job = Batch(cache=here / "cache")._fetched(api.Job.from_dict(row.job))
    assert Path(here_job.style).read_bytes() == Path(here_job.method["editor"]["picture"]).read_bytes()
    assert Path(here_job.style).is_relative_to(here / "cache")


def test_what_was_fetched_is_fetched_once_and_again_when_it_changed(here, elsewhere):
    elsewhere.pipe("/a/x.bin", b"one")
    places = [remote.fetch("elsewhere://a/x.bin", here / "cache") for _ in range(3)]
    assert len({*places}) == 1 and places[0].read_bytes() == b"one" and len(elsewhere.asked) == 1
    elsewhere.pipe("/a/x.bin", b"two")
    assert remote.fetch("elsewhere://a/x.bin", here / "cache").read_bytes() == b"two"
    assert places[0].read_bytes() == b"one"
    assert not list((here / "cache").glob("*.part"))


def test_a_folder_replaces_the_one_that_is_there(here, elsewhere):
    (here / "new" / "deep").mkdir(parents=True)
    (here / "new" / "0.png").write_bytes(b"new")
    (here / "new" / "deep" / "1.png").write_bytes(b"deep")
    for url in ("elsewhere://out/made", "elsewhere://out/made/", f"file://{here}/out/made"):
        for old in ({"0.png": b"old", "7.png": b"old"}, {}):
            system = fsspec.filesystem(url.partition(":")[0])
            root = url.partition("://")[2].rstrip("/")
            system.makedirs(root, exist_ok=True)
            system.pipe({f"{root}/{name}": value for name, value in old.items()})
            remote.put(here / "new", url)
            assert sorted(remote.listed(url)) == ["0.png", "deep/1.png"]
            assert system.cat_file(f"{root}/0.png") == b"new"
    assert remote.listed("elsewhere://none") == {}


def test_frames_elsewhere_are_replaced_and_nothing_stays_here(here, elsewhere):
    signature = json.dumps({"pictures": {"000001.png": 3, "000099.png": 3}}).encode()
    elsewhere.pipe({"/made/out/000001.png": b"old", "/made/out/000099.png": b"old", f"/made/out/{SIGNATURE}": signature})
    rows = rows_of(here, "input,prompt,method,output\nin.mp4,sepia,negative,elsewhere://made/out/\n")
    assert done(here, rows)[0].code == 2
    assert done(here, rows, overwrite=True)[0].state == "done"
    frames = [f"out/{name}" for name in (SIGNATURE, *(f"{number:06d}.png" for number in range(4)))]
    assert sorted(remote.listed("elsewhere://made")) == ["out.json", "out.sheet.png", *frames]
    assert elsewhere.cat_file("/made/out/000001.png") != b"old"
    assert not list((here / "cache" / "made").iterdir())
    assert done(here, rows)[0].state == "kept"


def test_a_folder_elsewhere_that_holds_other_files_is_not_replaced(here, elsewhere):
    elsewhere.pipe({"/made/out/000001.png": b"old", "/made/out/000001.png.txt": b"mine"})
    rows = rows_of(here, "input,prompt,method,output\nin.mp4,sepia,negative,elsewhere://made/out\n")
    refused = done(here, rows, overwrite=True)[0]
    assert refused.code == 2 and "holds other files" in refused.message
    assert len(elsewhere.find("/made")) == 2


@pytest.fixture
def vague(elsewhere, monkeypatch):
    """A store as many an HTTP server is: it tells no size, and sends all when asked for a part."""
    told, sent = Elsewhere.info, Elsewhere.cat_file
    monkeypatch.setattr(Elsewhere, "info", lambda self, path, **more: told(self, path, **more) | {"size": None})
    monkeypatch.setattr(Elsewhere, "cat_file", lambda self, path, start=None, end=None, **more: sent(self, path))
    return elsewhere


def test_a_store_that_tells_no_size_will_do(here, vague):
    content = (here / "in.mp4").read_bytes()
    vague.pipe("/films/in.mp4", content)
    assert remote.fetch("elsewhere://films/in.mp4", here / "cache").read_bytes() == content
    assert remote.fingerprint("elsewhere://films/in.mp4", here / "cache") == fingerprint(here / "in.mp4")


def test_a_store_that_sends_all_for_a_part_will_do(here, elsewhere, monkeypatch):
    content = np.random.default_rng(0).integers(0, 255, (2 << 20) + 9, np.uint8).tobytes()
    (here / "x").write_bytes(content)
    elsewhere.pipe("/x", content)
    sent = Elsewhere.cat_file
    monkeypatch.setattr(Elsewhere, "cat_file", lambda self, path, start=None, end=None, **more: sent(self, path))
    assert remote.fingerprint("elsewhere://x", here / "cache") == fingerprint(here / "x")


def test_an_empty_file_must_come_too(here, elsewhere, monkeypatch):
    elsewhere.pipe("/empty", b"")
    monkeypatch.setattr(Elsewhere, "get_file", lambda self, path, local, **more: Path(local).write_bytes(b"page"))
    with pytest.raises(WorkError, match="Of the 0 bytes of elsewhere://empty 4 came"):
        remote.fetch("elsewhere://empty", here / "cache")


def test_what_others_put_there_is_seen(here, elsewhere, monkeypatch):
    """With a driver that keeps what it was told, as those of s3 and gs do, until it is told not to."""
    kept, looked = {}, Elsewhere.exists
    monkeypatch.setattr(
        Elsewhere, "exists", lambda self, path, **more: kept.setdefault(path, looked(self, path, **more)), raising=False
    )
    monkeypatch.setattr(Elsewhere, "invalidate_cache", lambda self, path=None: kept.clear(), raising=False)
    assert not remote.exists("elsewhere://a/x.bin")
    elsewhere.pipe("/a/x.bin", b"one")
    assert remote.exists("elsewhere://a/x.bin")


def test_a_folder_of_pictures_is_fetched_whole(here, elsewhere):
    for number in range(3):
        elsewhere.pipe(f"/pics/{number}.png", bytes([number]) * 10)
    place = remote.fetch("elsewhere://pics", here / "cache")
    assert [one.read_bytes()[0] for one in sorted(place.iterdir())] == [0, 1, 2]


@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 3, (2 << 20) + 9])
def test_the_fingerprint_elsewhere_is_that_of_the_file(here, elsewhere, size):
    content = np.random.default_rng(size).integers(0, 255, size, np.uint8).tobytes()
    (here / "x").write_bytes(content)
    elsewhere.pipe("/x", content)
    assert remote.fingerprint("elsewhere://x", here) == fingerprint(here / "x") == remote.fingerprint(str(here / "x"), here)


def test_what_cannot_be_had_is_said(here, elsewhere, monkeypatch):
    with pytest.raises(VideoError, match="There is nothing at elsewhere://none"):
        remote.fetch("elsewhere://none", here)
    with pytest.raises(ConfigError, match="names no file system"):
        remote.fetch("nosuch://x", here)
    monkeypatch.setitem(known_implementations, "absent", {"class": "absent_driver.System", "err": "Install absentfs"})
    with pytest.raises(MissingExtraError, match="absentfs"):
        remote.fetch("absent://x", here)
    elsewhere.pipe("/short", b"all of it")
    monkeypatch.setattr(Elsewhere, "get_file", lambda self, path, local, **more: Path(local).write_bytes(b"all"))
    with pytest.raises(WorkError, match="9 bytes of elsewhere://short 3 came"):
        remote.fetch("elsewhere://short", here / "cache")
    assert not list((here / "cache").iterdir())


@pytest.mark.parametrize(
    ("name", "url"), [("s3://a/b", True), ("C:/x", False), ("c://x", False), ("a/b://c", False), ("gs://x", True)]
)
def test_what_a_url_is(name, url):
    assert remote.is_url(name) is url
