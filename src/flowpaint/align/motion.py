"""The motion of an object, simulated from that of another one in its place (StableV2V, Eq. 3-4, and kinder models)."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ..labels import signed_distance
from ..smoothing import gaussian, gradient, smooth_on_grid
from ..types import check_shape
from ..warp import grid_of, length, sample_at
from .placement import Placement

MotionModel: TypeAlias = Literal["mean", "median", "similarity", "affine", "patches"]

_ROUNDS = 8  # of re-weighting
_FAINT, _ENOUGH = 1e-3, 6000  # of the greatest weight that a pixel must have to count; pixels that are enough
_LEAST = 0.5  # pixels of object from which a motion is known
_PATCH = 8.0  # of the sigma of a patch across an object
_NARROWEST = 4.0  # pixels: sigma of the smallest patch
_STIFF = 0.1  # of a patch's variance: how little a patch may turn and grow by itself
_RIM, _FAR = 4.0, 3.0  # pixels about an outline that tell of it; off by which they hardly count
_DAMPED = 0.01  # of the mean curvature: what the outline leaves open stays
_KNOWN = 0.02  # of a patch that the object must fill for its own motion to count


def fit(model: MotionModel, motion: Tensor, weight: Tensor) -> Placement | None:
    """The step p -> p + motion that `model` makes of `motion` [1, 2, h, w], pixels, under `weight` [1, 1, h, w] >= 0.

    It holds in the whole frame and beyond. "mean" is the paper's (Eq. 4), which outliers pull; "median" takes each component's
    weighted median; "similarity" and "affine" fit least squares that discount what is off by about a pixel (Geman, McClure,
    1985); "patches" bends the similarity by similarities fitted in overlapping windows (moving least squares: Schaefer et al.,
    SIGGRAPH 2006). None where there is nothing to measure.
    """
    check_shape(motion=(motion, "1 2 h w"), weight=(weight, "1 1 h w"))
    if float(weight.sum()) < _LEAST:
        return None
    known = (weight.flatten() > _FAINT * float(weight.max())).nonzero().flatten()
    known = known[:: max(1, len(known) // _ENOUGH)]
    wanted = motion[0].flatten(1).T[known].double()
    given = weight.flatten()[known].double()
    if model == "mean":
        return Placement.shift((given[:, None] * wanted).sum(dim=0) / given.sum())
    if model == "median":
        return Placement.shift(torch.stack([_median(wanted[:, axis], given) for axis in range(2)]))
    points = grid_of(motion)[0].flatten(1).T[known].double()
    if model == "affine":
        return Placement(matrix=_affine(points, wanted, given))
    whole = Placement(matrix=_similarity(points, wanted, given))
    if model == "similarity":
        return whole
    rest = motion - (whole.points(*motion.shape[-2:]) - grid_of(motion))
    return Placement(matrix=whole.matrix, bend=_patches(rest, weight))


def _median(values: Tensor, weight: Tensor) -> Tensor:
    order = values.argsort()
    half = torch.searchsorted(weight[order].cumsum(0), weight.sum() / 2)
    return values[order][half.clamp(max=len(values) - 1)]


def _discounted(rest: Tensor, given: Tensor) -> Tensor:
    """The weights `given` [N], less for what is off by `rest` [N, 2] pixels."""
    return given / (1 + rest.square().sum(dim=1)).square()


def _affine(points: Tensor, wanted: Tensor, given: Tensor) -> Tensor:
    """The matrix [2, 3] of p + motion for an affine motion; a degenerate object (a line, a point) moves as little as it can."""
    centre = (given[:, None] * points).sum(dim=0) / given.sum()
    scale = (given * (points - centre).square().sum(dim=1)).sum().div(given.sum()).sqrt().clamp_min(1.0)
    basis = torch.cat([(points - centre) / scale, torch.ones_like(points[:, :1])], dim=1)
    now = given
    for _ in range(_ROUNDS):
        normal = (basis * now[:, None]).T @ basis
        normal += 1e-9 * now.sum() * torch.eye(3, dtype=normal.dtype, device=normal.device)
        answer = torch.linalg.solve(normal, (basis * now[:, None]).T @ wanted)
        now = _discounted(wanted - basis @ answer, given)
    slope = answer[:2].T / scale
    return _with_slope(slope, answer[2] - slope @ centre)


def _similarity(points: Tensor, wanted: Tensor, given: Tensor) -> Tensor:
    """The matrix [2, 3] of p + motion for a turn, a growth and a shift: complex numbers make it one linear regression."""
    z, m = torch.view_as_complex(points.contiguous()), torch.view_as_complex(wanted.contiguous())
    now = given
    for _ in range(_ROUNDS):
        middle, mean = ((now * one).sum() / now.sum() for one in (z, m))
        spread = (now * (z - middle).abs().square()).sum()
        turn = (now * (z - middle).conj() * (m - mean)).sum() / spread.clamp_min(1e-9)
        now = _discounted(torch.view_as_real(m - mean - turn * (z - middle)), given)
    shift = mean - turn * middle
    a, b = turn.real, turn.imag
    return _with_slope(torch.stack([torch.stack([a, -b]), torch.stack([b, a])]), torch.view_as_real(shift))


def _with_slope(slope: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([torch.eye(2, dtype=torch.float64) + slope.cpu(), shift.cpu()[:, None]], dim=1)


def _patches(rest: Tensor, weight: Tensor) -> Tensor:
    """What similarities fitted to `rest` [1, 2, h, w] in Gaussian windows say in their middles: [1, 2, h, w], 0 far away."""
    side = max(rest.shape[-2:])
    sigma = max(_NARROWEST, float(weight.sum().sqrt()) / _PATCH)
    off = length(rest)
    usual = max(1.0, 2.5 * float(off[weight > 0].median()))  # what a bend leaves of the similarity is no outlier
    now = weight / (1 + (off / usual).square()).square()
    z = (grid_of(rest) - side / 2) / side
    x, y, u, v = z[:, :1], z[:, 1:], rest[:, :1], rest[:, 1:]
    sums = torch.cat([torch.ones_like(x), x, y, x * x + y * y, u, v, x * u + y * v, x * v - y * u], dim=1)
    mass, mx, my, square, mu, mv, along, across = smooth_on_grid(now * sums, sigma).split(1, dim=1)
    safe = mass.clamp_min(1e-8)
    mx, my, square, mu, mv, along, across = (one / safe for one in (mx, my, square, mu, mv, along, across))
    spread = (square - mx * mx - my * my).clamp_min(0.0) + _STIFF * (sigma / side) ** 2
    grow, turn = (along - mx * mu - my * mv) / spread, (across - mx * mv + my * mu) / spread
    dx, dy = x - mx, y - my
    found = torch.cat([mu + grow * dx - turn * dy, mv + turn * dx + grow * dy], dim=1)
    # Far outside the object a patch's slope is a guess about nothing: what is near the object's rim goes on, then fades.
    bend: Tensor = found * mass / (mass + _KNOWN)
    return bend


def outlined(old: Tensor, new: Tensor, place: Placement) -> Placement:
    """The step p -> p + motion by which the outline of `old`, carried along `place`, comes to lie on that of `new`.

    Both masks are [1, 1, h, w]. A similarity is fitted by least squares on the distance to the outline (Lucas, Kanade, IJCAI
    1981), which tells of motion across it alone; where that leaves the turn or the growth open, they stay as they are.
    """
    side = max(old.shape[-2:])
    before, now = gaussian(signed_distance(old), 1.0), signed_distance(new)
    rim = torch.exp(-(now / _RIM).square()).flatten()
    near = (rim > 0.01).nonzero().flatten()
    points = grid_of(old).flatten(2)[..., near][:, :, None]
    rim, miss_of = rim[near].double(), now.flatten()[near].double()
    fields = torch.cat([before, gradient(before) / 2], dim=1)
    centre = (rim * points[0, :, 0].double()).sum(dim=1) / rim.sum()
    x, y = (points[0, :, 0].double() - centre[:, None]) / side
    step = Placement.here()
    for _ in range(_ROUNDS):
        there, across, down = sample_at(fields, place.at(step.at(points)))[0, :, 0].double()
        miss = miss_of - there
        # How the distance changes as the points are shifted, grown and turned about the outline's middle.
        basis = torch.stack([across, down, across * x + down * y, down * x - across * y], dim=1)
        weight = rim / (1 + (miss / _FAR).square()).square()
        normal = (basis * weight[:, None]).T @ basis
        damping = _DAMPED * normal.diagonal().mean() * torch.eye(4, dtype=normal.dtype, device=normal.device)
        dx, dy, grow, turn = torch.linalg.solve(normal + damping, (basis * weight[:, None]).T @ miss).cpu()
        matrix = torch.stack([torch.stack([1 + grow / side, -turn / side]), torch.stack([turn / side, 1 + grow / side])])
        shift = torch.stack([dx, dy]) + centre.cpu() - matrix @ centre.cpu()
        step = step.after(Placement(matrix=torch.cat([matrix, shift[:, None]], dim=1)))
    return step
