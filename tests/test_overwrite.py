"""`--overwrite` through every command that writes: devices, pipes, sockets and folders of others stay, and nothing is begun."""

import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import flowpaint
from flowpaint import api, outputs, video
from flowpaint.errors import InputError
from flowpaint.outputs import SIGNATURE
from flowpaint.types import Clip
from test_outputs import dangling, device, other_folder, painted_over, pictures, snapshot, unsigned

Call = Callable[..., tuple[int, str, str]]


def clip(frames: int = 4, seed: int = 0) -> Clip:
    return Clip.from_array(np.random.default_rng(seed).integers(0, 255, (frames, 64, 64, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mp4"
    video.write(clip(), path)
    return path


@pytest.fixture
def here(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, negative: None) -> Iterator[Path]:
    """A folder with `in.mp4`, in which commands run; whoever waits at a pipe is woken by an alarm."""
    shutil.copyfile(source, tmp_path / "in.mp4")
    (tmp_path / "films").mkdir()
    shutil.copyfile(source, tmp_path / "films" / "in.mp4")
    (tmp_path / "jobs.csv").write_text("input,prompt,method,output\nin.mp4,sepia,negative,made/a.mp4\n")
    (tmp_path / "elsewhere.csv").write_text(f"input,prompt,method,output\nin.mp4,sepia,negative,file://{tmp_path}/made/a.mp4\n")
    (tmp_path / "pictures.csv").write_text(f"input,prompt,method,output\nin.mp4,sepia,negative,file://{tmp_path}/made/a\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWPAINT_CACHE", str(tmp_path / "cache"))

    def woken(*_: object) -> None:
        raise AssertionError("the command waits")

    before = signal.signal(signal.SIGALRM, woken)
    signal.alarm(30)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


EDIT = "edit in.mp4 sepia --method negative --overwrite"
COMPARE = "compare in.mp4 sepia --methods negative --metrics pixel-mse --overwrite"
BENCH = "benchmark folder films --prompt sepia --methods negative --metrics pixel-mse --overwrite"

# command, and what of its files is a file
WRITERS = [
    (f"{EDIT} -o out.mp4", "out.mp4"),
    (f"{EDIT} -o out.mp4", "out.json"),
    (f"{EDIT} -o out.mp4", "out.sheet.png"),
    (f"{EDIT} -o out.mp4 --dry-run", "out.mp4"),
    (f"{EDIT} -o out", "out.json"),
    (f"{EDIT} -o out.mp4 --approve", "out.mp4"),
    ("propagate in.mp4 --method negative --keyframe 0=key.png --overwrite -o out.mp4", "out.mp4"),
    ("frames in.mp4 --at 0 --overwrite -o keys", "keys/000000.png"),
    ("looks --sheet looks.png --overwrite", "looks.png"),
    ("evaluate in.mp4 --source in.mp4 --metrics pixel-mse --overwrite --report page.html", "page.html"),
    ("evaluate in.mp4 --source in.mp4 --metrics pixel-mse --overwrite --report page.html", "page.json"),
    ("evaluate in.mp4 --source in.mp4 --metrics pixel-mse --overwrite --report page.html", "page.csv"),
    (f"{COMPARE} --report page.html", "page.json"),
    (f"{COMPARE} -o videos", "videos/negative.mp4"),
    (f"{COMPARE} -o videos", "videos/negative.json"),
    (f"{BENCH} --report page.html", "page.html"),
    ("vote votes --overwrite", "votes/vote.html"),
    ("batch jobs.csv --overwrite --summary sum.csv", "sum.csv"),
    ("batch jobs.csv --overwrite --summary sum.json", "sum.json"),
]
# the same, where a folder goes
FOLDERS = [
    (f"{EDIT} -o out", "out"),
    (f"{EDIT} -o out --dry-run", "out"),
    (f"{EDIT} -o out.mp4", "out.mp4.run"),
    (f"{EDIT} -o out.mp4 --run here", "here"),
    ("frames in.mp4 --at 0 --overwrite -o keys", "keys"),
    (f"{COMPARE} -o videos", "videos"),
    (f"{BENCH} -o bench", "bench"),
]
# rows of a table: each is refused alone
ROWS = [
    ("jobs.csv", "made/a.mp4"),
    ("jobs.csv", "made/a.json"),
    ("jobs.csv", "made"),
    ("elsewhere.csv", "made/a.mp4"),
    ("elsewhere.csv", "made/a.json"),
    ("elsewhere.csv", "made/a.sheet.png"),
    ("pictures.csv", "made/a"),
]


def is_refused(call: Call, here: Path, command: str, name: str) -> None:
    """The command ends with 2 and two sentences that name the file; nothing is changed, and nothing new is there."""
    before = snapshot(here)
    code, out, err = call(*shlex.split(command))
    message = err.strip().splitlines()[-1]
    assert (code, out) == (2, ""), err
    assert Path(name).name in message and message.count(". ") == 1 and message.endswith("."), message
    assert "Traceback" not in err
    after = snapshot(here)
    assert after == before, (after.keys() ^ before.keys(), message)


def placed(here: Path, name: str, make: Callable[[Path], None]) -> None:
    (here / name).parent.mkdir(exist_ok=True)
    if name.startswith("votes"):
        for method in ("a", "b"):
            (here / "votes" / method).mkdir()
            (here / "votes" / method / "1.mp4").touch()
    make(here / name)


@pytest.mark.parametrize("make", [os.mkfifo, device, other_folder])
@pytest.mark.parametrize(("command", "name"), WRITERS, ids=[f"{row[0].split()[0]}-{row[1]}" for row in WRITERS])
def test_only_a_regular_file_is_replaced(call: Call, here: Path, command: str, name: str, make: Callable[[Path], None]) -> None:
    placed(here, name, make)
    video.write_picture(here / "key.png", clip().raw(0))
    is_refused(call, here, command, name)


@pytest.mark.parametrize("make", [os.mkfifo, dangling, lambda path: path.write_text("mine")])
@pytest.mark.parametrize(("command", "name"), FOLDERS, ids=[f"{row[0].split()[0]}-{row[1]}" for row in FOLDERS])
def test_nothing_but_a_folder_is_taken_for_one(
    call: Call, here: Path, command: str, name: str, make: Callable[[Path], None]
) -> None:
    placed(here, name, make)
    is_refused(call, here, command, name)


@pytest.mark.parametrize("make", [other_folder, unsigned, painted_over])
@pytest.mark.parametrize(("command", "name"), FOLDERS[:4], ids=[row[1] for row in FOLDERS[:4]])
def test_folders_of_others_stay(call: Call, here: Path, command: str, name: str, make: Callable[[Path], None]) -> None:
    placed(here, name, make)
    is_refused(call, here, command, name)


@pytest.mark.parametrize("make", [os.mkfifo, dangling])
@pytest.mark.parametrize(("table", "name"), ROWS)
def test_a_row_of_a_table_is_refused(call: Call, here: Path, table: str, name: str, make: Callable[[Path], None]) -> None:
    if make is dangling and table != "jobs.csv":
        pytest.skip("fsspec takes a link to nothing for nothing")
    placed(here, name, make)
    before = snapshot(here)
    code, out, _ = call("batch", table, "--overwrite", "--json")
    (row,) = json.loads(out)["rows"]
    assert code == 1 and (row["state"], row["code"]) == ("failed", 2) and Path(name).name in row["message"], row
    after = {path: kept for path, kept in snapshot(here).items() if not path.startswith("cache")}
    assert after == before


@pytest.mark.parametrize("make", [other_folder, unsigned, painted_over])
def test_a_folder_of_others_behind_a_url_stays(call: Call, here: Path, make: Callable[[Path], None]) -> None:
    placed(here, "made/a", make)
    before = snapshot(here / "made")
    code, out, _ = call("batch", "pictures.csv", "--overwrite", "--json")
    (row,) = json.loads(out)["rows"]
    assert code == 1 and row["code"] == 2 and "holds other files" in row["message"], row
    assert snapshot(here / "made") == before


def test_a_summary_never_replaces_its_table_and_renews_itself(call: Call, here: Path) -> None:
    is_refused(call, here, "batch jobs.csv --overwrite --summary jobs.csv", "jobs.csv")
    (here / "mine.csv").write_text("a,b\n1,2\n")
    (here / "mine.json").write_text('{"rows": [{"a": 1}]}')
    is_refused(call, here, "batch jobs.csv --summary mine.csv", "mine.csv")
    is_refused(call, here, "batch jobs.csv --summary mine.json", "mine.json")
    for suffix in ("csv", "json"):
        for _ in range(2):
            assert call("batch", "jobs.csv", "--summary", f"sum.{suffix}")[0] == 0


# -------------------------------------------------------------------------------------- what is said without --overwrite


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((command.replace(" --overwrite", ""), name) for command, name in WRITERS if not command.startswith("batch")),
        (f"{EDIT} -o out --set candidates=2".replace(" --overwrite", "").replace("negative", "stablev2v"), "out.candidates.png"),
    ],
)
def test_without_it_no_file_is_replaced(call: Call, here: Path, command: str, name: str) -> None:
    placed(here, name, lambda path: path.write_text("mine"))
    video.write_picture(here / "key.png", clip().raw(0))
    is_refused(call, here, command, name)


def test_a_benchmark_renews_its_own_report_only(call: Call, here: Path) -> None:
    bench = shlex.split(f"{BENCH} --report page.html".replace(" --overwrite", ""))
    assert call(*bench)[0] == 0
    before = (here / "page.html").stat().st_mtime_ns
    assert call(*bench)[0] == 0
    assert (here / "page.html").stat().st_mtime_ns > before
    (here / "page.json").write_text('{"format": "mine"}')
    is_refused(call, here, shlex.join(bench), "page.html")


def test_videos_of_others_stay_in_a_comparison(call: Call, here: Path) -> None:
    """One method's video is the result of another job: nothing is rendered, not even by the methods before it."""
    flowpaint.edit("in.mp4", "night", method="freeze").save(placed_in(here / "videos") / "freeze.mp4")
    command = "compare in.mp4 sepia --methods negative,freeze --metrics pixel-mse -o videos"
    is_refused(call, here, command, "freeze.mp4")
    assert call(*shlex.split(command), "--overwrite")[0] == 0
    before = snapshot(here / "videos")
    assert call(*shlex.split(command))[0] == 0  # made by the same jobs: they are not made again
    assert snapshot(here / "videos") == before


def placed_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("colorize in.mp4 --by other.mp4 -o other.mp4 --overwrite", "other.mp4"),
        ("propagate in.mp4 --method negative --keyframe 0=out.sheet.png -o out.mp4 --overwrite", "out.sheet.png"),
        ("propagate in.mp4 --method negative --keyframe 0=frames/000000.png -o frames --overwrite", "frames"),
        ("edit frames sepia --method negative -o frames --overwrite", "frames"),
        ("edit in.mp4 sepia --method negative --mask link.png -o out --overwrite", "out.sheet.png"),
        ("edit in.mp4 sepia --method negative -o link.mp4 --overwrite", "link.mp4"),
    ],
)
def test_what_a_job_reads_is_not_replaced(call: Call, here: Path, command: str, name: str) -> None:
    video.write(clip(), here / "other.mp4")
    video.write(clip(), here / "frames")
    video.write_picture(here / "out.sheet.png", clip().raw(0))
    (here / "link.png").symlink_to("out.sheet.png")
    (here / "link.mp4").symlink_to("in.mp4")
    is_refused(call, here, command, name)


