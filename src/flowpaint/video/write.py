"""A clip written to a file or a folder, in steps that survive being interrupted."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..outputs import check_file, check_folder, replace_folder, sign
from ..types import Clip
from .border import Progress, Warn, ignore, silent, writing
from .check import refuse_input
from .encode import encode_segments
from .encoding import Encoding, resolve
from .mux import assemble
from .picture import write_picture
from .rehearse import rehearse


def write(
    clip: Clip,
    out: str | Path,
    *,
    encoding: Encoding = Encoding(),  # noqa: B008 - frozen
    overwrite: bool = True,
    segments: Path | None = None,
    chunk: int = 48,
    progress: Progress = silent,
    warn: Warn = ignore,
) -> None:
    """Write the clip to `out`: a video, or where `out` has no suffix a folder of `%06d.png` from 0.

    Frames are pulled in order and encoded in closed segments of `chunk` frames, kept in the folder `segments`; a segment
    that is there already is not pulled again, so the same call goes on where an interrupted one stopped, and what is decoded
    from the result does not depend on the interruptions. Without `segments` a temporary folder is used and removed.
    Time stamps, tags, sound, subtitles, chapters and metadata are those of the clip and its origin (see `assemble`).
    The output appears complete or not at all. An existing one is replaced if `overwrite` says so and it is a regular file,
    or a folder that holds nothing but pictures written here; that is looked at before the first frame and after the last.

    Raises `InputError` for an output that is the input, may not be replaced or cannot hold what goes into it, `WorkError`
    where the disk is full.
    """
    out = Path(out)
    refuse_input(clip, out)
    (check_file if out.suffix else check_folder)(out, overwrite=overwrite)
    with _room(segments, out) as folder:
        if not out.suffix:
            _write_folder(clip, folder / "frames", progress=progress)
            with writing(out):
                sign(folder / "frames")
                replace_folder(folder / "frames", out, overwrite=overwrite)
            return
        target, once = resolve(clip, out, encoding, warn), _once(warn)
        refused = rehearse(clip, out, target, encoding, warn=once)
        files = encode_segments(clip, folder, target, chunk=chunk, progress=progress)
        assemble(clip, files, out, target, encoding, refused=refused, overwrite=overwrite, warn=once)


def _once(warn: Warn) -> Warn:
    """The same, which says nothing twice."""
    said: set[str] = set()

    def told(message: str) -> None:
        if message not in said:
            said.add(message)
            warn(message)

    return told


@contextmanager
def _room(segments: Path | None, out: Path) -> Iterator[Path]:
    """The folder for segments: the given one, which stays, or a temporary one beside the output."""
    with writing(out):
        if segments is not None:
            segments.mkdir(parents=True, exist_ok=True)
        folder = segments or Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    try:
        yield folder
    finally:
        if segments is None:
            shutil.rmtree(folder, ignore_errors=True)


def _write_folder(clip: Clip, frames: Path, *, progress: Progress) -> None:
    frames.mkdir(exist_ok=True)
    for index in range(len(clip)):
        file = frames / f"{index:06d}.png"
        if not file.exists():
            write_picture(file, clip.raw(index))
        progress("write", index + 1, len(clip))
