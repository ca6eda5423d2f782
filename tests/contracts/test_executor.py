"""What every executor must do: order, equality, errors that name their item, laziness, a store that is the caller's."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import flowpaint
from flowpaint import seams
from flowpaint.errors import ConfigError, InputError, ResourceError, WorkError
from flowpaint.parts.execute import LocalExecutor, RayExecutor
from flowpaint.parts.execute import ray as ray_executor
from flowpaint.runs import FolderStore

HERE = Path(__file__).parent
CORES = os.cpu_count() or 1


@pytest.fixture(scope="module")
def cluster():
    """A Ray of three processors for all tests of this file, whose workers can import it."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        yield ray
        ray.shutdown()


@pytest.fixture(params=["local1", pytest.param("local2", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)])
def executor(request):
    if request.param == "ray":
        request.getfixturevalue("cluster")
        return RayExecutor(workers=2, retries=1)
    return LocalExecutor(workers=int(request.param[-1]))


def elsewhere(executor):
    return executor != LocalExecutor()


def done(number):
    if number == -1:
        raise ZeroDivisionError("no number")
    if number == -2:
        raise InputError("The file is refused. Give another.")
    if number == -3:
        raise ResourceError("Memory ran out. Take less.")
    if number == -4:
        raise MemoryError
    return number, os.getpid()


def dies(number, folder):
    """Kills its own process on -1, as often as it is asked to; on -2 the first time only."""
    mark = folder / f"died {number}"
    if number == -1 or (number == -2 and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies_later(number):
    """What process does it, after a moment; that of -1 dies."""
    time.sleep(0.1)
    if number == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def meets(number, folder):
    """Whether two processes do 1 at the same time. On -1 the process dies, and notes that."""
    if number == -1:
        (folder / f"death {time.time_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 0:
        time.sleep(0.3)
        return True
    (folder / f"process {os.getpid()}").touch()
    until = time.monotonic() + 30
    while time.monotonic() < until and len([*folder.glob("process *")]) < 2:
        time.sleep(0.05)
    return time.monotonic() < until


class Deadly:
    """An item on which a process dies before its work begins."""

    def __reduce__(self):
        return os._exit, (1,)


def same(number):
    return number


def noted(number, folder):
    (folder / str(number)).touch()
    return number


def convolved(seed):
    made = torch.Generator().manual_seed(seed)
    picture, kernel = torch.rand(1, 8, 40, 56, generator=made), torch.randn(8, 8, 3, 3, generator=made)
    return torch.nn.functional.conv2d(picture, kernel).exp().numpy()


def threads(_):
    return torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY")


@dataclass(frozen=True)
class Keeps:
    """Reads the number before its own from its store, adds itself, and puts that there."""

    store: object

    def __call__(self, number):
        before = self.store.get(f"sum {number - 1}")
        total = before["total"]
        total += number  # what comes from a store may be written to
        self.store.put(f"sum {number}", {"total": total, "frame": np.full((2, 3, 3), number, np.uint16)})
        self.store.drop(f"sum {number - 1}")
        return type(self.store).__name__


class Odd(InputError):
    """An error that does not pickle."""

    def __init__(self, first, second):
        super().__init__(f"{first} is odd. So is {second}.")


def oddly(_):
    raise Odd("This", "that")


def unsendable(_):
    return threading.Lock()


# -------------------------------------------------------------------------------------------------------------- contract


def test_results_come_in_order(executor):
    found = list(executor.map(done, [5, 3, 9, 1, 2, 7, 4], str))
    assert [number for number, _ in found] == [5, 3, 9, 1, 2, 7, 4]
    assert ({pid for _, pid in found} == {os.getpid()}) is not elsewhere(executor)


def test_nothing_is_nothing(executor):
    assert list(executor.map(done, [], str)) == []


def test_results_are_the_same_to_the_bit(executor):
    for found, here in zip(executor.map(convolved, range(4), str), map(convolved, range(4)), strict=True):
        assert found.dtype == here.dtype and (found == here).all()


def test_the_first_error_names_its_item(executor):
    results = executor.map(done, [1, -1, 2], "number {}".format)
    assert next(results)[0] == 1
    with pytest.raises(WorkError, match="The work on number -1 failed: ZeroDivisionError: no number") as caught:
        next(results)
    assert isinstance(caught.value.__cause__, ZeroDivisionError) or elsewhere(executor)


@pytest.mark.parametrize(("number", "error", "code"), [(-2, InputError, 2), (-3, ResourceError, 5)])
def test_errors_of_ours_pass_as_they_are(executor, number, error, code):
    with pytest.raises(error, match=r"\.") as caught:
        list(executor.map(done, [1, number], str))
    assert type(caught.value) is error and caught.value.exit_code == code


def test_a_lack_of_memory_is_told_from_other_failures(executor):
    with pytest.raises(ResourceError, match=r"The work on -4 failed\. There is not enough memory"):
        list(executor.map(done, [-4], str))


def test_an_error_that_cannot_travel_is_still_one_of_ours(executor):
    with pytest.raises((Odd, WorkError), match=r"This is odd\. So is that."):
        list(executor.map(oddly, [1], str))


def test_what_fails_stops_no_other_where_it_is_tried(executor):
    found = list(executor.tried(done, [1, -1, 2, -2, 3], str))
    assert [type(one) for one in found] == [tuple, WorkError, tuple, InputError, tuple]
    assert [one[0] for one in found if isinstance(one, tuple)] == [1, 2, 3]
    assert "The work on -1 failed" in str(found[1])


def test_work_is_done_only_a_little_before_it_is_asked_for(executor, tmp_path):
    results = executor.map(partial(noted, folder=tmp_path), range(20), str)
    assert [*tmp_path.iterdir()] == []
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len([*tmp_path.iterdir()]) <= 3 + 2 * executor.workers * elsewhere(executor)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LocalExecutor, RayExecutor])
def test_how_far_ahead_is_a_setting(kind, cluster, tmp_path):
    results = kind(workers=2, ahead=5).map(partial(noted, folder=tmp_path), range(30), str)
    assert next(results) == 0
    time.sleep(1.0)
    assert len([*tmp_path.iterdir()]) == 10
    results.close()


