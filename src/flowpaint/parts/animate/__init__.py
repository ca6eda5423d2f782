"""Videos made of their first frame, by moving its pixels or by networks led by depth (`flowpaint.seams.ImageToVideo`)."""

from .flow_warp import FlowWarp
from .i2vgen import I2vgenAnimator
from .image import ImageAnimator
from .vace import VaceAnimator

__all__ = ["FlowWarp", "I2vgenAnimator", "ImageAnimator", "VaceAnimator"]
