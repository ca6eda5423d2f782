"""An object's outline, found again by colour: GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) near where it is expected."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...smoothing import dilate, erode

_NEAR = 24  # pixels around the object that teach what its background looks like
_NO_RECTANGLE = (0, 0, 1, 1)  # ignored: the labels say where the object may be
_RELIABLE = 0.8  # overlap with the outline it was taught, when it must find that one again


@dataclass(frozen=True, eq=False)
class Outline:
    """Colour models (five Gaussians each) of an object and of what surrounds it, learnt on the key frame."""

    background: npt.NDArray[np.float64]
    foreground: npt.NDArray[np.float64]

    @classmethod
    def learn(cls, picture: Tensor, mask: Tensor) -> "Outline | None":
        """The models of the object under `mask` [1, 1, h, w] in `picture` [1, 3, h, w]; None where colour does not tell them
        apart, or where the mask is no object of the picture (an added hat).
        """
        inside = mask[0, 0].cpu().numpy() > 0.5
        window = _window(dilate(mask, _NEAR)[0, 0].cpu().numpy() > 0.5)
        labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)[window].copy()
        if inside[window].all():
            return None
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same picture must give the same models
        cv2.grabCut(_bytes(picture)[window].copy(), labels, _NO_RECTANGLE, background, foreground, 1, cv2.GC_INIT_WITH_MASK)
        outline = cls(background, foreground)
        found = outline.find(picture, mask)
        overlap = (found * mask).sum() / torch.maximum(found, mask).sum()
        return outline if overlap > _RELIABLE else None

    def find(self, picture: Tensor, expected: Tensor, outward: int = 12, inward: int = 6) -> Tensor:
        """The object's mask [1, 1, h, w], 0 or 1, in `picture` [1, 3, h, w]: its `expected` one may be off by `outward` and
        `inward` pixels.
        """
        expected = (expected > 0.5).float()
        possible = dilate(expected, outward)[0, 0].cpu().numpy() > 0.5
        found = np.zeros(possible.shape, np.float32)
        if not possible.any():
            return torch.from_numpy(found).to(expected)[None, None]
        labels = np.where(expected[0, 0].cpu().numpy() > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[erode(expected, inward)[0, 0].cpu().numpy() > 0.5] = cv2.GC_FGD
        labels[~possible] = cv2.GC_BGD
        window = _window(possible)
        inner = labels[window].copy()
        background, foreground = self.background.copy(), self.foreground.copy()
        mode = cv2.GC_EVAL_FREEZE_MODEL
        cv2.grabCut(_bytes(picture)[window].copy(), inner, _NO_RECTANGLE, background, foreground, 1, mode)
        found[window] = inner & 1  # both kinds of foreground are odd
        return torch.from_numpy(found).to(expected)[None, None]


def _bytes(picture: Tensor) -> npt.NDArray[np.uint8]:
    scaled: npt.NDArray[np.uint8] = picture[0].mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return scaled


def _window(where: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest window that holds all of `where`, two pixels wider."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return slice(max(0, rows[0] - 2), rows[-1] + 3), slice(max(0, columns[0] - 2), columns[-1] + 3)
