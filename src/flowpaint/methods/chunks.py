"""An image-to-video part along a whole clip: chunk by chunk away from the edited frame, each begun by the last frame made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..carry import laid_over
from ..colour import calibrated, moments
from ..plan import in_windows
from ..seams import ImageToVideo, Run
from ..smoothing import box, dilate
from ..types import Aligned, Clip, Edit, from_raw, to_raw

_BESIDE, _SOFT = 0.01, 0.01  # of the short side around the new object that a network may paint, and over which that fades

Tell = Callable[[Tensor, Sequence[int]], Aligned]


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunks:
    """The frames of `clip`, of which frame `at` is `first` [3, H, W] in [0, 1], made by `generate` when they are asked for.

    `tell(first, frames)` says what is known of a chunk. With `match` the colours of each frame are led to those that the moved
    object has on its background; with `composite` the source's pixels, or those that completed them, stay away from the object.
    A part that chains has its finished frames kept in the run's store.
    """

    clip: Clip
    at: int
    first: Tensor
    generate: ImageToVideo
    tell: Tell
    edit: Edit
    run: Run
    match: bool
    composite: bool

    def picture(self, index: int) -> Tensor:
        """Frame `index`: [3, H, W] in [0, 1]."""
        if index == self.at:
            return self.first
        if self.generate.window == 1:
            return self._made(self.first, [index])[0]
        kept = self._kept(index)
        if kept is None:
            self._until(index)
            kept = self._kept(index)
            assert kept is not None, "it was stored just now"
        return kept

    def _name(self, index: int) -> str:
        return f"stablev2v {self.run.offset + index}"

    def _kept(self, index: int) -> Tensor | None:
        if index == self.at:
            return self.first
        found = self.run.store.get(self._name(index))
        return None if found is None else from_raw(found["picture"])

    def _until(self, index: int) -> None:
        """Make the chunks that lead to frame `index` and are not there yet."""
        way = range(self.at, len(self.clip)) if index > self.at else range(self.at, -1, -1)
        for number, frames in enumerate(chunks := in_windows(way, self.generate.window)):
            if all(self.run.store.get(self._name(one)) is not None for one in frames[1:]):
                continue
            begun = self._kept(frames[0])
            assert begun is not None, "the chunk before has kept its last frame"
            for one, picture in zip(frames[1:], self._made(begun, frames)[1:], strict=True):
                self.run.store.put(self._name(one), {"picture": to_raw(picture, self.clip.bits)})
            self.run.progress("chunks", number + 1, len(chunks))
            if index in frames:
                return

    @torch.no_grad()
    def _made(self, begun: Tensor, frames: Sequence[int]) -> Tensor:
        told = self.tell(begun.to(self.run.device), frames)
        made = self.generate(told, self.edit.at(frames[0]), self.run)
        if self.generate.window == 1:
            return made.cpu()
        if self.match:
            coarse = laid_over(told)
            made = torch.stack([calibrated(one, *moments(like)) for one, like in zip(made, coarse, strict=True)])
        if self.composite:
            side = min(self.clip.height, self.clip.width)
            near = dilate((told.mask > 0.5).to(made), max(1, round(_BESIDE * side)))
            fade = torch.maximum(told.mask, box(near, 2 * max(1, round(_SOFT * side / 2)) + 1))
            made = torch.lerp(told.background, made, fade)
        return made.clamp(0.0, 1.0).cpu()
