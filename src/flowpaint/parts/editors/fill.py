"""`FillEditor`: takes an object out of a picture and fills its place with what the rest of the picture shows."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import ConfigError, InputError
from ...inpainting import complete
from ...smoothing import dilate
from ...types import Edit, Task, check_shape
from ...warp import resize
from .asked import check_task


@dataclass(frozen=True, kw_only=True)
class FillEditor:
    """Removal without a network: the mask of the edit, grown by a square of side `grow` pixels, is completed from patches.

    `flowpaint.inpainting.complete` does the work. Textures and plain grounds are continued; it knows no things, so that what was
    half hidden is not finished. The other half of a removal, the object in the frames after, is the method's. StableV2V grows
    masks by 15 x 15 pixels for removal; 1 leaves the mask as it is.
    """

    grow: int = 15
    tasks: ClassVar[frozenset[Task]] = frozenset({"removal"})

    def __post_init__(self) -> None:
        if self.grow < 1 or self.grow % 2 == 0:
            raise ConfigError(f"A mask cannot be grown by a square of side {self.grow}. Give an odd number, 1 or more.")

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] of `image` [3, H, W] without what is under the first channel of the first frame of
        `edit.mask`; elsewhere the same to the bit. The seed of `generator` decides which patches are tried. `Edit.keep_colors`
        says nothing here: the colours to keep would be those of what is removed.

        Raises `InputError` without a mask, or where it is empty, or leaves nothing known.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        check_task(edit, self.tasks, "fill")
        if edit.mask is None:
            raise InputError("Nothing says what to remove. Give a mask of the object.")
        mask = resize(edit.mask.frame(0)[None, :1].to(image.device), *image.shape[-2:])
        if not (mask > 0.5).any():
            raise InputError(
                "The mask of the first frame is empty, and nothing is removed. Give one that is white on the object."
            )
        hole = dilate((mask > 0.5).float(), self.grow // 2)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        made = complete(image[None], hole, seed=seed)[0]
        return torch.where(hole[0] > 0.5, torch.lerp(image, made, edit.strength), image)
