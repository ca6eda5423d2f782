"""A clip written to a file or a folder, in steps that survive being interrupted."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from ..outputs import check_file, check_folder, replace_folder, sign
from ..parallel import WorkQueue, num_threads
from ..types import Clip, Raw
from .border import Busy, Progress, Warn, ignore, silent, untimed, writing
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
    busy: Busy = untimed,
    warn: Warn = ignore,
) -> None:
    """Write the clip to `out`: a video, or where `out` has no suffix a folder of `%06d.png` from 0.

    Frames are pulled in order and encoded in closed segments of `chunk` frames, kept in the folder `segments`; a segment
    that is there already is not pulled again, so the same call goes on where an interrupted one stopped, and what is decoded
    from the result does not depend on the interruptions. Without `segments` a temporary folder is used and removed.
    Time stamps, tags, sound, subtitles, chapters and metadata are those of the clip and its origin (see `assemble`).
    The output appears complete or not at all. An existing one is replaced if `overwrite` says so and it is a regular file,
    or a folder that holds nothing but pictures written here; that is looked at before the first frame and after the last.
    Frames are pulled in the calling thread; others, timed by `busy`, convert and encode.

    Raises `InputError` for an output that is the input, may not be replaced or cannot hold what goes into it, `WorkError`
    where the disk is full.
    """
    out = Path(out)
    refuse_input(clip, out)
    (check_file if out.suffix else check_folder)(out, overwrite=overwrite)
    with _room(segments, out) as folder:
        if not out.suffix:
            _write_pictures(clip, folder / "frames", progress, busy)
            with writing(out):
                sign(folder / "frames")
                replace_folder(folder / "frames", out, overwrite=overwrite)
            return
        target, once = resolve(clip, out, encoding, warn), _once(warn)
        refused = rehearse(clip, out, target, encoding, warn=once)
        files = encode_segments(clip, folder, target, chunk=chunk, progress=progress, busy=busy)
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


def _write_pictures(clip: Clip, folder: Path, progress: Progress, busy: Busy) -> None:
    """Write the frames that are not there yet, several at a time. They are told of in order, and come into `folder` then."""
    folder.mkdir(exist_ok=True)
    written: set[int] = set()
    waiting = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(waiting, ignore_errors=True)
    waiting.mkdir()
    done = 0

    def write_one(index: int, raw: Raw) -> None:
        with busy("encode"):
            write_picture(waiting / _name(index), raw)
        written.add(index)

    def tell() -> None:
        nonlocal done
        while done < len(clip) and (done in written or (folder / _name(done)).exists()):
            progress("write", done + 1, len(clip))
            if done in written:
                (waiting / _name(done)).replace(folder / _name(done))
            done += 1

    def finish() -> None:
        for one in queues:
            one.finish()
        tell()

    with ExitStack() as stack:
        stack.callback(shutil.rmtree, waiting, ignore_errors=True)
        queues = [stack.enter_context(WorkQueue("png", 1)) for _ in range(num_threads())]
        try:
            for index in range(len(clip)):
                if not (folder / _name(index)).exists():
                    queues[index % len(queues)].do(partial(write_one, index, clip.raw(index)))
                tell()
        except BaseException:  # what was pulled before it failed is not lost
            with suppress(Exception):
                finish()
            raise
        finish()


def _name(index: int) -> str:
    return f"{index:06d}.png"
