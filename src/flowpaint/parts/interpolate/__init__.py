"""Interpolators: the pictures between two, by measured motion or by a network."""

from .blend import FlowBlend
from .rife import Rife

__all__ = ["FlowBlend", "Rife"]
