"""Layers at one moment: where points of their planes are seen on screen, and which point of the plane is seen where.

Screen points are in scene units, the middle of the picture at (0, 0). From plane to screen everything is closed form,
    screen = project(matrix @ (point + ripple(point)) + offset, nearness(point)),
and so is the way back where ripple and parallax by relief are absent; with them it is a fixed-point iteration.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .camera import Nearness, Pose
from .motion import Points, transform
from .scene import Layer, Scene
from .shapes import Distances

Size = tuple[int, int]  # height, width in pixels
Where = npt.NDArray[np.intp]  # numbers of points

ACCURACY = 1e-4  # pixels, of what is found by iteration
_MOST_STEPS = 100
_RING = 48  # corners of the polygon around a layer's silhouette


def unit(size: Size) -> float:
    """Pixels in one scene unit: the short side of the picture."""
    return float(min(size))


def to_units(pixels: Points, size: Size) -> Points:
    """Screen points [2, N] of positions (x, y) in pixels [2, N]. Pixel 0 spans -0.5..0.5, so any size shows the same."""
    height, width = size
    points: Points = (pixels - np.array([[(width - 1) / 2], [(height - 1) / 2]])) / unit(size)
    return points


def to_pixels(points: Points, size: Size) -> Points:
    """Positions (x, y) in pixels [2, N] of screen points [2, N]."""
    height, width = size
    pixels: Points = points * unit(size) + np.array([[(width - 1) / 2], [(height - 1) / 2]])
    return pixels


def pixel_centres(size: Size) -> Points:
    """Positions (x, y) of all pixels, row by row: [2, H * W]."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack((x.ravel(), y.ravel())).astype(np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A layer at one moment, seen by a camera. `pixel` is the length of a pixel in scene units."""

    layer: Layer
    time: float
    pose: Pose
    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    pixel: float

    @property
    def step(self) -> float:
        """The distance of neighbouring pixels in the layer's plane, about."""
        scale = self.pose.zoom * math.sqrt(abs(float(np.linalg.det(self.matrix))))
        return self.pixel / scale * (1.0 - sum(self.layer.depth.band) / 2 * self.pose.forward)

    def nearness(self, plane: Points) -> Nearness:
        """How near the camera sees points [2, N] of the plane: [N], or one number for all."""
        return self.pose.shown_nearness(self.layer.depth(plane))

    def to_screen(self, plane: Points) -> Points:
        """Where points [2, N] of the plane are seen: [2, N]."""
        ripple = self.layer.motion.ripple
        moved = plane if ripple is None else plane + ripple(plane, self.time)
        return self.pose.project(transform(self.matrix, moved) + self.offset, self.layer.depth(plane))

    def to_plane(self, screen: Points) -> Points:
        """Which points of the plane are seen at `screen` [2, N]: [2, N], to 1e-4 pixels.

        Raises `InputError` where ripple and relief are too steep for the iteration to settle.
        """
        ripple, depth = self.layer.motion.ripple, self.layer.depth
        back = np.linalg.inv(self.matrix).astype(np.float64)
        rays = self.pose.rays(screen)
        # A ray meets nearness n at rays + n * slide: moving along it is a line in the plane, too.
        start = transform(back, rays - self.offset)
        slide = transform(back, self.pose.offset - rays * self.pose.forward)
        if ripple is None and depth.band[0] == depth.band[1]:
            return start + depth.band[0] * slide
        plane = start + sum(depth.band) / 2 * slide
        if not plane.size:
            return plane
        before = math.inf
        for _ in range(_MOST_STEPS):
            following = start + depth(plane) * slide
            if ripple is not None:
                following -= ripple(plane, self.time)
            moved = float(np.abs(following - plane).max())
            plane = following
            # Errors shrink by this rate from step to step (at least by half for a ripple): all further steps add up to
            # moved * (rate + rate^2 + ...).
            rate = 0.5 if before == math.inf else moved / before
            if rate < 1 and moved * rate / (1 - rate) < ACCURACY * self.step:
                return plane
            before = moved
        raise InputError(
            f"Layer {self.layer.name!r} folds over itself at time {self.time:g}. Lower its relief or the camera's motion."
        )

    def inside(self, plane: Points) -> Distances:
        """Signed distance [N] of points [2, N] of the plane to the silhouette's edge, in pixels on screen, positive inside."""
        if self.layer.shape is None:
            return np.full(plane.shape[1], np.inf)
        drawn = plane if self.layer.deform is None else plane + self.layer.deform(plane, self.time)
        return self.layer.shape(drawn) / self.step

    def near(self, screen: Points) -> Where:
        """Numbers of the points of `screen` [2, N] that the silhouette can reach, with one pixel to spare."""
        if self.layer.shape is None:
            return np.arange(screen.shape[1])
        reach = self.layer.shape.radius + (self.layer.deform.reach if self.layer.deform else 0.0) + 2 * self.step
        angles = math.tau * np.arange(_RING) / _RING
        # 5 % more: the ring's image bends between its corners.
        ring = self.to_screen(1.05 * reach * np.stack((np.cos(angles), np.sin(angles))))
        (left, top), (right, bottom) = ring.min(axis=1), ring.max(axis=1)
        x, y = screen
        return np.flatnonzero((x >= left) & (x <= right) & (y >= top) & (y <= bottom))


def placed(scene: Scene, time: float, size: Size) -> list[Placed]:
    """The layers of `scene` at `time`, far to near."""
    pose = scene.camera.at(time)
    parts = [(layer, *layer.motion.at(time)) for layer in scene.layers]
    return [
        Placed(layer=layer, time=time, pose=pose, matrix=matrix, offset=offset, pixel=1.0 / unit(size))
        for layer, matrix, offset in parts
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """What one layer has at some points: their numbers [n], the points of its plane [2, n], how far inside they lie [n]."""

    placed: Placed
    where: Where
    plane: Points
    inside: Distances


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Everything that lies behind the points `screen` [2, N] at `time`: the patches of the layers, far to near.

    `front` [N] is the number of the layer seen.
    """

    time: float
    screen: Points
    patches: tuple[Patch, ...]
    front: npt.NDArray[np.int64]


def view(scene: Scene, time: float, screen: Points, *, size: Size) -> View:
    """What `scene` has at the points `screen` [2, N] at `time`."""
    patches, front = [], np.zeros(screen.shape[1], np.int64)
    for number, layer in enumerate(placed(scene, time, size)):
        where = layer.near(screen)
        plane = layer.to_plane(screen[:, where] if number else screen)
        patches.append(Patch(placed=layer, where=where, plane=plane, inside=layer.inside(plane)))
        front[where[patches[-1].inside >= 0]] = number
    return View(time=time, screen=screen, patches=tuple(patches), front=front)


def front_most(scene: Scene, time: float, screen: Points, *, size: Size) -> npt.NDArray[np.int64]:
    """`view(...).front` alone, [N]: where the background is nothing but what is left, it need not be mapped."""
    front = np.zeros(screen.shape[1], np.int64)
    for number, layer in enumerate(placed(scene, time, size)[1:], start=1):
        where = layer.near(screen)
        front[where[layer.inside(layer.to_plane(screen[:, where])) >= 0]] = number
    return front
