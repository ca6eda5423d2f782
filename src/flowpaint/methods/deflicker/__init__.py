"""Deflicker: flow-aligned temporal filtering with the detail put back."""

from dataclasses import dataclass
from functools import lru_cache

from ...errors import ConfigError
from ...seams import FlowEstimator, Run, default
from ...types import Clip, Edit, Raw, to_raw
from .motion import Motion
from .texture import steady_texture
from .tone import steady_tone


@dataclass(frozen=True, kw_only=True)
class Deflicker:
    """The same video without what jumps to and fro from frame to frame; what changes steadily, or once, stays.

    Two stages, each a window around the frame, so that any frame can be asked for first and gives the same pixels:
    `tone` takes out brightness, contrast and colour that breathe, as a pointwise map that costs no detail; `texture` then
    averages what is left along the motion. Both do as much as the flicker they measure calls for, which is nothing in a
    clean video. A jump counts as flicker when the frames before and after agree against it: cuts, fades, moving shadows and
    a lamp switched on do not.
    """

    flow: FlowEstimator = default("flow", "dis")
    tone: int = 4  # frames looked at on either side for tone; 0 leaves the stage out
    texture: int = 3  # frames looked at on either side for texture; 0 leaves the stage out
    strength: float = 1.0  # 0 = the source, 1 = all flicker found is taken out

    def __post_init__(self) -> None:
        if self.tone < 0 or self.texture < 0:
            raise ConfigError(f"A window of tone={self.tone}, texture={self.texture} frames cannot be. Give 0 or more.")
        if not 0.0 <= self.strength <= 1.0:
            raise ConfigError(f"The strength {self.strength} is outside 0..1. Give 0 for the source, 1 for all flicker.")

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The steady clip, lazy: frame i is made of the source frames at most tone + texture + 1 away, and of nothing else.

        Of `edit` only the strength is read; it multiplies this one's own.
        """
        strength = self.strength * edit.strength
        reach = self.tone + self.texture + 1
        # Read in order, each frame is decoded once, each pair of neighbours measured once, each tone found once.
        source = lru_cache(maxsize=2 * reach + 1)(lambda index: clip.frame(index).to(run.device)[None])
        motion = Motion(source, len(clip), self.flow, reach=reach)
        toned = lru_cache(maxsize=2 * self.texture + 3)(lambda index: steady_tone(source(index), motion, index, self.tone))

        def read(index: int) -> Raw:
            if not strength:
                return clip.raw(index)
            steady = steady_texture(toned, motion, index, self.texture)
            return to_raw(source(index).lerp(steady, strength)[0], clip.bits)

        return clip.with_frames(read)
