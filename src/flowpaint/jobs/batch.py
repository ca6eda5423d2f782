"""Many videos: each row of a table is done, gone on with, or left as it is where it is done already."""

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from ..errors import FlowpaintError, InputError, VideoError, WorkError, verdict
from ..outputs import SIGNATURE, check_file, make_folder, stranger, write_text
from ..runs import read_manifest, write_json
from ..seams import Executor
from . import remote
from .rows import Row

if TYPE_CHECKING:
    from ..api import Job

_POLICY = {"offline", "commercial_only", "allow_pickle"}  # fields that do not change what is made


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


_COLUMNS = [one.name for one in fields(Outcome)]  # of a summary


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

        here, is_elsewhere = self._fetched(job), remote.is_url(job.output)
        if is_elsewhere:
            _check_elsewhere(job, overwrite=self.overwrite)
        frames = finished(here, self.cache) if is_elsewhere else None  # made already, but not put there
        if frames is None:
            make_folder(Path(here.output).parent)
            overwrite = self.overwrite or is_elsewhere or _is_own(here)
            api.check_output(here, overwrite=overwrite)
            result = api.Result(here)
            result.save(overwrite=overwrite)
            frames = int(result.report["input"]["num_frames"])
        if is_elsewhere:
            _check_elsewhere(job, overwrite=self.overwrite)
            self._put(job, here)
        return frames

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
        told = made.report.with_name(f"{made.report.name}.there")
        write_json(told, _renamed(json.loads(made.report.read_text("utf-8")), names))
        remote.remove(f"{base}/{made.report.name}")  # that of the output which is replaced now
        for one in (made.video, made.sheet, made.candidates):
            if one.exists():
                remote.put(one, f"{base}/{one.name}")
        remote.put(told, f"{base}/{made.report.name}")
        shutil.rmtree(made.video.parent)  # this job's own folder, see `_fetched`


def _check_elsewhere(job: "Job", *, overwrite: bool) -> None:
    """Raise `InputError` where what is at the job's URL, or beside it, may not be replaced. Raises as `remote.fetch`, too."""
    from ..api import Files

    base, _, name = job.output.rstrip("/").rpartition("/")
    files = Files.of(name)
    found = remote.kind(job.output)
    if found is not None and not overwrite:
        raise InputError(f"{job.output} exists, and was made otherwise. Use --overwrite to replace it.")
    if found not in (None, "file" if files.video.suffix else "directory"):
        wanted = "file" if files.video.suffix else "folder"
        raise InputError(f"{job.output} is a {found} where a {wanted} would go. Choose another name.")
    if found == "directory":
        sizes = {name: size for name, size in remote.listed(job.output).items() if name}
        signature = f"{job.output.rstrip('/')}/{SIGNATURE}"
        if (other := stranger(remote.read_text(signature) if SIGNATURE in sizes else None, sizes)) is not None:
            raise InputError(
                f"{job.output} is a folder that holds other files than flowpaint wrote there ({other}). Choose another name."
            )
    for path in (files.report, files.sheet, files.candidates):
        there = remote.kind(f"{base}/{path}")
        if there not in (None, "file"):
            raise InputError(f"{base}/{path} is a {there} where a file would go. Choose another name.")
        if there is not None and not overwrite and _report(job) is None:
            raise InputError(f"{base}/{path} exists, and was made otherwise. Use --overwrite to replace it.")


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

    base, _, name = job.output.rstrip("/").rpartition("/")
    path = f"{base}/{Files.of(name).report}" if remote.is_url(job.output) else str(Files.of(job.output).report)
    try:
        is_there = remote.kind(path) == "file" if remote.is_url(path) else Path(path).is_file()  # a pipe would be waited at
        found = json.loads(remote.read_text(path)) if is_there else {}
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
    from ..api import is_made, run_folder

    if not Path(job.output).exists():
        return _report(job) is not None
    try:
        manifest = read_manifest(run_folder(job.output))
    except InputError:
        return False
    wanted = _told(_absolute(job).to_dict())
    same = {name: value for name, value in manifest["job"].items() if name not in _POLICY} == wanted
    # A run that was killed before its last step has written nothing there: then it is somebody else's.
    allowed = bool(manifest.get("saving", {}).get("overwrite")) or Path(job.output).is_dir()
    return same and (allowed or is_made(job, Path(job.output)))


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


def write_summary(path: Path, outcomes: Sequence[Outcome], *, overwrite: bool = False) -> None:
    """Write what became of the rows to a .csv or .json file. Raises as `check_summary`, and `WorkError` by the disk."""
    check_summary(path, overwrite=overwrite)
    rows = [asdict(one) for one in outcomes]
    if path.suffix.lower() == ".json":
        write_json(path, {"rows": rows})
        return
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS)
    table.writeheader()
    table.writerows(rows)
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise WorkError(f"{path} could not be written ({error.strerror or error}). Check the folder.") from error


def check_summary(path: Path, *, overwrite: bool = False) -> None:
    """Raise `InputError` where no summary can be written to `path`, or it would replace anything but an older summary.

    With `overwrite` any regular file is replaced.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"A summary cannot be written as {path.name}. Name a .csv or .json file.")
    check_file(path, overwrite=overwrite or _is_summary(path))


def _is_summary(path: Path) -> bool:
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
        if path.suffix.lower() == ".json":
            return all([*row] == _COLUMNS for row in json.loads(text)["rows"])
        return text.splitlines()[:1] == [",".join(_COLUMNS)]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def shortened(outcome: Outcome, longest: int = 160) -> Outcome:
    """An outcome whose message is one line, for a table."""
    message = " ".join(outcome.message.split())
    return replace(outcome, message=message if len(message) <= longest else f"{message[: longest - 1]}…")
