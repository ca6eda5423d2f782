"""Which built-in looks are steady: flicker of each look, applied frame by frame, on several clips.

    python scripts/measure_steadiness.py CLIP [CLIP ...] [--looks NAME ...] [--frames 12] [--side 360]

*Flicker*: mean |R_i - warp(R_{i-1})| over the pixels whose optical flow (DIS, of the source) returns within one pixel, in levels.
*Contrast of the forms*: root mean square gradient of luma after a Gaussian of 4 pixels, so that strokes and paper do not count.
The number shown is the look's flicker over the source's, divided by the look's contrast over the source's. A function of colour
cannot flicker by itself; what it shows here is the spread of the measure. A look is steady if its worst number is at most
`LIMIT` on every clip. The script ends with status 1 where a look states another steadiness than it has.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from flowpaint import video
from flowpaint.parts.editors import LookEditor
from flowpaint.parts.editors.looks import LOOKS
from flowpaint.types import Edit

LIMIT = 1.35
BLUR = 4.0


class Motion:
    """The optical flow from each frame of a clip to the one before, and where it returns within one pixel."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        height, width = frames[0].shape[:2]
        self._y, self._x = np.mgrid[:height, :width].astype(np.float32)
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        greys = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in frames]
        self._steps = []
        for before, now in pairwise(greys):
            back, onward = dis.calc(now, before, None), dis.calc(before, now, None)
            miss = np.square(back + self._warp(onward, back)).sum(axis=-1)
            x, y = self._x + back[..., 0], self._y + back[..., 1]
            inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
            self._steps.append((back, (miss < 1) & inside))

    def _warp(self, picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
        return cv2.remap(
            picture, self._x + flow[..., 0], self._y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def flicker(self, frames: list[np.ndarray]) -> float:
        """Return the mean over all steps, in levels of 255."""
        pairs = zip(frames[:-1], frames[1:], self._steps, strict=True)
        return float(
            np.mean(
                [np.abs(now.astype(np.float32) - self._warp(one.astype(np.float32), f))[ok].mean() for one, now, (f, ok) in pairs]
            )
        )


def contrast(frames: list[np.ndarray]) -> float:
    """Return the root mean square gradient of blurred luma, over every fourth frame."""
    found = []
    for one in frames[::4]:
        light = cv2.GaussianBlur(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), BLUR)
        dx, dy = (cv2.Sobel(light, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        found.append(np.sqrt((dx * dx + dy * dy).mean()))
    return float(np.mean(found))


def excerpt(path: Path, count: int, side: int) -> list[np.ndarray]:
    """Return `count` neighbouring frames from the tenth on, at a short side of at most `side` pixels."""
    clip = video.read(path)
    start = min(10, max(0, len(clip) - count))
    scale = min(1.0, side / min(clip.height, clip.width))
    size = round(clip.width * scale), round(clip.height * scale)
    frames = range(start, min(start + count, len(clip)))
    return [cv2.resize(clip.raw(index), size, interpolation=cv2.INTER_AREA) for index in frames]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--looks", nargs="+", default=[one.name for one in LOOKS])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--side", type=int, default=360)
    chosen = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in chosen.looks}
    for path in chosen.clips:
        frames = excerpt(path, chosen.frames, chosen.side)
        motion, form = Motion(frames), contrast(frames)
        own = motion.flicker(frames)
        for name, numbers in found.items():
            editor = LookEditor(looks=((name, 1.0),))
            made = [editor.edit_raw(one, Edit(), torch.Generator().manual_seed(0)) for one in frames]
            numbers.append(motion.flicker(made) / own / (contrast(made) / form))
        print(f"{path.name}: the source's flicker is {own:.2f} levels", flush=True)
    stated = {one.name: one.steadiness for one in LOOKS}
    wrong = []
    print("\n| look | states | worst clip | median |\n|---|---|---|---|")
    for name, numbers in sorted(found.items(), key=lambda row: max(row[1])):
        print(f"| {name} | {stated[name]} | {max(numbers):.2f} | {np.median(numbers):.2f} |")
        if (max(numbers) <= LIMIT) != (stated[name] != "painted"):
            wrong.append(name)
    if wrong:
        raise SystemExit(f"stated otherwise than measured (limit {LIMIT}): {', '.join(wrong)}")


if __name__ == "__main__":
    main()
