"""Masks of a clip's object: by how it moves and stands out, from a file, or by SAM 2."""

from .file import MaskSegmenter
from .motion import MotionSegmenter
from .sam2 import Sam2Segmenter

__all__ = ["MaskSegmenter", "MotionSegmenter", "Sam2Segmenter"]
