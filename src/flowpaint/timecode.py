"""Times as people write them: a frame number (`48`), seconds (`3.5s`), a clock (`00:01:02.500`)."""

import re
from bisect import bisect_left
from fractions import Fraction

from .errors import InputError
from .types import Clip

_SECONDS = re.compile(r"(\d+(?:\.\d+)?|\.\d+)s", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)", re.ASCII)
_FRAME = re.compile(r"\d+", re.ASCII)
_FORMS = "Write a frame number (48), seconds (3.5s) or a clock time (00:01:02.500)"


def parse(time: int | str) -> int | Fraction:
    """The frame number (int) or the seconds after the first frame (Fraction) that `time` means. Raises `InputError`."""
    text = str(time).strip()
    if _FRAME.fullmatch(text):
        return int(text)
    if found := _SECONDS.fullmatch(text):
        return Fraction(found[1])
    if (found := _CLOCK.fullmatch(text)) and int(found[2]) < 60 and Fraction(found[3]) < 60:
        return int(found[1] or 0) * 3600 + int(found[2]) * 60 + Fraction(found[3])
    raise InputError(f"{text!r} is not a time. {_FORMS}.")


def duration(text: str) -> Fraction:
    """A length of time above zero, in seconds. Raises `InputError`, for frame numbers too."""
    found = parse(text)
    if isinstance(found, int) or found <= 0:
        raise InputError(f"{text!r} is not a length of time. Write seconds above zero, like 2s.")
    return found


def frame_at(time: int | str, clip: Clip) -> int:
    """The number of the frame of `clip` at `time`: the one on screen then. Raises `InputError` outside the clip."""
    found = parse(time)
    if isinstance(found, Fraction):
        return clip.index_at(found)
    if found >= len(clip):
        raise InputError(f"There is no frame {found}, the video has {len(clip)}. Choose one from 0 to {len(clip) - 1}.")
    return found


def span(clip: Clip, start: int | str | None, end: int | str | None) -> range:
    """The frames on screen from `start` until just before `end`. Raises `InputError` for none, or beyond the clip."""
    first = 0 if start is None else frame_at(start, clip)
    stop = len(clip) if end is None else _stop(end, clip)
    if stop <= first:
        raise InputError(f"The range from {start or 0} to {end} holds no frame. Give an end after the start.")
    return range(first, stop)


def _stop(end: int | str, clip: Clip) -> int:
    found = parse(end)
    length = clip.end - clip.times[0]
    if found > (len(clip) if isinstance(found, int) else length):
        raise InputError(f"The end {end} is beyond the video: {len(clip)} frames, {clock(length)}. Choose an earlier one.")
    return found if isinstance(found, int) else bisect_left(clip.times, clip.times[0] + found)


def clock(seconds: Fraction | float) -> str:
    """`seconds` as `HH:MM:SS.mmm`."""
    milli = round(seconds * 1000)
    return f"{milli // 3_600_000:02d}:{milli // 60_000 % 60:02d}:{milli // 1000 % 60:02d}.{milli % 1000:03d}"
