"""`GrabCutSegmenter`: the object in a box or under a click, found in frame 0 and carried to the frames after it."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, InputError
from ...seams import FlowEstimator, default
from ...smoothing import dilate, erode
from ...types import check_shape
from ...warp import resize
from .carried import carry
from .colours import Labels, bgr

_ROUNDS = 4
_HEART = 0.35  # of a box, about its middle: surely the object; without it a fur as pale as its ground is lost
_PLAIN = 0.005  # spread of colours of a picture in which nothing can be told apart
_REACHES = (0.08, 0.15, 0.25, 0.4)  # of the short side: how large an object under a click may be, half its size
_TOLERANCES = (0.04, 0.08, 0.14)  # of black to white, by which colours differ that belong to the seed
_BLURS = (0.0, 1.0, 2.0)  # pixels
_ENOUGH = 0.1  # share of where the object may be that must be found without a stronger blur
_GIVE = "Give a mask of the object as the hint, or another box or click."


@dataclass(frozen=True, kw_only=True)
class GrabCutSegmenter:
    """What is in the `box` (x0, y0, x1, y1) or under the `click` (x, y) of frame 0, pixels of the full picture, in all frames.

    GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004). A box must hold the whole object, and its middle must be the object's.
    From a click a patch of like colours is grown, cuts of several sizes start from it, and the one is taken on which they agree
    most. Later frames are those of the segmenter `carried`, with its `flow` and `side`. () = none; one of the two is needed, or a
    hint.
    """

    box: tuple[float, ...] = ()
    click: tuple[float, ...] = ()
    flow: FlowEstimator = default("flow", "dis")
    side: int = 288

    def __post_init__(self) -> None:
        if self.side < 32:
            raise ConfigError(f"A short side of {self.side} pixels shows no object. Give 32 or more.")
        if len(self.box) not in (0, 4) or len(self.click) not in (0, 2):
            raise ConfigError(f"box={self.box}, click={self.click} do not fit. Give (x0, y0, x1, y1), (x, y), or () for none.")
        if self.box and self.click:
            raise ConfigError(f"A box {self.box} and a click {self.click} are two places. Give one of them.")

    def __call__(self, frames: Tensor, hint: Tensor | None = None) -> Tensor:
        """Masks [T, 1, H, W] in [0, 1], 1 = object, of `frames` [T, 3, H, W] in [0, 1].

        A `hint` [1 or T, 1, h, w] in [0, 1], by its first mask, takes the place of box and click. Raises `InputError` without any
        of them, for a place outside the picture, a box that is empty or all of it, and where nothing is found.
        """
        check_shape(frames=(frames, "T 3 H W"))
        if hint is not None:
            check_shape(hint=(hint[:1], "1 1 h w"))
            return carry(frames, hint[:1], self.flow, self.side)
        height, width = frames.shape[-2:]
        scale = min(1.0, self.side / min(height, width))
        size = max(1, round(scale * height)), max(1, round(scale * width))
        small = resize(frames[:1].float(), *size)
        if self.box:
            found = _in_box(small, _checked_box(self.box, height, width), scale)
        elif self.click:
            found = _at_click(small, _checked_click(self.click, height, width), scale)
        else:
            raise InputError("Nothing says where the object is. Give a box, a click, or a mask as the hint.")
        if found.sum() < 4 or found.mean() > 0.98:
            place = f"the box {self.box}" if self.box else f"the click {self.click}"
            raise InputError(f"No object stands out from its ground at {place}. {_GIVE}")
        return carry(frames, resize(found, height, width), self.flow, self.side)


def _checked_box(box: tuple[float, ...], height: int, width: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise InputError(f"The box {box} is empty. Give (x0, y0, x1, y1) with x0 < x1 and y0 < y1.")
    if left < 0 or top < 0 or right > width or bottom > height:
        raise InputError(f"The box {box} is not inside the picture of {width}x{height}. Give one that is.")
    if right - left > width - 2 and bottom - top > height - 2:
        raise InputError(f"The box {box} is the whole picture, and nothing shows the ground. Give a smaller one, or a mask.")
    return left, top, right, bottom


def _checked_click(click: tuple[float, ...], height: int, width: int) -> tuple[float, float]:
    x, y = click
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f"The click {click} is outside the picture of {width}x{height}. Give a pixel of it.")
    return x, y


def _in_box(picture: Tensor, box: tuple[float, float, float, float], scale: float) -> Tensor:
    """The mask [1, 1, h, w], 0 or 1, of what is in `box`, given in pixels `1 / scale` times as fine as those of `picture`."""
    height, width = picture.shape[-2:]
    left, top = (min(round(scale * at), side - 1) for at, side in zip(box[:2], (width, height), strict=True))
    right, bottom = max(left + 1, round(scale * box[2])), max(top + 1, round(scale * box[3]))
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    labels[top:bottom, left:right] = cv2.GC_PR_FGD
    rows, columns = np.mgrid[:height, :width]
    across, down = (columns - (left + right - 1) / 2) / (right - left), (rows - (top + bottom - 1) / 2) / (bottom - top)
    heart = np.hypot(across, down) < _HEART / 2
    labels[heart] = cv2.GC_FGD
    found = _clean(_grabbed(picture, labels), None)
    assumed = float(found.sum()) <= 1.02 * heart.sum() or float(picture.std(dim=(2, 3)).max()) < _PLAIN
    return torch.zeros_like(found) if assumed else found


def _at_click(picture: Tensor, click: tuple[float, float], scale: float) -> Tensor:
    """The mask [1, 1, h, w], 0 or 1, of what `click` is on."""
    height, width = picture.shape[-2:]
    x, y = min(width - 1, int(scale * click[0])), min(height - 1, int(scale * click[1]))
    rows, columns = np.mgrid[:height, :width]
    far = np.maximum(abs(columns - x), abs(rows - y))
    cuts = []
    for tolerance in _TOLERANCES:
        seed = _seed(picture, x, y, tolerance)
        for reach in _REACHES:
            limit = max(4.0, reach * min(height, width))
            if (seed & (far >= limit)).sum() > 0.5 * seed.sum():
                continue  # the patch of like colour alone is larger than that
            labels = np.where(far < limit, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
            labels[far < 0.6 * limit] = cv2.GC_PR_FGD
            labels[seed & (far < limit)] = cv2.GC_FGD
            cuts.append(_clean(_grabbed(picture, labels), (x, y)))
    cuts = [one for one in cuts if one.sum() >= 4 and one.mean() < 0.9]
    if not cuts:
        return torch.zeros_like(picture[:, :1])
    stack = torch.cat(cuts).flatten(1)
    both = stack @ stack.T
    either = stack.sum(dim=1)[:, None] + stack.sum(dim=1)[None] - both
    return cuts[int((both / either).sum(dim=1).argmax())]


def _seed(picture: Tensor, x: int, y: int, tolerance: float) -> np.ndarray:
    """The pixels about (x, y) of colours like its own: bool [h, w]."""
    smooth = cv2.GaussianBlur(bgr(picture), (5, 5), 1.0)
    height, width = smooth.shape[:2]
    filled = np.zeros((height + 2, width + 2), np.uint8)
    limit = (255 * tolerance,) * 3
    cv2.floodFill(smooth, filled, (x, y), (0, 0, 0), limit, limit, 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE)
    seed: np.ndarray = filled[1:-1, 1:-1] > 0
    return seed


def _grabbed(picture: Tensor, labels: Labels) -> Tensor:
    """GrabCut's mask [1, 1, h, w], 0 or 1, from `labels` [h, w]; empty where there is no ground or no object to learn from."""
    none = torch.zeros_like(picture[:, :1])
    if min(int((labels & 1).sum()), int((labels & 1 == 0).sum())) < 8:
        return none
    mask = none
    for blur in _BLURS:  # strong texture hides an object from GrabCut, and a slight blur hides the texture
        mask = _cut(_blurred(bgr(picture), blur), labels).to(none)
        if mask.sum() >= _ENOUGH * (labels & 1).sum():
            break
    else:
        return mask
    if not blur:
        return mask
    # A blurred rim is no rim: it is cut again where it is sharp.
    again = np.where(dilate(mask, 3)[0, 0].cpu().numpy() > 0.5, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    again[mask[0, 0].cpu().numpy() > 0.5] = cv2.GC_PR_FGD
    again[erode(mask, 2)[0, 0].cpu().numpy() > 0.5] = cv2.GC_FGD
    return _cut(bgr(picture), again).to(none)


def _blurred(picture: Labels, sigma: float) -> Labels:
    return cv2.GaussianBlur(picture, (0, 0), sigma).astype(np.uint8) if sigma else picture


def _cut(picture: Labels, labels: Labels) -> Tensor:
    cut = labels.copy()
    cv2.setRNGSeed(0)  # its clusters start by chance
    cv2.grabCut(picture, cut, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return torch.from_numpy((cut & 1).astype(np.float32))[None, None]


def _clean(mask: Tensor, point: tuple[int, int] | None) -> Tensor:
    """`mask` [1, 1, h, w] without specks and pin holes: the piece at `point`, or all that are a tenth of the largest."""
    opened = dilate(erode(mask, 1), 1) * mask
    mask = opened if opened.sum() > 0.5 * mask.sum() else mask
    count, pieces = cv2.connectedComponents(mask[0, 0].byte().cpu().numpy(), connectivity=8)
    if count < 2:
        return torch.zeros_like(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count)
    sizes[0] = 0
    if point is not None:
        number = pieces[point[1], point[0]]
        kept = (pieces == number) & (number > 0)
    else:
        kept = np.isin(pieces, np.flatnonzero(sizes >= 0.1 * sizes.max()))
    _, gaps = cv2.connectedComponents(1 - kept.astype(np.uint8), connectivity=4)
    small = np.bincount(gaps.ravel()) < 0.02 * kept.sum()
    return torch.from_numpy((kept | (small[gaps] & ~kept)).astype(np.float32)).to(mask)[None, None]
