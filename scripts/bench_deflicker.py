"""The deflicker benchmark: known flicker is added to real clips, so the steady video is known.

Flicker of four kinds: `gain` (each frame times 0.92..1.08), `gamma` (each frame to the power 0.85..1.15), `texture`
(band-passed noise fixed to its frame, standard deviation 0.04 unless --texture says otherwise) and `none`.

flicker    energy of each frame minus the one before carried along by the clean clip's flow, less the clean clip's own: how
           much of it goes. In brackets the same for the error (result minus clean clip) alone, which can not gain from
           smoothing the clip itself.
sharpness  mean gradient magnitude, in % of the clean clip's, input -> result. Added texture counts as sharpness here, so
detail     gives the share of the clean clip's own fine detail in the result: its finest band regressed on the clean one's.
change     mean |result - input|, in 1/255: what a clean clip suffers.

    python scripts/bench_deflicker.py --clips CLIPS
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from flowpaint import video
from flowpaint.methods.deflicker import Deflicker
from flowpaint.parts.flow import DisFlow
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit
from flowpaint.warp import resize, warp

torch.set_num_threads(2)

CLIPS = ("dog_corgi", "woman_running", "talkinghead")
KINDS = ("gain", "gamma", "texture", "none")
HEADER = "| clip | flicker | energy | PSNR | sharpness % | detail % | change | s/frame |\n|---|---|---|---|---|---|---|---|"


def load(path: Path, frames: int, side: int) -> Clip:
    """The first `frames` of the video, short side at most `side`, 8 bit."""
    clip = video.read(path)
    clip = clip[: min(frames, len(clip))]
    scale = min(1.0, side / min(clip.height, clip.width))
    pictures = [resize(frame[None], round(clip.height * scale), round(clip.width * scale)) for frame in clip]
    return Clip.from_array(torch.cat(pictures), clip.rate)


def blur(image: Tensor, sigma: float) -> Tensor:
    reach = round(3 * sigma)
    weights = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    kernel = (weights / weights.sum()).expand(3, 1, 1, -1)
    across = F.conv2d(F.pad(image, (reach, reach, 0, 0), mode="reflect"), kernel, groups=3)
    return F.conv2d(F.pad(across, (0, 0, reach, reach), mode="reflect"), kernel.transpose(2, 3), groups=3)


def flickering(clean: Tensor, kind: str, texture: float) -> Tensor:
    """`clean` [T, 3, H, W] with flicker added, the same at each call."""
    generator = torch.Generator().manual_seed(7)
    each = torch.rand(len(clean), 1, 1, 1, generator=generator)
    if kind == "gain":
        return clean * (0.92 + 0.16 * each)
    if kind == "gamma":
        return clean ** (0.85 + 0.3 * each)
    if kind == "texture":
        noise = torch.randn(clean.shape, generator=generator)
        band = blur(noise, 1.0) - blur(noise, 4.0)
        return clean + band * (texture / band.std())
    return clean


class Judge:
    """Measures results against one clean clip [T, 3, H, W]."""

    def __init__(self, clean: Tensor) -> None:
        self.clean = clean
        self.flow = DisFlow()(clean[1:], clean[:-1])
        self.own_energy = self._energy(clean)

    def _energy(self, frames: Tensor) -> float:
        jump = frames[1:] - warp(frames[:-1], self.flow.vectors)
        return float((jump.square() * self.flow.visibility).mean())

    def left(self, before: Tensor, after: Tensor) -> tuple[float, float]:
        """Change of flicker energy, in %: as the video shows it, and of the error alone."""
        shown = (self._energy(after) - self.own_energy) / (self._energy(before) - self.own_energy)
        error = self._energy(after - self.clean) / self._energy(before - self.clean)
        return 100 * (shown - 1), 100 * (error - 1)

    def psnr(self, frames: Tensor) -> float:
        return float(-10 * (frames - self.clean).square().mean().log10())

    def sharpness(self, frames: Tensor) -> float:
        return 100 * float(_gradient(frames) / _gradient(self.clean))

    def detail(self, frames: Tensor) -> float:
        truth = self.clean - blur(self.clean, 1.0)
        return 100 * float(((frames - blur(frames, 1.0)) * truth).sum() / truth.square().sum())


def _gradient(frames: Tensor) -> Tensor:
    across, down = frames[..., :-1, 1:] - frames[..., :-1, :-1], frames[..., 1:, :-1] - frames[..., :-1, :-1]
    return torch.hypot(across, down).mean()


def row(name: str, kind: str, judge: Judge, dirty: Clip) -> str:
    steady = Deflicker()(dirty, Edit(), Run())
    began = time.perf_counter()
    after = steady.frames
    seconds = (time.perf_counter() - began) / len(after)
    before = dirty.frames
    change = 255 * (after - before).abs().mean()
    if kind == "none":
        energy, psnr = "", f"{judge.psnr(after):.1f}"
    else:
        energy = "{:+.0f} % ({:+.0f} %)".format(*judge.left(before, after))
        low, high = judge.psnr(before), judge.psnr(after)
        psnr = f"{low:.1f} -> {high:.1f} ({high - low:+.1f})"
    sharp, detail = (f"{measure(before):.0f} -> {measure(after):.1f}" for measure in (judge.sharpness, judge.detail))
    return f"| {name} | {kind} | {energy} | {psnr} | {sharp} | {detail} | {change:.2f} | {seconds:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder of videos")
    parser.add_argument("--names", nargs="+", default=CLIPS, help="how the names of the clips begin")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--side", type=int, default=256, help="short side at most")
    parser.add_argument("--texture", type=float, default=0.04, help="standard deviation of the texture added")
    chosen = parser.parse_args()
    print(HEADER)
    for name in chosen.names:
        path = next(iter(sorted(chosen.clips.glob(f"{name}*"))), None)
        if path is None:
            parser.error(f"No file of {chosen.clips} begins with {name!r}. Name others with --names.")
        clean = load(path, chosen.frames, chosen.side)
        judge = Judge(clean.frames)
        for kind in chosen.kinds:
            dirty = Clip.from_array(flickering(judge.clean, kind, chosen.texture), clean.rate)
            print(row(name, kind, judge, dirty), flush=True)


if __name__ == "__main__":
    main()
