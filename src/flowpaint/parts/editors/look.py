"""`LookEditor`: a built-in look, or a blend of them."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, cast, get_args

import numpy as np
import torch
from torch import Tensor

from ...carry import finished, to_size_of, within
from ...errors import ConfigError
from ...types import Edit, Raw, Steadiness, check_shape, from_raw, to_raw
from .colour_table import Bytes, ColourTable
from .entry import Drawing, Style
from .grade_raw import raw_grade
from .grades import Grade, graded
from .looks import find
from .nets import painted_in


@dataclass(frozen=True, kw_only=True)
class LookEditor:
    """Gives a picture one of the built-in looks, or several by weight: `flowpaint.parts.editors.catalogue()` lists them.

    Styles of the network blend as styles, everything else as pictures. Raises `ConfigError` for a look it does not know and for
    weights that are no shares.
    """

    repeats_after: ClassVar[int] = 4  # frames: a look is quick

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

    @property
    def steadiness(self) -> Steadiness:
        """Whether all looks are functions of colour and place, or at least steady filters: the weakest of them counts."""
        return max((find(name).steadiness for name, _ in self.looks), key=get_args(Steadiness).index)

    def edit_raw(self, picture: Raw, edit: Edit, generator: torch.Generator) -> Raw:
        """Return the picture [H, W, 3] of `picture` [H, W, 3] in this look, as `seams.RawEditor` says.

        A function of colour alone is exactly what calling the editor gives, rounded (8 bits); grades that depend on the place
        differ by up to one level.
        """
        if edit.strength == 0:
            return picture
        recipes = [find(name).recipe for name, _ in self.looks]
        grades = [one for one in recipes if isinstance(one, Grade)]
        if len(grades) < len(recipes) or (edit.keep_colors and not _of_colour(grades)):
            return to_raw(self(from_raw(picture), edit, generator), 8 if picture.dtype == np.uint8 else 16)
        if picture.dtype == np.uint8 and _of_colour(grades):
            return colour_table(self, edit.strength, edit.keep_colors)(cast(Bytes, picture))
        return self._graded(picture, grades, edit.strength)

    def _graded(self, picture: Raw, grades: list[Grade], strength: float) -> Raw:
        made = [raw_grade(one, picture.dtype == np.uint16, *picture.shape[:2])(picture) for one in grades]
        if len(made) == 1 and strength == 1:
            return made[0]
        weights = [strength * weight / sum(weight for _, weight in self.looks) for _, weight in self.looks]
        mixed = np.float32(1 - strength) * picture
        for one, weight in zip(made, weights, strict=True):
            mixed += np.float32(weight) * one
        return cast(Raw, np.rint(mixed).astype(picture.dtype))

    def _in_styles(self, image: Tensor, shares: dict[int, float]) -> Tensor:
        whole = sum(shares.values())
        small = within(image, self.short_side)
        return to_size_of(image, small, painted_in(small, {index: share / whole for index, share in shares.items()}))


def _of_colour(grades: list[Grade]) -> bool:
    """Whether pictures under `grades` are functions of colour alone."""
    return not any(one.vignette or one.glow for one in grades)


@lru_cache(maxsize=1)  # of 64 MiB
def colour_table(editor: LookEditor, strength: float, keep_colors: bool) -> ColourTable:
    """Return the table of a look that is a function of colour alone."""
    edit = Edit(strength=strength, keep_colors=keep_colors)
    return ColourTable(lambda colours: editor(colours, edit, torch.Generator()))


def _made(image: Tensor, recipe: Grade | Drawing, generator: torch.Generator) -> Tensor:
    if isinstance(recipe, Grade):
        return graded(image, recipe)
    drawn = recipe(image.permute(1, 2, 0).contiguous().cpu().float().numpy(), generator)
    return torch.from_numpy(drawn).permute(2, 0, 1).clamp(0.0, 1.0).to(image.device)
