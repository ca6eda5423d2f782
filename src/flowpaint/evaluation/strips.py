"""Pictures for people: source | result at several moments, and the worst moments with a map of the error."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..moments import Case, Moment, Pass
from ..timecode import clock
from ..types import Clip, to_raw
from ..warp import resize, warp
from .card import Card
from .page import Picture, Strip, Worst

_HEAT = ((0.03, 0.02, 0.10), (0.35, 0.06, 0.43), (0.78, 0.20, 0.28), (0.98, 0.62, 0.10), (0.99, 0.99, 0.75))
_FULL = 0.25  # difference of luma that is shown at its brightest
_PAGE = 1100  # pixels across
_GAP = 6  # pixels of white between pictures
_JUDGED_BY = ("we_src", "pixel_mse", "flicker")  # whose curve tells the worst moments: the first that there is


def strips(cases: Mapping[str, Case], *, moments: int = 6) -> tuple[Strip, ...]:
    """The source and every result (by label) side by side at `moments` evenly spread frames, about as wide as a page."""
    source = next(iter(cases.values())).source
    height = _height(source, len(cases) + 1)
    count = min(moments, len(source))
    frames = sorted({(2 * place + 1) * len(source) // (2 * count) for place in range(count)})
    named = " | ".join(("source", *cases))
    return tuple(
        Strip(
            caption=f"{named}, frame {frame} at {clock(source.times[frame] - source.times[0])}",
            picture=_row([source.frame(frame), *(case.result.frame(frame) for case in cases.values())], height),
        )
        for frame in frames
    )


def worst(case: Case, card: Card, *, through: Pass, count: int = 3) -> tuple[Worst, ...]:
    """The `count` frames at which the result is least steady, apart from each other, each as source | result | error map.

    The error map shows where the result differs from its frame before laid onto it along the source's flow.
    """
    name = next((one for one in _JUDGED_BY if card.series.get(one)), None)
    if name is None:
        return ()
    row, height = card.series[name], _height(case.source, 3)
    chosen = _apart(row, count, max(1, len(case.source) // 12))
    found = [
        Worst(
            label=card.label,
            measure=name,
            frame=moment.index,
            time=card.times[moment.index],
            value=row[moment.index],
            picture=_row([moment.source[0].cpu(), moment.result[0].cpu(), heat(error_of(moment))[0].cpu()], height),
        )
        for moment in through(case, frames=chosen)
    ]
    return tuple(sorted(found, key=lambda one: -one.value))


def _apart(row: Mapping[int, float], count: int, distance: int) -> set[int]:
    chosen: list[int] = []
    for index in sorted(row, key=lambda one: -row[one]):
        if len(chosen) < count and all(abs(index - other) >= distance for other in chosen):
            chosen.append(index)
    return set(chosen)


def error_of(moment: Moment) -> Tensor:
    """|Y_t - W(Y_t-1)|, mean over channels, where both are seen: [1, 1, h, w]. Zero where there is no frame before."""
    if moment.before is None:
        return torch.zeros_like(moment.result[:, :1])
    back = moment.flow.reverse
    assert back is not None
    return (moment.result - warp(moment.before.result, back)).abs().mean(dim=1, keepdim=True)


def heat(error: Tensor) -> Tensor:
    """An error map [1, 1, h, w] in colours, [1, 3, h, w]: dark where there is none, pale from a quarter of the range on."""
    stops = error.new_tensor(_HEAT)
    place = (error / _FULL).clamp(0, 1) * (len(_HEAT) - 1)
    low = place.floor().clamp(max=len(_HEAT) - 2)
    share = place - low
    colours: Tensor = torch.lerp(stops[low.long()[:, 0]], stops[low.long()[:, 0] + 1], share[:, 0, ..., None])
    return colours.permute(0, 3, 1, 2)


def _height(source: Clip, count: int) -> int:
    """How high `count` pictures of a clip side by side are when they fill the page, within reason."""
    return max(120, min(480, round(_PAGE / count * source.height / source.width)))


def _row(pictures: Sequence[Tensor], height: int) -> Picture:
    """Pictures [3, H, W] side by side with white between them, uint8 [height, W, 3]."""
    gap = torch.ones(3, height, _GAP)
    parts: list[Tensor] = []
    for picture in pictures:
        width = max(1, round(picture.shape[-1] * height / picture.shape[-2]))
        parts += [resize(picture[None], height, width)[0], gap]
    return np.asarray(to_raw(torch.cat(parts[:-1], dim=2)), np.uint8)
