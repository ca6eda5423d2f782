"""What every interpolator owes its caller: times within 0..1, the given pictures themselves at both ends."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...errors import InputError
from ...types import check_shape


def at_times(a: Tensor, b: Tensor, times: Sequence[float], make: Callable[[float], Tensor]) -> Tensor:
    """Pictures [len(times), 3, H, W] in [0, 1]: a [3, H, W] at time 0, b at 1, and `make(time)` [1, 3, H, W] between.

    One at a time, so that no picture depends on which others were asked for. Raises `InputError` for a time outside 0..1,
    `ShapeError` for pictures of two sizes.
    """
    check_shape(a=(a, "3 H W"), b=(b, "3 H W"))
    for time in times:
        if not 0.0 <= time <= 1.0:
            raise InputError(f"The time {time} does not lie between two pictures. Give 0 for the first one, to 1 for the second.")
    ends = {0.0: a, 1.0: b}
    with torch.no_grad():
        found = [ends[time] if time in ends else make(time)[0].clamp(0.0, 1.0) for time in times]
    return torch.stack(found) if found else a.new_empty(0, *a.shape)
