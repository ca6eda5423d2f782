"""Shots made by an executor: the same film and report as without one, gone on with where it stopped, memory and disk bounded."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flowpaint import api, seams, video
from flowpaint.api import result as results
from flowpaint.api import spread
from flowpaint.errors import ConfigError, InputError, WorkError
from flowpaint.parts.execute import LocalExecutor, RayExecutor
from flowpaint.runs import FolderStore
from flowpaint.types import Clip
from test_api import Negative, raws

pytestmark = pytest.mark.usefixtures("negative")

HERE = LocalExecutor()
COST = {"job", "seconds", "workers", "output", "frames_per_second", "peak_memory"}  # what two runs may differ in


@pytest.fixture(autouse=True)
def few_frames(monkeypatch):
    """Chunks of 3 frames in the store, segments of 4 in the file."""
    monkeypatch.setattr(spread, "chunk_size", lambda clip: 3)
    monkeypatch.setattr(results, "CHUNK", 4)
    Negative.calls.clear()
    spread._prepared.cache_clear()


@pytest.fixture
def here(tmp_path, monkeypatch, cut):
    """A folder with a film of two shots, frames 0 to 6 and 7 to 11."""
    video.write(cut.clip, tmp_path / "cut.mp4", encoding=video.Encoding(codec="h264", crf=4))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edited(output, executor=HERE, **options):
    made = api.edit("cut.mp4", "sepia", method="negative", **options)
    made.save(output, executor=executor)
    return made


def stored(folder):
    store = FolderStore(folder / "store")
    return [n for n in range(12) if store.get(f"spread told {n}")], [n for n in range(12) if store.get(f"spread frames {n}")]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": "mask.mkv", "strength": 0.5},
        pytest.param({"start": 2, "end": 10, "side_by_side": True}, marks=pytest.mark.slow),
        pytest.param({"encoding": {"codec": "ffv1"}, "seed": 3}, marks=pytest.mark.slow),
    ],
    ids=["plain", "mask", "part", "ffv1"],
)
def test_the_film_and_its_report_are_those_without(here, options):
    if "mask" in options:  # no frame before 4 and in 8 shows the edit, so no row of numbers tells of them
        mask = np.zeros((12, 64, 80, 3), np.uint8)
        mask[[4, 5, 6, 7, 9, 10, 11], 8:40, 8:60] = 255
        video.write(Clip.from_array(mask), here / "mask.mkv", encoding=video.Encoding(codec="ffv1"))
    end = "mkv" if options.get("encoding") else "mp4"
    alone, spread_out = edited(f"a.{end}", None, **options), edited(f"b.{end}", **options)
    assert (raws(video.read(f"a.{end}")) == raws(video.read(f"b.{end}"))).all()
    assert {name for name in alone.report if alone.report[name] != spread_out.report[name]} <= COST
    assert ("confidence" in alone.report["frames"][0]) is ("mask" not in options)
    assert alone.report["workers"] is None and spread_out.report["workers"]["shots"] == 2


def test_nothing_is_left_behind(here):
    edited("a.mp4")
    assert sorted(one.name for one in here.iterdir()) == ["a.json", "a.mp4", "a.sheet.png", "cut.mp4"]


def test_frames_are_forgotten_once_their_segment_is_closed(here):
    made = api.edit("cut.mp4", "sepia", method="negative")
    held = []

    def look(stage, done, total):
        if stage == "write":
            held.append((done, stored(here / "a.mp4.run")[1]))

    made.save("a.mp4", executor=HERE, progress=look)
    assert {0, 3, 6} <= {*dict(held)[4]}  # nothing of the first shot is forgotten yet
    assert dict(held)[9] == [3, 6, 7, 10]  # one segment late: that of 8 may not be closed yet
    assert held[-1] == (12, [7, 10])


def test_a_film_goes_on_where_it_stopped(here):
    class Killed(BaseException):
        pass

    def kill(stage, done, total):
        if stage == "write" and done == 9:
            raise Killed

    with pytest.raises(Killed):
        api.edit("cut.mp4", "sepia", method="negative").save("a.mp4", executor=HERE, progress=kill)
    Negative.calls.clear()
    spread._prepared.cache_clear()
    again, saving = api.resume("a.mp4.run")
    again.save(**saving, executor=HERE)
    assert again.report["workers"]["chunks"] == 0 and again.report["workers"]["shots"] == 1  # the first is in the file
    assert not Negative.calls
    alone = edited("b.mp4", None)
    assert (raws(video.read("a.mp4")) == raws(video.read("b.mp4"))).all()
    assert [row["confidence"] for row in again.report["frames"]] == [row["confidence"] for row in alone.report["frames"]]
    assert again.report["warnings"] == alone.report["warnings"]


def test_frames_that_are_in_the_file_are_not_made_again(here, moving_square):
    """In the middle of a shot: its first chunk was encoded and forgotten before the light went out."""
    video.write(moving_square.clip, here / "one.mp4")

    def kill(stage, done, total):
        if stage == "write" and done == 9:
            raise WorkError("The light went out. Wait.")

    with pytest.raises(WorkError):
        api.edit("one.mp4", "sepia", method="negative").save("a.mp4", executor=HERE, progress=kill)
    assert stored(here / "a.mp4.run")[0] == [3, 6, 9]
    again, saving = api.resume("a.mp4.run")
    again.save(**saving, executor=HERE)
    assert again.report["workers"]["chunks"] == 0


def test_only_chunks_that_are_missing_are_made(here):
    folder = here / "a.mp4.run"

    def lose(stage, done, total):
        if stage == "write" and done == 1:
            store = FolderStore(folder / "store")
            store.drop("spread told 3")
            store.drop("spread told 6")
            raise WorkError("The light went out. Wait.")

    with pytest.raises(WorkError, match="light"):
        api.edit("cut.mp4", "sepia", method="negative").save("a.mp4", executor=HERE, progress=lose)
    assert stored(folder) == ([0], [0, 3, 6])
    again = edited("a.mp4")
    assert again.report["workers"]["chunks"] == 4  # 3 and 6 again, and the two of the second shot


@pytest.mark.slow
def test_a_local_resume_finishes_what_an_executor_began(here):
    def kill(stage, done, total):
        if stage == "write" and done == 6:
            raise WorkError("The light went out. Wait.")

    with pytest.raises(WorkError):
        api.edit("cut.mp4", "sepia", method="negative").save("a.mp4", executor=HERE, progress=kill)
    again, saving = api.resume("a.mp4.run")
    again.save(**saving)
    edited("b.mp4", None)
    assert (raws(video.read("a.mp4")) == raws(video.read("b.mp4"))).all()


@pytest.mark.parametrize(
    ("fails", "shot", "left"), [(1, "shot 1, frames 0 to 6", [7, 10]), (9, "shot 2, frames 7 to 11", [0, 3, 6])]
)
def test_a_poisoned_shot_is_named_and_stops_no_other(here, fails, shot, left):
    with pytest.raises(WorkError, match=f"^{shot}: Frame . fails.*All other shots are finished"):
        edited("a.mp4", settings={"fails_at": fails})
    assert stored(here / "a.mp4.run")[0] == left


def test_all_poisoned_shots_are_named(here, monkeypatch):
    monkeypatch.setattr(Negative, "__call__", lambda *_: [][0])
    with pytest.raises(WorkError) as caught:
        edited("a.mp4")
    assert "shot 1, frames 0 to 6" in str(caught.value) and "shot 2, frames 7 to 11" in str(caught.value)


def test_an_error_keeps_its_kind(here, monkeypatch):
    def refuses(*_):
        raise InputError("This is nothing for me. Take another.")

    monkeypatch.setattr(Negative, "__call__", refuses)
    with pytest.raises(InputError, match="shot 1, frames 0 to 6: This is nothing for me"):
        edited("a.mp4")
    assert not (here / "a.mp4.run").exists()  # as without an executor: the corrected command may have it


@pytest.mark.slow
def test_all_shots_take_their_colours_from_one_frame_that_is_edited_once(here):
    edited("a.mp4", settings={"editor": "looks"})
    (first, second) = (edit.anchor for _, edit, _ in Negative.calls)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    edited("b.mp4", None, settings={"editor": "looks"})
    assert all((one == other).all() for one, other in zip(first, Negative.calls[-1][1].anchor, strict=True))


@pytest.mark.slow
def test_shots_that_stay_as_they_are_go_nowhere(here):
    video.write_picture("key.png", 255 - video.read("cut.mp4").raw(2))
    options = {"method": "negative", "other_shots": "keep", "settings": ["editor=none"]}
    for name, executor in (("a.mp4", HERE), ("b.mp4", None)):
        made = api.propagate("cut.mp4", {2: "key.png"}, **options)
        told = []
        made.save(name, executor=executor, progress=lambda *one, told=told: told.append(one))
        assert [one for one in told if one[0] == "shots"] == [("shots", 1, 1)] * (executor is not None)
    assert (raws(video.read("a.mp4")) == raws(video.read("b.mp4"))).all()


def test_workers_must_see_the_same_files(here):
    made = api.edit("cut.mp4", "sepia", method="negative")
    work = spread.ShotWork(
        job=made.job, files={"cut.mp4": "0" * 64}, shots=made.prepared.shots, anchor=None, chunk=4, store=FolderStore(here / "s")
    )
    shot = spread.Wanted(shot=range(7), begin=0, name="shot 1")
    with pytest.raises(InputError, match=r"sees another cut\.mp4"):
        work(shot)
    with pytest.raises(InputError, match=r"cannot read gone\.mp4"):
        replace(work, files={"gone.mp4": ""})(shot)


@pytest.mark.slow
def test_a_film_is_opened_once_in_a_worker(here, monkeypatch):
    opened = []
    monkeypatch.setattr(
        spread, "prepare", lambda *given, **more: opened.append(1) or api.prepare_job(*given, **more), raising=True
    )
    from flowpaint.api.prepare import prepare

    monkeypatch.setattr(api, "prepare_job", prepare, raising=False)
    edited("a.mp4")
    edited("b.mp4", seed=2)
    assert len(opened) == 2


@pytest.mark.slow
def test_frames_that_are_gone_are_said_and_made_again(here, monkeypatch):
    taken = FolderStore.get

    def loses(self, key):
        return None if key == "spread frames 3" else taken(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "get", loses)
        with pytest.raises(WorkError, match="The frames from 3 on are gone"):
            edited("a.mp4")
    assert edited("a.mp4").report["workers"]["chunks"] == 1 + 2


def test_what_is_in_memory_goes_nowhere(here, cut):
    with pytest.raises(ConfigError, match="in memory"):
        api.edit(cut.clip, "sepia", method="negative").save("a.mp4", executor=HERE)


def test_large_frames_go_in_smaller_chunks(monkeypatch, cut):
    monkeypatch.undo()
    assert spread.chunk_size(cut.clip) == 48
    wide = Clip(cut.clip.raw, times=cut.clip.times, end=cut.clip.end, height=4320, width=7680, bits=16)
    assert spread.chunk_size(wide) == 1
    assert 1 < spread.chunk_size(Clip(cut.clip.raw, times=cut.clip.times, end=cut.clip.end, height=1080, width=1920)) < 48


@pytest.mark.slow
def test_the_commands_say_who_works(call, here):
    code, _, err = call("edit", "cut.mp4", "sepia", "--method", "negative", "--executor", "lokal")
    assert code == 2 and "'local'" in err
    code, _, err = call("edit", "cut.mp4", "sepia", "--method", "negative", "--gpus", "0.5")
    assert code == 2 and "--executor ray" in err
    code, _, err = call("edit", "cut.mp4", "sepia", "--method", "negative", "--workers", "1", "-o", "a.mp4")
    assert code == 0 and json.loads((here / "a.json").read_text())["workers"] is None


@pytest.mark.slow
def test_shots_in_processes_of_this_machine(call, here, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(here)
    for name, more in (("a.mp4", ()), ("b.mp4", ("--workers", "2"))):
        code, _, err = call("edit", "cut.mp4", "sepia", "--method", "frame-by-frame", "-o", name, *more)
        assert code == 0, err
    assert (raws(video.read("a.mp4")) == raws(video.read("b.mp4"))).all()
    assert json.loads((here / "b.json").read_text())["workers"]["executor"] == seams.to_dict(LocalExecutor(workers=2))


def test_the_executor_of_the_command_line_is_the_one_that_was_named():
    from flowpaint.cli.options import Machines

    assert Machines().chosen() is None and Machines(workers=3).chosen() == LocalExecutor(workers=3)
    asked = Machines(executor="ray", workers=4, address="auto", gpus=0.25).chosen()
    assert asked == RayExecutor(workers=4, address="auto", gpus_per_worker=0.25)
