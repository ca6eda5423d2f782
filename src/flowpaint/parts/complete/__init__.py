"""Depth completers: what lies behind an object that leaves, by a membrane or by a network."""

from .harmonic import Harmonic
from .refiner import Refined

__all__ = ["Harmonic", "Refined"]
