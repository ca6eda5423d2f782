"""Films and tables on a real Ray cluster: the same as local to the bit, through dead workers and dead commands."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from flowpaint import api, scenes, seams, video
from flowpaint.errors import WorkError
from flowpaint.jobs.batch import Batch, run_batch
from flowpaint.jobs.rows import read_rows
from flowpaint.parts.execute import RayExecutor
from flowpaint.runs import FolderStore
from flowpaint.types import Clip

pytestmark = pytest.mark.slow

LENGTHS = (60, 20, 24)  # frames of the shots; the first has two chunks
HERE = Path(__file__).parent
COST = {"job", "seconds", "workers", "output", "frames_per_second", "peak_memory"}


@dataclass(frozen=True, kw_only=True)
class Slowly:
    """Every frame upside down, slowly; in `deadly` shots the process dies at their frame 2: always, or only once."""

    pause: float = 0.0
    deadly: int = -1
    once: str = ""  # the file that says that it has died

    def __call__(self, clip, edit, run):
        def read(index):
            time.sleep(self.pause)
            run.notes.frame(run.offset + index, confidence=0.75)
            if run.offset == self.deadly and index == (50 if self.once else 2) and not (self.once and Path(self.once).exists()):
                if self.once:
                    Path(self.once).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return np.ascontiguousarray(clip.raw(index)[::-1])

        return clip.with_frames(read)


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    """Workers and commands that know the method `slowly`, from a package with an entry point."""
    ray = pytest.importorskip("ray")
    site = tmp_path_factory.mktemp("site")
    about = site / "slowly-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slowly\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[flowpaint.parts]\nmethod.slowly = test_ray_films:Slowly\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(site), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.syspath_prepend(str(site))
        patch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "slowly": "test_ray_films:Slowly"})
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as many as a worker has: equal to the bit is what equal threads make
        yield ray
        torch.set_num_threads(threads)
        ray.shutdown()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A procedural film of three shots, 64x96."""
    frames = []
    for number, length in enumerate(LENGTHS):
        shot = scenes.clip(scenes.sample_scene(11 + number, 0.2), length, (64, 96))
        frames += [255 - shot.raw(i) if number == 1 else shot.raw(i) for i in range(length)]
    path = tmp_path_factory.mktemp("film") / "in.mp4"
    video.write(Clip.from_array(np.stack(frames)), path)
    return path


def raws(path):
    clip = video.read(path)
    return np.stack([clip.raw(index) for index in range(len(clip))])


def told(path):
    return json.loads(path.with_suffix(".json").read_text())


def same(one, other):
    """Whether two results show the same, and their reports say the same."""
    a, b = told(one), told(other)
    return (raws(one) == raws(other)).all() and {name for name in a if a[name] != b[name]} <= COST


@pytest.mark.parametrize("method", ["analogy", "frame-by-frame"])
def test_a_film_is_the_same_to_the_bit(film, tmp_path, method):
    options = {"method": method, "quality": "draft", "start": "40", "end": "68"}
    for name, executor in (("local.mp4", None), ("ray.mp4", RayExecutor(workers=2))):
        api.edit(film, "van gogh", **options).save(tmp_path / name, executor=executor)
    assert same(tmp_path / "local.mp4", tmp_path / "ray.mp4")
    assert told(tmp_path / "ray.mp4")["workers"]["chunks"] == 2


def test_the_shot_of_a_worker_that_dies_goes_on_from_its_chunks(film, tmp_path):
    mark = tmp_path / "died"
    settings = {"deadly": 0, "once": mark}
    api.edit(film, "x", method="slowly", settings=settings).save(tmp_path / "ray.mp4", executor=RayExecutor(workers=2))
    assert mark.exists()  # at frame 50, in the second chunk
    report = told(tmp_path / "ray.mp4")
    assert report["workers"]["chunks"] == 1 + 1 + 1  # what the worker that lived made: not the first one of the first shot
    assert [row["confidence"] for row in report["frames"]] == [0.75] * sum(LENGTHS)
    api.edit(film, "x", method="slowly", settings=settings).save(tmp_path / "local.mp4")
    assert same(tmp_path / "local.mp4", tmp_path / "ray.mp4")


