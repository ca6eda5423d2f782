"""What an edit did to colours, learnt from a picture before and after: as a function of colour, and around each pixel."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .smoothing import box


def regress(source: Tensor, target: Tensor, window: int, ridge: float) -> Tensor:
    """Local linear regression of `target` [1, 3, H, W] on `source` [1, F, H, W] around each pixel: slopes [1, 3, F, H, W]."""
    count = source.shape[1]
    rows, columns = torch.triu_indices(count, count)
    mean, target_mean = box(source, window), box(target, window)
    products = box(source[:, rows] * source[:, columns], window) - mean[:, rows] * mean[:, columns]
    crossed = box((source[:, :, None] * target[:, None]).flatten(1, 2), window)
    crossed = crossed - (mean[:, :, None] * target_mean[:, None]).flatten(1, 2)
    covariance = products.new_zeros(*source.shape[-2:], count, count)
    covariance[..., rows, columns] = products[0].permute(1, 2, 0)
    covariance[..., columns, rows] = products[0].permute(1, 2, 0)
    covariance = covariance + ridge * torch.eye(count, device=source.device)
    slopes = torch.linalg.solve(covariance, crossed[0].permute(1, 2, 0).unflatten(-1, (count, 3)))
    turned: Tensor = slopes.permute(3, 2, 0, 1)[None]
    return turned


@dataclass(frozen=True)
class ColourMap:
    """A smooth map of colours: what each node of a grid over the RGB cube becomes, [1, 3, n, n, n], trilinear between."""

    nodes: Tensor

    @classmethod
    def fit(cls, source: Tensor, edited: Tensor, weights: Tensor | None = None, *, nodes: int = 33) -> "ColourMap":
        """The map from the colours of `source` to those of `edited`, [1, 3, H, W] each; `weights` [1, 1, H, W].

        Each node is met by the affine regression of the samples near it, weighted by Gaussians in colour: tight ones where
        there are samples, wide ones that reach across colours the picture does not have (moments on a grid: the bilateral
        grid's idea, Chen et al., SIGGRAPH 2007).
        """
        # The change is fitted, not the colour: the ridge then draws towards no change.
        s, e = source[0].flatten(1).T, (edited - source)[0].flatten(1).T
        cell = (s * (nodes - 1)).round().long().clamp(0, nodes - 1)
        index = (cell[:, 0] * nodes + cell[:, 1]) * nodes + cell[:, 2]
        columns = [s.new_ones(len(s), 1), s, (s[:, :, None] * s[:, None]).flatten(1), e, (s[:, :, None] * e[:, None]).flatten(1)]
        moments = torch.cat(columns, dim=1)
        if weights is not None:
            moments = moments * (weights.flatten()[:, None] + 1e-6)
        cube = moments.new_zeros(nodes**3, moments.shape[1]).index_add_(0, index, moments)
        grid = cube.T.reshape(1, -1, nodes, nodes, nodes)
        total = grid.sum(dim=(2, 3, 4), keepdim=True)
        tight, wide, widest = (_blur_cube(grid, sigma) for sigma in (0.7, 1.4, 4.2))
        flat = (tight + 0.02 * wide + 1e-3 * widest + 1e-7 * total)[0].flatten(1).T
        flat = flat / flat[:, :1]
        mean, target_mean = flat[:, 1:4], flat[:, 13:16]
        covariance = flat[:, 4:13].unflatten(1, (3, 3)) - mean[:, :, None] * mean[:, None]
        crossed = flat[:, 16:25].unflatten(1, (3, 3)) - mean[:, :, None] * target_mean[:, None]
        slopes = torch.linalg.solve(covariance + 1e-3 * torch.eye(3, device=s.device), crossed)
        offset = target_mean - (mean[:, None] @ slopes)[:, 0]
        steps = torch.linspace(0, 1, nodes, device=s.device)
        colours = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
        mapped = colours + offset + (colours[:, None] @ slopes)[:, 0]
        return cls(mapped.T.reshape(1, 3, nodes, nodes, nodes))

    def __call__(self, picture: Tensor) -> Tensor:
        """`picture` [1, 3, H, W] with its colours mapped. May leave [0, 1]."""
        # grid_sample wants the fastest axis first: the cube is [R, G, B], so ask for (B, G, R).
        where = (picture * 2 - 1)[0].permute(1, 2, 0).flip(-1)[None, None]
        mapped: Tensor = F.grid_sample(self.nodes, where, align_corners=True, padding_mode="border")[:, :, 0]
        return mapped


def _blur_cube(cube: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=cube.dtype, device=cube.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma * sigma))
    channels = cube.shape[1]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 2 * radius + 1
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
        cube = F.conv3d(F.pad(cube, pad), kernel.view(shape).expand(channels, 1, *shape[2:]), groups=channels)
    return cube
