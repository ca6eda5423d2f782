"""Workers: real edits of real files by real processes, which are killed, stopped, cancelled and starved on the way."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from flowpaint import api, video
from flowpaint.errors import ConfigError, InputError
from flowpaint.jobs import Crew, JobStore, Queue
from flowpaint.jobs import pulse as pulses
from flowpaint.jobs.cleaning import sweep
from flowpaint.jobs.pulse import GONE
from flowpaint.jobs.work import attempt, lock_of
from video_files import make, smooth

FRAMES = 60


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path / "data") as store:
        yield store


@pytest.fixture
def queue(store):
    return Queue(store)


@pytest.fixture
def film(store, tmp_path):
    path = make(tmp_path / "film.mp4", [smooth(96, 128, shift=index) for index in range(FRAMES)], sound=("eng",))
    return store.add_asset("", "film.mp4", path, "video", {}).path


@pytest.fixture
def crew(store):
    crew = Crew(store.folder, workers=1)
    crew.start()
    yield crew
    crew.stop()


def submit(store, film, prompt="van gogh", *, approve=False, **options):
    job, _ = api.plan_job("edit", film, prompt=prompt, **options)
    return store.submit("", job.to_dict(), request={}, name="painted.mp4", approve=approve).id


def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
    return found


def frames_of(path):
    clip = video.read(path)
    return np.stack([clip.raw(index) for index in range(len(clip))])


def undisturbed(film, path, prompt="van gogh", **options):
    api.edit(film, prompt, **options).save(path)
    return frames_of(path)


# ----------------------------------------------------------------------------------------------------- one job, in this process


def test_a_job_is_done(store, queue, film):
    key = submit(store, film, end="4")
    attempt(queue, queue.claim("here"))
    job = store.get("", key)
    assert (job.state, job.stage, job.run.exists()) == ("done", job.stage, False)
    assert video.probe(job.output).frames == 4 and len(video.probe(job.output).audio) == 1
    report = json.loads((job.folder / "result.json").read_text())
    assert report["look"] and str(store.folder) not in json.dumps(report)
    assert job.bytes == sum(one.stat().st_size for one in job.folder.iterdir())


_ALONE = """
import os, sys
from pathlib import Path
from flowpaint.jobs import JobStore, Queue
from flowpaint.jobs.work import attempt, lock_of
queue = Queue(JobStore(Path(sys.argv[1])))
if sys.argv[2] == "dies":
    Queue.finish = lambda *_: os._exit(9)
