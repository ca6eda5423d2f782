"""Does colour drift, window after window? A pan over a wide picture whose light rises and falls, its colours graded.

Many short windows are chained, each on the last frame of the one before. Shown for every calibration: how far the mean of each
channel is from the true one (levels of 255), the greatest over the last SECONDS, and the greatest jump of a frame where two
windows meet, in the result and in the truth.

    python scripts/bench_drift.py [--model NAME] [--windows 24] [--side 64] [--set field=value] [--plot FILE] [--sheet FILE.png]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import skimage.data
import torch
from torch import Tensor

from flowpaint import video
from flowpaint.api.choose import choose_method
from flowpaint.colour import apply_affine
from flowpaint.methods.flowvid import FlowVid
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip, Edit, to_raw
from flowpaint.warp import resize

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

RATE = 8  # key frames a second, FlowVid's
SECONDS = 5
GRADE = torch.tensor([[0.7, 0.2, 0.0, 0.08], [0.1, 0.6, 0.1, 0.05], [0.0, 0.25, 0.5, 0.2]])  # the edit


def panorama(side: int) -> Tensor:
    """Photographs of scikit-image beside each other, faded into one another: [3, side, W] in [0, 1]."""
    names = ("coffee", "chelsea", "astronaut")
    tiles = []
    for number, name in enumerate(names):
        picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1).float() / 255
        tile = resize(picture[None], side, round(picture.shape[-1] * side / picture.shape[-2]))[0]
        tiles.append(tile.flip(-1) if number % 2 else tile)
    fade = side // 4
    wide = tiles[0]
    for tile in tiles[1:]:
        share = torch.linspace(0, 1, fade)
        middle = torch.lerp(wide[..., -fade:], tile[..., :fade], share)
        wide = torch.cat((wide[..., :-fade], middle, tile[..., fade:]), dim=-1)
    return wide


def pan(frames: int, side: int) -> Clip:
    """A square window that moves over the panorama from end to end, while the light rises and falls by a quarter."""
    wide = panorama(side)
    room = wide.shape[-1] - side
    shown = []
    for number in range(frames):
        share = number / (frames - 1)
        left = round(share * room)
        light = 0.75 + 0.2 * np.sin(2 * np.pi * 1.5 * share)
        shown.append((wide[..., left : left + side] * float(light)).clamp(0, 1))
    return _deep(torch.stack(shown))


def _deep(frames: Tensor) -> Clip:
    """A clip of 16 bits, so that rounding moves no mean."""
    return Clip.from_array(np.stack([to_raw(frame, 16) for frame in frames]), Fraction(RATE))


def means(frames: Tensor) -> np.ndarray:
    """The mean of each channel of frames [T, 3, H, W], in levels of 255: [T, 3]."""
    return (255 * frames.mean(dim=(2, 3))).numpy()


def seam(frames: Tensor, starts: list[int]) -> float:
    """The greatest change of a channel's mean from a frame that ends a window to the next, in levels of 255."""
    found = means(frames)
    return float(max(np.abs(found[start + 1] - found[start]).max() for start in starts))


def plot(path: Path, truth: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """The error of the mean over all channels by time, for each calibration, as SVG."""
    width, height, left = 900, 300, 60
    errors = {name: (mean - truth).mean(axis=1) for name, mean in found.items()}
    most = max(5.0, max(np.abs(error).max() for error in errors.values()))
    colours = ("#777", "#c60", "#06c")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for level in (-most, -2, 0, 2, most):
        y = height / 2 - level / most * (height / 2 - 20)
        lines.append(f'<path d="M{left} {y:.1f}H{width - 10}" stroke="#ddd"/><text x="4" y="{y + 4:.1f}">{level:+.1f}</text>')
    for place, (name, error) in enumerate(errors.items()):
        points = " ".join(
            f"{left + (width - left - 10) * index / (len(error) - 1):.1f},{height / 2 - one / most * (height / 2 - 20):.1f}"
            for index, one in enumerate(error)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colours[place]}" stroke-width="1.5"/>')
        lines.append(f'<text x="{left + 10 + 160 * place}" y="14" fill="{colours[place]}">{name}</text>')
    path.write_text("\n".join([*lines, "</svg>"]) + "\n", "utf-8")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="mini-flowvid")
    options.add_argument("--windows", type=int, default=24)
    options.add_argument("--size", type=int, default=8, help="frames of a window")
    options.add_argument("--side", type=int, default=64)
    options.add_argument("--set", action="append", default=[], dest="settings")
    options.add_argument("--plot", type=Path)
    options.add_argument("--sheet", type=Path)
    given = options.parse_args()
    frames = given.windows * (given.size - 1) + 1
    source = pan(frames, given.side)
    truth = _deep(apply_affine(source.frames, GRADE).clamp(0, 1))
    true, starts = truth.frames, list(range(given.size - 1, frames - 1, given.size - 1))
    found, strips = {}, [true[:: max(1, frames // 12)]]
    print(f"{given.model}: {frames} key frames of {given.side} px in {given.windows} windows, {frames / RATE:.0f} s\n")
    print("| calibration | red | green | blue | greatest jump where windows meet | the truth's |\n|---|---|---|---|---|---|")
    for calibrate in ("none", "plain", "source-relative"):
        settings = [f"model.weights={given.model}", f"side={given.side}", "placing=even", "stride=1", f"window={given.size}"]
        method, _ = choose_method("flowvid", settings=[*settings, "repair=all", f"calibrate={calibrate}", *given.settings])
        assert isinstance(method, FlowVid)
        held = []
        method = replace(method, propagate=lambda clip, keys, *_, held=held: held.append(keys) or clip)
        method(source, Edit(keyframes={0: truth.frame(0)}), Run(store=MemoryStore()))
        made = torch.stack([held[0][index] for index in range(frames)])
        found[calibrate] = means(made)
        strips.append(made[:: max(1, frames // 12)])
        late = np.abs(found[calibrate] - means(true))[-SECONDS * RATE :].max(axis=0)
        jump, own = seam(made, starts), seam(true, starts)
        print(f"| {calibrate} | " + " | ".join(f"{one:.2f}" for one in late) + f" | {jump:.2f} | {own:.2f} |", flush=True)
    if given.plot:
        plot(given.plot, means(true), found)
    if given.sheet:
        video.write_picture(given.sheet, to_raw(torch.cat([torch.cat(list(strip), dim=-1) for strip in strips], dim=-2)))


if __name__ == "__main__":
    main()
