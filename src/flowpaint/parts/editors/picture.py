"""Editors led by a picture file: `StyleEditor` takes its style, `PictureEditor` takes it as it is."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...carry import finished, to_size_of, within
from ...errors import ConfigError, InputError, VideoError
from ...types import Edit, check_shape, from_raw
from ...warp import resize
from .nets import Code, style_code, styled

_MOST_PIXELS = 2**26
_ASPECT_SLACK = 0.03


def load(path: str) -> Tensor:
    """The picture in a file, upright: float32 [3, H, W] in [0, 1], 8 bits a channel, transparency dropped.

    The header is read first: a picture of more than 2^26 pixels is refused before it is decoded. Raises `VideoError`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower and an error
            with Image.open(path) as file:
                if file.width * file.height > _MOST_PIXELS:
                    raise VideoError(
                        f"The picture {path} claims {file.width} x {file.height} pixels. Give one of at most {_MOST_PIXELS}."
                    )
                upright = ImageOps.exif_transpose(file).convert("RGB")
                return from_raw(np.array(upright))
    except VideoError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise VideoError(
            f"The picture {path} cannot be read: {error}. Give a PNG, JPEG, WebP or TIFF that opens elsewhere."
        ) from error


@lru_cache(maxsize=8)
def _code_of(stamped: tuple[str, int, int]) -> Code:
    """The style of a file, kept while its path, time of change and size stay."""
    return style_code(load(stamped[0]))


@dataclass(frozen=True, kw_only=True)
class StyleEditor:
    """Gives a picture the style of the picture file `picture` (Ghiasi et al., 2017, through two bundled networks).

    The style is seen at 256 x 256, pictures are painted at `short_side` at most and carried to full size. Raises `VideoError` for
    a file that is no picture.
    """

    repeats_after: ClassVar[int] = 4  # frames: a look is quick

    picture: str
    short_side: int = 576

    def __post_init__(self) -> None:
        if self.short_side < 64:
            raise ConfigError(f"The network cannot work at a short side of {self.short_side}. Give 64 or more.")

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] of `image` [3, H, W] in that style."""
        del generator  # nothing here is drawn by lot
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        try:
            stamp = Path(self.picture).stat()
        except (OSError, ValueError) as error:
            raise VideoError(f"The picture {self.picture} cannot be read: {error}. Check the path.") from error
        small = within(image, self.short_side)
        made = styled(small, _code_of((self.picture, stamp.st_mtime_ns, stamp.st_size)))
        return finished(to_size_of(image, small, made), image, edit)


@dataclass(frozen=True, kw_only=True)
class PictureEditor:
    """Replaces a picture by the picture file `picture`: somebody's own edit of it."""

    picture: str

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The file's picture at the size of `image` [3, H, W]. Raises `InputError` when its aspect is off by more than 3 %."""
        del generator  # nothing here is drawn by lot
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        loaded = load(self.picture).to(image.device)
        height, width = image.shape[-2:]
        off = (loaded.shape[-1] * height) / (loaded.shape[-2] * width)
        if not 1 - _ASPECT_SLACK <= off <= 1 + _ASPECT_SLACK:
            raise InputError(
                f"The picture {self.picture} is {loaded.shape[-1]} x {loaded.shape[-2]}, the video {width} x {height}: "
                "their shapes differ by more than 3 %. Crop the picture to the shape of the video."
            )
        return finished(resize(loaded[None], height, width)[0], image, edit)
