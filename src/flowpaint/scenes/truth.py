"""Where the points seen in one frame are seen in another: exact by construction.

The position at time s of what a pixel shows at time t is the inverse map of its layer at t, then the forward map at s, in
float64. It is visible at s if it lies inside the frame and its layer is the front-most there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ShapeError
from ..types import Flow, check_shape
from .distance import distance_to
from .motion import Points
from .placement import ACCURACY, Size, View, front_most, pixel_centres, placed, to_pixels, to_units, view
from .render import Frame, frame
from .scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """Where points went: `positions` float64 [2, N] in pixels, `layers` int64 [N] they lie on, `visible` bool [N]."""

    positions: Points
    layers: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_]


def track(scene: Scene, t: float, s: float, *, pixels: Points, size: Size) -> Tracks:
    """Where frame s shows what frame t shows at `pixels`, positions (x, y) float64 [2, N]. Raises `ShapeError` for others."""
    if pixels.ndim != 2 or pixels.shape[0] != 2:
        raise ShapeError(f"pixels has shape {pixels.shape}. Expected [2, N], x first.")
    return _tracks(scene, view(scene, t, to_units(pixels, size), size=size), s, size)


def _tracks(scene: Scene, seen: View, s: float, size: Size) -> Tracks:
    moved = np.empty_like(seen.screen)
    for number, (patch, later) in enumerate(zip(seen.patches, placed(scene, s, size), strict=True)):
        shown = seen.front[patch.where] == number
        moved[:, patch.where[shown]] = later.to_screen(patch.plane[:, shown])
    positions = to_pixels(moved, size)
    limits = np.array([[size[1] - 1], [size[0] - 1]])
    slack = 2 * ACCURACY  # what stays on the frame's edge must not be pushed out by rounding
    inside = ((positions >= -slack) & (positions <= limits + slack)).all(axis=0)
    front_there = front_most(scene, s, moved, size=size)
    return Tracks(positions=positions, layers=seen.front, visible=inside & (front_there == seen.front))


def correspond(scene: Scene, t: float, s: float, size: Size) -> Flow:
    """Flow from frame t to frame s, vectors [1, 2, H, W] in pixels, with visibility in s [1, 1, H, W]."""
    return _flow(scene, view(scene, t, to_units(pixel_centres(size), size), size=size), s, size)


def render_with_flow(scene: Scene, t: float, s: float, size: Size) -> tuple[Frame, Flow]:
    """`render` of frame t and `correspond` from it to frame s, faster than one after the other."""
    seen = view(scene, t, to_units(pixel_centres(size), size), size=size)
    return frame(scene, seen, size), _flow(scene, seen, s, size)


def _flow(scene: Scene, seen: View, s: float, size: Size) -> Flow:
    found = _tracks(scene, seen, s, size)
    vectors = torch.from_numpy((found.positions - pixel_centres(size)).astype(np.float32)).view(1, 2, *size)
    return Flow(vectors=vectors, visibility=torch.from_numpy(found.visible.astype(np.float32)).view(1, 1, *size))


def boundary_distance(layers: Tensor, limit: int = 16) -> Tensor:
    """Distance of each pixel centre to the nearest edge between layers, in pixels, at most `limit`: float32 [1, H, W].

    `layers` [1, H, W] are numbers of layers. The edge counts as lying in the pixels on both of its sides, whose distance is 0.
    """
    check_shape(layers=(layers, "1 H W"))
    numbers = layers[0].numpy()
    edge = np.zeros(numbers.shape, bool)
    across, down = numbers[:, 1:] != numbers[:, :-1], numbers[1:] != numbers[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return torch.from_numpy(distance_to(edge, limit).astype(np.float32))[None]
