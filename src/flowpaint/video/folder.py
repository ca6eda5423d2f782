"""A folder of pictures as a clip, and back."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import VideoError
from ..types import Bits, Clip, Raw
from .picture import picture_size, read_picture

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key under which `frame10` comes after `frame9`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold())]


def read_folder(path: Path, *, fps: Fraction = Fraction(24)) -> Clip:
    """The pictures of a folder (or one picture) as a clip at `fps`, in natural order of their names.

    Raises `VideoError` where there are none, where one cannot be read, or where their sizes differ.
    """
    files = sorted(_pictures(path), key=lambda file: natural(file.name)) if path.is_dir() else [path]
    if not files:
        raise VideoError(f"{path} holds no pictures. Give a folder of PNG, JPEG, WebP or TIFF files.")
    sizes = [picture_size(file) for file in files]
    height, width, _ = sizes[0]
    for file, (other_height, other_width, _) in zip(files, sizes, strict=True):
        if (other_height, other_width) != (height, width):
            raise VideoError(
                f"{file} is {other_width}x{other_height} pixels where {files[0].name} is {width}x{height}. Make all of one size."
            )
    bits: Bits = 16 if any(size[2] == 16 for size in sizes) else 8

    def raw(index: int) -> Raw:
        picture = read_picture(files[index])
        if bits == 16 and picture.dtype == np.uint8:
            return picture.astype(np.uint16) * np.uint16(257)
        return picture

    return Clip(
        raw,
        times=[index / fps for index in range(len(files))],
        end=len(files) / fps,
        height=height,
        width=width,
        bits=bits,
        codec="rgb24" if bits == 8 else "rgb48le",
    )


def _pictures(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
