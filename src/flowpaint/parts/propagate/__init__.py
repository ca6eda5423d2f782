"""Propagators: edited key frames to every frame of a shot."""

from .analogy import Analogy
from .between import Interpolated
from .ebsynth import EbSynth
from .restyle import Restyle
from .simple import Freeze, WarpChain

__all__ = ["Analogy", "EbSynth", "Freeze", "Interpolated", "Restyle", "WarpChain"]
