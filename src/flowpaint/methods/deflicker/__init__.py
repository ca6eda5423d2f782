"""Deflicker: light and tones that swing are evened out, then what is left is averaged along the motion, its detail put back."""

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from ...errors import ConfigError
from ...seams import FlowEstimator, Run, default
from ...types import Clip, Edit, Raw, from_raw, to_raw
from .light import Light
from .motion import Motion
from .texture import steady_texture
from .tone import steady_tone


@dataclass(frozen=True, kw_only=True)
class Deflicker:
    """The same video without what jumps to and fro from frame to frame; what changes steadily, or once, stays.

    Three stages, each a window around the frame, so that any frame can be asked for first and gives the same pixels: `light`
    evens out light that flickers in a part of the picture (from one side, a lamp, rolling bands), `tone` takes out
    brightness, contrast and colour that breathe, as a pointwise map that costs no detail, and `texture` averages what is left
    along the motion. Each does as much as the flicker it measures calls for, which is nothing in a clean video. A jump counts
    as flicker when the frames before and after agree against it: cuts, fades, moving shadows and a lamp switched on do not.
    """

    flow: FlowEstimator = default("flow", "dis")
    light: int = 12  # frames looked at on either side for light in parts of the picture; 0 leaves the stage out
    tone: int = 4  # frames looked at on either side for tone; 0 leaves the stage out
    texture: int = 3  # frames looked at on either side for texture; 0 leaves the stage out
    strength: float = 1.0  # 0 = the source, 1 = all flicker found is taken out

    def __post_init__(self) -> None:
        if min(self.light, self.tone, self.texture) < 0:
            raise ConfigError(
                f"A window of light={self.light}, tone={self.tone}, texture={self.texture} frames cannot be. Give 0 or more."
            )
        if not 0.0 <= self.strength <= 1.0:
            raise ConfigError(f"The strength {self.strength} is outside 0..1. Give 0 for the source, 1 for all flicker.")

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """Return the steady clip, lazy: frame i is made of the source frames around it, and of nothing else.

        None is farther away than light + tone + texture + 1. Of `edit` only the strength is read; it multiplies this one's own.
        """
        strength = self.strength * edit.strength
        reach = self.light + self.tone + self.texture + 1
        # Read in order, each frame is decoded once, each pair of neighbours measured once, each tone found once.
        raw = lru_cache(maxsize=reach + 2)(clip.raw)

        def source(index: int) -> Tensor:
            return from_raw(raw(index)).to(run.device)[None]

        motion = Motion(source, len(clip), self.flow, reach=reach)
        light = Light(motion, self.light)

        @lru_cache(maxsize=2 * self.texture + 3)
        def toned(index: int) -> Tensor:
            return steady_tone(light.steady(source(index), index), light.small, motion, index, self.tone)

        def read(index: int) -> Raw:
            if not strength:
                return clip.raw(index)
            steady = steady_texture(toned, motion, index, self.texture)
            return to_raw(source(index).lerp(steady, strength)[0], clip.bits)

        return clip.with_frames(read)
