"""Videos made of their first frame, led by what was measured and moved (`flowpaint.seams.ImageToVideo`)."""

from .i2vgen import I2vgenAnimator
from .image import ImageAnimator
from .vace import VaceAnimator

__all__ = ["I2vgenAnimator", "ImageAnimator", "VaceAnimator"]
