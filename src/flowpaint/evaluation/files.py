"""Pictures, masks and videos as data sets keep them: among stray files, as palettes, in folders."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError, VideoError
from ..runs import fingerprint
from ..types import Clip, Raw
from ..video import read, read_picture
from ..video.folder import PICTURES, natural
from ..video.picture import picture_size

VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv", ".ogv", ".y4m"}
)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, in natural order of their names. None without a folder; hidden files are left out."""
    return _of(folder, PICTURES)


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder, in natural order of their names; hidden files are left out."""
    return _of(folder, VIDEOS)


def _of(folder: Path, suffixes: set[str] | frozenset[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [one for one in folder.iterdir() if one.suffix.lower() in suffixes and not one.name.startswith(".") and one.is_file()]
    return sorted(found, key=lambda file: natural(file.name))


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order of their names, hidden ones left out."""
    if not folder.is_dir():
        return []
    found = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
    return sorted(found, key=lambda one: natural(one.name))


def hash_of(*files: Path) -> str:
    """A hash of what is in the files (of large ones, of their ends): 16 hex digits."""
    return hashlib.sha256("".join(fingerprint(file) for file in files).encode()).hexdigest()[:16]


def object_mask(path: Path) -> Raw:
    """An annotation as a mask: 255 where its palette index, or any of its channels, is above 0. Raises `VideoError`."""
    picture_size(path)  # says what is wrong with a file that cannot be opened, before anything is decoded
    try:
        with Image.open(path) as image:
            labels = np.asarray(image if image.mode in ("P", "L", "1") or image.mode.startswith("I") else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise VideoError(f"{path} cannot be read as an annotation ({error}). Copy it again.") from error
    inside = labels.reshape(*labels.shape[:2], -1).max(axis=2) > 0
    return np.repeat(np.where(inside, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)


def annotations(files: Sequence[Path], source: Clip) -> Clip:
    """The mask of `source` from an annotation for each of its frames, decoded when asked for.

    Raises `InputError` where one has another size.
    """
    for file in files:
        check_size(file, source)
    return _mask_like(source, lambda index: object_mask(files[index]))


def mask(path: Path, source: Clip) -> Clip:
    """The mask of `source` in a picture, a folder of pictures or a video, decoded when asked for.

    Pictures with a coloured palette are annotations (index above 0 = edited), others say by their brightness how much is
    edited. Raises `InputError` where sizes differ, or the number of frames is neither 1 nor that of the source.
    """
    if path.is_dir() or path.suffix.lower() in PICTURES:
        files = pictures_in(path) if path.is_dir() else [path]
        if not files:
            raise VideoError(f"{path} holds no pictures. Give a mask, or one for each frame.")
        for file in files:
            check_size(file, source)
        _check_count(path, len(files), source)
        return _mask_like(source[:1] if len(files) == 1 else source, lambda index: _soft_mask(files[index]))
    clip = read(path)
    if (clip.height, clip.width) != (source.height, source.width):
        raise _other_size(path, (clip.width, clip.height), source)
    _check_count(path, len(clip), source)
    return clip


def check_size(path: Path, source: Clip) -> None:
    """Raise `InputError` unless the picture is as large as the clip's frames."""
    height, width, _ = picture_size(path)
    if (height, width) != (source.height, source.width):
        raise _other_size(path, (width, height), source)


def _mask_like(clip: Clip, read_mask: Callable[[int], Raw]) -> Clip:
    return Clip(read_mask, times=clip.times, end=clip.end, height=clip.height, width=clip.width, aspect=clip.aspect)


def _soft_mask(path: Path) -> Raw:
    with Image.open(path) as image:
        palette = image.getpalette() if image.mode == "P" else None
    if palette and any(len(set(palette[start : start + 3])) > 1 for start in range(0, len(palette), 3)):
        return object_mask(path)
    return read_picture(path)


def _other_size(path: Path, size: tuple[int, int], source: Clip) -> InputError:
    return InputError(
        f"{path} is {size[0]}x{size[1]} and its video {source.width}x{source.height}. Scale it to the size of the video."
    )


def _check_count(path: Path, count: int, source: Clip) -> None:
    if count not in (1, len(source)):
        raise InputError(f"{path} has {count} frames and its video {len(source)}. Give one mask for all, or one for each frame.")
