"""Run folders: what is there was written whole, a killed run goes on, and nobody's files are taken for a run's."""

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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import flowpaint
from flowpaint import seams, video
from flowpaint.errors import InputError
from flowpaint.runs import FolderStore, PrefixedStore, RunFolder, fingerprint, held, read_manifest
from flowpaint.types import Clip

TYPES = ["float32", "uint8", "uint16", "int64", "bool"]


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


# ---------------------------------------------------------------------------------------------------------------- store


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(key=st.text(max_size=300), kept=st.dictionaries(
    st.sampled_from(["a", "file", "allow_pickle", "ü", "x.y"]), st.sampled_from(TYPES).flatmap(
        lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))))  # fmt: skip
def test_gives_back_what_was_put(store, key, kept):
    store.put(key, kept)
    found = store.get(key)
    assert found.keys() == kept.keys()
    for name, array in kept.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_knows_no_other_keys_and_forgets(store):
    store.put("one", {"x": np.ones(3)})
    assert store.get("two") is None
    store.put("one", {"x": np.zeros(3)})
    assert store.get("one")["x"].sum() == 0
    store.drop("one")
    store.drop("one")
    assert store.get("one") is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_file_cut_short_counts_as_absent(store, tmp_path, share):
    store.put("key", {"x": np.random.default_rng(0).random((40, 40))})
    (file,) = (tmp_path / "store").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert store.get("key") is None
    store.put("key", {"x": np.ones(2)})
    assert store.get("key") is not None


def test_a_file_with_a_flipped_bit_counts_as_absent(store, tmp_path):
    store.put("key", {"x": np.zeros(10_000, np.uint8)})
    (file,) = (tmp_path / "store").iterdir()
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(bytes(data))
    assert store.get("key") is None


def test_a_corner_of_a_store_is_its_own(store):
    first, second = PrefixedStore(store, "shot 0: "), PrefixedStore(store, "shot 9: ")
    first.put("state", {"x": np.zeros(1)})
    assert second.get("state") is None
    assert store.get("shot 0: state") is not None
    first.drop("state")
    assert store.get("shot 0: state") is None


# --------------------------------------------------------------------------------------------------------------- folder


def manifest(**job):
    return {"job": {"seed": 0, **job}, "files": {"in.mp4": "abc"}, "versions": {}}


def test_the_same_job_finds_its_folder_again(tmp_path):
    RunFolder.open(tmp_path / "run", manifest()).store.put("key", {"x": np.ones(1)})
    assert RunFolder.open(tmp_path / "run", manifest()).store.get("key") is not None
    assert read_manifest(tmp_path / "run")["job"] == {"seed": 0}


@pytest.mark.parametrize("finished", ["segment", "key picture"])
@pytest.mark.parametrize("other", [manifest(seed=1), {**manifest(), "files": {"in.mp4": "changed"}}])
def test_another_job_is_refused_until_fresh(tmp_path, other, finished):
    first = RunFolder.open(tmp_path / "run", manifest())
    if finished == "segment":
        first.segments.mkdir()
        (first.segments / "0.mkv").touch()
    else:
        first.store.put("key", {"x": np.ones(1)})
    with pytest.raises(InputError, match="--fresh"):
        RunFolder.open(tmp_path / "run", other)
    assert RunFolder.open(tmp_path / "run", other, fresh=True).store.get("key") is None
    assert read_manifest(tmp_path / "run")["job"] == other["job"]


def test_another_job_with_nothing_finished_gives_way(tmp_path):
    first = RunFolder.open(tmp_path / "run", manifest())
    assert not first.is_begun
    first.segments.mkdir()
    (first.segments / "0.part").touch()
    assert not first.is_begun
    second = RunFolder.open(tmp_path / "run", manifest(seed=1))
    assert read_manifest(tmp_path / "run")["job"] == {"seed": 1} and not list(second.segments.glob("*"))
    second.store.put("key", {"x": np.ones(1)})
    assert second.is_begun


def test_what_stands_beside_the_job_does_not_make_another(tmp_path):
    first = RunFolder.open(tmp_path / "run", {**manifest(), "policy": {"offline": True}})
    first.store.put("key", {"x": np.ones(1)})
    again = RunFolder.open(tmp_path / "run", {**manifest(), "policy": {"offline": False}})
    assert again.store.get("key") is not None and read_manifest(again.path)["policy"] == {"offline": True}
    again.amend(policy={"offline": False})
    assert read_manifest(again.path) == {**manifest(), "policy": {"offline": False}}


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path, manifest())
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path, manifest(), fresh=True)
    assert [one.name for one in tmp_path.iterdir()] == ["holiday.jpg"]


