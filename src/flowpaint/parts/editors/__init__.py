"""Editors of single pictures: the built-in looks, any picture as a style, a hand-made picture; and words to looks."""

from .look import LookEditor
from .looks import catalogue
from .picture import PictureEditor, StyleEditor
from .sheet import sheet
from .words import Choice, choose

__all__ = ["Choice", "LookEditor", "PictureEditor", "StyleEditor", "catalogue", "choose", "sheet"]
