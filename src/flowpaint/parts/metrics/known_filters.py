"""Picture filters for known edits: applied to every frame of a video they give its true edited version.

Deterministic, so that a benchmark can hand over one filtered frame, ask for the others, and know the answer. The numbers in
here define that benchmark: none of them may change. Pictures are uint8 RGB [H, W, 3].
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Picture: TypeAlias = npt.NDArray[np.uint8]

BLOCK = 8  # pixels: sides are cut to multiples of it


def prepared_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of a frame [height, width] after `prepare`."""
    tall, wide = _scaled(height, width, size)
    return tall // BLOCK * BLOCK, wide // BLOCK * BLOCK


def prepare(frame: Picture, size: int = 256) -> Picture:
    """`frame` with a short side of `size` (area mean), cut at the right and bottom to multiples of 8."""
    height, width = frame.shape[:2]
    tall, wide = _scaled(height, width, size)
    kept_height, kept_width = prepared_size(height, width, size)
    scaled = cv2.resize(frame, (wide, tall), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(scaled[:kept_height, :kept_width]).astype(np.uint8, copy=False)


def _scaled(height: int, width: int, size: int) -> tuple[int, int]:
    scale = size / min(height, width)
    return round(height * scale), round(width * scale)


def colour(picture: Picture, seed: int = 7) -> Picture:
    """`picture` by a random gamma, 3x3 colour matrix and offset, drawn from `seed`."""
    rng = np.random.default_rng(seed)  # the order of the draws is part of the definition
    matrix = 0.7 * np.eye(3) + rng.uniform(-0.45, 0.6, (3, 3))
    gamma = rng.uniform(0.7, 1.5)
    offset = rng.uniform(-0.2, 0.2, 3)
    graded = (picture / 255.0) ** gamma @ matrix + offset
    return (np.clip(graded, 0, 1) * 255).round().astype(np.uint8)


def poster(picture: Picture) -> Picture:
    """`picture` smoothed within edges (bilateral), five levels a channel, then `colour`."""
    flat = cv2.bilateralFilter(picture, 5, 40, 5) / 255.0
    levels: Picture = ((flat * 4).round() / 4 * 255).astype(np.uint8)
    return colour(levels, seed=3)


def pencil(picture: Picture) -> Picture:
    """Grey lines on white: luma dodged by its own blur."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    lines = cv2.divide(luma, cv2.GaussianBlur(luma, (0, 0), 4), scale=235)
    return cv2.cvtColor(lines, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)


def style(picture: Picture) -> Picture:
    """`picture` abstracted along its edges (Gastal & Oliveira, SIGGRAPH 2011, as in OpenCV), then `colour`."""
    return colour(cv2.stylization(picture, sigma_s=20, sigma_r=0.35).astype(np.uint8, copy=False), seed=11)


def smooth(picture: Picture) -> Picture:
    """`picture` smoothed within edges by the recursive domain filter (Gastal & Oliveira, as in OpenCV), then `colour`."""
    flat = cv2.edgePreservingFilter(picture, flags=cv2.RECURS_FILTER, sigma_s=20, sigma_r=0.5)
    return colour(flat.astype(np.uint8, copy=False), seed=5)


def hue(picture: Picture) -> Picture:
    """`picture` with its hue turned by 154 degrees in HSV."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 77) % 180  # OpenCV counts hue in steps of two degrees
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.uint8, copy=False)


def solarise(picture: Picture) -> Picture:
    """`picture` with levels above 128 inverted; levels below stay as they are."""
    return np.where(picture > 128, 255 - picture, picture).astype(np.uint8)


def duotone(picture: Picture) -> Picture:
    """Luma of `picture` between a dark and a light colour, drawn from seed 4."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] / 255.0
    dark, light = np.random.default_rng(4).uniform(0, 255, (2, 3))
    toned: Picture = (luma * light + (1 - luma) * dark).round().astype(np.uint8)
    return toned


def median(picture: Picture) -> Picture:
    """`picture` without fine structure: a median of 9x9, twice."""
    return cv2.medianBlur(cv2.medianBlur(picture, 9), 9).astype(np.uint8, copy=False)


def emboss(picture: Picture) -> Picture:
    """Relief of `picture`: a directional kernel of 3x3."""
    kernel = np.array([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    return cv2.filter2D(picture, -1, kernel).astype(np.uint8, copy=False)


# The second five are no mixes of colours: two move or remove fine structure, one leaves most of a dark picture as it is.
FILTERS: Mapping[str, Callable[[Picture], Picture]] = MappingProxyType(
    {"colour": colour, "poster": poster, "pencil": pencil, "style": style, "smooth": smooth}
    | {"hue": hue, "solarise": solarise, "duotone": duotone, "median": median, "emboss": emboss}
)
