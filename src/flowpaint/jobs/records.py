"""What the store tells of jobs, assets and events: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError

State = Literal["queued", "running", "waiting", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "waiting", "done", "failed", "cancelled")
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})


class Unknown(InputError):
    """There is no job or asset of that name, or it is somebody else's."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A job as it stands. Times are seconds since 1970.

    `job` is a `flowpaint.api.Job` as plain values with absolute paths, `request` what its owner sent. "waiting" is for the
    approval of `first`, the edited first frame: `{"frame": number in the input, "path": file}`. `attempt` counts how often a
    worker took it, `losses` how often one died over it; `code` and `error` are those of the command line, once it has failed.
    `bytes` is what its files take, None once they were cleared away.
    """

    id: str
    owner: str
    state: State
    priority: int
    created: float
    started: float | None
    finished: float | None
    attempt: int
    losses: int
    name: str
    approve: bool
    first: Mapping[str, Any] | None
    stage: str
    done: int
    total: int
    code: int | None
    error: str
    worker: str
    heartbeat: float | None
    bytes: int | None
    job: Mapping[str, Any]
    request: Mapping[str, Any]
    folder: Path

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    @property
    def output(self) -> Path:
        """Where its video is, once it is done."""
        return self.folder / f"result{Path(self.name).suffix or '.mp4'}"

    @property
    def run(self) -> Path:
        """Its run folder."""
        return self.folder / "run"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """An uploaded file: `kind` is "video" or "picture", `facts` what was found in it, `name` what its owner calls it."""

    id: str
    owner: str
    name: str
    kind: str
    bytes: int
    created: float
    path: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a job: `kind` is state, progress, preview or log. `seq` grows over all jobs."""

    seq: int
    time: float
    kind: str
    data: Mapping[str, Any]
