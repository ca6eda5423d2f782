"""Pictures: one file, one raw array."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ..errors import VideoError
from ..outputs import replacing
from ..types import Raw
from .border import check_file, check_size, writing

_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 258  # TIFF tag
# EXIF 2.32, table of tag 0112: what lays a stored picture upright
_UPRIGHT: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    1: lambda picture: picture,
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: picture[::-1, ::-1].swapaxes(0, 1),
    8: lambda picture: np.rot90(picture, 1),
}


def read_picture(path: str | Path) -> Raw:
    """The picture in `path`: raw [H, W, 3], RGB, upright; uint16 where the file is deeper than 8 bit. Alpha is left out.

    Raises `VideoError` for a file that is missing, unreadable, or over the pixel limit (found before decoding).
    """
    path = Path(path)
    check_file(path)
    try:
        with _open(path) as image:
            turn = _UPRIGHT.get(_orientation(image), _UPRIGHT[1])
            picture = _deep(path) if _is_deep(image, path) else np.asarray(image.convert("RGBA").convert("RGB"))
    except (OSError, SyntaxError, ValueError, cv2.error) as error:  # Pillow raises all of these for broken files
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{path} cannot be read as a picture ({error}). Save it again as PNG or JPEG.") from error
    return np.ascontiguousarray(turn(picture))


def picture_size(path: Path) -> tuple[int, int, int]:
    """Height, width (upright) and bits of a channel, 8 or 16, from the header alone. Raises `VideoError` as `read_picture`."""
    check_file(path)
    try:
        with _open(path) as image:
            width, height = image.size
            if _orientation(image) in (5, 6, 7, 8):
                width, height = height, width
            return height, width, 16 if _is_deep(image, path) else 8
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{path} cannot be read as a picture ({error}). Save it again as PNG or JPEG.") from error


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(_ORIENTATION, 1))


def _open(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower and is an error
        try:
            image = Image.open(path)
        except Image.DecompressionBombError as error:
            raise VideoError(f"{path} claims too many pixels ({error}). Scale it down first.") from error
        except UnidentifiedImageError as error:
            raise VideoError(f"{path} is not a picture that can be read. Save it again as PNG or JPEG.") from error
    try:
        check_size(path, *image.size)
    except VideoError:
        image.close()
        raise
    return image


def _is_deep(image: Image.Image, path: Path) -> bool:
    if image.mode.startswith("I"):
        return True
    if image.format == "PNG":  # Pillow reads 16-bit colour as 8 bit and does not say so; the header's byte 24 does
        with path.open("rb") as file:
            return file.read(25)[24:] == b"\x10"
    tags = getattr(image, "tag_v2", {})
    return bool(max(np.atleast_1d(tags.get(_BITS_PER_SAMPLE, 8))) == 16)


def _deep(path: Path) -> Raw:
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"{path} cannot be read as a 16-bit picture. Save it again as PNG.")
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return cast(Raw, picture[..., 2::-1])


def write_picture(path: str | Path, raw: Raw, *, overwrite: bool = True) -> None:
    """Write raw [H, W, 3] to `path`; its suffix says the format. PNG and TIFF keep 16 bit, JPEG and WebP hold 8.

    The file appears complete or not at all. Raises `VideoError` for an unknown suffix, `InputError` for what is no regular
    file and, without `overwrite`, for what is there, `WorkError` for a full disk.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SAVED:
        raise VideoError(f"{path} has no picture suffix that can be written. Use .png, .jpg, .webp or .tif.")
    if raw.dtype == np.uint16 and suffix not in (".png", ".tif", ".tiff"):
        raw = cast(Raw, cv2.convertScaleAbs(raw, alpha=255 / 65535))
    done, data = cv2.imencode(suffix, np.ascontiguousarray(raw[..., ::-1]), _SAVED[suffix])
    assert done
    with writing(path), replacing(path, overwrite=overwrite) as part:
        part.write_bytes(data.tobytes())


_SAVED: dict[str, list[int]] = {
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3],  # a third of the time of the default, some percent larger
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
    ".tif": [],
    ".tiff": [],
}
