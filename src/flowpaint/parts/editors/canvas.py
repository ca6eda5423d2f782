"""What is sent to a server and comes back: a frame laid onto a canvas of a size that the server takes, and cut out again."""

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...errors import InputError
from ...types import Edit
from ...warp import resize

_ASPECT_SLACK = 0.03
_TOUCHED = 0.05  # a mask's feather is painted, too; the noise of a compressed one is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A frame of `height` x `width` scaled to the box `top`, `left`, `inner` of a canvas `full`; sizes are (height, width)."""

    height: int
    width: int
    full: tuple[int, int]
    top: int = 0
    left: int = 0
    inner: tuple[int, int]

    @classmethod
    def letterbox(cls, height: int, width: int, full: tuple[int, int]) -> "Canvas":
        """The frame as large as it fits into the middle of `full`."""
        scale = min(full[0] / height, full[1] / width)
        tall, wide = min(full[0], max(1, round(height * scale))), min(full[1], max(1, round(width * scale)))
        top, left = (full[0] - tall) // 2, (full[1] - wide) // 2
        return cls(height=height, width=width, full=full, top=top, left=left, inner=(tall, wide))

    @classmethod
    def padded(cls, height: int, width: int, multiple: int) -> "Canvas":
        """The frame at its own size in the upper left corner, both sides rounded up to a multiple of `multiple`."""
        return cls(
            height=height,
            width=width,
            full=(-(-height // multiple) * multiple, -(-width // multiple) * multiple),
            inner=(height, width),
        )

    def lay(self, picture: Tensor, *, around: Literal["edge", "zero"] = "edge") -> Tensor:
        """`picture` [C, H, W] of the frame's size on the canvas [C, h, w]; around it its own edge, or 0."""
        below, right = self.full[0] - self.top - self.inner[0], self.full[1] - self.left - self.inner[1]
        mode = "replicate" if around == "edge" else "constant"
        return F.pad(resize(picture[None], *self.inner), (self.left, right, self.top, below), mode=mode)[0]

    def cut(self, made: Tensor) -> Tensor:
        """The frame [C, H, W] in `made` [C, h, w], the canvas at any size. Raises `InputError` for another aspect (3 %)."""
        tall, wide = made.shape[-2:]
        off = (wide * self.full[0]) / (tall * self.full[1])
        if not 1 - _ASPECT_SLACK <= off <= 1 + _ASPECT_SLACK:
            raise InputError(
                f"The server sent a picture of {wide} x {tall} for one of {self.full[1]} x {self.full[0]}: their shapes differ "
                "by more than 3 %. Let it keep the size that it is sent, or give one that it takes as the field `size`."
            )
        down, along = tall / self.full[0], wide / self.full[1]
        top, left = min(round(self.top * down), tall - 1), min(round(self.left * along), wide - 1)
        bottom = max(top + 1, round((self.top + self.inner[0]) * down))
        right = max(left + 1, round((self.left + self.inner[1]) * along))
        return resize(made[None, :, top:bottom, left:right], self.height, self.width)[0]


def touched(edit: Edit, image: Tensor) -> Tensor | None:
    """Where `edit` may show on `image` [3, H, W]: [1, H, W], 1 = edit and 0; None for everywhere.

    Raises `InputError` for a mask of another size, and for one of many frames: which is meant is not known here.
    """
    if edit.mask is None:
        return None
    if len(edit.mask) != 1:
        raise InputError(f"The mask of one picture has {len(edit.mask)} frames. Give the edit of one frame, `Edit.at`.")
    mask = edit.mask.frame(0)[:1].to(image.device)
    if mask.shape[-2:] != image.shape[-2:]:
        raise InputError(
            f"The mask is {mask.shape[-1]} x {mask.shape[-2]}, the picture {image.shape[-1]} x {image.shape[-2]}. "
            "Give a mask of the picture's size."
        )
    return (mask > _TOUCHED).float()


def png(planes: Tensor) -> bytes:
    """The PNG file, 8 bits a channel, of a picture [3, H, W] or of one with transparency [4, H, W], 1 = opaque, in [0, 1]."""
    raw = planes.detach().float().cpu().clamp(0.0, 1.0).mul(255.0).round_().permute(1, 2, 0).contiguous().numpy().astype(np.uint8)
    file = BytesIO()
    Image.fromarray(raw).save(file, "PNG")
    return file.getvalue()


def with_hole(picture: Tensor, mask: Tensor) -> Tensor:
    """`picture` [3, H, W] with the transparency [4, H, W] that says where to edit: 0 where `mask` [1, H, W] is above a half."""
    return torch.cat((picture, (mask <= 0.5).to(picture)))
