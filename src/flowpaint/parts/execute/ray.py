"""`RayExecutor`: independent work in actors on a Ray cluster, or on one that is started for it on this machine."""

import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, cast

from ...errors import ConfigError, FlowpaintError, MissingExtraError, WorkError
from .actors import DriverStore, Keeper, Worker
from .outcome import Item, Made, raising
from .pool import Pool

_REACH = 10.0  # seconds in which a cluster must be heard of

_log = logging.getLogger("flowpaint")


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Work in `workers` actors of a Ray cluster, which stay warm between calls: weights load once in each.

    `address` is that of a running cluster ("auto": the one that this machine is part of); None starts one on this machine, for
    the time of this process, unless it is part of one. One process can be part of one cluster. `gpus_per_worker` may be a
    fraction: 0.25 puts four workers on a GPU. Each worker has `cpus_per_worker` processors and as many threads. An item whose
    worker dies is done again, up to `retries` times. Nothing is started before the first item is asked for. Raises
    `ConfigError` for numbers that make no sense.

    Work, items and results must pickle, and what they name must be importable on the workers. At most `ahead` items for each
    worker are done before they are asked for: more where results are small, so that nobody waits for a slow one.
    """

    workers: int = 2
    gpus_per_worker: float = 0.0
    cpus_per_worker: int = 1
    address: str | None = None
    retries: int = 3
    ahead: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus_per_worker < 1 or self.ahead < 1:
            raise ConfigError(
                f"{self.workers} workers of {self.cpus_per_worker} processors, {self.ahead} ahead, do nothing. Give 1 or more."
            )
        if self.gpus_per_worker < 0 or (self.gpus_per_worker > 1 and self.gpus_per_worker % 1):
            raise ConfigError(f"A worker cannot have {self.gpus_per_worker} GPUs. Give a share of one, like 0.25, or 1, 2, ...")
        if self.retries < 0:
            raise ConfigError(f"Nothing can be tried {self.retries} times again. Give 0 or more.")
        if self.address is not None and self.address.startswith("ray://"):
            raise ConfigError(
                f"Through Ray's client ({self.address}) workers cannot reach this machine's run folder. "
                "Start the command on the cluster with `ray job submit`, or give the address of a cluster this machine is in."
            )

    def map(self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]) -> Iterator[Made]:
        """What `work` makes of each of `items`, in their order. Raises `WorkError` that names the item by `key`.

        Raises `MissingExtraError` without Ray, `WorkError` where the cluster cannot be reached.
        """
        with closing(self.tried(work, items, key)) as outcomes:
            yield from raising(outcomes)

    def tried(
        self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]
    ) -> Generator[Made | FlowpaintError, None, None]:
        """What `work` makes of each of `items`, in their order; in place of what failed, the error that `map` would raise."""
        if not items:
            return
        connect(self)
        pool, keeper = _take(self), None
        try:
            if dataclasses.is_dataclass(work) and getattr(work, "store", None) is not None:
                keeper = _keeper(cast(Any, work).store)
                work = dataclasses.replace(cast(Any, work), store=DriverStore(keeper))
            outcomes: Generator[Made | FlowpaintError, None, None]
            with closing(pool.tried(_held(work), items, [key(item) for item in items])) as outcomes:
                yield from outcomes
        finally:
            _give_back(self, pool, keeper)


# ------------------------------------------------------------------------------------------------------------ the cluster


def connect(executor: RayExecutor) -> None:
    """Nothing; this process is part of a Ray cluster then. Raises `MissingExtraError`, `WorkError`, and `ConfigError` where it
    is part of another one."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "The executor ray needs a package that is not installed. Install it with `pip install 'flowpaint[ray]'`."
        ) from error
    if ray.is_initialized():
        _check_same(executor.address)
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    _hush(ray)
    manners: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "include_dashboard": None}
    if executor.address is None:
        # Processors of a machine are what its user says they are: workers that share one are slow, and not stuck.
        wanted = max(os.cpu_count() or 1, executor.workers * executor.cpus_per_worker)
        manners |= {"address": "local", "num_cpus": wanted, "include_dashboard": False}
    else:
        manners["address"] = executor.address
    try:
        _check_reachable(executor.address)
        with _without_api_server(ray) if executor.address is None else nullcontext():
            ray.init(**manners)
    except Exception as error:  # ConnectionError, and whatever else Ray raises
        where = "on this machine" if executor.address is None else f"at {executor.address}"
        raise WorkError(
            f"There is no Ray {where}: {type(error).__name__}: {error}. Start it with `ray start --head --disable-usage-stats`."
        ) from error
    if executor.address is None and executor.gpus_per_worker > _gpus():
        raise ConfigError(f"A worker shall have {executor.gpus_per_worker} GPUs, and Ray finds fewer here. Give 0.")