def test_the_store_of_work_is_the_callers(executor, tmp_path):
    store = FolderStore(tmp_path / "store")
    store.put("sum 0", {"total": np.array([40])})
    kinds = [kind for number in (1, 2) for kind in executor.map(Keeps(store), [number], str)]
    assert store.get("sum 2")["total"].tolist() == [43]
    assert store.get("sum 2")["frame"].dtype == np.uint16
    assert store.get("sum 1") is None
    assert (kinds == ["FolderStore"] * 2) is not isinstance(executor, RayExecutor)


def test_it_is_a_part(executor):
    assert isinstance(executor, seams.Executor)
    assert seams.from_dict(seams.to_dict(executor)) == executor
    assert pickle.loads(pickle.dumps(executor)) == executor


def test_what_makes_no_sense_is_refused():
    for values in (
        {"workers": 0},
        {"gpus_per_worker": -1.0},
        {"gpus_per_worker": 1.5},
        {"retries": -1},
        {"cpus_per_worker": 0},
        {"ahead": 0},
    ):
        with pytest.raises(ConfigError):
            RayExecutor(**values)
    with pytest.raises(ConfigError, match="ray job submit"):
        RayExecutor(address="ray://head:10001")
    for values in ({"workers": 0}, {"ahead": 0}):
        with pytest.raises(ConfigError):
            LocalExecutor(**values)
    assert RayExecutor(gpus_per_worker=0.25).gpus_per_worker == 0.25


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r"flowpaint\[ray\]"):
        list(RayExecutor().map(done, [1], str))


def test_making_one_starts_nothing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    results = RayExecutor().map(done, [1], str)
    results.close()


# ------------------------------------------------------------------------------------------------- more than one process


@pytest.fixture(params=["local2", "ray"])
def several(request, cluster):
    return LocalExecutor(workers=2) if request.param == "local2" else RayExecutor(workers=2, retries=1)


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_other_item_with_it(several, tmp_path):
    found = list(several.tried(partial(dies, folder=tmp_path), [1, -1, 2, 3, -2, 4], "item {}".format))
    assert [one for one in found if isinstance(one, int)] == [1, 2, 3, -2, 4]
    assert isinstance(found[1], WorkError) and "The worker died 2 times on item -1." in str(found[1])


@pytest.mark.slow
def test_after_a_death_only_what_was_being_done_is_done_alone(tmp_path):
    found = list(LocalExecutor(workers=2).tried(partial(meets, folder=tmp_path), [0, -1, 1, 1], str))
    assert isinstance(found.pop(1), WorkError) and found == [True, True, True]
    assert len([*tmp_path.glob("death *")]) == 2


@pytest.mark.slow
def test_a_death_while_nobody_asks_is_noticed():
    results = LocalExecutor(workers=2, ahead=1).tried(dies_later, [1, -1, 2, 3, 4], str)
    assert isinstance(next(results), int)
    time.sleep(1.0)
    assert [type(one) for one in results] == [WorkError, int, int, int]