def test_a_poisoned_shot_lets_the_others_finish(film, tmp_path):
    made = api.edit(film, "x", method="slowly", settings={"deadly": 60})
    with pytest.raises(WorkError, match="died 2 times on shot 2, frames 60 to 79") as caught:
        made.save(tmp_path / "out.mp4", executor=RayExecutor(workers=2, retries=1))
    assert caught.value.exit_code == 1 and not (tmp_path / "out.mp4").exists()
    assert stored(tmp_path / "out.mp4.run") == [0, 48, 80]


def stored(run):
    """First frames of the chunks in a run folder, where there is one; to look must not make it."""
    store = FolderStore(run / "store") if (run / "run.json").exists() else None
    return [n for n in (0, 48, 60, 80) if store is not None and store.get(f"spread told {n}")]


def start(*arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "flowpaint", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_a_command_that_is_killed_makes_only_what_is_missing(film, tmp_path):
    output, run = tmp_path / "out.mp4", tmp_path / "out.mp4.run"
    common = ("edit", film, "x", "--method", "slowly", "--set", "pause=0.05", "-o", output, "--executor", "ray", "--workers", "2")
    first = start(*common)
    deadline = time.monotonic() + 60
    while 0 not in stored(run) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    _, said = first.communicate()
    time.sleep(0.5)
    there = stored(run)
    assert 0 in there and 48 not in there, said
    second = start("resume", run, "--executor", "ray", "--workers", "2")
    _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert told(output)["workers"]["chunks"] == 4 - len(there)
    api.edit(film, "x", method="slowly").save(tmp_path / "local.mp4")
    assert (raws(output) == raws(tmp_path / "local.mp4")).all()


def test_a_table_is_done_once_on_a_cluster_and_a_dead_row_stops_no_other(film, tmp_path):
    lines = [
        f"{film},x,slowly,a.mp4,0,20,",
        f"{film},x,slowly,b.mp4,20,40,deadly=20",
        f"{film},x,slowly,c.mp4,40,60,",
        f"{film},x,slowly,d.mp4,60,80,deadly=60;once={tmp_path}/died",
    ]
    (tmp_path / "jobs.csv").write_text("\n".join(["input,prompt,method,output,start,end,settings", *lines]) + "\n")
    rows = read_rows(tmp_path / "jobs.csv", cache=tmp_path / "cache")
    executor, work = RayExecutor(workers=2, retries=1), Batch(cache=tmp_path / "cache")
    found = run_batch(rows, work, executor)
    assert [one.state for one in found] == ["done", "failed", "done", "done"]
    assert "The worker died 2 times on row 2" in found[1].message and found[1].code == 1
    made = {one: (tmp_path / one).stat().st_mtime_ns for one in ("a.mp4", "c.mp4", "d.mp4")}
    assert [one.state for one in run_batch(rows, work, executor)] == ["kept", "failed", "kept", "kept"]
    assert made == {one: (tmp_path / one).stat().st_mtime_ns for one in made}


def test_several_machines_share_one_film(film, tmp_path, cluster, monkeypatch):
    """Two nodes with one worker each: the store's keeper is on the driver's, the frames come over the object store."""
    from ray.cluster_utils import Cluster

    cluster.shutdown()
    two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        two.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", two.address)  # as it is inside a job of the cluster
        executor = RayExecutor(workers=2, address="auto")
        api.edit(film, "x", method="slowly", settings={"pause": 0.02}).save(tmp_path / "ray.mp4", executor=executor)
        nodes = {one["NodeID"] for one in cluster.nodes() if one["Alive"]}
        assert len(nodes) == 2
    finally:
        cluster.shutdown()
        two.shutdown()
    api.edit(film, "x", method="slowly").save(tmp_path / "local.mp4")
    assert same(tmp_path / "local.mp4", tmp_path / "ray.mp4")
