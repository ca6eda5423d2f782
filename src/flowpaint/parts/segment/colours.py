"""Colour models of an object and of what surrounds it, and the cut between the two."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...smoothing import dilate
from ...types import to_raw

Labels = npt.NDArray[np.uint8]
Model = npt.NDArray[np.float64]
_NEAR = 0.15  # of the short side: how far around the object ground teaches its colours
_NO_RECTANGLE = (0, 0, 1, 1)  # ignored: the labels say where the object may be
_RELIABLE = 0.8  # overlap with the mask they were taught that the models must reach when they find it again
_COMPONENTS = 5  # Gaussians of a model, as OpenCV has them


@dataclass(frozen=True, eq=False)
class Colours:
    """Five Gaussians each for the `ground` and the `thing`, as OpenCV's GrabCut keeps them: [1, 65]."""

    ground: Model
    thing: Model

    @classmethod
    def learn(cls, picture: Tensor, mask: Tensor) -> "Colours | None":
        """The models of what is under `mask` [1, 1, h, w], 0 or 1, in `picture` [1, 3, h, w]; None where colours do not tell it
        from its surroundings.
        """
        near = dilate(mask, max(8, round(_NEAR * min(mask.shape[-2:]))))
        labels = np.where(mask[0, 0].cpu().numpy() > 0.5, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
        window = window_of(near)
        inner = labels[window].copy()
        if min((inner == cv2.GC_FGD).sum(), (inner == cv2.GC_BGD).sum()) < 2 * _COMPONENTS:
            return None
        ground, thing = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # its clusters start by chance
        # With every label fixed the cut changes nothing: the models are those of the mask as it was given.
        cv2.grabCut(bgr(picture)[window].copy(), inner, _NO_RECTANGLE, ground, thing, 1, cv2.GC_INIT_WITH_MASK)
        found = cls(ground, thing)
        again = found.cut(picture, possible=near > 0.5, sure=torch.zeros_like(near) > 0.5)
        both, either = (again * mask).sum(), torch.maximum(again, mask).sum()
        return found if both > _RELIABLE * either else None

    def cut(self, picture: Tensor, *, possible: Tensor, sure: Tensor) -> Tensor:
        """The object's mask [1, 1, h, w], 0 or 1: among the `possible` pixels, bool [1, 1, h, w], with all that are `sure`."""
        here = (possible | sure)[0, 0].cpu().numpy()
        found = np.zeros(here.shape, np.float32)
        if here.any():
            labels = np.where(here, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
            labels[sure[0, 0].cpu().numpy()] = cv2.GC_FGD
            window = window_of((possible | sure).float())
            inner = labels[window].copy()
            mode = cv2.GC_EVAL_FREEZE_MODEL
            cv2.grabCut(bgr(picture)[window].copy(), inner, _NO_RECTANGLE, self.ground.copy(), self.thing.copy(), 1, mode)
            found[window] = inner & 1  # both kinds of foreground are odd
        return torch.from_numpy(found).to(picture)[None, None]


def bgr(picture: Tensor) -> Labels:
    """`picture` [1, 3, h, w] as OpenCV has pictures: [h, w, 3]."""
    return np.ascontiguousarray(to_raw(picture[0])[..., ::-1]).astype(np.uint8)


def window_of(where: Tensor) -> tuple[slice, slice]:
    """The smallest window that holds all of `where` [1, 1, h, w] above a half, two pixels wider; something must be."""
    rows, columns = ((where[0, 0] > 0.5).any(dim=axis).nonzero().flatten() for axis in (1, 0))
    return slice(max(0, int(rows[0]) - 2), int(rows[-1]) + 3), slice(max(0, int(columns[0]) - 2), int(columns[-1]) + 3)
