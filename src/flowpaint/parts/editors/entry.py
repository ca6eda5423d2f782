"""What a look is: its names, the words that mean it, and the machine that makes it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .brushes import Picture
from .grades import Grade

Drawing = Callable[[Picture, torch.Generator], Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One of the styles of the 26-style network."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A look: `phrases` are further words that mean it; `recipe` says which machine makes it."""

    name: str
    aliases: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    shows: str
    recipe: Style | Grade | Drawing


def _words(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def entry(name: str, recipe: Style | Grade | Drawing, shows: str, aliases: str = "", phrases: str = "") -> Look:
    """A row of the table; aliases and phrases are given as one line, with commas."""
    return Look(name=name, aliases=_words(aliases), phrases=_words(phrases), shows=shows, recipe=recipe)
