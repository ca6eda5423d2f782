"""`ByDistance`: one estimator of flow for frames that are near to each other, another for those that are far apart."""

from dataclasses import dataclass

from torch import Tensor

from ...errors import ConfigError
from ...seams import FlowEstimator, default
from ...types import Flow, check_shape


@dataclass(frozen=True, kw_only=True)
class ByDistance:
    """The estimator `near` where it explains a pair, else `far`. How far frames are apart is measured, not counted.

    A pair is far where less than `least` of a is seen in b by `near`: there and back do not meet. What leaves the frame counts
    as not seen, so that a wide pan is far as well. `far` costs nothing until such a pair comes; only commands ask for its weights
    before they begin. With 0.7, DIS and RAFT small, neighbours in real clips are near and two thirds of pairs 8 frames apart far.
    """

    near: FlowEstimator = default("flow", "dis")
    far: FlowEstimator = default("flow", "raft")
    least: float = 0.7

    def __post_init__(self) -> None:
        if not 0.0 <= self.least <= 1.0:
            raise ConfigError(f"A share of {self.least} of a picture cannot be. Give 0, always near, to 1.")

    def __call__(self, a: Tensor, b: Tensor) -> Flow:
        """Flow a to b of pictures [N, 3, H, W] in [0, 1], each pair by the estimator that it needs."""
        check_shape(a=(a, "N 3 H W"), b=(b, "N 3 H W"))
        near = self.near(a, b)
        lost = near.visibility.mean(dim=(1, 2, 3)) < self.least
        if not lost.any():
            return near
        far = self.far(a[lost], b[lost])
        reverse = None
        if near.reverse is not None and far.reverse is not None:
            reverse = _replaced(near.reverse, lost, far.reverse)
        return Flow(
            vectors=_replaced(near.vectors, lost, far.vectors),
            visibility=_replaced(near.visibility, lost, far.visibility),
            reverse=reverse,
        )


def _replaced(rows: Tensor, where: Tensor, others: Tensor) -> Tensor:
    """`rows` with `others` in place of those `where` is True."""
    found = rows.clone()
    found[where] = others.to(rows)
    return found
