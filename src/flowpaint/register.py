"""Laying an edited picture back onto its source frame: image editors shift, zoom and stretch what they are given.

A drift must be earned. Edges find it, and two scores have to agree that it is one. Edges alone would move pictures that lie
exactly: a relief draws its lines beside the source's edges, and strokes have edges of their own. So the second score is how
much of the edit a local linear function of the source leaves unexplained (colour, slopes, edges, blurred luma): of a relief in
place little, of one that was moved until its lines fell on the source's edges much more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .labels import grey
from .smoothing import box, gaussian, gradient
from .types import check_shape
from .warp import affine_motion, grid_of, length, resize, sample_at

Matrix = npt.NDArray[np.float64]  # [2, 3]: what the source shows at p, the edited picture shows at M (p, 1)

_SIDE = 384  # the short side at which pictures are compared; all pixels below are of that size
_TOLERANCE = 1.5  # pixels: sigma of the blur under which edges are compared
_SMALLEST = 0.5  # pixels: a smaller drift is left alone, since moving a picture softens it
_SMALL = 2.5  # pixels: up to here a drift may be texture
_LARGEST = 0.2  # of the short side: no editor moves a picture farther
_LESS, _CLEARLY_LESS = 0.97, 0.95  # of what was unexplained may be left of a drift: where all parts agree, and where most do
_MOST = 0.75  # of the parts
_AGREES = 1.01  # what may be left in a part that agrees: a zoom leaves the middle where it is
_ZOOMS = (1.07, 0.93)  # from where a drift is looked for, too
_MISFITS = 0.97  # of what was unexplained: more left than this by dense flow, and there is no misfit


@dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """An edited picture in place: `picture` [3, H, W], whether it was moved and by what (`message`).

    `before` and `after` are `agreement` with the source as it was given and as it lies now. `residual` is the misfit left, in
    pixels of the frame: how far dense flow would still move the picture, on average, where that lowers what of the edit
    is unexplained.
    """

    picture: Tensor
    residual: float
    moved: bool
    message: str
    before: float
    after: float


def register(picture: Tensor, source: Tensor) -> Registration:
    """Return `picture` [3, H, W] laid onto `source` [3, H, W], both in [0, 1]. Raises `ShapeError` for two sizes.

    An affine drift is undone if it is earned: edges agree better without it, a tenth less of the edit is left unexplained, and
    so in the parts of the picture one by one. Anything else is the edit itself, and stays.
    """
    check_shape(picture=(picture, "3 H W"), source=(source, "3 H W"))
    reference, edited = _compared(source), _compared(picture)
    scale = reference.shape[-2] / source.shape[-2]
    fit = _Fit.measure(reference)
    before = _likeness(edited, reference)
    drift = _earned_drift(reference, edited, fit)
    if drift is None:
        residual = _misfit(reference, edited, fit) / scale
        message = "it lies where it should."
        return Registration(picture=picture, residual=residual, moved=False, message=message, before=before, after=before)
    result = _moved(picture[None].float().cpu(), _at_scale(drift, 1 / scale))[0].clamp(0.0, 1.0).to(picture)
    placed = _compared(result)
    return Registration(
        picture=result,
        residual=_misfit(reference, placed, fit) / scale,
        moved=True,
        message=f"it had drifted by {_span(drift, reference) / scale:.1f} pixels on average.",
        before=before,
        after=_likeness(placed, reference),
    )


def agreement(picture: Tensor, source: Tensor) -> float:
    """Return how well the edges of `picture` lie on those of `source`, both [3, H, W] in [0, 1]: 0 not at all, 1 all of them.

    The correlation of two fields, at a short side of 384 pixels within about 2 pixels: how strong an edge is for its
    surroundings, and that times the cosine and sine of twice its angle (Bigün, Granlund, ICCV 1987), so that the sign of an edge
    does not count, nor whether it became a line. Below 0 is 0; where `source` has no edges there is nothing to miss: 1.
    """
    check_shape(picture=(picture, "3 H W"), source=(source, "3 H W"))
    return _likeness(_compared(picture), _compared(source))


def stands_out(picture: Tensor, source: Tensor) -> float:
    """Return how far the likeness of `picture` with `source`, both [3, H, W] in [0, 1], stands above chance, in deviations.

    Chance is the same picture shifted by large steps, in 25 ways. What is compared are edges (as `agreement` does) and, at a
    short side of 40 pixels, how much of the picture is a quadratic function of the source's colours: both are added. Below 0
    where the mirrored picture fits better.
    """
    check_shape(picture=(picture, "3 H W"), source=(source, "3 H W"))
    edited, reference = _compared(picture), _compared(source)
    if _likeness(edited.flip(-1), reference) > _likeness(edited, reference):
        return -1.0
    a, b = _edges(edited), _edges(reference)
    return _above_chance(a, lambda shifted: float((shifted * b).sum())) + _by_colour(edited, reference)


def _by_colour(edited: Tensor, reference: Tensor) -> float:
    height, width = reference.shape[-2:]
    scale = 40 / min(height, width)
    seen, made = (resize(gaussian(one, 0.5 / scale), round(height * scale), round(width * scale)) for one in (reference, edited))
    red, green, blue = seen.split(1, dim=1)
    columns = [seen, seen * seen, red * green, green * blue, red * blue, gaussian(grey(seen), 1.5), torch.ones_like(red)]
    basis, _ = torch.linalg.qr(torch.cat(columns, dim=1)[0].flatten(1).T.double())

    def explained(shifted: Tensor) -> float:
        wanted = shifted[0].flatten(1).T.double()
        wanted = wanted - wanted.mean(dim=0)
        return float((basis.T @ wanted).square().sum() / wanted.square().sum().clamp(min=1e-9))

    return _above_chance(made, explained)


def _above_chance(picture: Tensor, score: Callable[[Tensor], float]) -> float:
    """Return the score of [1, C, h, w] less the mean of those of its shifts, in their deviations."""
    height, width = picture.shape[-2:]
    steps = [(height * row // 9, width * column // 9) for row in range(2, 7) for column in range(2, 7)]
    chance = torch.tensor([score(picture.roll(step, dims=(-2, -1))) for step in steps], dtype=torch.float64)
    return float((score(picture) - chance.mean()) / chance.std().clamp(min=1e-9))


def _compared(picture: Tensor) -> Tensor:
    """Return [3, H, W] at the size of comparison, on the CPU: [1, 3, h, w]."""
    height, width = picture.shape[-2:]
    scale = min(1.0, _SIDE / min(height, width))
    return resize(picture[None].float().cpu(), max(16, round(height * scale)), max(16, round(width * scale)))


def _likeness(edited: Tensor, reference: Tensor) -> float:
    a, b = _edges(edited), _edges(reference)
    if not b.any():
        return 1.0
    product = (a.square().sum() * b.square().sum()).sqrt().clamp(min=1e-6)
    return max(0.0, ((a * b).sum() / product).item())


def _edges(picture: Tensor) -> Tensor:
    """Return edges and twice their angles, less their mean: [1, 3, h, w]."""
    across, down = gradient(gaussian(picture.mean(dim=1, keepdim=True), 1.0)).split(1, dim=1)
    square = across.square() + down.square()
    angles = torch.cat([square, across.square() - down.square(), 2 * across * down], dim=1) / square.clamp(min=1e-8)
    spread = gaussian(_structure(picture) * angles, _TOLERANCE)
    return spread - spread.mean(dim=(-2, -1), keepdim=True)


def _structure(picture: Tensor) -> Tensor:
    """Return how strongly each pixel is an edge compared with its surroundings: [1, 1, h, w] in [0, 1]."""
    luma = gaussian(picture.mean(dim=1, keepdim=True), 1.0)
    across = torch.nn.functional.pad(luma[..., 2:] - luma[..., :-2], (1, 1, 0, 0))
    down = torch.nn.functional.pad(luma[..., 2:, :] - luma[..., :-2, :], (0, 0, 1, 1))
    edge = torch.sqrt(across.square() + down.square())
    return (edge / (2.5 * box(edge, 31) + 0.01)).clamp(0.0, 1.0)


# ------------------------------------------------------------------------------------------------- is a motion earned?

_TILE = 32  # pixels: side of the squares in each of which the edit is regressed on the source
_PARTS = 3  # rows and columns of parts of the picture that are asked one by one
_FINE, _COARSE = 0.8, 4.0  # sigmas: what is finer is noise, what is coarser has no say in where a picture lies
_RIDGE = 1e-4  # per pixel
_FLAT = 2e-4  # variance of the source at which a tile counts half


@dataclass(frozen=True, eq=False)
class _Fit:
    """The source's tiles, ready to be regressed on: `solve` [r, c, F, n], `features` [r, c, n, F], and the tiles' `weights`
    [r, c], larger where the source has more texture.
    """

    features: Tensor
    solve: Tensor
    weights: Tensor

    @classmethod
    def measure(cls, reference: Tensor) -> "_Fit":
        """Measure `reference` [1, 3, h, w]."""
        luma = grey(reference)
        slopes = [gradient(luma), gradient(gaussian(luma, 1.2))]
        edges = [length(one) for one in slopes]  # a line is drawn along an edge, whatever its sign
        edges += [gaussian(edges[1], sigma) for sigma in (2.0, 4.0)]  # thick, or glowing
        blurred = [gaussian(luma, sigma) for sigma in (1.0, 2.0, 5.0)]
        features = _tiles(_band(torch.cat([reference, *slopes, *edges, *blurred], dim=1)))
        squares = features.transpose(-1, -2) @ features
        size = features.shape[-2]
        texture = squares[..., :3, :3].diagonal(dim1=-1, dim2=-2).mean(dim=-1) / size
        ridge = _RIDGE * size * torch.eye(squares.shape[-1])
        return cls(features, torch.linalg.solve(squares + ridge, features.transpose(-1, -2)), texture / (texture + _FLAT))

    def unexplained(self, edited: Tensor) -> Tensor:
        """Return the share of the detail of `edited` [1, 3, h, w] that is no linear function of the source: [r, c] in [0, 1]."""
        wanted = _tiles(_band(grey(edited)))
        rest = wanted - self.features @ (self.solve @ wanted)
        floor = 1e-5 * wanted.shape[-2]
        return (rest.square().sum(dim=(-2, -1)) + floor) / (wanted.square().sum(dim=(-2, -1)) + floor)

    def mean(self, tiles: Tensor) -> float:
        """Return the mean of `tiles` [r, c] by weight."""
        return float((tiles * self.weights).sum() / self.weights.sum().clamp(min=1e-6))

    def by_part(self, before: Tensor, after: Tensor) -> list[float]:
        """Return `after` over `before`, both [r, c], for each part of the picture that has any texture."""
        ratios = []
        for rows in zip(*(torch.tensor_split(one, _PARTS, dim=0) for one in (before, after, self.weights)), strict=True):
            for old, new, weight in zip(*(torch.tensor_split(one, _PARTS, dim=1) for one in rows), strict=True):
                if weight.numel() and weight.mean() > 0.1:
                    ratios.append(float((new * weight).sum() / (old * weight).sum()))
        return ratios


def _band(picture: Tensor) -> Tensor:
    return gaussian(picture, _FINE) - gaussian(picture, _COARSE)


def _tiles(picture: Tensor) -> Tensor:
    """Return the whole tiles of [1, C, h, w], each less its mean: [rows, columns, pixels, C]."""
    channels, height, width = picture.shape[1:]
    side = min(_TILE, height, width)
    rows, columns = height // side, width // side
    cut = picture[0, :, : rows * side, : columns * side].reshape(channels, rows, side, columns, side)
    tiles = cut.permute(1, 3, 2, 4, 0).flatten(2, 3)
    return tiles - tiles.mean(dim=2, keepdim=True)


def _earned_drift(reference: Tensor, edited: Tensor, fit: _Fit) -> Matrix | None:
    """Return the drift of `edited` against `reference`, None if none is earned."""
    unmoved, likeness = fit.unexplained(edited), _likeness(edited, reference)
    for found in _drifts(reference, edited):
        drift = _refined(found, edited, fit)
        span = _span(drift, reference)
        if not _SMALLEST < span < _LARGEST * min(reference.shape[-2:]):
            continue
        placed = _moved(edited, drift)
        moved = fit.unexplained(placed)
        if _likeness(placed, reference) > likeness and _is_earned(unmoved, moved, fit, span):
            return drift
    return None


def _is_earned(unmoved: Tensor, moved: Tensor, fit: _Fit, span: float) -> bool:
    """Return whether a drift of `span` pixels explains enough more of the edit, in enough parts of the picture."""
    left = fit.mean(moved) / max(1e-6, fit.mean(unmoved))
    parts = fit.by_part(unmoved, moved)
    agreeing = sum(ratio < _AGREES for ratio in parts) / max(1, len(parts))
    if left < _CLEARLY_LESS and agreeing >= _MOST:
        return True
    return left < _LESS and agreeing >= (1.0 if span < _SMALL else _MOST)


def _drifts(reference: Tensor, edited: Tensor) -> Iterator[Matrix]:
    """Yield what may be the drift: from no motion, from what most of a dense flow agrees on, from a zoom in and out."""
    found = _aligned(reference, edited, np.eye(2, 3))
    if found is not None:
        yield found
        if _span(found, reference) < _SMALLEST:
            return
    shared = _shared(reference, edited)
    if shared is not None:
        again = _aligned(reference, edited, shared)
        yield shared if again is None else again
    for zoom in _ZOOMS:
        height, width = reference.shape[-2:]
        shift = (1 - zoom) / 2 * np.array([width - 1, height - 1])
        found = _aligned(reference, edited, np.concatenate([zoom * np.eye(2), shift[:, None]], axis=1))
        if found is not None:
            yield found


def _aligned(reference: Tensor, edited: Tensor, start: Matrix) -> Matrix | None:
    """Return the affine motion that correlates the structure of both best, from coarse to fine; None where none is found.

    Enhanced correlation coefficient (Evangelidis, Psarakis, TPAMI 2008; OpenCV's implementation).
    """
    first, second = (_structure(one)[0, 0].numpy() for one in (reference, edited))
    height, width = first.shape
    matrix = start
    for level in (4, 2, 1):
        if min(height, width) < 24 * level:
            continue
        size = round(width / level), round(height / level)
        pair = [
            cv2.resize(cv2.GaussianBlur(one, (0, 0), 0.6 * level + 0.4), size, interpolation=cv2.INTER_AREA)
            for one in (first, second)
        ]
        start_here, everywhere = _at_scale(matrix, 1 / level).astype(np.float32), np.full(pair[1].shape, 255, np.uint8)
        try:
            _, found = cv2.findTransformECC(pair[0], pair[1], start_here, cv2.MOTION_AFFINE, (3, 60, 1e-4), everywhere, 3)
        except cv2.error:  # it does not converge, or there is nothing to correlate
            return None
        matrix = _at_scale(found.astype(np.float64), level)
    return matrix if np.isfinite(matrix).all() else None


def _shared(reference: Tensor, edited: Tensor) -> Matrix | None:
    """Return the affine motion that a third and more of the structure shares in dense flow; None if there is none."""
    weight = _structure(reference) * box(_structure(reference), 9)
    drift = torch.zeros_like(reference[:, :2])
    for turn in range(3):
        rest = _flow(reference, sample_at(edited, grid_of(edited) + drift))
        affine = affine_motion(rest, weight)
        agreeing = (weight * (length(rest - affine) < 1.0)).sum() / weight.sum().clamp(min=1e-6)
        if agreeing < 0.35:
            if turn == 0:
                return None
            break
        drift = drift + affine
    points = (grid_of(drift) + drift)[0].double()
    height, width = drift.shape[-2:]
    corner, right, down = points[:, 0, 0], points[:, 0, -1], points[:, -1, 0]
    return torch.stack([(right - corner) / (width - 1), (down - corner) / (height - 1), corner], dim=1).numpy()


def _refined(matrix: Matrix, edited: Tensor, fit: _Fit) -> Matrix:
    """Return `matrix` shifted by some pixels where that explains clearly more of the edit: a relief's lines lie beside edges."""
    start = best = fit.mean(fit.unexplained(_moved(edited, matrix)))
    found = matrix
    for step in (1.0, 0.5, 0.25):
        for _ in range(2):
            tried = [found + np.array([[0, 0, x], [0, 0, y]]) for x, y in ((step, 0), (-step, 0), (0, step), (0, -step))]
            left = [fit.mean(fit.unexplained(_moved(edited, one))) for one in tried]
            if min(left) >= best:
                break
            best, found = min(left), tried[left.index(min(left))]
        if best > 0.93 * start:
            return matrix
    return found


def _misfit(reference: Tensor, edited: Tensor, fit: _Fit) -> float:
    """Return how far dense flow moves `edited`: mean over the structure in pixels, 0 where that explains no more of it."""
    flow = gaussian(_flow(reference, edited), 16.0)
    unmoved, moved = fit.unexplained(edited), fit.unexplained(_sampled(edited, grid_of(flow) + flow))
    if fit.mean(moved) > _MISFITS * fit.mean(unmoved):
        return 0.0
    weight = _structure(reference) * box(_structure(reference), 9)
    earned = resize((moved < 0.9 * unmoved).float()[None, None], *flow.shape[-2:])
    return ((length(flow) * earned * weight).sum() / weight.sum().clamp(min=1e-6)).item()


def _flow(a: Tensor, b: Tensor) -> Tensor:
    """Return dense flow between the structures of two pictures: [1, 2, h, w], pixels."""
    first, second = ((255 * _structure(one))[0, 0].byte().numpy() for one in (a, b))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = estimator.calc(first, second, np.zeros((*first.shape, 2), np.float32))
    return torch.from_numpy(found).permute(2, 0, 1)[None]


# ----------------------------------------------------------------------------------------------------------- affine maps


def _at_scale(matrix: Matrix, factor: float) -> Matrix:
    """Return the same motion for pictures `factor` times as large: a pixel's centre lies half a pixel in."""
    inset = (factor - 1) / 2
    turn, shift = matrix[:, :2], matrix[:, 2]
    moved = factor * shift + inset - turn @ np.full(2, inset)
    return np.concatenate([turn, moved[:, None]], axis=1)


def _span(matrix: Matrix, picture: Tensor) -> float:
    """Return how far `matrix` moves the pixels of `picture` [..., h, w], mean in pixels."""
    grid = grid_of(picture)
    moved = torch.einsum("ij,njhw->nihw", torch.from_numpy(matrix[:, :2]).float(), grid)
    shift = torch.from_numpy(matrix[:, 2]).float()[None, :, None, None]
    return length(moved + shift - grid).mean().item()


def _moved(picture: Tensor, matrix: Matrix) -> Tensor:
    """Return `picture` [1, C, h, w] as `matrix` finds it: cubic, its border repeated."""
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    pixels = np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy())
    size = picture.shape[-1], picture.shape[-2]
    return _tensor(cv2.warpAffine(pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _sampled(picture: Tensor, points: Tensor) -> Tensor:
    """Return `picture` [1, C, h, w] at `points` [1, 2, h, w]: cubic, its border repeated."""
    pixels = np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy())
    x, y = (np.ascontiguousarray(one.numpy()) for one in points[0])
    return _tensor(cv2.remap(pixels, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


def _tensor(pixels: npt.NDArray[Any]) -> Tensor:
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
