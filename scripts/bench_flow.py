"""Optical flow by the distance of frames: DIS, RAFT and the part that chooses, on scenes with exact flow and on real clips.

Scenes (288x384, half of the textures photographs, no noise and no blur) are rendered at 0 and at each stride: mean length of
the true flow and mean error of the estimated one, in pixels, where the truth says that a point is seen in both; in brackets the
mean absolute difference of a and b laid onto it, in levels of 255; share of pixels that there and back call seen. `far` is the
share of pairs that `by-distance` gave to RAFT. Clips (short side at most 432): frames so many apart, the same difference where
DIS and RAFT both call a pixel seen, in brackets everywhere.

    python scripts/bench_flow.py --weights raft_small.pth --clips CLIPS
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from skimage import data
from torch import Tensor

from flowpaint import video
from flowpaint.parts.flow import ByDistance, DisFlow, RaftFlow
from flowpaint.scenes import correspond, render, sample_scene
from flowpaint.scenes.light import Light
from flowpaint.types import Flow
from flowpaint.warp import length, resize, warp
from flowpaint.weights import Policy, keeping

STRIDES = (1, 2, 4, 8, 16)
SIZE = (288, 384)
SIDE = 432
PHOTOS = (data.astronaut, data.coffee, data.chelsea, data.rocket)
CLIPS = ("dog_corgi", "woman_running", "breakdance", "bikes_cuts", "bigbuckbunny", "juggle")


def scene_pairs(num_scenes: int) -> Iterator[tuple[int, Tensor, Tensor, Flow]]:
    """Stride, two pictures and the truth between them."""
    photos = [photo() for photo in PHOTOS]
    for difficulty in (0.3, 0.6, 1.0):
        for seed in range(num_scenes):
            scene = replace(sample_scene(100 + seed, difficulty, photos), light=Light())
            first = render(scene, 0, SIZE).rgb[None].float()
            for stride in STRIDES:
                yield stride, first, render(scene, stride, SIZE).rgb[None].float(), correspond(scene, 0, stride, SIZE)


def clip_pairs(folder: Path) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Stride and two frames of a clip, three times each."""
    for name in CLIPS:
        clip = video.read(next(folder.glob(f"{name}*.mp4")))
        scale = min(1.0, SIDE / min(clip.height, clip.width))
        for stride in STRIDES:
            last = min(len(clip), 33) - stride
            for first in range(0, last, max(1, last // 3))[:3]:
                a, b = (clip.frame(index)[None] for index in (first, first + stride))
                size = round(clip.height * scale), round(clip.width * scale)
                yield stride, resize(a, *size), resize(b, *size)


def average(values: Tensor, where: Tensor) -> float:
    return ((values * where).sum() / where.sum().clamp(min=1)).item()


def left_over(a: Tensor, b: Tensor, flow: Flow) -> Tensor:
    """What laying b onto a leaves, in levels of 255: [1, 1, H, W]."""
    return 255 * (warp(b, flow.vectors) - a).abs().mean(dim=1, keepdim=True)


def on_scenes(choose: ByDistance, num_scenes: int) -> None:
    """Print one row a stride."""
    rows: dict[int, list[tuple[float, ...]]] = {stride: [] for stride in STRIDES}
    spent = {choose.near: 0.0, choose.far: 0.0}
    for stride, a, b, truth in scene_pairs(num_scenes):
        flows = []
        for estimator in spent:
            start = time.perf_counter()
            flows.append(estimator(a, b))
            spent[estimator] += time.perf_counter() - start
        seen = truth.visibility
        errors = [average(length(flow.vectors - truth.vectors), seen) for flow in flows]
        differences = [left_over(a, b, flow).mean().item() for flow in flows]
        shares = [flow.visibility.mean().item() for flow in flows]
        far = shares[0] < choose.least
        motion = average(length(truth.vectors), seen)
        rows[stride].append(
            (*errors, errors[far], *differences, differences[far], motion, seen.mean().item(), *shares, float(far))
        )
    show(rows, "| stride | motion, px | dis | raft | by-distance | seen | seen by dis | by raft | far |")
    num = sum(map(len, rows.values()))
    told = ", ".join(f"{seems} {seconds / num:.2f}" for seems, seconds in zip(("dis", "raft"), spent.values(), strict=True))
    print(f"seconds a pair, both ways, {SIZE[1]}x{SIZE[0]}: {told}")


def on_clips(choose: ByDistance, folder: Path) -> None:
    """Print one row a stride, over all clips."""
    rows: dict[int, list[tuple[float, ...]]] = {stride: [] for stride in STRIDES}
    for stride, a, b in clip_pairs(folder):
        flows = [choose.near(a, b), choose.far(a, b)]
        left = [left_over(a, b, flow) for flow in flows]
        inner = [average(one, flows[0].visibility * flows[1].visibility) for one in left]
        whole = [one.mean().item() for one in left]
        shares = [flow.visibility.mean().item() for flow in flows]
        far = shares[0] < choose.least
        rows[stride].append((*inner, inner[far], *whole, whole[far], *shares, float(far)))
    show(rows, "| stride | dis | raft | by-distance | seen by dis | by raft | far |")


def show(rows: dict[int, list[tuple[float, ...]]], header: str) -> None:
    """Print means: three numbers with three in brackets, perhaps a length, then shares."""
    print(header + "\n" + "|---" * (header.count("|") - 1) + "|")
    for stride, found in rows.items():
        means = [sum(column) / len(column) for column in zip(*found, strict=True)]
        told = [f"{one:.2f} ({other:.2f})" for one, other in zip(means[:3], means[3:6], strict=True)]
        rest = means[6:]
        if "motion" in header:
            told.insert(0, f"{rest.pop(0):.1f}")
        print(f"| {stride} | " + " | ".join([*told, *(f"{100 * share:.0f} %" for share in rest)]) + " |")


def main() -> None:
    """Print the table of the scenes and, with clips, theirs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="raft-small", help="a file of RAFT's weights, or a name")
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument("--scenes", type=int, default=6, help="scenes of each of three difficulties")
    options = parser.parse_args()
    choose = ByDistance(near=DisFlow(), far=RaftFlow(weights=options.weights))
    with keeping(Policy(allow_pickle=True)):
        on_scenes(choose, options.scenes)
        if options.clips:
            on_clips(choose, options.clips)


if __name__ == "__main__":
    main()
