"""How far one frame is from where the frames around it put it: what all stages that look at single numbers over time share."""

import torch
from torch import Tensor

FLOOR = 0.8 / 255  # deviation that flow and grain leave in a clean clip
_OUTLIER = 5  # times the swing: no flicker, another light
_SURE = 2.5  # times the swing: a slope or bend of that size is half believed
_LAGS = 1, 2, 3  # frames between the values that a swing is measured from


def trend_gap(offsets: Tensor, deviation: Tensor, floor: Tensor | float = FLOOR) -> Tensor:
    """Return how far frame 0 is from the trend of the frames around it: [...], in the unit of `deviation` [K, ...].

    `deviation` holds frame k minus frame 0 for the K `offsets`, neighbours of 0 and of each other. The trend is a parabola
    through the frames that flicker can explain: beyond a step, none. A gap where nothing swings to and fro is none; `floor`
    is the standard deviation that measuring alone gives.
    """
    times = torch.cat((offsets, offsets.new_zeros(1)))
    order = times.argsort()
    times, series = times[order], torch.cat((deviation, torch.zeros_like(deviation[:1])))[order]
    least = torch.as_tensor(floor, dtype=series.dtype, device=series.device)
    noise = _swing(series)
    usual = _usual(times, series)
    far = (series - usual) / (_OUTLIER * torch.maximum(noise, least))
    gap = _trend_at_zero(times, series, 1 / (1 + far**8), noise)
    evidence = noise.square() + usual.square()
    return gap * (1 - least.square() / evidence.clamp_min(1e-12)).clamp_min(0)


def _swing(series: Tensor) -> Tensor:
    """Return the standard deviation of flicker in `series` [N, ...]; parabolas, one step and one odd frame count as none.

    The largest of what the lags measure: a slow swing, whose neighbours hardly differ, shows at lags 2 and 3. A step is in
    2 lags of the bends, so a lag is used where that is less than half of them.
    """
    found = torch.zeros_like(series[0])
    for lag in _LAGS:
        if len(series) >= (4 if lag == 1 else 6 * lag + 1):
            bends = series[2 * lag :] - 2 * series[lag:-lag] + series[: -2 * lag]
            spread = (bends - bends.median(dim=0).values).abs().median(dim=0).values
            found = torch.maximum(found, spread / (0.6745 * 6**0.5))  # a bend of unit noise has variance 1 + 4 + 1
    return found


def _usual(times: Tensor, series: Tensor) -> Tensor:
    """Return what the nearest frames before and after agree upon, against frame 0's 0: the smaller if of one sign, else 0."""
    sides = [series[part] for part in ((times < 0) & (times >= -2), (times > 0) & (times <= 2))]
    if not all(len(side) for side in sides):
        return torch.zeros_like(series[0])
    before, after = (side.mean(dim=0) for side in sides)
    return torch.where(before * after > 0, torch.where(before.abs() < after.abs(), before, after), torch.zeros_like(before))


def _trend_at_zero(times: Tensor, series: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
    """Return the weighted least-squares parabola through `series` [N, ...] at time 0.

    Slope and bend count as far as the noise allows.
    """
    here = int((times == 0).nonzero())
    value = torch.zeros_like(noise)
    basis: list[Tensor] = []
    for power in range(3):
        column = (times**power).reshape(-1, *[1] * noise.ndim) * torch.ones_like(series)
        for earlier in basis:
            column = column - (weights * column * earlier).sum(dim=0) * earlier
        column = column / (weights * column.square()).sum(dim=0).sqrt().clamp_min(1e-3)
        basis.append(column)
        part = (weights * column * series).sum(dim=0)
        doubt = (_SURE * noise / part.abs().clamp_min(1e-9)) ** 4 if power else torch.zeros_like(part)
        value = value + part * column[here] / (1 + doubt)
    return value
