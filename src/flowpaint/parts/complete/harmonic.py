"""`Harmonic`: holes of depth filled by the smoothest surface that their rims hold."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from ...types import check_shape

Values: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_UNKNOWN = 0.5  # depth of a frame of which nothing is known: no other is nearer to all that it may be


@dataclass(frozen=True, kw_only=True)
class Harmonic:
    """Fills each hole of each frame, exactly, by the discrete Laplace equation: every pixel is the mean of its neighbours.

    A hole takes the values around it (Dirichlet); at the picture's border, where nothing is known beyond, it is free (Neumann)
    but for the plane that fits its rim best, which is taken out first and put back. So constants and planes come back as they
    were, also where a hole touches the border, as long as its rim is no straight line: across that, it stays level. A hole
    inside the picture never leaves the range of its rim; one at the border may, and is kept in [0, 1]. A frame that is all hole
    becomes 0.5. Frames are filled one by one, and what the new object is, `shape`, does not count. This is the deterministic
    stand-in for the network of StableV2V (Liu et al., arXiv 2411.11045, section 3.2.3).
    """

    def __call__(self, depth: Tensor, hole: Tensor, shape: Tensor) -> Tensor:
        """`depth` [T, 1, H, W] in [0, 1], 1 = near, filled where `hole` [T, 1, H, W] is above 0.5, else the same to the bit.

        `shape` [1, 1, H, W]. Raises `ShapeError` for others.
        """
        check_shape(depth=(depth, "T 1 H W"), hole=(hole, "T 1 H W"), shape=(shape, "1 1 H W"))
        holes = (hole > 0.5).cpu().numpy()[:, 0]
        values = depth.detach().cpu().double().numpy()[:, 0]
        found = np.stack([filled(one, where) for one, where in zip(values, holes, strict=True)]) if len(values) else values
        made = torch.from_numpy(found)[:, None].to(depth)
        return torch.where(hole > 0.5, made, depth)


def filled(values: Values, hole: Mask) -> Values:
    """`values` [H, W] with those in `hole` made harmonic: see `Harmonic`."""
    if not hole.any():
        return values
    if hole.all():
        return np.full_like(values, _UNKNOWN)
    made = values.copy()
    made[hole] = np.clip(_solved(values, hole), 0.0, 1.0)
    return made


def _solved(values: Values, hole: Mask) -> Values:
    """The harmonic values in `hole`, in the order of its pixels: a sparse symmetric system, factored once."""
    count = int(hole.sum())
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(count)
    # With its plane taken out a surface is level across the border; so with it, it leaves by the plane's slope.
    diagonal, right = np.zeros(count), _slopes(values, hole)[hole]
    rows, columns = [], []
    before, behind, all_of = slice(None, -1), slice(1, None), slice(None)
    for here, there in (((all_of, before), (all_of, behind)), ((before, all_of), (behind, all_of))):
        for one, other in ((here, there), (there, here)):
            mine, others = number[one], number[other]
            both, rim = (mine >= 0) & (others >= 0), (mine >= 0) & (others < 0)
            diagonal += np.bincount(mine[mine >= 0], minlength=count)
            right += np.bincount(mine[rim], weights=values[other][rim], minlength=count)
            rows.append(mine[both])
            columns.append(others[both])
    all_pixels = np.arange(count)
    row, column = np.concatenate((*rows, all_pixels)), np.concatenate((*columns, all_pixels))
    entries = np.concatenate((np.full(len(row) - count, -1.0), diagonal))
    matrix = sparse.csc_matrix((entries, (row, column)), shape=(count, count))
    # The order of least degree for a symmetric matrix, which needs no pivots: faster than scipy's default.
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solution: Values = factors.solve(right)
    return solution


def _slopes(values: Values, hole: Mask) -> Values:
    """How much the plane that fits a hole's rim rises across the picture's border, one pixel out: [H, W], 0 off the border."""
    rises = np.zeros_like(values)
    border = np.ones_like(hole)
    border[1:-1, 1:-1] = False
    labels, _ = ndimage.label(hole)
    for number in np.unique(labels[border & hole]):
        inside = labels == number
        y, x = np.nonzero(ndimage.binary_dilation(inside) & ~hole)
        about = np.stack((np.ones(len(y)), y - y.mean(), x - x.mean()), axis=1)
        # Of planes that fit as well, the flattest: along a straight rim, level across it.
        _, down, across = np.linalg.lstsq(about, values[y, x], rcond=1e-9)[0]
        rises[0] -= down * inside[0]
        rises[-1] += down * inside[-1]
        rises[:, 0] -= across * inside[:, 0]
        rises[:, -1] += across * inside[:, -1]
    return rises
