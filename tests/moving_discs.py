"""A textured disc over a textured ground, both with known motion, and an estimator of flow that knows it."""

import torch

from flowpaint.types import Flow
from flowpaint.warp import pixel_grid


def texture(points, seed):
    """A smooth random pattern [3, H, W] at points [1, 2, H, W]: the same point has the same colour in every frame."""
    generator = torch.Generator().manual_seed(seed)
    waves = 0.6 * (torch.rand(3, 6, 2, generator=generator) - 0.5)
    phases = 6.3 * torch.rand(3, 6, 1, 1, generator=generator)
    x, y = points[0, 0], points[0, 1]
    return 0.5 + 0.45 * torch.sin(waves[..., :1, None] * x + waves[..., 1:, None] * y + phases).mean(dim=1) * 1.5


class Discs:
    """T frames [T, 3, H, W] of a disc that moves by `velocity` (dx, dy) a frame; masks [T, 1, H, W]; backward flow of each."""

    def __init__(self, count=17, size=(96, 128), velocity=(2.5, 0.75), radius=14.0, start=(40.0, 44.0), pan=(0.0, 0.0)):
        self.size, self.velocity, self.pan = size, torch.tensor(velocity), torch.tensor(pan)
        grid = pixel_grid(*size)
        frames, masks = [], []
        for k in range(count):
            middle = torch.tensor(start) + k * self.velocity
            inside = ((grid[0] - middle[:, None, None]).square().sum(dim=0) <= radius**2).float()
            ground = texture(grid - (k * self.pan)[None, :, None, None], 1)
            thing = texture(grid - (k * self.velocity)[None, :, None, None], 2)
            frames.append(torch.lerp(ground, thing, inside))
            masks.append(inside[None])
        self.frames, self.masks = torch.stack(frames).clamp(0, 1), torch.stack(masks)

    def backward(self, k):
        """Flow [1, 2, H, W] from frame k to frame k - 1, the disc's under its mask."""
        disc = -self.velocity[None, :, None, None].expand(1, 2, *self.size)
        ground = -self.pan[None, :, None, None].expand(1, 2, *self.size)
        return torch.where(self.masks[k][None] > 0.5, disc, ground)


class Known:
    """Gives the flows it was handed, one a call."""

    def __init__(self, flows):
        self.flows = list(flows)

    def __call__(self, a, b):
        vectors = self.flows.pop(0)
        return Flow(vectors=vectors, visibility=torch.ones_like(vectors[:, :1]), reverse=-vectors)
