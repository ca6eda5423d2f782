"""`Colorize`: the lightness of the source, the colours of another video (as FRESCO colours, Yang et al., CVPR 2024)."""

from dataclasses import dataclass

import torch

from ..colour import to_lab, with_chroma
from ..errors import InputError
from ..seams import Run
from ..types import Clip, Edit, Raw, to_raw
from ..warp import resize


@dataclass(frozen=True, kw_only=True)
class Colorize:
    """Each frame with its own CIELAB L and the a and b of the same frame of `edit.colours`, which are resized to fit.

    L is kept to rounding: a colour that no screen shows loses chroma, not lightness. Of the edit the strength is read, too: it
    mixes the chroma of both.
    """

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The coloured clip, lazy. Raises `InputError` without a clip to take colours from, or with one of another length."""
        colours = edit.colours
        if colours is None:
            raise InputError("There is no video to take colours from. Name one: `flowpaint colorize in.mp4 --by out.mp4`.")
        if len(colours) != len(clip):
            raise InputError(f"{colours} cannot lend its colours to {clip}. Give one of the same length.")

        def read(index: int) -> Raw:
            if not edit.strength:
                return clip.raw(index)
            source = clip.frame(index)[None].to(run.device)
            lent = to_lab(colours.frame(index)[None].to(run.device))[:, 1:]
            chroma = torch.lerp(to_lab(source)[:, 1:], resize(lent, clip.height, clip.width), edit.strength)
            return to_raw(with_chroma(source, chroma)[0], clip.bits)

        return clip.with_frames(read)
