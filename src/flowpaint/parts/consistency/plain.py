"""No consistency at all: what the others are compared with."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ...diffusion.hooked import Hooks
from ...diffusion.model import LatentDiffusion
from ...types import Cues


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Frames are denoised beside each other and know nothing of each other."""

    def __call__(self, model: LatentDiffusion, cues: Callable[[tuple[int, ...]], Cues], text: Tensor) -> Hooks:
        """Hooks that do nothing."""
        del model, cues, text
        return Hooks()
