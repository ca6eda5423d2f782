"""A pinhole camera that pans, turns, rolls and zooms over layers at different distances.

*Nearness* is inverse distance (disparity), 0 at infinity. At rest the camera shows world point (x, y) of any nearness n at
(x, y): the point lies at (x, y, focal) / n in space (n = 1: at the distance `focal`). Moving the camera by (x, y, z), z in
focal lengths, shows it at ((x, y) - n c_xy) / (1 - n c_z): parallax by nearness. Turning it is a homography that all share.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .motion import NOTHING, Curve, Points, transform

Nearness = float | npt.NDArray[np.float64]  # one for all points, or [N]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera over time. Hand shake is a matter of a few fast waves in `yaw`, `pitch` and `roll`."""

    x: Curve = NOTHING
    y: Curve = NOTHING
    z: Curve = NOTHING  # towards the scene
    yaw: Curve = NOTHING  # radians, as pitch and roll
    pitch: Curve = NOTHING
    roll: Curve = NOTHING
    log_zoom: Curve = NOTHING
    focal: float = 1.2  # in short sides of the picture

    def at(self, time: float) -> "Pose":
        """The camera's pose at `time`."""
        return Pose(
            offset=np.array([[self.x(time)], [self.y(time)]]),
            forward=self.z(time),
            turn=_turn(self.yaw(time), self.pitch(time), self.roll(time)),
            zoom=math.exp(self.log_zoom(time)),
            focal=self.focal,
        )


STEADY = Camera()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """A camera at one moment."""

    offset: npt.NDArray[np.float64]  # [2, 1]
    forward: float
    turn: npt.NDArray[np.float64]  # [3, 3]
    zoom: float
    focal: float

    def project(self, world: Points, nearness: Nearness) -> Points:
        """Where world points [2, N] are seen on screen: [2, N]."""
        moved = (world - nearness * self.offset) / (1.0 - nearness * self.forward)
        return _turned(self.turn, moved, self.focal) * self.zoom

    def rays(self, screen: Points) -> Points:
        """What an unturned, unzoomed camera at the same place shows where this one shows `screen`: [2, N]."""
        return _turned(self.turn.T, screen / self.zoom, self.focal)

    def shown_nearness(self, nearness: Nearness) -> Nearness:
        """Inverse distance along the optical axis of the unturned camera, which keeps the order of layers."""
        return nearness / (1.0 - nearness * self.forward)


def _turned(turn: npt.NDArray[np.float64], points: Points, focal: float) -> Points:
    axis = turn[2, :2] / focal
    divisor = axis[0] * points[0] + axis[1] * points[1] + turn[2, 2]
    seen: Points = (transform(turn[:2, :2], points) + focal * turn[:2, 2:]) / divisor
    return seen


def _turn(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(one), math.sin(one)) for one in (yaw, pitch, roll))
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    about_z = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    turn: npt.NDArray[np.float64] = about_z @ about_x @ about_y
    return turn
