"""`MaskSegmenter`: masks that a person made, from a file."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...errors import ConfigError, InputError, VideoError
from ...types import check_shape
from ...warp import resize

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
_ASPECT_SLACK = 0.03
_MOST_PIXELS = 2**26


@dataclass(frozen=True, kw_only=True)
class MaskSegmenter:
    """The masks in the file `path`: a picture for all frames, or a video or a folder of pictures with one for each.

    White is the object; in pictures with a palette, as DAVIS has them, every colour but black. `first` is the number of the mask
    of the first frame. Another size of the same shape is resized. Raises `VideoError` for what cannot be read, `InputError` for
    too few masks or another shape.
    """

    path: str = ""
    first: int = 0

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ConfigError(f"There is no mask number {self.first}. Give 0 or more.")

    def __call__(self, frames: Tensor, hint: Tensor | None = None) -> Tensor:
        """Masks [T, 1, H, W] in [0, 1], 1 = object, of `frames` [T, 3, H, W]. A hint says nothing that the file does not."""
        del hint
        check_shape(frames=(frames, "T 3 H W"))
        if not self.path:
            raise ConfigError("The masks have no file. Give one, as in `--set saliency.path=mask.png`.")
        count, _, height, width = frames.shape
        masks = []
        for mask in _taken(Path(self.path).expanduser(), self.first, count):
            tall, wide = mask.shape[-2:]
            if abs(wide * height / (tall * width) - 1) > _ASPECT_SLACK:
                raise InputError(
                    f"The mask {self.path} is {wide}x{tall}, the video {width}x{height}. Give one of the same shape."
                )
            masks.append(resize(mask[None], height, width))
        return torch.cat(masks * (count if len(masks) == 1 else 1)).to(frames.device)


def _taken(path: Path, first: int, count: int) -> list[Tensor]:
    """The masks [1, h, w] of `count` frames from number `first` on, or the one for all."""
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix.lower() in _PICTURES)
        if not files:
            raise VideoError(f"The folder {path} holds no pictures. Give one with a mask for each frame.")
        if len(files) == 1:
            return [_picture(files[0])]
        _check_count(path, len(files), first, count)
        return [_picture(file) for file in files[first : first + count]]
    if path.suffix.lower() in _PICTURES:
        return [_picture(path)]
    found = []
    for index, mask in enumerate(_film(path)):
        if index >= first:
            found.append(mask)
        if len(found) == count:
            return found
    _check_count(path, first + len(found), first, count)
    return found


def _check_count(path: Path, there: int, first: int, count: int) -> None:
    if there < first + count:
        raise InputError(
            f"{path} has {there} masks where frames {first} to {first + count - 1} need one each. Give as many as frames, or one."
        )


def _picture(path: Path) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower and an error
            with Image.open(path) as file:
                if file.width * file.height > _MOST_PIXELS:
                    raise VideoError(f"The mask {path} claims {file.width} x {file.height} pixels. Give a smaller one.")
                deep = file.mode.startswith(("I", "F"))
                numbered = file.mode == "P"
                upright = ImageOps.exif_transpose(file)
                values = np.array(upright if deep else upright.convert("RGB"), np.float32)
    except VideoError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise VideoError(f"The mask {path} cannot be read: {error}. Give a PNG that opens elsewhere.") from error
    if deep:
        return torch.from_numpy(values / 65535).clamp(0, 1)[None]
    brightest = torch.from_numpy(values.max(axis=2) / 255)[None]
    return (brightest > 0).float() if numbered else brightest


def _film(path: Path) -> Iterator[Tensor]:
    film = cv2.VideoCapture(str(path))
    try:
        if not path.is_file() or not film.isOpened():
            raise VideoError(f"The mask {path} cannot be read. Give a picture, a video, or a folder of pictures.")
        while True:
            there, frame = film.read()
            if not there:
                return
            yield torch.from_numpy(frame.max(axis=2).astype(np.float32) / 255)[None]
    finally:
        film.release()