attempt(queue, queue.claim("here"), seconds=0.5 if sys.argv[2] == "late" else None)
"""


def alone(store, how):
    """A process that does one job."""
    return subprocess.Popen([sys.executable, "-c", _ALONE, str(store.folder), how])


@pytest.mark.slow
def test_a_job_that_was_done_before_its_worker_died_is_not_done_again(store, queue, film):
    key = submit(store, film, end="3")
    assert alone(store, "dies").wait() == 9
    written = store.get("", key).output.stat().st_mtime_ns
    queue.lose("here")
    attempt(queue, queue.claim("here"))
    job = store.get("", key)
    assert job.state == "done" and job.attempt == 2 and job.output.stat().st_mtime_ns == written


def test_a_failure_is_that_of_the_command_line(store, queue, film):
    key = submit(store, film, start="900")
    attempt(queue, queue.claim("here"))
    job = store.get("", key)
    with pytest.raises(InputError) as told:
        api.edit(film, "van gogh", start="900")
    assert (job.state, job.code, job.error) == ("failed", 2, str(told.value))
    assert not job.run.exists()


@pytest.mark.slow
def test_a_job_that_takes_too_long_fails(store, film):
    key = submit(store, film)
    assert alone(store, "late").wait() == GONE
    job = store.get("", key)
    assert (job.state, job.code) == ("failed", 1) and "took longer than 0 s" in job.error
    job.run.mkdir(parents=True, exist_ok=True)  # it may have ended before there was one
    sweep(store)
    assert not job.run.exists() and job.folder.exists()


def test_warnings_become_events(store, queue, film):
    submit(store, film, end="2", settings={"flow.preset": "fast"})
    job = queue.claim("here")
    monkey = api.Result.save

    def save(self, **saving):
        self._notes.warn("This is worth knowing.")
        return monkey(self, **saving)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api.Result, "save", save)
        attempt(queue, job)
    told = [event.data for event in store.events(job.id) if event.kind == "log"]
    assert {"level": "warning", "message": "This is worth knowing."} in told


@pytest.mark.slow
def test_the_first_frame_is_approved(store, queue, film):
    key = submit(store, film, end="3", approve=True)
    attempt(queue, queue.claim("here"))
    first = store.get("", key)
    assert first.state == "waiting" and first.first["frame"] == 0
    picture = video.read_picture(first.first["path"])
    store.approve("", key, seed=5)
    attempt(queue, queue.claim("here"))
    again = store.get("", key)
    assert again.state == "waiting" and again.job["seed"] == 5
    store.approve("", key)
    attempt(queue, queue.claim("here"))
    job = store.get("", key)
    assert job.state == "done", job.error
    assert picture.shape == (96, 128, 3) and video.probe(job.output).frames == 3
    assert (job.folder / "first.png").exists() and not job.run.exists()


@pytest.mark.slow
def test_a_cancelled_job_ends_its_worker_at_once(store, film):
    key = submit(store, film)
    worker = alone(store, "well")
    until(lambda: store.get("", key).done > 0)
    store.cancel("", key)
    assert worker.wait() == GONE
    job = store.get("", key)
    assert job.state == "cancelled" and job.done < FRAMES and job.folder.exists()
    sweep(store)
    assert not job.folder.exists() and store.get("", key).bytes is None


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.4, 0.8])
def test_a_job_cancelled_early_spoils_no_other(store, film, crew, after):
    first, second = submit(store, film), submit(store, film, end="3")
    until(lambda: store.get("", first).state == "running")
    time.sleep(after)
    store.cancel("", first)
    until(lambda: store.get("", second).has_ended)
    assert store.get("", second).state == "done", store.get("", second).error
    assert not store.get("", first).folder.exists()


def test_while_at_work_it_tells_and_shows(store, queue, film, monkeypatch):
    monkeypatch.setattr(pulses, "_BEAT", 0.05)
    monkeypatch.setattr(pulses, "_PREVIEW", 0.05)
    monkeypatch.setattr(pulses, "_LOOK", 0.02)
    submit(store, film, end="6")
    job = queue.claim("here")
    attempt(queue, job)
    kinds = [event.kind for event in store.events(job.id)]
    assert {"progress", "preview", "state"} <= set(kinds)
    assert video.read_picture(job.folder / "preview.jpg").shape == (96, 128, 3)


# --------------------------------------------------------------------------------------------------------- real processes


@pytest.mark.slow
def test_a_killed_workers_job_goes_on_bit_identical(store, film, crew, tmp_path):
    key = submit(store, film)
    job = store.get("", key)
    until(lambda: any((job.run / "segments").glob("*.part")) or list((job.run / "store").glob("*.npz")))
    until(lambda: store.get("", key).done >= 50 or store.get("", key).state == "done")
    killed = crew.pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: store.get("", key).has_ended)
    job = store.get("", key)
    assert job.state == "done", job.error
    assert job.losses == 1 and job.attempt == 2, "it was done before it could be killed"
    assert np.array_equal(frames_of(job.output), undisturbed(film, tmp_path / "alone.mp4"))


@pytest.mark.slow
def test_kill_again_and_again(store, film, crew):
    keys = [submit(store, film, end="12") for _ in range(6)]
    for _ in range(4):
        time.sleep(2.5)
        for pid in crew.pids():
            os.kill(pid, signal.SIGKILL)
    until(lambda: all(store.get("", key).has_ended for key in keys), 120)
    for key in keys:
        assert store.get("", key).state == "done"
        assert [one.data["state"] for one in store.events(key) if one.kind == "state"].count("done") == 1


@pytest.mark.slow
def test_a_stopped_crew_gives_back_and_the_next_one_goes_on(store, film):
    first = Crew(store.folder, workers=1)
    first.start()
    key = submit(store, film)
    until(lambda: store.get("", key).done > 3)
    begun = time.monotonic()
    first.stop()
    assert time.monotonic() - begun < 6 and first.pids() == []
    job = store.get("", key)
    assert (job.state, job.losses) == ("queued", 0)
    second = Crew(store.folder, workers=1)
    second.start()
    try:
        until(lambda: store.get("", key).state == "done")
    finally:
        second.stop()
    assert store.get("", key).attempt == 2


_SERVER = """
import sys, time
from pathlib import Path
from flowpaint.jobs import Crew
crew = Crew(Path(sys.argv[1]), workers=1)
crew.start()
time.sleep(600)
"""


@pytest.mark.slow
def test_a_job_outlives_the_server(store, film):
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(store.folder)])
    try:
        keys = [submit(store, film, end="30"), submit(store, film, end="4")]
        until(lambda: store.get("", keys[0]).state == "running")
        server.kill()
        server.wait()
        until(lambda: store.get("", keys[0]).state == "done")
        assert store.get("", keys[0]).attempt == 1, "the same worker finished it"
        time.sleep(1.5)
        assert store.get("", keys[1]).state == "queued", "an orphan took another job"
        crew = Crew(store.folder, workers=1)
        crew.start()
        until(lambda: store.get("", keys[1]).state == "done")
        crew.stop()
    finally:
        server.kill()
        server.communicate()


@pytest.mark.slow
def test_a_hanging_worker_is_replaced(store, film, crew, monkeypatch):
    monkeypatch.setattr("flowpaint.jobs.crew._HANGS", 3.0)
    key = submit(store, film)
    until(lambda: store.get("", key).done > 0)
    hanging = crew.pids()[0]
    os.kill(hanging, signal.SIGSTOP)
    until(lambda: store.get("", key).has_ended)
    job = store.get("", key)
    assert (job.state, job.losses) == ("done", 1)
    assert hanging not in crew.pids()


@pytest.mark.slow
def test_a_job_of_a_worker_that_is_not_wanted_any_more_goes_on(store, queue, film):
    key = submit(store, film, end="3")
    queue.claim("worker-7")  # which then died with its server, and this one has fewer
    crew = Crew(store.folder, workers=1)
    crew.start()
    try:
        until(lambda: store.get("", key).state == "done")
    finally:
        crew.stop()
    assert store.get("", key).losses == 1


def test_only_jobs_of_the_dead_are_given_to_others(store, queue, film):
    keys = [submit(store, film), submit(store, film)]
    queue.claim("worker-3"), queue.claim("worker-4")
    with lock_of(store.folder, "worker-3").tried():
        Crew(store.folder, workers=1)._tidy()
    assert [store.get("", key).state for key in keys] == ["running", "queued"]


def test_no_trouble_ends_the_crew(store, monkeypatch):
    turns = []

    def fails(place):
        turns.append(place)
        raise RuntimeError("no processes left")

    crew = Crew(store.folder, workers=1, tell=turns.append)
    monkeypatch.setattr("flowpaint.jobs.crew._LOOK", 0.01)
    monkeypatch.setattr(crew, "_fill", fails)
    crew.start()
    until(lambda: sum(isinstance(one, str) and "no processes left" in one for one in turns) > 2)
    crew.stop()


@pytest.mark.slow
def test_nobody_is_blamed_for_a_stop(store, film, monkeypatch):
    monkeypatch.setattr("flowpaint.jobs.crew._LEAVE", 0.0)  # so that it is killed
    crew = Crew(store.folder, workers=1)
    crew.start()
    key = submit(store, film)
    until(lambda: store.get("", key).done > 0)
    crew.stop()
    job = store.get("", key)
    assert (job.state, job.losses) == ("queued", 0)


@pytest.mark.parametrize("broken", ["", "{", '{"output": {}}'])
def test_a_report_alone_is_no_result(store, queue, film, broken):
    key = submit(store, film, end="2")
    job = queue.claim("here")
    job.folder.mkdir()
    (job.folder / "result.json").write_text(broken)
    attempt(queue, job)
    found = store.get("", key)
    assert found.state == "done" and video.probe(found.output).frames == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such a limit")
def test_a_job_that_wants_too_much_memory_fails(store, tmp_path):
    large = make(tmp_path / "large.mp4", [smooth(2160, 3840, shift=index) for index in range(2)])
    key = submit(store, store.add_asset("", "large.mp4", large, "video", {}).path)
    crew = Crew(store.folder, workers=1, memory=800 << 20)
    crew.start()
    try:
        until(lambda: store.get("", key).has_ended)
    finally:
        crew.stop()
    job = store.get("", key)
    assert (job.state, job.code) == ("failed", 5), job.error


def test_no_workers_do_nothing(tmp_path):
    with pytest.raises(ConfigError):
        Crew(tmp_path, workers=-1)