def _check_reachable(address: str | None) -> None:
    """Raises `OSError` where nobody listens at host:port: Ray would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()


def _check_same(address: str | None) -> None:
    """Raises `ConfigError` where `address` is not that of the cluster that this process is part of, which is asked for by None
    and "auto" as well."""
    import ray

    there = str(ray.get_runtime_context().gcs_address)
    host, colon, port = (address or "").rpartition(":")
    if not colon or (there.rpartition(":")[2] == port and _machine(host) & _machine(there.rpartition(":")[0])):
        return
    raise ConfigError(
        f"This process is part of the Ray at {there}, and cannot go to {address}. Give that address, or use another process."
    )


def _machine(host: str) -> set[str]:
    """The numbers of the machine `host`: one machine goes by several."""
    import ray

    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host.strip("[]"), None)}
    except OSError:
        found = {host}
    if any(one.startswith("127.") or one == "::1" for one in found):
        own: Callable[[], str] = ray.util.get_node_ip_address
        found.add(own())
    return found


def _gpus() -> float:
    import ray

    found: Callable[[], dict[str, float]] = ray.cluster_resources
    return found().get("GPU", 0.0)


def _hush(ray: Any) -> None:
    """Have Ray's news of dead workers go to the log: it prints them to stdout, where results are, and has no switch for that.

    What a dead worker means for the work is said by the pool. That function is private to Ray: seen in 2.60. Without
    it, the news are printed.
    """
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    if callable(getattr(worker, "print_to_stdstream", None)):
        cast(Any, worker).print_to_stdstream = _log_news


@contextmanager
def _without_api_server(ray: Any) -> Iterator[None]:
    """Have Ray start without the process that reports its use.

    With the dashboard off, that process does nothing else. With the reports off as well, it still asks for the metadata services
    of three clouds (at 169.254.169.254 and by a name), and has no switch for that. The function is private to Ray: seen in 2.60.
    """
    services = getattr(getattr(ray, "_private", None), "services", None)
    if not callable(start := getattr(services, "start_api_server", None)):
        _log.warning("This version of Ray may ask whether it runs in a cloud (169.254.169.254): flowpaint cannot stop it.")
        yield
        return
    cast(Any, services).start_api_server = lambda *_, **__: (None, None)  # as where it cannot be started: no address, no process
    try:
        yield
    finally:
        cast(Any, services).start_api_server = start


def _log_news(data: Any, *_: Any, **__: Any) -> None:
    lines = data.get("lines", []) if isinstance(data, Mapping) else [data]
    _log.debug("ray: %s", " ".join(map(str, lines)))


def _held(work: Any) -> Any:
    """`work` in Ray's object store, sent to each worker once. Raises `WorkError` for work that does not pickle."""
    import ray

    try:
        return ray.put(work)
    except Exception as error:
        raise WorkError(f"The work cannot be sent to another process: {error}. Leave out what is in memory only.") from error


def _keeper(store: Any) -> Any:
    """The handle of an actor on this machine that holds `store`. Raises `ConfigError` for a store that does not pickle."""
    import pickle

    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        pickle.dumps(store)
    except Exception as error:
        raise ConfigError(f"Workers cannot reach this store ({error}). Give one that lies in a folder.") from error
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Keeper).options(**options).remote(store)


# -------------------------------------------------------------------------------------------------------------- the pools

_POOLS: dict[tuple[RayExecutor, str], list[Pool]] = {}  # free ones, by who made them in which session of Ray


def _session() -> str:
    import ray

    here = ray.get_runtime_context()
    return f"{here.get_node_id()} {here.get_job_id()}"


def _take(executor: RayExecutor) -> Pool:
    """A pool for `executor` that nobody uses: a warm one if there is one, else a new one in place of those of others."""
    session = _session()
    if free := _POOLS.get((executor, session)):
        return free.pop()
    for other in [one for one in _POOLS if one[1] == session]:  # their idle workers hold what the new ones need
        for pool in _POOLS.pop(other):
            pool.close()
    return _new(executor)


def _new(executor: RayExecutor) -> Pool:
    import ray

    actor = ray.remote(Worker).options(num_cpus=executor.cpus_per_worker, num_gpus=executor.gpus_per_worker)
    return Pool(
        lambda: actor.remote(executor.cpus_per_worker), workers=executor.workers, ahead=executor.ahead, retries=executor.retries
    )


def _give_back(executor: RayExecutor, pool: Pool, keeper: Any) -> None:
    import ray

    with suppress(Exception):  # the cluster is gone: the error that says so is under way, and must not be hidden by this one
        if ray.is_initialized():
            if keeper is not None:
                ray.kill(keeper)
            _POOLS.setdefault((executor, _session()), []).append(pool)
