"""Where one shot turns into the next little by little: cross-fades, and fades through black, white or another plain colour.

Everything is measured on thumbnails. A cross-fade of A and B is a straight way from one picture to the other: each frame between
is (1 - share) A + share B (the production model of Hampapur, Jain and Weymouth, Multimedia Systems 1995). Motion, zooms and
things that pass are no straight way; a lamp that goes on is one, but leaves the same picture under another light.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Thumbs: TypeAlias = npt.NDArray[np.float32]  # [T, height * width * 3], levels of 0..255
Kind: TypeAlias = Literal["cut", "cross-fade", "fade through black", "fade through white", "fade through a colour"]

THUMB = 32, 18  # width and height
_LENGTHS = 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 60  # frames of fades that are tried
_BLOCK = 256  # frames looked at together


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """Where one shot ends and the next begins: the later one has the frames from `frame` on.

    `fade` are the frames that show something of both, none for a cut; `share` is how much of the later shot each of them shows
    (cross-fade), or how much of the shot that it belongs to (fade through a colour).
    """

    frame: int
    kind: Kind = "cut"
    fade: range = range(0)
    share: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    start: int
    length: int
    apart: float
    straight: float
    miss: float
    same: float
    step: float
    back: float
    peak: float
    share: tuple[float, ...]


def measure(thumbs: Thumbs, start: int, length: int) -> Candidate | None:
    a, b = thumbs[start - 1], thumbs[start + length]
    way = b - a
    square = float(way @ way)
    if square < 1:
        return None
    between = thumbs[start : start + length] - a
    share = between @ way / square
    miss = np.sqrt(np.square(between - share[:, None] * way).sum(axis=1) / square)
    steps = np.diff(share, prepend=0.0, append=1.0)
    path = np.abs(np.diff(thumbs[start - 1 : start + length + 1], axis=0)).mean(axis=1).sum()
    apart = np.abs(way).mean()
    n = min(length + 1, start - 1, len(thumbs) - 1 - start - length)
    around = max(
        (np.abs(thumbs[start - 1] - thumbs[max(0, start - 2 - length)]).mean() if start > 1 else 0.0),
        np.abs(thumbs[start + length] - thumbs[min(len(thumbs) - 1, start + 2 * length + 1)]).mean(),
    )
    return Candidate(start, length, apart, apart / max(path, 1e-6), float(miss.max()), resemblance(a, b), float(steps.max()), float(steps.min()), apart / max(around, 1.0), tuple(share))


def resemblance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """How far two thumbnails show the same things in whatever light: correlation of their detail, -1..1, best of small shifts."""
    first, second = (_detail(one) for one in (a, b))
    inner = second[3:-3, 3:-3]
    found = cv2.matchTemplate(first, np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    return float(np.nan_to_num(found).max())


def _detail(thumb: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    picture = thumb.reshape(THUMB[1], THUMB[0], 3).mean(axis=2)
    light = cv2.GaussianBlur(picture, (0, 0), 4)
    spread = np.sqrt(cv2.GaussianBlur(np.square(picture - light), (0, 0), 4))
    return ((picture - light) / (spread + 3)).astype(np.float32)
