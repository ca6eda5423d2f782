"""Following an object's silhouette from frame to frame: bending motion so that outlines meet. `flowpaint.labels` finds them."""

import torch
from torch import Tensor

from ...labels import signed_distance
from ...smoothing import gaussian, gradient, smooth_on_grid
from ...warp import sample_at

_RIM = 10.0  # pixels from an outline within which it moves what is near it
_BEND = 12.0  # pixels by which it may
_SPREADS = (24.0, 24.0, 16.0, 16.0, 10.0, 10.0, 10.0)  # pixels over which the bend is smooth, round by round
_DAMPING = 0.05  # share of the outline's say with which it holds back motion along itself
_STAY = 0.005  # and what holds back all else


def meet(place: Tensor, body: Tensor, seen: Tensor, held: Tensor) -> Tensor:
    """`place` [1, 2, h, w], the points of a key frame that a frame shows, bent so that the outline of the key frame's `body`
    [1, 1, h, w] falls on that of what is `seen` of it in the frame: limbs so get a motion of their own, that no match
    inside a plain or repeating surface tells. Where `held` [1, 1, h, w] is 1, `place` is right already, and stays.

    An outline tells only how far it moved across itself; the motion that agrees best with all of it nearby is found by
    least squares, over ever smaller neighbourhoods (Lucas, Kanade, IJCAI 1981, on the distance to the outline).
    """
    if not (body > 0.5).any() or not (seen > 0.5).any():
        return place
    here, there = signed_distance(seen), gaussian(signed_distance(body), 1.0)
    slope = gradient(there) / 2
    near = torch.exp(-(here / _RIM).square())
    for spread in _SPREADS:
        miss = (here - sample_at(there, place)).clamp(-_BEND, _BEND)
        across = sample_at(slope, place)
        x, y = across[:, :1], across[:, 1:]
        sums = smooth_on_grid(near * torch.cat([x * x, x * y, y * y, miss * x, miss * y, torch.ones_like(x)], dim=1), spread)
        rest = smooth_on_grid(held, spread)
        xx, xy, yy, mx, my, mass = sums.split(1, dim=1)
        damping = _DAMPING * mass + rest + _STAY
        xx, yy = xx + damping, yy + damping
        step = torch.cat([yy * mx - xy * my, xx * my - xy * mx], dim=1) / (xx * yy - xy * xy)
        place = place + step
    return place
