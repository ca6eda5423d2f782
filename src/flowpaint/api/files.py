"""The files that belong to an output, and whether they may be written."""

from dataclasses import dataclass
from pathlib import Path

from .. import video
from ..errors import InputError
from ..outputs import check_file, check_folder
from ..types import Clip
from .job import Job


@dataclass(frozen=True, kw_only=True)
class Files:
    """What belongs to one output."""

    video: Path
    report: Path
    sheet: Path
    candidates: Path

    @classmethod
    def of(cls, output: str | Path) -> "Files":
        """The files for an output, a video or a folder. Raises `InputError` for what is no name of one, like `..`."""
        path = Path(output)
        if path.name in ("", ".."):
            raise InputError(f"{str(output)!r} names no file and no folder of its own. Give the output a name.")
        stem = path.stem if path.suffix else path.name
        report, sheet, candidates = (path.with_name(f"{stem}{end}") for end in (".json", ".sheet.png", ".candidates.png"))
        return cls(video=path, report=report, sheet=sheet, candidates=candidates)


def run_folder(output: str | Path) -> Path:
    """The run folder of an output, unless another is chosen."""
    path = Path(output)
    return path.with_name(f"{path.name}.run")


def check_writing(job: Job, shown: Clip, *, overwrite: bool, warn: video.Warn) -> Files:
    """Return the files of the job's output, which will show a clip like `shown`; `warn` is told what will not go into it.

    Raises as `check_files` and `flowpaint.video.check` do.
    """
    files = check_files(job, overwrite=overwrite)
    video.check(shown, files.video, job.encoded(), overwrite=overwrite, warn=warn)
    return files


def check_files(job: Job, *, overwrite: bool) -> Files:
    """Return the files of the job's output.

    Raises `InputError` where one of them has no place, would replace what it may not, or is read by the job.
    """
    files = Files.of(job.output)
    beside = {files.report: "report", files.sheet: "contact sheet"}
    if int(job.method.get("candidates", 1)) > 1:
        beside[files.candidates] = "sheet of candidates"
    for path in (files.video, *beside):
        _check_unread(job, path)
    (check_file if files.video.suffix else check_folder)(files.video, overwrite=overwrite)
    for path, what in beside.items():
        if path.is_file() and not overwrite:
            raise InputError(
                f"{path} exists, where the {what} of {files.video.name} would go. "
                f"Give the output a name other than {files.video.stem!r} with -o, or replace the {what} with --overwrite."
            )
        check_file(path, overwrite=overwrite)
    return files


def _check_unread(job: Job, path: Path) -> None:
    """Raise `InputError` where the job reads what is at `path`, or something in the folder that is there."""
    if not path.exists():
        return
    place = path.resolve()
    for read in job.files():
        if not Path(read).resolve().is_relative_to(place) and not (Path(read).exists() and path.samefile(read)):
            continue
        if read == job.input:
            raise InputError(f"{path} is the input. Write to another name; the input is never changed.")
        raise InputError(f"{path} holds what this job reads ({read}). Write to another name.")
