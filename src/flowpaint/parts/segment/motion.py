"""`MotionSegmenter`: the object is what moves otherwise than the ground, or else what stands out about the middle."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...colour import luma
from ...errors import ConfigError
from ...seams import FlowEstimator, default
from ...smoothing import gaussian, gradient
from ...types import check_shape, to_raw
from ...warp import affine_motion, length, resize, warp

_Labels = npt.NDArray[np.uint8]
_LEARN = 6  # frames from which the colours of object and ground are learned
_ROUNDS = 3  # of learning them
_SURE, _LIKELY, _HARDLY = 0.75, 0.35, 0.03  # evidence from which a pixel is surely, likely, and possibly the object's
_STILL = 0.35  # pixels: motion of its own below which a clip does not move
_COLOURLESS = 0.5  # what motion counts where the colour is that of the border
_NEAR = 2.0  # pixels around a slope in which its motion is known
_TEXTURE = 0.02  # slope, as a share of black to white, at which motion is seen
_SPREAD = 24  # the part of the long side over which evidence spreads
_LITTLE = 0.1  # evidence below which nothing stands out, even where nothing stands out more
_STEADY = 2  # passes of the evidence along the motion
_CRUMB = 0.1  # of the largest piece: smaller ones are dropped
_HOLE = 0.02  # of the object: smaller ones are filled


@dataclass(frozen=True, kw_only=True)
class MotionSegmenter:
    """GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) seeded by evidence, without weights.

    Evidence is motion against the affine motion of the ground; in a clip at rest, and in a single frame, colour unlike that at
    the border (Wei et al., ECCV 2012), both weighted by how near the middle is. It is averaged along the motion over
    neighbouring frames, and object and ground have the same colour models in all frames, so that the mask is steady. Work is
    done at `side` pixels of the long side.
    """

    flow: FlowEstimator = default("flow", "dis")
    side: int = 320
    centre: float = 0.5  # 0 = the middle is nothing special, 1 = corners do not count

    def __post_init__(self) -> None:
        if self.side < 32 or not 0 <= self.centre <= 1:
            raise ConfigError(f"side={self.side}, centre={self.centre} do not fit. Give 32 or more, and 0 to 1.")

    def __call__(self, frames: Tensor, hint: Tensor | None = None) -> Tensor:
        """Masks [T, 1, H, W] in [0, 1], 1 = object, of `frames` [T, 3, H, W] in [0, 1]; soft by a pixel of the working size.

        Where a `hint` [1 or T, 1, H, W] is given, the object is sought where it is 1, not about the middle. 0 everywhere where
        nothing stands out.
        """
        check_shape(frames=(frames, "T 3 H W"))
        height, width = frames.shape[-2:]
        scale = min(1.0, self.side / max(height, width))
        small = resize(frames.float(), max(1, round(scale * height)), max(1, round(scale * width)))
        where = _middle(small, self.centre) if hint is None else _where(hint, small)
        motions = self._motions(small)
        evidence = _evidence(small, motions, where)
        for _ in range(_STEADY):
            evidence = _along(evidence, motions)
        masks = _cut(small, evidence)
        masks = (_along(masks, motions) > 0.5).float()
        masks = torch.stack([_whole(mask, one) for mask, one in zip(masks, evidence, strict=True)])
        return resize(masks, height, width).clamp(0, 1)

    def _motions(self, frames: Tensor) -> "_Motions":
        """(frame, neighbour, flow [1, 2, h, w], visibility [1, 1, h, w]) of each pair of neighbours, both ways."""
        found = []
        for a in range(len(frames) - 1):
            for i, j in ((a, a + 1), (a + 1, a)):
                flow = self.flow(frames[i : i + 1], frames[j : j + 1])
                found.append((i, j, flow.vectors, flow.visibility))
        return found


_Motions = list[tuple[int, int, Tensor, Tensor]]


def _middle(frames: Tensor, centre: float) -> Tensor:
    """How near the middle a pixel is, 1 in the middle, 1 - centre in the corners: [1, 1, h, w]."""
    y, x = (torch.linspace(-1, 1, size, device=frames.device) for size in frames.shape[-2:])
    far = 0.5 * (x[None, :].square() + y[:, None].square())
    return (1 - centre * far)[None, None]


def _where(hint: Tensor, frames: Tensor) -> Tensor:
    check_shape(hint=(hint, "N 1 H W"))
    near = resize(hint.to(frames), *frames.shape[-2:])
    spread = gaussian(near, max(frames.shape[-2:]) / 40)
    return torch.maximum(near, spread).clamp(0, 1)


def _evidence(frames: Tensor, motions: _Motions, where: Tensor) -> Tensor:
    """For each pixel, how much says that it is the object's: [T, 1, h, w] in [0, 1]."""
    moved = _own_motion(frames, motions, where)
    top = _top(moved)
    unlike = torch.stack([_unlike_border(one) for one in frames])
    if top > _STILL:
        # Motion says which; colour keeps what a coarse flow drags along beside the object from counting in full.
        unlike = (1 - torch.exp(-(moved / (0.4 * top)).square())) * (_COLOURLESS + (1 - _COLOURLESS) * unlike)
    found = unlike * where
    # Inside plain things nothing is seen to move: their rims tell.
    found = 0.5 * (found + gaussian(found, max(frames.shape[-2:]) / _SPREAD))
    return (found / _top(found).clamp_min(_LITTLE)).clamp(0, 1)


def _top(values: Tensor) -> Tensor:
    """What few pixels of `values` [T, 1, h, w] exceed in the median frame: one frame changes nothing for the others."""
    return torch.stack([one.flatten().kthvalue(max(1, round(0.97 * one.numel()))).values for one in values]).median()


