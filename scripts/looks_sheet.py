"""Pictures of several versions of a video side by side, with crops at full size of what moves most."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowpaint.texture import motion
from flowpaint.types import Clip, Raw

_COLUMN, _GAP, _LINE = 420, 8, 22
_PLACES = (0.25, 0.5, 0.9)  # of the video


def write_sheet(path: Path, shown: Mapping[str, Clip]) -> None:
    """Write the PNG: a column for each of `shown`, the source first; two rows a moment, whole frames and crops.

    Crops are squares of the source's motion at its fastest, at their full size, or twice that where the video is small.
    """
    source = next(iter(shown.values()))
    small = (_COLUMN, max(1, round(_COLUMN * source.height / source.width)))
    step = small[1] + _LINE + _COLUMN + 2 * _GAP
    page = Image.new("RGB", (len(shown) * (_COLUMN + _GAP) + _GAP, len(_PLACES) * step + _GAP), (247, 247, 245))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for row, place in enumerate(_PLACES):
        index = max(1, min(len(source) - 1, round(place * len(source))))
        corner, side = _fastest(source, index)
        for column, (name, clip) in enumerate(shown.items()):
            x, y = _GAP + column * (_COLUMN + _GAP), _GAP + row * step
            picture = clip.raw(index)
            pen.text((x, y + 2), f"{name}, frame {index}", fill=(40, 40, 40), font=font)
            page.paste(Image.fromarray(cv2.resize(picture, small, interpolation=cv2.INTER_AREA)), (x, y + _LINE))
            page.paste(Image.fromarray(_crop(picture, corner, side)), (x, y + _LINE + small[1] + _GAP))
    page.save(path)


def _fastest(source: Clip, index: int) -> tuple[tuple[int, int], int]:
    """Top left corner and side of the square around what moves most at a frame."""
    side = min(_COLUMN if min(source.height, source.width) >= _COLUMN else _COLUMN // 2, source.height, source.width)
    speed = np.minimum(
        motion(source.raw(index - 1), source.raw(index)).speed, 0.1 * source.height
    )  # flow that is lost has no end
    mean = cv2.blur(speed - np.median(speed), (side, side))
    half = side // 2
    inner = mean[half : source.height - side + half + 1, half : source.width - side + half + 1]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return (int(x), int(y)), side


def _crop(picture: Raw, corner: tuple[int, int], side: int) -> Raw:
    x, y = corner
    found = np.ascontiguousarray(picture[y : y + side, x : x + side])
    return cv2.resize(found, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) if 2 * side <= _COLUMN else found
