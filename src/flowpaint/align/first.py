"""The edited first frame: by an editor that is told where, several times over if asked; put back where it must not change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InputError
from ..register import agreement, register
from ..seams import ImageEditor
from ..smoothing import box, dilate
from ..types import Clip, Edit, check_shape, to_raw
from ..warp import resize
from .shape import new_shape

_ASPECT_SLACK = 0.03
_BESIDE = 0.025  # of the short side around old and new object in which the edit shows: shadows, hair, soft edges
_SOFT = 0.01  # of the short side over which it fades
_SHEET_SIDE = 256  # pixels of a candidate on the sheet


@dataclass(frozen=True, kw_only=True, eq=False)
class First:
    """An edited first frame: its `picture` [3, H, W] in [0, 1], the new objects' `shape` [1, 1, H, W], 0 or 1, how well the
    rest of the picture agrees with the source (`register.agreement`), and how much of the old object's place the new one takes.
    """

    picture: Tensor
    shape: Tensor
    agreement: float
    overlap: float

    @property
    def score(self) -> float:
        """How well it is aligned with its source, 0 to 1: candidates are ranked by it."""
        return 0.5 * (self.agreement + self.overlap)

    def packed(self) -> dict[str, npt.NDArray[Any]]:
        """It as arrays, for the run's store."""
        scores = np.array([self.agreement, self.overlap])
        return {"picture": self.picture.cpu().numpy(), "shape": self.shape.cpu().numpy(), "scores": scores}

    @classmethod
    def unpacked(cls, kept: Mapping[str, npt.NDArray[Any]]) -> "First":
        """It as it was before `packed`."""
        agrees, overlaps = (float(one) for one in kept["scores"])
        picture, shape = (torch.from_numpy(kept[name]) for name in ("picture", "shape"))
        return cls(picture=picture, shape=shape, agreement=agrees, overlap=overlaps)


def first_frame(editor: ImageEditor, source: Tensor, edit: Edit, objects: Sequence[Tensor], generator: torch.Generator) -> First:
    """What `editor` makes of `source` [3, H, W], told of the `objects` [1, 1, H, W], in place and put back around them.

    Raises `InputError` where it gives back a picture of another shape, or one that shows no change.
    """
    check_shape(source=(source, "3 H W"))
    mask = torch.cat(list(objects)).amax(dim=0)
    told = replace(edit, mask=Clip.from_array(mask[None].expand(1, 3, -1, -1).cpu()), objects=())
    known: Tensor | None = None
    with_mask = getattr(editor, "with_mask", None)
    if with_mask is not None:
        made, known = with_mask(source, told, generator)
    else:
        made = editor(source, told, generator)
    return placed(_sized(made, source), source, edit, objects, shape=known)


def placed(picture: Tensor, source: Tensor, edit: Edit, objects: Sequence[Tensor], *, shape: Tensor | None = None) -> First:
    """An edited `picture` [3, H, W] of `source` [3, H, W] laid onto it, with the source's own pixels away from the objects.

    `shape` [1, H, W] is the new object's mask where it is known; otherwise it is found, and with `edit.remove` it is empty.
    """
    registered = register(picture, source).picture
    if edit.remove:
        found = torch.zeros_like(source[None, :1])
    else:
        found = new_shape(source, registered, objects) if shape is None else (shape[None].to(source) > 0.5).to(source)
    old = torch.cat(list(objects)).amax(dim=0, keepdim=True).to(source)
    side = min(source.shape[-2:])
    where = dilate(torch.maximum(old, found), max(2, round(_BESIDE * side)))
    fade = box(where, 2 * max(1, round(_SOFT * side / 2)) + 1)
    outside = torch.lerp(registered, source, where[0])
    return First(
        picture=torch.lerp(source, registered, fade[0]),
        shape=found,
        agreement=agreement(outside, source),
        overlap=_overlap(old, found),
    )


def best_of(made: Sequence[First], wanted: int) -> int:
    """The number of the candidate that is `wanted` (counted from 1), or of the one with the best score for 0."""
    if not 0 <= wanted <= len(made):
        raise InputError(f"There is no candidate {wanted} among {len(made)}. Give 1 to {len(made)}, or 0 for the best.")
    return wanted - 1 if wanted else max(range(len(made)), key=lambda number: made[number].score)


def sheet(source: Tensor, made: Sequence[First], chosen: int) -> Tensor:
    """The source and the candidates side by side, numbered, with their scores, the `chosen` one framed: [3, h, w] in [0, 1]."""
    height, width = source.shape[-2:]
    scale = _SHEET_SIDE / min(height, width)
    size = round(height * scale), round(width * scale)
    cells = [_cell(source, size, "source", framed=False)]
    for number, one in enumerate(made):
        cells.append(_cell(one.picture, size, f"{number + 1}: {one.score:.2f}", framed=number == chosen))
    return torch.cat(cells, dim=2)


def _cell(picture: Tensor, size: tuple[int, int], text: str, *, framed: bool) -> Tensor:
    raw = np.ascontiguousarray(to_raw(resize(picture[None], *size)[0]), np.uint8)
    if framed:
        cv2.rectangle(raw, (1, 1), (size[1] - 2, size[0] - 2), (255, 200, 0), 3)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(raw, text, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thickness, cv2.LINE_AA)
    return torch.from_numpy(raw).permute(2, 0, 1).float() / 255


def _sized(made: Tensor, source: Tensor) -> Tensor:
    """`made` at the size of `source`; its shape must be the same."""
    height, width = source.shape[-2:]
    aspect = made.shape[-1] * height / (made.shape[-2] * width)
    if made.ndim != 3 or abs(aspect - 1) > _ASPECT_SLACK:
        raise InputError(
            f"The editor gave back a picture of {made.shape[-1]}x{made.shape[-2]} for a frame of {width}x{height}. "
            "Choose an editor or a size that keeps the picture's shape."
        )
    return resize(made[None].to(source), height, width)[0].clamp(0.0, 1.0)


def _overlap(old: Tensor, new: Tensor) -> float:
    """How much of the smaller one of two masks lies in the other; 1 where the new one is empty."""
    smaller = min(float(old.sum()), float(new.sum()))
    return float((old * new).sum()) / smaller if smaller else 1.0