# --------------------------------------------------------------------------------------------------------- what is done


def test_what_we_wrote_is_replaced(call: Call, here: Path) -> None:
    for end in ("4", "2"):
        assert call(*shlex.split(EDIT), "-o", "out", "--end", end)[0] == 0
        assert len(video.read("out")) == int(end)
    assert sorted(one.name for one in (here / "out").iterdir()) == [SIGNATURE, "000000.png", "000001.png"]
    tables = {"jobs.csv", "elsewhere.csv", "pictures.csv"}
    assert {one.name for one in here.iterdir()} == {"films", "in.mp4", "out", "out.json", "out.sheet.png", *tables}


def test_a_link_is_followed_and_that_is_said(call: Call, here: Path) -> None:
    (here / "big").mkdir()
    (here / "big" / "real.mp4").write_text("old")
    (here / "out.mp4").symlink_to("big/real.mp4")
    code, _, err = call(*shlex.split(EDIT), "-o", "out.mp4")
    assert code == 0 and "symbolic link" in err and "real.mp4" in err
    assert (here / "out.mp4").is_symlink() and len(video.read(here / "big" / "real.mp4")) == 4
    assert [one.name for one in (here / "big").iterdir()] == ["real.mp4"]


def test_a_run_folder_may_be_a_link(call: Call, here: Path) -> None:
    (here / "scratch").mkdir()
    (here / "out.mp4.run").symlink_to("scratch")
    assert call(*shlex.split(EDIT), "-o", "out.mp4", "--keep-run")[0] == 0
    assert (here / "scratch" / "run.json").exists()
    assert call(*shlex.split(EDIT), "-o", "out.mp4")[0] == 0
    assert (here / "out.mp4.run").is_symlink() and not list((here / "scratch").iterdir())


