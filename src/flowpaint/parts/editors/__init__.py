"""Editors of single pictures: looks, a picture's style, a hand-made picture, image models, a filled hole; and words to looks."""

from .diffusion import DiffusionEditor
from .fill import FillEditor
from .look import LookEditor
from .looks import catalogue
from .picture import PictureEditor, StyleEditor
from .sheet import sheet
from .words import Choice, choose

__all__ = [
    "Choice",
    "DiffusionEditor",
    "FillEditor",
    "LookEditor",
    "PictureEditor",
    "StyleEditor",
    "catalogue",
    "choose",
    "sheet",
]
