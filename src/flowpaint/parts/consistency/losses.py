"""The two losses of the feature optimisation: neighbours agree along the flow; frames keep the source's self-similarity.

The spatial losses compare Gram matrices of L x L without ever holding one: value and gradient are found together, in rows
(absolute differences) or through C x C products (squared ones).
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...types import check_shape
from .ring import Ring, through

Norm = Literal["l1", "l2sq"]


def temporal_loss(features: Tensor, ring: Ring, *, cyclic: bool = True, both: bool = True) -> Tensor:
    """Mean absolute difference of neighbours laid onto one another, where seen: a number.

    `features` [S N, C, h, w]; `ring` at that size, `Ring.at(h, w)`. Each frame is carried to the next and, with `both`, the next
    one back to it; the two means add. `cyclic` counts the pair of last and first frame.
    """
    check_shape(features=(features, "B C h w"), forward=(ring.forward, "N 2 h w"))
    num_frames = len(ring.forward)
    here = features.unflatten(0, (-1, num_frames))
    after = here.roll(-1, dims=1)
    pairs = num_frames if cyclic else num_frames - 1
    if pairs == 0:
        return features.sum() * 0.0
    here, after = here[:, :pairs], after[:, :pairs]
    total = _apart(after, here, ring.backward[:pairs], ring.seen_backward[:pairs])
    if both:
        total = total + _apart(here, after, ring.forward[:pairs], ring.seen_forward[:pairs])
    return total


def _apart(a: Tensor, b: Tensor, flow_ab: Tensor, seen: Tensor) -> Tensor:
    """Mean of |a - b through flow_ab| where seen; a, b [S, P, C, h, w]."""
    carried = through(b.flatten(0, 1), flow_ab.repeat(len(b), 1, 1, 1))
    return ((a.flatten(0, 1) - carried) * seen.repeat(len(a), 1, 1, 1)).abs().mean()


def unit_tokens(features: Tensor) -> Tensor:
    """`features` [B, C, h, w] as tokens of length 1: float [B, h w, C]. A token of zeros stays one."""
    check_shape(features=(features, "B C h w"))
    return F.normalize(features.flatten(2).transpose(1, 2), dim=-1)


def gram(tokens: Tensor) -> Tensor:
    """Similarity of each token to each: [B, L, L] of `tokens` [B, L, C]."""
    return tokens @ tokens.transpose(1, 2)


def spatial_loss(
    features: Tensor, source: Tensor, *, norm: Norm = "l1", rows: int | None = None, energy: Tensor | None = None
) -> Tensor:
    """Mean difference of the Gram matrices of `features` [B, C, h, w] and of `source`, unit tokens [B, h w, C]: a number.

    `norm` "l1": absolute differences, as in the released code, `rows` of a Gram at a time (None: about 8 MiB of them);
    "l2sq": squared ones, as in the paper, by |AA'-BB'|^2 = |A'A|^2 - 2 |A'B|^2 + |B'B|^2; `energy` is its last term where
    `source_energy` was called before. Both are exact, gradient included, and need a small part of the memory of one Gram.
    """
    tokens = features.shape[-2] * features.shape[-1]
    check_shape(features=(features, "B C h w"), source=(source, "B L C"))
    check_shape(features=(features.flatten(2), "B C L"), source=(source, "B L C"))
    if norm == "l2sq" and tokens > features.shape[1]:
        rows = 0
        energy = source_energy(source) if energy is None else energy
    elif rows is None:
        rows = max(1, 2**21 // tokens)
    value: Tensor = _Spatial.apply(features, source, rows, norm, energy)  # type: ignore[no-untyped-call]
    return value


def source_energy(source: Tensor) -> Tensor:
    """|B'B|^2 over all rows of unit tokens [B, L, C], float64: constant while features are optimised."""
    return torch.stack([_energy(one.T @ one) for one in source]).sum()


class _Spatial(torch.autograd.Function):
    """The spatial loss with its gradient, found together, one row of the batch after the other."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, source: Tensor, rows: int, norm: Norm, energy: Tensor | None) -> Tensor:
        count = source.shape[0] * source.shape[1] ** 2
        total = torch.zeros((), dtype=torch.float64, device=features.device)
        if energy is not None and rows == 0:
            total += energy
        gradient = torch.empty_like(features, memory_format=torch.contiguous_format)
        for x, b, out in zip(features.flatten(2), source, gradient.flatten(2), strict=True):
            lengths = x.norm(dim=0).clamp_min(1e-12)
            a = x / lengths  # [C, L]
            value, slope = _by_rows(a.T, b, rows, norm) if rows else _by_channels(a.T, b)
            total += value
            # Only what is across a token turns it.
            torch.addcmul(slope.T, a, (a * slope.T).sum(dim=0), value=-1, out=out)
            out.mul_(1 / (count * lengths))
        ctx.save_for_backward(gradient)
        return (total / count).to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * slope, None, None, None, None


def _by_rows(a: Tensor, b: Tensor, rows: int, norm: Norm) -> tuple[Tensor, Tensor]:
    """Sum of |D| or D^2 for D = AA' - BB', and its slope by A: D is symmetric, so 2 g(D) A with g the derivative; a, b [L, C]."""
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    slope = torch.empty_like(a)
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        apart = torch.mm(b[part], b.T).addmm_(a[part], a.T, beta=-1)
        if norm == "l1":
            total += apart.abs().sum()
            apart.sign_()
        else:
            total += apart.square().sum()
            apart.mul_(2)
        slope[part] = apart @ a
    return total, slope.mul_(2)


def _by_channels(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """|A'A|^2 - 2 |A'B|^2, and its slope by A with that of the whole: 4 (A A'A - B B'A); a, b [L, C]."""
    own, cross = a.T @ a, b.T @ a
    # The terms of the identity are close to one another: they are summed in double precision.
    return _energy(own) - 2 * _energy(cross), torch.mm(b, cross).addmm_(a, own, beta=-1).mul_(4)


def _energy(matrix: Tensor) -> Tensor:
    return matrix.double().square().sum()
