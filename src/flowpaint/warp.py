"""Backward warping, chaining, visibility, resizing of flow.

One convention everywhere: what frame a shows at (x, y), frame b shows at (x + dx, y + dy), with
(dx, dy) = flow_ab[:, :, y, x] in pixels. So `warp(b, flow_ab)` lays b onto a's grid.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .types import check_shape

Outside = Literal["zero", "edge"]
Rule = Literal["unimatch", "sundaram"]


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Coordinates (x, y) of each pixel: float32 [1, 2, H, W], pixels."""
    y = torch.arange(height, dtype=torch.float32, device=device)
    x = torch.arange(width, dtype=torch.float32, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]


def grid_of(image: Tensor) -> Tensor:
    """Coordinates (x, y) of each pixel of `image` [..., H, W]: float32 [1, 2, H, W], pixels."""
    height, width = image.shape[-2:]
    return pixel_grid(height, width, image.device)


def sample_at(image: Tensor, points: Tensor, outside: Outside = "edge") -> Tensor:
    """`image` [N, C, H, W] at `points` [N, 2, h, w], (x, y) in its pixels: bilinear, [N, C, h, w]."""
    check_shape(image=(image, "N C H W"), points=(points, "N 2 h w"))
    height, width = image.shape[-2:]
    # Size-1 axes are legal: every point of such an axis is its one pixel.
    scale = points.new_tensor([2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)])
    unit = points.permute(0, 2, 3, 1) * scale - 1.0
    padding = "border" if outside == "edge" else "zeros"
    return F.grid_sample(image, unit.to(image.dtype), mode="bilinear", padding_mode=padding, align_corners=True)


def warp(image: Tensor, flow: Tensor, outside: Outside = "edge") -> Tensor:
    """`image` [N, C, H, W] seen through `flow` [N, 2, H, W]: bilinear, on the flow's grid."""
    check_shape(image=(image, "N C H W"), flow=(flow, "N 2 H W"))
    return sample_at(image, grid_of(flow) + flow, outside)


def chain(flow_ab: Tensor, flow_bc: Tensor) -> Tensor:
    """Flow a to c through b: [N, 2, H, W], pixels."""
    check_shape(flow_ab=(flow_ab, "N 2 H W"), flow_bc=(flow_bc, "N 2 H W"))
    return flow_ab + warp(flow_bc, flow_ab)


def length(vectors: Tensor) -> Tensor:
    """Euclidean length of `vectors` [N, 2, H, W]: [N, 1, H, W]. Ten times as fast as a norm over the channel axis."""
    x, y = vectors[:, :1], vectors[:, 1:]
    return torch.sqrt(x * x + y * y)


def visibility(flow_ab: Tensor, flow_ba: Tensor, rule: Rule = "unimatch") -> Tensor:
    """1 where a's pixel is also seen in b, else 0: [N, 1, H, W]. Out of frame is never visible.

    There and back must end where it began. `unimatch`: |ab + ba(ab)| < 0.01 (|ab| + |ba|) + 0.5, plain norms, ba's own
    magnitude taken at the same pixel (Xu et al., TPAMI 2023). `sundaram`: squared norms, ba carried back first (Sundaram,
    Brox, Keutzer, ECCV 2010, Eq. 5).
    """
    check_shape(flow_ab=(flow_ab, "N 2 H W"), flow_ba=(flow_ba, "N 2 H W"))
    back = warp(flow_ba, flow_ab)
    miss = (flow_ab + back).square().sum(dim=1, keepdim=True)
    if rule == "sundaram":
        squares = flow_ab.square().sum(dim=1, keepdim=True) + back.square().sum(dim=1, keepdim=True)
        seen = miss < 0.01 * squares + 0.5
    else:
        norms = length(flow_ab) + length(flow_ba)
        seen = miss.sqrt() < 0.01 * norms + 0.5
    return (seen & inside(flow_ab)).to(flow_ab.dtype)


def inside(flow_ab: Tensor) -> Tensor:
    """True where a's pixel lands within b's frame: bool [N, 1, H, W]."""
    height, width = flow_ab.shape[-2:]
    points = grid_of(flow_ab) + flow_ab
    limits = points.new_tensor([width - 1, height - 1])[None, :, None, None]
    return ((points >= 0) & (points <= limits)).all(dim=1, keepdim=True)


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """`image` [N, C, H, W] at another size: area average when it shrinks, bilinear when it grows."""
    if image.shape[-2:] == (height, width):
        return image
    if height <= image.shape[-2] and width <= image.shape[-1]:
        return F.interpolate(image, size=(height, width), mode="area")
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)


def resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """`flow` [N, 2, H, W] at another size, its vectors in the new pixels."""
    check_shape(flow=(flow, "N 2 H W"))
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]])
    return resize(flow, height, width) * scale[None, :, None, None]


def affine_motion(motion: Tensor, weight: Tensor) -> Tensor:
    """The affine motion nearest to `motion` [1, 2, H, W] under `weight` [1, 1, H, W]: [1, 2, H, W], pixels.

    Outliers beyond about a pixel are discounted: iteratively re-weighted least squares with Geman and McClure's weights.
    """
    height, width = motion.shape[-2:]
    grid = pixel_grid(height, width, motion.device)[0].flatten(1).T / max(height, width)
    basis = torch.cat([grid, torch.ones_like(grid[:, :1])], dim=1)
    wanted, given = motion[0].flatten(1).T, weight.flatten()[:, None] + 1e-6
    now = given
    for _ in range(10):
        normal = (basis * now).T @ basis + 1e-6 * now.sum() * torch.eye(3, device=motion.device)
        answer = torch.linalg.solve(normal, (basis * now).T @ wanted)
        rest = (basis @ answer - wanted).norm(dim=1, keepdim=True)
        now = given / (1 + rest.square()).square()
    affine: Tensor = basis @ answer
    return affine.T.reshape(1, 2, height, width)
