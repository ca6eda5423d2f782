"""What can be known before work starts: whether the result has a place, and whether its file takes what goes into it."""

from pathlib import Path

from ..errors import InputError
from ..outputs import check_file, check_folder, followed
from ..types import Clip
from .border import Warn, ignore
from .encoding import Encoding, resolve
from .rehearse import rehearse


def check(clip: Clip, out: str | Path, encoding: Encoding, *, overwrite: bool = False, warn: Warn = ignore) -> None:
    """Raise where `write` cannot be expected to succeed; `warn` is told what will be left out, and where a link leads.

    Raise `InputError` for an output that exists or may not be replaced, is the input, has no writable folder or cannot hold
    what is to go into it, `ConfigError` for a codec that this installation does not have, `VideoError` where the clip's
    origin is gone.
    """
    out = Path(out)
    refuse_input(clip, out)
    (check_file if out.suffix else check_folder)(out, overwrite=overwrite)
    if (target := followed(out)) != out:
        warn(f"{out} is a symbolic link. The result is written to {target}, and the link stays.")
    if out.suffix:
        rehearse(clip, out, resolve(clip, out, encoding, warn), encoding, warn=warn)


def refuse_input(clip: Clip, out: Path) -> None:
    """Raise `InputError` where the output is the input."""
    if clip.origin is not None and out.exists() and clip.origin.path.exists() and out.samefile(clip.origin.path):
        raise InputError(f"{out} is the input. Write to another name; the input is never changed.")
