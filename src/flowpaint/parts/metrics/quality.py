"""Quality without a reference: DOVER (Wu et al., ICCV 2023), through a program that is not part of this package.

DOVER's code and weights may not be used commercially (S-Lab licence), so none of them is here. What is: how its two answers
become one number, and where it looks.
"""

import json
import math
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from ...errors import ConfigError
from ...moments import Case, Moment
from ...seams import Tally
from ...types import Measure, Score
from .rows import all_missing
from .tally import NOTHING

_NO_SCORER = "needs an external scorer (DOVER's licence is non-commercial): give a command by `--set dover.scorer=...`"
_NO_FILE = "the scorer reads files, and the result is none"
_PART = "the scorer reads whole files, and the result is a part of one"


def fused(technical: float, aesthetic: float) -> float:
    """DOVER's overall quality in 0..1, of the raw answers of its technical and its aesthetic branch.

    The weights are the published ones: sigmoid(0.6104 (t - 0.1107) / 0.07355 + 0.3896 (a + 0.08285) / 0.03774).
    """
    total = 0.6104 * (technical - 0.1107) / 0.07355 + 0.3896 * (aesthetic + 0.08285) / 0.03774
    return 1 / (1 + math.exp(-total)) if total >= 0 else math.exp(total) / (1 + math.exp(total))


def sampled_frames(count: int, *, length: int = 32, stride: int = 2, clips: int = 3) -> list[list[int]]:
    """The frames that the technical branch sees of a video of `count`: `clips` runs of `length`, every `stride`th frame.

    The runs are spread evenly; a video that is too short starts again.
    """
    room = max(0, count - ((length - 1) * stride + 1))
    starts = [round(room * clip / max(1, clips - 1)) for clip in range(clips)]
    return [[(start + step * stride) % count for step in range(length)] for start in starts]


def fragments(height: int, width: int, *, grid: int = 7, size: int = 32, seed: int = 0) -> list[tuple[int, int]]:
    """Upper left corners (y, x) of the squares of `size` pixels that the technical branch sees, one in each cell of a grid.

    The place inside a cell is random and is the same for all frames (FAST-VQA: Wu et al., ECCV 2022). Raises `ConfigError`
    where a cell is smaller than a square.
    """
    if min(height, width) < grid * size:
        raise ConfigError(f"{width}x{height} has no room for {grid}x{grid} squares of {size}. Enlarge the picture first.")
    source = torch.Generator().manual_seed(seed)

    def place(cell: int, length: int) -> int:
        start, end = length * cell // grid, length * (cell + 1) // grid
        return start + int(torch.randint(end - start - size + 1, (), generator=source))

    return [(place(row, height), place(column, width)) for row in range(grid) for column in range(grid)]


@dataclass(frozen=True, kw_only=True)
class Dover:
    """What an external DOVER says of the result's file.

    `scorer` is a command; the file's path is put behind it. Its last line of output is a number (the fused quality), or JSON
    with raw `technical` and `aesthetic`, which are fused here.
    """

    scorer: str = ""
    seconds: float = 3600  # after which it is stopped

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="dover",
            title="Quality (DOVER)",
            unit="",
            higher_is_better=True,
            source="Wu et al., DOVER, ICCV 2023; external program",
        ),
        Measure(
            name="dover_technical", title="Technical quality (DOVER, raw)", unit="", higher_is_better=True, source="as DOVER"
        ),
        Measure(
            name="dover_aesthetic", title="Aesthetic quality (DOVER, raw)", unit="", higher_is_better=True, source="as DOVER"
        ),
    )

    def __post_init__(self) -> None:
        words = shlex.split(self.scorer)
        if words and shutil.which(words[0]) is None:
            raise ConfigError(f"There is no program {words[0]!r}, which was given as the scorer. Give one that can be run.")

    def __call__(self, case: Case) -> Tally:
        """A fresh tally."""
        return _DoverTally(shlex.split(self.scorer), case, self.seconds)


class _DoverTally:
    def __init__(self, command: Sequence[str], case: Case, seconds: float) -> None:
        self._command, self._origin, self._seconds = command, case.result.origin, seconds
        self._seen = False

    def see(self, moment: Moment) -> None:  # noqa: ARG002
        self._seen = True

    def score(self) -> Score:
        names = [one.name for one in Dover.measures]
        reason = self._obstacle()
        values = {} if reason else self._told()
        if isinstance(values, str):
            reason, values = values, {}
        left = [name for name in names if name not in values]
        facts = {"scorer": Path(self._command[0]).name} if values else {}
        return Score(values=values, missing=all_missing(left, reason or "the scorer does not say"), facts=facts)

    def _obstacle(self) -> str:
        if not self._command:
            return _NO_SCORER
        if not self._seen:
            return NOTHING
        if self._origin is None:
            return _NO_FILE
        return "" if self._origin.whole else _PART

    def _told(self) -> dict[str, float] | str:
        """What the program found, or why it found nothing."""
        assert self._origin is not None
        try:
            done = subprocess.run(
                [*self._command, str(self._origin.path)], capture_output=True, text=True, timeout=self._seconds, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the scorer failed: {error}"
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return f"the scorer ended with code {done.returncode}: {last}"
        return read_answer(done.stdout)


def read_answer(text: str) -> dict[str, float] | str:
    """The measures in a scorer's output, whose last line counts, or why there are none."""
    last = (text.strip().splitlines() or [""])[-1]
    try:
        told = json.loads(last)
        if isinstance(told, dict):
            technical, aesthetic = float(told["technical"]), float(told["aesthetic"])
            found = {"dover": fused(technical, aesthetic), "dover_technical": technical, "dover_aesthetic": aesthetic}
        else:
            found = {"dover": float(told)}
    except (ValueError, TypeError, KeyError):
        return f"the scorer's last line is neither a number nor JSON with technical and aesthetic: {last[:80]!r}"
    return found if all(math.isfinite(value) for value in found.values()) else f"the scorer's answer is {last}"
