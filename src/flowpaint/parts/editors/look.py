"""`LookEditor`: a built-in look, or a blend of them."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...carry import finished, to_size_of, within
from ...errors import ConfigError
from ...types import Edit, check_shape
from .entry import Drawing, Style
from .grades import Grade, graded
from .looks import find
from .nets import painted_in


@dataclass(frozen=True, kw_only=True)
class LookEditor:
    """Gives a picture one of the built-in looks, or several by weight: `flowpaint.parts.editors.catalogue()` lists them.

    Styles of the network blend as styles, everything else as pictures. Raises `ConfigError` for a look it does not know and for
    weights that are no shares.
    """

    quick: ClassVar[bool] = True
    looks: tuple[tuple[str, float], ...] = (("van gogh", 1.0),)
    short_side: int = 768  # the network sees larger pictures at this size; drawings and grades work at full size

    def __post_init__(self) -> None:
        for name, _ in self.looks:
            find(name)
        if not self.looks or not all(math.isfinite(weight) and weight > 0 for _, weight in self.looks):
            raise ConfigError(f"The looks {self.looks} have no usable weights. Give at least one look, every weight above 0.")
        if self.short_side < 64:
            raise ConfigError(f"The network cannot work at a short side of {self.short_side}. Give 64 or more.")

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] of `image` [3, H, W] in this look; `generator` keys the grain of its paper."""
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        total = sum(weight for _, weight in self.looks)
        shares: dict[int, float] = {}
        mixed = torch.zeros_like(image)
        for name, weight in self.looks:
            recipe = find(name).recipe
            if isinstance(recipe, Style):
                shares[recipe.index] = shares.get(recipe.index, 0.0) + weight / total
            else:
                mixed += weight / total * _made(image, recipe, generator)
        if shares:
            mixed += sum(shares.values()) * self._in_styles(image, shares)
        return finished(mixed, image, edit)

    def _in_styles(self, image: Tensor, shares: dict[int, float]) -> Tensor:
        whole = sum(shares.values())
        small = within(image, self.short_side)
        return to_size_of(image, small, painted_in(small, {index: share / whole for index, share in shares.items()}))


def _made(image: Tensor, recipe: Grade | Drawing, generator: torch.Generator) -> Tensor:
    if isinstance(recipe, Grade):
        return graded(image, recipe)
    drawn = recipe(image.permute(1, 2, 0).contiguous().cpu().float().numpy(), generator)
    return torch.from_numpy(drawn).permute(2, 0, 1).clamp(0.0, 1.0).to(image.device)
