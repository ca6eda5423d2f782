"""Editors of single pictures: looks, a style, a hand-made picture, image models, a filled hole; and words to looks."""

from .diffusion import DiffusionEditor
from .example import ExampleEditor
from .fill import FillEditor
from .inpaint import InpaintEditor
from .instruct import InstructEditor
from .klein import KleinEditor
from .lama import LamaEditor
from .look import LookEditor
from .looks import catalogue
from .picture import PictureEditor, StyleEditor
from .qwen import QwenEditor
from .sheet import sheet
from .words import Choice, choose

__all__ = [
    "Choice",
    "DiffusionEditor",
    "ExampleEditor",
    "FillEditor",
    "InpaintEditor",
    "InstructEditor",
    "KleinEditor",
    "LamaEditor",
    "LookEditor",
    "PictureEditor",
    "QwenEditor",
    "StyleEditor",
    "catalogue",
    "choose",
    "sheet",
]
