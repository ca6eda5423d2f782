"""What a look is: its names, the words that mean it, and the machine that makes it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...types import Steadiness
from .brushes import Picture
from .grades import Grade

Drawing = Callable[[Picture, torch.Generator], Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One of the styles of the 26-style network."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A look: `phrases` are further words that mean it; `recipe` says which machine makes it.

    `measured_steady`: `scripts/measure_steadiness.py` found that it flickers no more than a function of colour.
    """

    name: str
    aliases: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    shows: str
    recipe: Style | Grade | Drawing
    measured_steady: bool = False

    @property
    def steadiness(self) -> Steadiness:
        """Whether the look is a function of colour and place, a steady filter, or painted (`seams.StatesSteadiness`)."""
        if isinstance(self.recipe, Grade) and self.recipe.is_pixelwise:
            return "pixelwise"
        return "steady" if self.measured_steady else "painted"


def _words(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def entry(
    name: str,
    recipe: Style | Grade | Drawing,
    shows: str,
    aliases: str = "",
    phrases: str = "",
    *,
    measured_steady: bool = False,
) -> Look:
    """A row of the table; aliases and phrases are given as one line, with commas."""
    return Look(
        name=name,
        aliases=_words(aliases),
        phrases=_words(phrases),
        shows=shows,
        recipe=recipe,
        measured_steady=measured_steady,
    )
