"""The edited first frame that waits for approval: written into the run folder, and known again when it comes back.

It comes back as a key frame. Key frames of other origin are laid onto their frame and mixed with it; this one is what the run
would have made, so it must come back as it is: `approved` tells it from one that was painted over since.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..runs import APPROVED, FIRST, UNMASKED, write_json
from ..types import Raw, from_raw
from ..video import read_picture, write_picture
from .job import Job


@dataclass(frozen=True, kw_only=True)
class First:
    """An edited first frame that was written: `frame` is its number in the input."""

    path: Path
    frame: int

    @property
    def keyframe(self) -> str:
        """What `--keyframe` takes to go on with it."""
        return f"{self.frame}={self.path}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Approved:
    """A first frame that came back as it was written: `picture` [3, H, W] in [0, 1] before any mask.

    `finished` says whether it was made with the strength and the kept colours that are asked for now.
    """

    picture: Tensor
    finished: bool


def write_first(folder: Path, job: Job, *, frame: int, picture: Raw, shown: Raw) -> First:
    """What was written into the run folder: `shown`, the first frame in the result, and `picture`, the same before the mask.

    Both are raw [H, W, 3]; PNG holds 8 and 16 bit. Raises `WorkError` where the disk is full.
    """
    is_masked = job.mask is not None
    (folder / APPROVED).unlink(missing_ok=True)  # never beside pictures that it does not tell of
    write_picture(folder / FIRST, shown)
    if is_masked:
        write_picture(folder / UNMASKED, picture)
    else:
        (folder / UNMASKED).unlink(missing_ok=True)
    files = {name: _digest(folder / name) for name in (FIRST, *([UNMASKED] if is_masked else []))}
    write_json(folder / APPROVED, {"frame": frame, "asked": _asked(job), "sha256": files})
    return First(path=folder / FIRST, frame=frame)


def check_replaceable(folder: Path) -> None:
    """Nothing, where no first frame is in the run folder or it is as it was written. Raises `InputError` otherwise."""
    path = folder / FIRST
    if path.exists() and _record(path) is None:
        raise InputError(f"{path} is not as flowpaint wrote it. Move it away, or use another folder with --run.")


def approved(name: str, frame: int, job: Job) -> Approved | None:
    """The picture `name`, a key frame for `frame` of the input, if it is that frame, edited by `Result.approve` and unchanged."""
    path = Path(name)
    record = _record(path)
    if record is None or record["frame"] != frame:
        return None
    source = path.with_name(UNMASKED) if UNMASKED in record["sha256"] else path
    return Approved(picture=from_raw(read_picture(source)), finished=record["asked"] == _asked(job))


def _asked(job: Job) -> dict[str, Any]:
    return {"strength": float(job.strength), "keep_colors": job.keep_colors}


def _record(path: Path) -> dict[str, Any] | None:
    """What was noted of the picture at `path` when it was written; None where it, or what lies beside it, is of other origin."""
    try:
        found: dict[str, Any] = json.loads(path.with_name(APPROVED).read_text("utf-8"))
        files = found["sha256"]
        unchanged = all(_digest(path.with_name(name)) == digest for name, digest in files.items())
        return found if unchanged and path.name in files and {"frame", "asked"} <= found.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
