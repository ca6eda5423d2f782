"""Many videos: each row of a table is done, gone on with, or left as it is where it is done already."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from ..errors import FlowpaintError, InputError, VideoError, WorkError, verdict
from ..runs import read_manifest, write_json
from ..seams import Executor
from . import remote
from .rows import Row

if TYPE_CHECKING:
    from ..api import Job

_POLICY = {"offline", "commercial_only", "allow_pickle"}  # fields that do not change what is made
_FRAME = re.compile(r"\d+\.png")  # a file that a folder of frames may hold


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one row. `kept`: it was done before. `code` is the exit code that the row alone would have had."""

    row: int
    output: str
    state: Literal["done", "kept", "failed"]
    frames: int = 0
    seconds: float = 0.0
    code: int = 0
    message: str = ""


def cache_folder() -> Path:
    """Where copies of files from elsewhere are kept: FLOWPAINT_CACHE, or flowpaint/ in the user's cache folder."""
    if own := os.environ.get("FLOWPAINT_CACHE"):
        return Path(own) / "remote"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowpaint" / "remote"


def run_batch(
    rows: Sequence[Row], work: "Batch", executor: Executor, *, told: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """What became of each row, in their order; `told` hears of each as its turn comes. What fails stops no other row."""
    outcomes = []
    with closing(executor.tried(work, list(rows), lambda row: row.name)) as every:
        for row, found in zip(rows, every, strict=True):
            outcome = _failed(row, found) if isinstance(found, FlowpaintError) else found
            outcomes.append(outcome)
            told(outcome)
    return outcomes


def _failed(row: Row, error: BaseException) -> Outcome:
    code, message = verdict(error)
    return Outcome(row=row.number, output=row.job["output"], state="failed", code=code, message=message)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The work on one row, wherever it is done. `cache` is a folder of that machine for files from elsewhere."""

    cache: Path
    overwrite: bool = False

    def __call__(self, row: Row) -> Outcome:
        """The outcome of a row; whatever goes wrong is told in it."""
        from ..api import Job

        try:
            job = Job.from_dict(row.job)
            if (frames := finished(job, self.cache)) is not None:
                return Outcome(row=row.number, output=job.output, state="kept", frames=frames)
            begun = perf_counter()
            frames = self._make(job)
            seconds = round(perf_counter() - begun, 3)
            return Outcome(row=row.number, output=job.output, state="done", frames=frames, seconds=seconds)
        except Exception as error:
            return _failed(row, error)

    def _make(self, job: "Job") -> int:
        """How many frames the video that was made has. Raises as `flowpaint.api.Result`."""
        from .. import api

        here = self._fetched(job)
        if here.output != job.output and remote.exists(job.output):
            if not self.overwrite:
                raise InputError(f"{job.output} exists, and was made otherwise. Use --overwrite to replace it.")
            if not all(map(_FRAME.fullmatch, remote.listed(job.output))):
                raise InputError(f"{job.output} is a folder that holds other files. Choose another name.")
        Path(here.output).parent.mkdir(parents=True, exist_ok=True)
        overwrite = self.overwrite or here.output != job.output or _is_own(here)
        api.check_output(here, overwrite=overwrite)
        result = api.Result(here)
        result.save(overwrite=overwrite)
        if here.output != job.output:
            self._put(job, here)
        return int(result.report["input"]["num_frames"])

    def _fetched(self, job: "Job") -> "Job":
        """The same job with files of this machine in place of URLs."""
        name = hashlib.sha256(f"{job.output}\0{json.dumps(job.to_dict(), sort_keys=True)}".encode()).hexdigest()[:24]

        def place(path: str) -> str:
            if not remote.is_url(path):
                return path
            if path == job.output:
                return str(self.cache / "made" / name / path.rpartition("/")[2])
            return str(remote.fetch(path, self.cache / "fetched"))

        return job.named(place)

    def _put(self, job: "Job", here: "Job") -> None:
        """Store what was made where the job wants it: the report last, for where it is, all is."""
        from ..api import Files

        names = _names(job, here)
        made, base = Files.of(here.output), job.output.rpartition("/")[0]
        names |= {str(one): f"{base}/{one.name}" for one in (made.video, made.report, made.sheet, made.candidates)}
        write_json(made.report, _renamed(json.loads(made.report.read_text("utf-8")), names))
        remote.remove(f"{base}/{made.report.name}")  # that of the output which is replaced now
        for one in (made.video, made.sheet, made.candidates, made.report):
            if one.exists():
                remote.put(one, f"{base}/{one.name}")
        shutil.rmtree(made.video.parent)  # this job's own folder, see `_fetched`


def finished(job: "Job", cache: Path) -> int | None:
    """How many frames the job's output has, where it is there with a report that tells of the same job and the same files."""
    found = _report(job)
    try:
        if found is None or not remote.exists(job.output):
            return None
        same = all(remote.fingerprint(path, cache) == digest for path, digest in found["files"].items())
        return int(found["input"]["num_frames"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VideoError):
        return None  # it tells of a file that is gone, or is damaged


def _report(job: "Job") -> dict[str, Any] | None:
    """The report beside the job's output, where there is one of this very job."""
    from ..api import Files

    base, _, name = job.output.rpartition("/")
    path = f"{base}/{Files.of(name).report}" if remote.is_url(job.output) else str(Files.of(job.output).report)
    try:
        found = json.loads(remote.read_text(path)) if remote.exists(path) else {}
        same = _told(found["job"]) == _told(_absolute(job).to_dict())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VideoError):
        return None  # somebody else's file
    return dict(found) if same else None


def _absolute(job: "Job") -> "Job":
    return job.named(lambda path: path if remote.is_url(path) else str(Path(path).absolute()))


def _told(job: Mapping[str, Any]) -> dict[str, Any]:
    """What of a job decides what is made."""
    plain: dict[str, Any] = json.loads(json.dumps(job))
    return {name: value for name, value in plain.items() if name not in _POLICY}


def _is_own(job: "Job") -> bool:
    """Whether what is in the way of the job's output was left by this job: its run was killed, or the video was deleted."""
    from ..api import run_folder

    if not Path(job.output).exists():
        return _report(job) is not None
    try:
        kept = read_manifest(run_folder(job.output))["job"]
    except InputError:
        return False
    wanted = _told(_absolute(job).to_dict())
    return {name: value for name, value in kept.items() if name not in _POLICY} == wanted


def _names(job: "Job", here: "Job") -> dict[str, str]:
    """For each file of this machine in `here` the URL in `job` that it stands for."""
    found: dict[str, str] = {}

    def pair(name: str) -> Callable[[str], str]:
        def noted(path: str) -> str:
            seen.setdefault(name, []).append(path)
            return path

        return noted

    seen: dict[str, list[str]] = {}
    job.named(pair("there"))
    here.named(pair("here"))
    for local, there in zip(seen.get("here", []), seen.get("there", []), strict=True):
        if remote.is_url(there):
            found[local] = there
    return found


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A report with the names of files replaced."""
    if isinstance(value, Mapping):
        return {names.get(key, key): _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


# -------------------------------------------------------------------------------------------------------------- summary


def write_summary(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write what became of the rows to a .csv or .json file. Raises `InputError` for another suffix, `WorkError` by the disk."""
    check_summary(path)
    rows = [asdict(one) for one in outcomes]
    if path.suffix.lower() == ".json":
        write_json(path, {"rows": rows})
        return
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [one.name for one in fields(Outcome)])
    table.writeheader()
    table.writerows(rows)
    try:
        path.write_text(text.getvalue(), "utf-8", newline="")
    except OSError as error:
        raise WorkError(f"{path} could not be written ({error.strerror or error}). Check the folder.") from error


def check_summary(path: Path) -> None:
    """Nothing, where a summary can be of this kind. Raises `InputError` otherwise."""
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"A summary cannot be written as {path.name}. Name a .csv or .json file.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"There is no folder {path.absolute().parent} for the summary. Make it, or name another.")


def shortened(outcome: Outcome, longest: int = 160) -> Outcome:
    """An outcome whose message is one line, for a table."""
    message = " ".join(outcome.message.split())
    return replace(outcome, message=message if len(message) <= longest else f"{message[: longest - 1]}…")