def test_removing_leaves_what_is_not_the_runs(tmp_path):
    run = RunFolder.open(tmp_path / "run", manifest())
    run.keep_warnings(["one\ntwo", "three"])
    assert run.warnings() == ["one two", "three"]
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run.remove()
    assert [one.name for one in (tmp_path / "run").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job": 3}'])
def test_a_broken_manifest_is_said_so(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json|not a run folder"):
        read_manifest(tmp_path)


def test_a_fingerprint_sees_both_ends_and_the_size(tmp_path):
    file = tmp_path / "big"
    data = bytearray(3 << 20)
    seen = set()
    for change in (lambda: None, lambda: data.__setitem__(5, 1), lambda: data.__setitem__(-5, 1), lambda: data.append(0)):
        change()
        file.write_bytes(data)
        seen.add(fingerprint(file))
    assert len(seen) == 4
    assert fingerprint(tmp_path) != fingerprint(file)


# -------------------------------------------------------------------------------------------------------------- kill -9


@dataclass(frozen=True, kw_only=True)
class Trail:
    """A method whose every frame leans on the one before: what a resumed run must not forget. Slow, so that it can be killed."""

    pause: float = 0.0

    def __call__(self, clip, edit, run):
        def read(index):
            time.sleep(self.pause)
            before = run.store.get(f"trail {index - 1}") if index else None
            grey = clip.raw(index) // 2
            made = grey if before is None else ((before["x"].astype(np.uint16) + grey) // 2 + run.seed).astype(np.uint8)
            run.store.put(f"trail {index}", {"x": made})
            run.notes.frame(run.offset + index, mean=float(made.mean()))
            return made

        return clip.with_frames(read)


def spread(path, seed):
    """What the child process does, and the parent after it."""
    seams.TABLE["method"]["trail"] = "test_runs:Trail"
    pause = 0.02 if seed < 0 else 0.0
    result = flowpaint.edit(path, "free words", method="trail", settings={"pause": pause}, end=100, seed=abs(seed))
    return result.save(path.with_name("out.mp4"), overwrite=True, keep_run=seed < 0)


def moving(num_frames):
    y, x = np.mgrid[:96, :128]  # whole groups of eight macroblocks: x264 encodes others differently each time
    frames = [np.stack([(x * 3 + 2 * i) % 256, (y * 5 + i) % 256, (x + y + 4 * i) % 256], axis=-1) for i in range(num_frames)]
    return Clip.from_array(np.stack(frames).astype(np.uint8))


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_frames(tmp_path, monkeypatch):
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "trail": "test_runs:Trail"})
    source = tmp_path / "in.mp4"
    video.write(moving(110), source)
    command = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import pathlib, test_runs; "
    command += f"test_runs.spread(pathlib.Path({str(source)!r}), -3)"
    child = subprocess.Popen([sys.executable, "-c", command], env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    segments = tmp_path / "out.mp4.run" / "segments"
    give_up = time.monotonic() + 60
    while not list(segments.glob("*.mkv")) and child.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "out.mp4").exists()
    assert 1 <= len(list(segments.glob("*.mkv"))) <= 2

    resumed = spread(source, -3)
    report = json.loads((tmp_path / "out.json").read_text())
    kept = video.read(resumed)
    undisturbed = flowpaint.edit(source, "free words", method="trail", end=100, seed=3)
    undisturbed.save(tmp_path / "other.mp4")
    other = video.read(tmp_path / "other.mp4")
    assert all(np.array_equal(kept.raw(index), other.raw(index)) for index in range(100))
    assert report["frames"] == undisturbed.report["frames"]
    assert report["metrics"] == undisturbed.report["metrics"]
    assert len(report["frames"]) == 100
    assert (tmp_path / "out.sheet.png").read_bytes() == (tmp_path / "other.sheet.png").read_bytes()
    assert not (tmp_path / "other.mp4.run").exists()


# ---------------------------------------------------------------------------------------------------- one process at a time

_HOLDER = """
import sys, time
from pathlib import Path
from flowpaint.runs import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_folder_is_held_by_one_process(tmp_path):
    run = tmp_path / "out.mp4.run"
    other = subprocess.Popen([sys.executable, "-c", _HOLDER, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is worked on by another process"), held(run):
            pass
        assert run.is_dir(), "the folder of another process was unmade"
    finally:
        other.kill()
        other.communicate()
    with held(run):  # what was killed holds nothing
        (run / "kept").touch()
    assert run.is_dir()
    (run / "kept").unlink()
    with held(run), pytest.raises(InputError), held(run):
        pass
    assert not run.exists()


def test_what_is_no_folder_is_not_held(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a run folder"), held(tmp_path / "file"):
        pass