@pytest.mark.slow
def test_an_item_that_kills_before_it_is_begun_is_found():
    found = list(LocalExecutor(workers=2).tried(done, [1, Deadly(), 2, 3, 4, 5], lambda item: type(item).__name__))
    assert "The worker died 2 times on Deadly." in str(found[1])
    assert [one[0] for one in found if isinstance(one, tuple)] == [1, 2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize(("said", "num"), [(None, max(1, CORES // 2)), (str(CORES), CORES)])
def test_processes_of_this_machine_share_its_cores(monkeypatch, said, num):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert list(LocalExecutor(workers=2).map(threads, [1, 2], str)) == [(num, "PASSIVE")] * 2


@pytest.mark.slow
@pytest.mark.skipif(CORES < 2, reason="one core cannot be shared")
def test_processes_of_a_program_that_loads_torch_first_share_the_cores_too(tmp_path):
    (tmp_path / "program.py").write_text(
        "import torch\nfrom flowpaint.parts.execute import LocalExecutor\n\n"
        "def threads(_):\n    return torch.get_num_threads()\n\n"
        "if __name__ == '__main__':\n    print(*LocalExecutor(workers=2).map(threads, [1, 2], str))\n"
    )
    few = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    path = os.pathsep.join([str(Path(flowpaint.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "program.py"]
    told = subprocess.run(command, cwd=tmp_path, env=few | {"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(CORES // 2)] * 2


@pytest.mark.slow
def test_what_cannot_be_sent_is_said(several):
    with pytest.raises(WorkError, match="pickle"):
        list(several.map(unsendable, [1], str))


@pytest.mark.slow
def test_a_store_in_memory_cannot_be_reached_from_elsewhere(several):
    with pytest.raises((ConfigError, WorkError), match="in memory"):
        list(several.map(Keeps(seams.MemoryStore()), [1], str))


@pytest.mark.slow
def test_workers_of_ray_stay_warm(cluster):
    executor = RayExecutor(workers=1)
    pids = {pid for _ in range(3) for _, pid in executor.map(done, [1, 2], str)}
    assert len(pids) == 1
    assert list(executor.map(threads, [1], str)) == [(1, "PASSIVE")]
    cluster.shutdown()  # another session has other workers
    assert {pid for _, pid in executor.map(done, [1], str)}.isdisjoint(pids)


@pytest.mark.slow
def test_ray_says_nothing_of_its_own(cluster, tmp_path, capfd, caplog):
    executor = RayExecutor(workers=1, retries=1)
    assert list(executor.map(partial(dies, folder=tmp_path), [-2], str)) == [-2]
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert "The worker of -2 died (ActorDiedError). Another one does it again." in caplog.text


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_said(cluster):
    cluster.shutdown()
    with pytest.raises(WorkError, match=r"There is no Ray at 127\.0.0.1:1"):
        list(RayExecutor(address="127.0.0.1:1").map(done, [1], str))


@pytest.mark.slow
def test_a_process_is_part_of_one_cluster(cluster):
    assert list(RayExecutor(workers=1).map(same, [1], str)) == [1]
    host, _, port = cluster.get_runtime_context().gcs_address.rpartition(":")
    for address in (f"{host}:{port}", f"localhost:{port}", f"127.0.0.1:{port}", "auto"):
        assert list(RayExecutor(workers=1, address=address).map(same, [1], str)) == [1]
    for address in (f"{host}:1", f"192.0.2.1:{port}"):
        with pytest.raises(ConfigError, match=rf"part of the Ray at {host}:{port}, and cannot go to {address}"):
            list(RayExecutor(workers=1, address=address).map(same, [1], str))


@pytest.mark.slow
def test_a_cluster_that_is_gone_hides_no_error(cluster, tmp_path, monkeypatch):
    results = RayExecutor(workers=1).tried(Keeps(FolderStore(tmp_path)), [1, 2], str)
    assert isinstance(next(results), WorkError)  # nothing is stored

    def gone(_):
        raise ConnectionError("no cluster")

    monkeypatch.setattr(cluster, "kill", gone)
    with pytest.raises(InputError, match="the real one"):
        results.throw(InputError("It is the real one. Look here."))


@pytest.mark.parametrize("private", [None, SimpleNamespace(), SimpleNamespace(worker=SimpleNamespace())])
def test_a_ray_without_what_is_private_to_it_will_do(private):
    found = SimpleNamespace(_private=private)
    ray_executor._hush(found)
    assert found == SimpleNamespace(_private=private)


@pytest.mark.parametrize("private", [None, SimpleNamespace(), SimpleNamespace(services=SimpleNamespace())])
def test_a_ray_whose_api_server_cannot_be_left_out_is_said(private, caplog):
    with ray_executor._without_api_server(SimpleNamespace(_private=private)):
        pass
    assert "may ask whether it runs in a cloud" in caplog.text


def test_the_api_server_of_ray_is_left_out_for_as_long_as_ray_starts():
    services = SimpleNamespace(start_api_server=max)
    with pytest.raises(KeyError), ray_executor._without_api_server(SimpleNamespace(_private=SimpleNamespace(services=services))):
        assert services.start_api_server(False, raise_on_failure=False) == (None, None)
        raise KeyError
    assert services.start_api_server is max


def test_news_of_ray_go_to_the_log(caplog):
    worker = SimpleNamespace(print_to_stdstream=print)
    with caplog.at_level("DEBUG", "flowpaint"):
        ray_executor._hush(SimpleNamespace(_private=SimpleNamespace(worker=worker)))
        worker.print_to_stdstream({"lines": ["one", "two"]}, ignore_prefix=False)
        worker.print_to_stdstream("three", False)
    assert caplog.messages == ["ray: one two", "ray: three"]