def _own_motion(frames: Tensor, motions: _Motions, where: Tensor) -> Tensor:
    """Motion against that of the ground, averaged over the neighbours in which a pixel is seen: [T, 1, h, w], pixels."""
    moved, weight = torch.zeros_like(frames[:, :1]), torch.full_like(frames[:, :1], 1e-3)
    slopes = gaussian(gradient(frames.mean(dim=1, keepdim=True)).square().sum(dim=1, keepdim=True), _NEAR)
    textured = slopes / (slopes + _TEXTURE**2)
    # What fills most of the frame is not always the ground: the object is sought elsewhere.
    ground = (1.02 * where.amax(dim=(2, 3), keepdim=True) - where).square()
    for i, _, flow, seen in motions:
        rest = length(flow - affine_motion(flow, seen * textured[i : i + 1] * ground[min(i, len(ground) - 1)]))
        trust = 0.1 + seen[0]
        moved[i] += trust * rest[0]
        weight[i] += trust
    return moved / weight * textured


def _unlike_border(frame: Tensor) -> Tensor:
    """How unlike the colours at the border of `frame` [3, h, w] a pixel is: [1, h, w] in [0, 1]."""
    height, width = frame.shape[-2:]
    smooth = gaussian(frame[None], 1.0)[0]
    rim = torch.ones(height, width, dtype=torch.bool, device=frame.device)
    edge = max(1, min(height, width) // 20)
    rim[edge : height - edge, edge : width - edge] = False
    colours = smooth[:, rim].T
    # A border has several colours: the nearest of a few counts, each with its spread.
    groups = colours[luma(smooth)[0, rim].argsort()].chunk(4)
    nearest = torch.full((height * width,), float("inf"), device=frame.device)
    for group in groups:
        spread = (group - group.mean(dim=0)).square().mean() + 1e-3
        nearest = torch.minimum(nearest, (smooth.flatten(1).T - group.mean(dim=0)).square().sum(dim=1) / (3 * spread))
    return (1 - torch.exp(-nearest / 30)).reshape(1, height, width)


def _along(values: Tensor, motions: _Motions) -> Tensor:
    """`values` [T, 1, h, w] averaged with what they are in the neighbouring frames, followed along the motion."""
    total, weight = 2 * values, torch.full_like(values, 2.0)
    for i, j, flow, seen in motions:
        total[i] += (seen * warp(values[j : j + 1], flow))[0]
        weight[i] += seen[0]
    return total / weight


def _cut(frames: Tensor, evidence: Tensor) -> Tensor:
    """The cut between object and ground, 0 or 1: [T, 1, h, w]."""
    pictures = [_bgr(one) for one in frames]
    seeds = [_seeds(one) for one in evidence]
    cuttable = [index for index, one in enumerate(seeds) if _two_sided(one)]
    if not cuttable:
        return torch.zeros_like(evidence)
    # The colours of both are learned once, from frames spread over the clip laid one above the other.
    chosen = [cuttable[round(place)] for place in np.linspace(0, len(cuttable) - 1, min(_LEARN, len(cuttable)))]
    ground, thing = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its clusters start by chance
    stack, labels = (np.concatenate([one[index] for index in chosen]) for one in (pictures, seeds))
    cv2.grabCut(stack, labels, (0, 0, 1, 1), ground, thing, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    masks = torch.zeros_like(evidence)
    for index in cuttable:
        cut = seeds[index].copy()
        cv2.grabCut(pictures[index], cut, (0, 0, 1, 1), ground.copy(), thing.copy(), 1, cv2.GC_EVAL_FREEZE_MODEL)
        masks[index, 0] = torch.from_numpy((cut & 1).astype(np.float32)).to(masks.device)  # odd labels are the object's
    return masks


def _bgr(frame: Tensor) -> npt.NDArray[np.uint8]:
    """`frame` [3, h, w] as OpenCV has pictures: [h, w, 3]."""
    return np.ascontiguousarray(to_raw(frame)[..., ::-1]).astype(np.uint8)


def _seeds(evidence: Tensor) -> _Labels:
    """GrabCut's labels for the evidence [1, h, w] of one frame."""
    values = evidence[0].cpu().numpy()
    labels = np.full(values.shape, cv2.GC_PR_BGD, np.uint8)
    labels[values > _LIKELY] = cv2.GC_PR_FGD
    labels[values > _SURE] = cv2.GC_FGD
    labels[values < _HARDLY] = cv2.GC_BGD
    return labels


def _two_sided(labels: _Labels) -> bool:
    """Whether both object and ground have enough pixels to learn colours from."""
    count = int((labels & 1).sum())
    return 8 <= count <= labels.size - 8


def _whole(mask: Tensor, evidence: Tensor) -> Tensor:
    """`mask` [1, h, w] without crumbs and small holes: pieces are weighed by their evidence."""
    full = mask[0].byte().cpu().numpy()
    count, pieces = cv2.connectedComponents(full, connectivity=4)
    if count < 2:
        return mask
    weights = np.bincount(pieces.ravel(), weights=evidence[0].cpu().numpy().ravel(), minlength=count)
    weights[0] = 0
    kept = np.isin(pieces, np.flatnonzero(weights >= _CRUMB * weights.max())) & (full > 0)
    _, gaps = cv2.connectedComponents(1 - kept.astype(np.uint8), connectivity=4)
    small = np.bincount(gaps.ravel()) < _HOLE * kept.sum()
    return torch.from_numpy((kept | small[gaps]).astype(np.float32)).to(mask)[None]
