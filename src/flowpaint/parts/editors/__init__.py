"""Editors of single pictures: built-in looks, a picture's style, a hand-made picture, an image model; and words to looks."""

from .diffusion import DiffusionEditor
from .look import LookEditor
from .looks import catalogue
from .picture import PictureEditor, StyleEditor
from .sheet import sheet
from .words import Choice, choose

__all__ = ["Choice", "DiffusionEditor", "LookEditor", "PictureEditor", "StyleEditor", "catalogue", "choose", "sheet"]