@pytest.mark.parametrize(
    ("output", "late"), [("out.mp4", "out.mp4"), ("out.mp4", "out.json"), ("out.mp4", "out.sheet.png"), ("out", "out")]
)
def test_what_comes_while_it_works_stays(here: Path, output: str, late: str) -> None:
    """The work is kept, and goes into its place when that is free or may be replaced."""
    result = flowpaint.edit("in.mp4", "sepia", method="negative")

    def busy(index: int, _: object) -> None:
        if index == 3:
            (here / late).write_text("mine") if late != "out" else unsigned(here / late)

    with pytest.raises(InputError):
        result.save(output, shown=busy)
    assert ((here / late).read_text() == "mine") if late != "out" else (len(list((here / late).iterdir())) == 3)
    assert (here / f"{output}.run" / "segments").is_dir()
    seen: list[int] = []
    again, saving = api.resume(f"{output}.run", overwrite=True)
    if late == "out":
        with pytest.raises(InputError, match="holds other files"):
            again.save(**saving)
        shutil.rmtree(late)
    again.save(**saving, shown=lambda index, _: seen.append(index))
    assert len(video.read(output)) == 4 and seen == []  # nothing was made again


def test_a_killed_replacement_goes_on(here: Path) -> None:
    """Killed when the old folder is half gone: nothing but the two folders is there, and `resume` ends it without new work."""
    job, _ = api.plan_job("edit", "in.mp4", prompt="sepia", method="negative")
    pictures(here / "out", 9, "old")
    child = os.fork()
    if child == 0:

        def killed(folder: Path) -> None:
            (folder / "000008.png").unlink()
            os.kill(os.getpid(), signal.SIGKILL)

        outputs._delete = killed
        api.Result(job).save("out", overwrite=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert {one.name for one in here.iterdir()} == {
        *("films", "in.mp4", "jobs.csv", "elsewhere.csv", "pictures.csv", "out", "out.run"),
    }
    assert len(list((here / "out").glob("*.png"))) == 8
    seen: list[int] = []
    result, saving = api.resume("out.run")
    result.save(**saving, shown=lambda index, _: seen.append(index))
    assert sorted(one.name for one in (here / "out").glob("*.png")) == [f"{index:06d}.png" for index in range(4)]
    assert seen == [] and not (here / "out.run").exists()


def test_a_row_of_ours_that_was_killed_is_told_from_a_file_of_others(here: Path) -> None:
    """A run that was killed before its end has written no output: what is there then is somebody else's."""
    from flowpaint.jobs.batch import Batch
    from flowpaint.jobs.rows import read_rows
    from flowpaint.runs import RunFolder

    (row,) = read_rows(here / "jobs.csv", cache=here / "cache")
    result = api.Result(api.Job.from_dict(row.job))
    placed_in(here / "made")
    run = api.run_folder(result.job.output)
    RunFolder.open(run, result._manifest({"overwrite": False})).store.put("x", {"x": np.ones(1)})
    video.write(clip(seed=3), here / "made" / "a.mp4")
    before = (here / "made" / "a.mp4").read_bytes()
    outcome = Batch(cache=here / "cache")(row)
    assert (outcome.state, outcome.code) == ("failed", 2) and (here / "made" / "a.mp4").read_bytes() == before
    assert Batch(cache=here / "cache", overwrite=True)(row).state == "done"


def test_the_server_takes_no_folder_of_others(call: Call, here: Path) -> None:
    (here / "data" / "jobs").mkdir(parents=True)
    (here / "data" / "jobs" / "letter.txt").write_text("mine")
    is_refused(call, here, "serve --data data --port 1", "data")
