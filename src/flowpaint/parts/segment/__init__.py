"""Masks of a clip's object: by how it moves, from a file, carried from one frame, from a box or a click, or by SAM 2."""

from .carried import CarriedSegmenter
from .file import MaskSegmenter
from .grabcut import GrabCutSegmenter
from .motion import MotionSegmenter
from .sam2 import Sam2Segmenter

__all__ = ["CarriedSegmenter", "GrabCutSegmenter", "MaskSegmenter", "MotionSegmenter", "Sam2Segmenter"]
