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
from collections.abc import Iterable


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
