"""Figures for Prometheus: requests, uploads, jobs by state, bytes stored, how long the oldest job waits."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.types import Scope

from ..jobs.records import STATES
from ..jobs.store import JobStore

_METHODS = {"GET", "POST", "DELETE"}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Meter:
    """The figures of one server, in a registry of its own."""

    def __init__(self, store: JobStore) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "flowpaint_request_seconds",
            "Time from a request to the end of its answer.",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._uploads = Counter("flowpaint_uploads", "Files that were taken in.", ("kind",), registry=self._registry)
        self._bytes = Counter("flowpaint_uploaded_bytes", "Bytes of these files.", registry=self._registry)
        self._registry.register(_Stored(store))

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Note a request. Its route is named as the document has it, so that ids make no series of their own."""
        route = getattr(scope.get("route"), "path", None) or "other"
        method = scope.get("method", "")
        self._seconds.labels(method if method in _METHODS else "other", route, str(status)).observe(seconds)

    def upload(self, kind: str, size: int) -> None:
        """Note a file that was taken in."""
        self._uploads.labels(kind).inc()
        self._bytes.inc(size)

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self._registry)


class _Stored:
    """What the store knows, asked when it is wanted."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """The figures now."""
        jobs = GaugeMetricFamily("flowpaint_jobs", "Jobs by state.", labels=["state"])
        counts = self._store.counts()
        for state in STATES:
            jobs.add_metric([state], counts.get(state, 0))
        yield jobs
        yield GaugeMetricFamily("flowpaint_stored_bytes", "Bytes in the data folder.", value=self._store.usage())
        age = self._store.oldest_wait()
        yield GaugeMetricFamily("flowpaint_queue_age_seconds", "How long the oldest queued job waits.", value=age)

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are not asked for before there is a store."""
        return ()
