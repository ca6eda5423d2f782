"""Where the points of one frame are in another: an affine map, and what bends away from it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import check_shape
from ..warp import pixel_grid, resize, sample_at


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """p is at matrix (x, y, 1) + bend(p), pixels: `matrix` float64 [2, 3], `bend` [1, 2, h, w] or None.

    The affine part holds beyond the frame too, so that what has left it can return; the bend ends at its border. It is smooth,
    and its grid may be coarser than the frame's.
    """

    matrix: Tensor
    bend: Tensor | None = None

    def __post_init__(self) -> None:
        check_shape(matrix=(self.matrix, "2 3"))

    @classmethod
    def here(cls) -> "Placement":
        """Every point where it is."""
        return cls(matrix=torch.eye(2, 3, dtype=torch.float64))

    @classmethod
    def shift(cls, vector: Tensor) -> "Placement":
        """Every point beside itself by `vector` [2], pixels."""
        return cls(matrix=torch.cat([torch.eye(2, dtype=torch.float64), vector.cpu()[:, None]], dim=1))

    def points(self, height: int, width: int) -> Tensor:
        """Where each pixel of a frame is: [1, 2, H, W], pixels."""
        device = None if self.bend is None else self.bend.device
        points = moved(pixel_grid(height, width, device or "cpu"), self.matrix)
        return points if self.bend is None else points + resize(self.bend, height, width)

    def at(self, points: Tensor) -> Tensor:
        """Where `points` [1, 2, h, w], pixels, are: the same shape. The bend must be on the frame's own grid."""
        found = moved(points, self.matrix)
        return found if self.bend is None else found + sample_at(self.bend, points)

    def after(self, step: "Placement") -> "Placement":
        """Where `step` leads, looked up here: p is at self(step(p)). Bends are on the frame's own grid."""
        matrix = self.matrix @ _square(step.matrix)
        if self.bend is None and step.bend is None:
            return Placement(matrix=matrix)
        known = step.bend if step.bend is not None else self.bend
        assert known is not None
        size = known.shape[-2:]
        bend = torch.zeros_like(known)
        if step.bend is not None:
            bend = bend + torch.einsum("ab,nbhw->nahw", self.matrix[:, :2].to(step.bend), step.bend)
        if self.bend is not None:
            bend = bend + sample_at(self.bend, step.points(*size))
        return Placement(matrix=matrix, bend=bend)

    def coarse(self, by: int) -> "Placement":
        """The same with a bend on a grid `by` times as coarse, to be kept."""
        if self.bend is None:
            return self
        height, width = (-(-length // by) for length in self.bend.shape[-2:])
        return Placement(matrix=self.matrix, bend=resize(self.bend, height, width))

    def inverse(self) -> "Placement":
        """The way back of the affine part, without the bend."""
        return Placement(matrix=torch.linalg.inv(_square(self.matrix))[:2])

    def resized(self, old: tuple[int, int], new: tuple[int, int]) -> "Placement":
        """The same between frames of height and width `new`, which were `old`."""
        down, across = new[0] / old[0], new[1] / old[1]
        # Pixel x of the small frame has its middle at x + 1/2, which is where the large one has it.
        grow = torch.tensor(
            [[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]], dtype=torch.float64, device=self.matrix.device
        )
        matrix = (grow @ _square(self.matrix) @ torch.linalg.inv(grow))[:2]
        if self.bend is None:
            return Placement(matrix=matrix)
        scale = self.bend.new_tensor([across, down])[None, :, None, None]
        return Placement(matrix=matrix, bend=self.bend * scale)


def moved(points: Tensor, matrix: Tensor) -> Tensor:
    """`points` [1, 2, H, W], pixels, under `matrix` [2, 3]: [1, 2, H, W], float32. The identity changes no bit."""
    x, y = points[:, 0], points[:, 1]
    a = matrix.to(points.device, torch.float64)
    rows = [a[row, 0] * x + a[row, 1] * y + a[row, 2] for row in range(2)]
    return torch.stack(rows, dim=1).float()


def lookup(mask: Tensor, points: Tensor) -> Tensor:
    """`mask` [1, C, H, W] at `points` [1, 2, h, w], pixels: bilinear, 0 outside, exact at whole pixels: [1, C, h, w].

    `warp.sample_at` goes by way of coordinates from -1 to 1, whose rounding would change a mask that does not move.
    """
    check_shape(mask=(mask, "1 C H W"), points=(points, "1 2 h w"))
    height, width = mask.shape[-2:]
    padded = F.pad(mask, (1, 1, 1, 1)).flatten(2)
    corner = points.floor()
    right, below = (points - corner).split(1, dim=1)
    x, y = (corner[:, axis].clamp(-1, size).long() + 1 for axis, size in ((0, width), (1, height)))

    def at(dx: int, dy: int) -> Tensor:
        place = (y + dy).clamp(max=height + 1) * (width + 2) + (x + dx).clamp(max=width + 1)
        return padded[0, :, place[0]][None]

    upper = at(0, 0) * (1 - right) + at(1, 0) * right
    lower = at(0, 1) * (1 - right) + at(1, 1) * right
    found: Tensor = upper * (1 - below) + lower * below
    return found


def _square(matrix: Tensor) -> Tensor:
    return torch.cat([matrix, matrix.new_tensor([[0.0, 0.0, 1.0]])])
