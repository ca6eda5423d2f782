"""The border to FFmpeg: how files are named to it, what is too much for it, and what its errors mean to a user."""

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import av
from av.container import InputContainer, OutputContainer
from av.format import Flags
from av.stream import Stream

from ..errors import VideoError, WorkError

Warn: TypeAlias = Callable[[str], None]
Progress: TypeAlias = Callable[[str, int, int], None]  # (stage, done, total)
Busy: TypeAlias = Callable[[str], AbstractContextManager[None]]  # times a stage of another thread
if TYPE_CHECKING:
    Packet: TypeAlias = av.Packet[Stream]
else:
    Packet = av.Packet  # generic in PyAV's stubs alone

SMALLEST_SIDE = 16  # pixels: below it there is nothing to match between frames
PIXEL_LIMIT = 8192 * 8192  # one frame as float32 RGB then takes 0.8 GB; every picture of today's cameras passes
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def ignore(message: str) -> None:
    """Nobody is told."""


def untimed(name: str) -> AbstractContextManager[None]:
    """Nobody measures how long the stage takes."""
    del name
    return nullcontext()


def silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


def address(path: Path) -> str:
    """The name under which FFmpeg opens exactly this file: `-`, `:` and `%` in it would otherwise mean something else."""
    return f"file:{path}"


def check_size(path: Path, width: int, height: int) -> None:
    """Raise `VideoError` for a frame too small to work on, or too large for memory."""
    if min(width, height) < SMALLEST_SIDE:
        raise VideoError(
            f"{path} is {width}x{height} pixels, less than {SMALLEST_SIDE} on a side. Enlarge it first, or choose another file."
        )
    if width * height > PIXEL_LIMIT:
        raise VideoError(f"{path} is {width}x{height} pixels, over the limit of {PIXEL_LIMIT:,}. Scale it down first.")


def check_file(path: Path) -> None:
    """Raise `VideoError` unless `path` is a file with something in it."""
    if not path.exists():
        raise VideoError(f"{path} does not exist. Check the name and the folder.")
    if not path.is_file():
        raise VideoError(f"{path} is not a file. Give a video, a picture, or a folder of pictures.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty. Copy or download it again.")


def clock_zero(container: InputContainer) -> Fraction:
    """The instant (seconds) that this file calls zero.

    Transport and program streams count from an arbitrary point of a running clock, so their first instant is zero; in
    every other container a late start is meant (sound before the picture) and is kept.
    """
    if not Flags(container.format.flags) & Flags.ts_discont:
        return Fraction(0)
    starts = [one.start_time * one.time_base for one in container.streams if one.start_time is not None and one.time_base]
    return min(starts, default=Fraction(0))


def codec_name(stream: Stream) -> str:
    """The name of a stream's codec; "unknown" where this build of FFmpeg does not know it."""
    return stream.codec.canonical_name if getattr(stream, "codec_context", None) is not None else "unknown"


@contextmanager
def reading(path: Path, hint: str = "Check that it is a complete video file") -> Iterator[None]:
    """FFmpeg's errors, while `path` is read, as `VideoError`."""
    try:
        yield
    except (av.FFmpegError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{path} cannot be read as a video ({reason}). {hint}.") from error


def close_quietly(container: OutputContainer) -> None:
    """Close a file that is given up, or closed already: what fails now has been reported, or was on a full disk."""
    with suppress(av.FFmpegError, OSError):
        container.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk and of FFmpeg, while `path` is written, as `WorkError`."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno in _FULL:
            raise WorkError(
                f"The disk is full: {path} could not be written. Make room and run the same command again; it goes on from here."
            ) from error
        raise WorkError(
            f"{path} could not be written ({error.strerror or error}). Check the folder, or choose another codec or container."
        ) from error
