"""What can go wrong, and the exit code that says so.

FlowpaintError                      1   failed
  InputError (ValueError)           2   the user's words, numbers or files do not fit together
    VideoError                      4   a video or picture cannot be opened, decoded or encoded
    ShapeError                      1   a tensor has another shape than promised
  ConfigError (ValueError)          2   unknown part, field or name; the nearest are given
  WeightsError                      3   weights missing, or their hash is wrong
  LicenceError                      6   licence refused or not accepted
  MissingExtraError (ImportError)   2   names the extra to install
  ResourceError (RuntimeError)      5   out of memory; says what to lower
  WorkError (RuntimeError)          1   a piece of work failed: disk full, a worker, the encoder

Messages have two sentences: what is wrong with which value, and what to do about it.
"""

import difflib
import errno
from collections.abc import Iterable

INTERRUPTED = 130  # exit code, as shells have it
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FlowpaintError(Exception):
    """Everything this package raises on purpose."""

    exit_code = 1


class InputError(FlowpaintError, ValueError):
    """The user's video, picture, mask, time or prompt does not fit."""

    exit_code = 2


class VideoError(InputError):
    """A video or picture is missing, damaged, or holds nothing to work on."""

    exit_code = 4


class ShapeError(InputError):
    """A tensor has another shape than promised: its name, the shape expected and the one found."""

    exit_code = 1


class ConfigError(FlowpaintError, ValueError):
    """Unknown part, field or name."""

    exit_code = 2


class WeightsError(FlowpaintError):
    """Weights are missing or do not have the hash they should have."""

    exit_code = 3


class LicenceError(FlowpaintError):
    """The licence of a model was refused or not accepted."""

    exit_code = 6


class MissingExtraError(FlowpaintError, ImportError):
    """An optional package is not installed."""

    exit_code = 2


class ResourceError(FlowpaintError, RuntimeError):
    """Memory ran out."""

    exit_code = 5


class WorkError(FlowpaintError, RuntimeError):
    """A piece of work failed: which one, and why."""

    exit_code = 1


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The known names most like `name`, as words for a message: `'dis', 'raft'`."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.3) or names[:count]
    return ", ".join(repr(one) for one in close)


def verdict(error: BaseException) -> tuple[int, str]:
    """Exit code and message for an error, whoever raised it."""
    if isinstance(error, FlowpaintError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "Interrupted."
    if _is_out_of_memory(error):
        return 5, "There is not enough memory. Use --preview 2s, a smaller video, --quality draft, or --device cpu."
    if is_full(error):
        return 1, "The disk is full. Make room and run the same command again."
    return 1, f"This should not have happened: {type(error).__name__}: {error}. Run it again with --debug to see where."


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()  # torch and OpenCV have types of their own, which are not imported to ask
    return any(words in text for words in ("out of memory", "can't allocate memory", "failed to allocate", "insufficient memory"))


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that of a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__
    return False
