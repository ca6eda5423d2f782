"""The scene without its objects: what other frames show of it, and what none shows made up once and kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..inpainting import complete
from ..smoothing import box, dilate, spread
from ..types import check_shape
from ..warp import sample_at
from .placement import Placement, lookup

_RING = 8  # pixels around a hole by which two frames are compared, and their colours joined
_ALIKE = 0.06  # mean difference on that ring up to which another frame shows the same ground
_WORTH = 0.002  # of the picture that another frame must add to be looked at
_LEFT = 1e-4  # of the picture that may stay open: less is filled from around
PLATES = 8  # completed frames that are kept


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A frame that may show what another one hides: its `picture` [1, 3, H, W], where that is `known` [1, 1, H, W], and where
    its ground is in the anchor's."""

    picture: Tensor
    known: Tensor
    place: Placement


@dataclass(kw_only=True, eq=False)
class Ground:
    """Completes frames one after the other, away from the anchor.

    A hole takes what earlier completed frames show there, the oldest first, then true pixels of other frames, in the order of
    `others(index)`, both only from frames that look like this one around the hole. What is left comes from a completed frame even
    if that does not, for made up anew the hole would flicker; at last from an exemplar-based completion, and that frame joins the
    completed ones.
    """

    others: Callable[[int], Sequence[Callable[[], View]]]
    plates: list[View] = field(default_factory=list)

    def complete(self, index: int, frame: Tensor, hole: Tensor, place: Placement) -> Tensor:
        """`frame` [1, 3, H, W] without what is under `hole` [1, 1, H, W], 0 or 1; elsewhere the same to the bit."""
        check_shape(frame=(frame, "1 3 H W"), hole=(hole, "1 1 H W"))
        picture, open_ = frame * (1 - hole), hole
        if not bool(hole.any()):
            return frame
        for view, unlike in self._views(index):
            picture, open_ = _filled(picture, open_, view, frame=frame, hole=hole, place=place, unlike=unlike)
            if float(open_.mean()) <= _LEFT:
                break
        made_up = float(open_.mean()) > _LEFT
        if made_up:
            picture = complete(picture, open_)
        elif bool(open_.any()):
            picture = spread(picture, 1 - open_)
        picture = torch.where(hole > 0.5, picture, frame).clamp(0.0, 1.0)
        if made_up and len(self.plates) < PLATES:
            self.plates.append(View(picture=picture, known=torch.ones_like(hole), place=place))
        return picture

    def _views(self, index: int) -> Iterator[tuple[View, float]]:
        """What may show the ground of frame `index`, the most trusted first, and how unlike the frame it may be."""
        yield from ((plate, _ALIKE) for plate in self.plates)
        yield from ((other(), _ALIKE) for other in self.others(index))
        yield from ((plate, 1.0) for plate in self.plates)


def _filled(
    picture: Tensor, open_: Tensor, view: View, *, frame: Tensor, hole: Tensor, place: Placement, unlike: float
) -> tuple[Tensor, Tensor]:
    """`picture` with what `view` shows in the `open_` part of the `hole`, and what is open after that.

    A view that differs from the `frame` around the hole by more than `unlike` shows another ground.
    """
    points = view.place.inverse().after(place).points(frame.shape[-2], frame.shape[-1])
    known = (lookup(view.known, points) > 0.999).to(frame)
    new = open_ * known
    if float(new.mean()) < _WORTH and float(new.sum()) < 0.5 * float(open_.sum()):
        return picture, open_
    shown = sample_at(view.picture, points)
    beside = known * (dilate(hole, _RING) - hole)
    if float(beside.sum()) > 0:
        miss = frame - shown
        # Light changes from frame to frame; the difference beside the hole says by how much.
        joined = shown + spread(box(miss * beside, 5) / box(beside, 5).clamp_min(1e-3), beside)
        if float((miss.abs().mean(dim=1, keepdim=True) * beside).sum() / beside.sum()) > unlike:
            return picture, open_
        shown = joined
    return torch.where(new > 0.5, shown, picture), open_ * (1 - new)
