"""The program EbSynth (Jamriska, github.com/jamriska/ebsynth, public domain), run by its command line on picture files."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import ConfigError, WorkError

Bytes: TypeAlias = npt.NDArray[np.uint8]  # a picture of 8 bits: [H, W, 3] RGB, or [H, W] grey
_TOLD = 300  # characters at the end of what the program said that go into a message


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """What must agree where style is copied: `source` lies on the style's grid, `target` on the result's."""

    source: Bytes
    target: Bytes
    weight: float


def find(program: str) -> str:
    """The path of an executable file that `program`, a path or a name on PATH, stands for. Raises `ConfigError`."""
    found = shutil.which(program) if program else None
    if found is not None:
        return found
    path = Path(program)
    what = "is not executable" if program and path.is_file() else "is not there"
    raise ConfigError(f"The EbSynth program {program!r} {what}. Build it and name it: --set propagate.program=/path/to/ebsynth.")


def synthesise(program: str, style: Bytes, guides: Sequence[Guide], options: Sequence[str], *, limit: float) -> Bytes:
    """The picture [H, W, 3] that the program at `program` makes of `style` under `guides`, within `limit` seconds.

    Raises `WorkError` where it fails, takes longer or leaves no picture of the right size.
    """
    with tempfile.TemporaryDirectory(prefix="flowpaint-ebsynth-") as name:
        folder = Path(name)
        words = ["-style", _written(folder / "style.png", style)]
        for number, guide in enumerate(guides):
            source = _written(folder / f"source{number}.png", guide.source)
            target = _written(folder / f"target{number}.png", guide.target)
            words += ["-guide", source, target, "-weight", f"{guide.weight:g}"]
        output = folder / "output.png"
        said = _run([program, *words, "-output", str(output), *options], folder / "said.txt", limit)
        found: npt.NDArray[Any] | None = cv2.imread(str(output), cv2.IMREAD_COLOR) if output.exists() else None
    height, width = guides[0].target.shape[:2]
    if found is None or found.shape != (height, width, 3):
        what = "no picture" if found is None else f"a picture of {found.shape[1]}x{found.shape[0]} where {width}x{height} was due"
        raise WorkError(f"{program} wrote {what}. It said: {said}. Check that it is EbSynth, and that the disk has room.")
    return np.ascontiguousarray(found[..., ::-1], dtype=np.uint8)


def _run(command: list[str], log: Path, limit: float) -> str:
    """The end of what `command` said. It goes through a file: a pipe that a child keeps open would outlive the time limit."""
    with log.open("wb") as told:
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, timeout=limit, check=False)
        except subprocess.TimeoutExpired as error:
            raise WorkError(
                f"{command[0]} had not finished one frame after {limit:g} s. Give it longer with --set propagate.limit=SECONDS, "
                "or make the video smaller."
            ) from error
        except OSError as error:
            raise WorkError(f"{command[0]} could not be started ({error.strerror or error}). Run it by hand once.") from error
    said = " ".join(log.read_text("utf-8", errors="replace").split())[-_TOLD:] or "nothing"
    if done.returncode != 0:
        raise WorkError(f"{command[0]} ended with exit code {done.returncode}. It said: {said}. Run it by hand once.")
    return said


def _written(path: Path, picture: Bytes) -> str:
    """The name of the file that now holds `picture`."""
    turned = picture[..., ::-1] if picture.ndim == 3 else picture
    if not cv2.imwrite(str(path), np.ascontiguousarray(turned), [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise WorkError(f"{path} could not be written. Make room in the folder for temporary files.")
    return str(path)
