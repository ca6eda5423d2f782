"""Where one shot ends and the next begins."""

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt
from scenedetect import AdaptiveDetector, FrameTimecode

from ..types import Clip, Raw
from .border import Warn, ignore

_WIDTH = 256  # pixels: a cut changes the whole picture, so a small one shows it, at a fraction of the time
_WINDOW = 2  # frames on either side that a jump must stand out from
_LEAST, _LEAST_ALONE = 15.0, 35.0  # change of a cut, in levels; the second in clips too short for a jump to stand out from others
_FLASH = 3  # frames: two jumps no further apart may be one flash
_THUMB = (32, 18)


def shots(clip: Clip, *, warn: Warn = ignore) -> list[range]:
    """The shots of a clip, in order: ranges of frame numbers that join to the whole.

    PySceneDetect's adaptive detector compares each frame's change (hue, saturation, brightness) with its neighbours', so
    fast motion is no cut. It counts frames, whatever their time stamps. A flash, after which the same picture goes on, is
    no cut; a stray frame of another shot at either end is a shot of its own, and is warned of. Clips of two and three frames
    have too few neighbours: there a change by 35 levels is a cut (measured: motion up to 34, cuts from 36 on).
    """
    cuts = _without_flashes(clip, _jumps(clip))
    found = [range(start, stop) for start, stop in zip([0, *cuts], [*cuts, len(clip)], strict=True)]
    for shot in found:
        if len(shot) == 1 and len(clip) > 1:
            warn(f"Frame {shot.start} belongs to no shot around it. It is treated as a shot of its own.")
    return found


def _jumps(clip: Clip) -> list[int]:
    """The frames that differ from the one before as from another shot."""
    least = _LEAST if len(clip) > _WINDOW + 1 else _LEAST_ALONE
    detector = AdaptiveDetector(min_scene_len=1, window_width=_WINDOW, min_content_val=least)
    last = len(clip) - 1
    jumps: list[int] = []
    small: npt.NDArray[np.uint8] | None = None
    for place in range(-_WINDOW, len(clip) + _WINDOW):  # both ends are held, so that the detector judges every frame
        if small is None or 0 < place <= last:
            small = _small(clip.raw(max(place, 0)))
        instant = FrameTimecode(place + _WINDOW, fps=Fraction(25))
        jumps += [one.frame_num - _WINDOW for one in detector.process_frame(instant, small)]
    return [jump for jump in jumps if 0 < jump <= last]


def _small(raw: Raw) -> npt.NDArray[np.uint8]:
    """A small 8-bit BGR picture, as the detector wants it."""
    height, width = raw.shape[:2]
    scale = min(1.0, _WIDTH / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(raw, size, interpolation=cv2.INTER_AREA)
    if small.dtype == np.uint16:
        small = cv2.convertScaleAbs(small, alpha=255 / 65535)
    return cv2.cvtColor(small, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)


def _without_flashes(clip: Clip, jumps: Sequence[int]) -> list[int]:
    """The jumps, less those pairs between which the picture is another but after which the old one goes on."""
    cuts: list[int] = []
    place = 0
    while place < len(jumps):
        start = jumps[place]
        back = next((jump for jump in reversed(jumps) if start < jump <= start + _FLASH), None)
        if back is not None and _is_flash(clip, start, back):
            place = jumps.index(back) + 1
        else:
            cuts.append(start)
            place += 1
    return cuts


def _is_flash(clip: Clip, start: int, back: int) -> bool:
    before, inside, after = (_thumb(clip.raw(index)) for index in (start - 1, start, back))
    return float(np.abs(after - before).mean()) < 0.25 * float(np.abs(inside - before).mean())


def _thumb(raw: Raw) -> npt.NDArray[np.float32]:
    return cv2.resize(_small(raw), _THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
