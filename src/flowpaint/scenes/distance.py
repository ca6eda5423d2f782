"""Euclidean distance on a pixel grid."""

import math

import numpy as np
import numpy.typing as npt


def distance_to(targets: npt.NDArray[np.bool_], limit: int) -> npt.NDArray[np.float64]:
    """Distance of each pixel to the nearest True pixel of `targets` [H, W], in pixels, at most `limit`.

    Columns first, then the minimum over rows of the sum of squares: exact, as the squared distance separates.
    """
    height, width = targets.shape
    within = np.where(targets, 0.0, float(limit))
    for row in range(1, height):
        np.minimum(within[row], within[row - 1] + 1.0, out=within[row])
    for row in range(height - 2, -1, -1):
        np.minimum(within[row], within[row + 1] + 1.0, out=within[row])
    squares = np.square(within)
    nearest = squares.copy()
    for shift in range(1, min(limit, width)):
        np.minimum(nearest[:, shift:], squares[:, :-shift] + shift * shift, out=nearest[:, shift:])
        np.minimum(nearest[:, :-shift], squares[:, shift:] + shift * shift, out=nearest[:, :-shift])
    found: npt.NDArray[np.float64] = np.minimum(np.sqrt(nearest), limit)
    return found


def signed_distance(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distance to the edge of a region [H, W] in pixels, positive inside; the edge runs between pixel centres."""
    limit = math.ceil(math.hypot(*inside.shape))
    return np.where(inside, distance_to(~inside, limit) - 0.5, 0.5 - distance_to(inside, limit))
