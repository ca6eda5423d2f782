"""Optical flow by the distance of frames: DIS, RAFT and the part that chooses, on scenes with exact flow and on real clips.

Scenes (288x384, no noise and no blur) are rendered at 0 and at each stride: mean length of the true flow and mean error of the
estimated one, in pixels, where the truth says that a point is seen in both; share that there and back call seen. `far` is the
share of pairs that `by-distance` gave to RAFT. Clips: frames so many apart, b laid onto a along the flow, mean absolute
difference to a in levels of 255, where DIS and RAFT both call a pixel seen, and in brackets everywhere.

    python scripts/bench_flow.py --weights raft_small.pth --clips CLIPS

`--pairs` prints every pair of the scenes as comma-separated values instead, from which `least` of `by-distance` was chosen.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from flowpaint import video
from flowpaint.parts.flow import ByDistance, DisFlow, RaftFlow
from flowpaint.scenes import correspond, render, sample_scene
from flowpaint.scenes.light import Light
from flowpaint.seams import FlowEstimator
from flowpaint.types import Flow
from flowpaint.warp import length, warp
from flowpaint.weights import Policy, keeping

STRIDES = (1, 2, 4, 8, 16)
SIZE = (288, 384)
CLIPS = ("dog_corgi", "woman_running", "breakdance", "bikes_cuts", "bigbuckbunny", "juggle")


def scene_pairs(num_scenes: int, difficulty: float) -> Iterator[tuple[int, int, Tensor, Tensor, Flow]]:
    """Scene, stride, two pictures and the truth between them."""
    for seed in range(num_scenes):
        scene = replace(sample_scene(seed, difficulty), light=Light())
        first = render(scene, 0, SIZE).picture[None]
        for stride in STRIDES:
            yield seed, stride, first, render(scene, stride, SIZE).picture[None], correspond(scene, 0, stride, SIZE)


def clip_pairs(folder: Path) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Clip, stride and two of its frames, three times each."""
    for name in CLIPS:
        clip = video.read(next(folder.glob(f"{name}*.mp4")))
        for stride in STRIDES:
            for first in range(0, min(len(clip), 33) - stride, max(1, (min(len(clip), 33) - stride) // 3))[:3]:
                yield name, stride, clip.frame(first)[None], clip.frame(first + stride)[None]


def error(flow: Flow, truth: Flow) -> float:
    """Mean length of the difference where the truth is seen, in pixels."""
    away = length(flow.vectors - truth.vectors)
    return ((away * truth.visibility).sum() / truth.visibility.sum()).item()


def mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def on_scenes(near: FlowEstimator, far: FlowEstimator, choose: ByDistance, num_scenes: int, *, pairs: bool) -> None:
    """Print one row a stride, or with `pairs` one a pair."""
    rows: dict[int, list[tuple[float, ...]]] = {stride: [] for stride in STRIDES}
    spent = [0.0, 0.0]
    if pairs:
        print("difficulty,scene,stride,motion,seen,dis,raft,dis seen,raft seen")
    for difficulty in (0.3, 0.6, 1.0):
        for seed, stride, a, b, truth in scene_pairs(num_scenes, difficulty):
            start = time.perf_counter()
            flows = [near(a, b)]
            spent[0] += time.perf_counter() - start
            flows.append(far(a, b))
            spent[1] += time.perf_counter() - start
            seen = truth.visibility.mean().item()
            shares = [flow.visibility.mean().item() for flow in flows]
            motion = ((length(truth.vectors) * truth.visibility).sum() / truth.visibility.sum()).item()
            errors = [error(flow, truth) for flow in flows]
            is_far = shares[0] < choose.least
            rows[stride].append((motion, *errors, errors[is_far], seen, *shares, float(is_far)))
            if pairs:
                print(f"{difficulty},{seed},{stride},{motion:.2f},{seen:.3f}," + ",".join(f"{one:.3f}" for one in errors + shares))
    if pairs:
        return
    print("| stride | motion, px | dis | raft | by-distance | seen | seen by dis | by raft | far |\n|---|---|---|---|---|---|---|---|---|")
    for stride, found in rows.items():
        motion, dis, raft, chosen, *shares = (mean(list(column)) for column in zip(*found, strict=True))
        told = " | ".join(f"{share:.0%}".replace("%", " %") for share in shares)
        print(f"| {stride} | {motion:.1f} | {dis:.2f} | {raft:.2f} | {chosen:.2f} | {told} |")
    num = sum(map(len, rows.values()))
    print(f"seconds a pair, both ways, {SIZE[1]}x{SIZE[0]}: dis {spent[0] / num:.2f}, raft {(spent[1] - spent[0]) / num:.2f}")


def on_clips(near: FlowEstimator, far: FlowEstimator, choose: ByDistance, folder: Path) -> None:
    """Print one row a stride over all clips."""
    rows: dict[int, list[tuple[float, ...]]] = {stride: [] for stride in STRIDES}
    for _, stride, a, b in clip_pairs(folder):
        flows = [near(a, b), far(a, b)]
        both = flows[0].visibility * flows[1].visibility
        away = [255 * (warp(b, flow.vectors) - a).abs().mean(dim=1, keepdim=True) for flow in flows]
        where = [((one * both).sum() / both.sum().clamp(min=1)).item() for one in away]
        everywhere = [one.mean().item() for one in away]
        shares = [flow.visibility.mean().item() for flow in flows]
        is_far = shares[0] < choose.least
        rows[stride].append((*where, where[is_far], *everywhere, everywhere[is_far], *shares, float(is_far)))
    print("| stride | dis | raft | by-distance | seen by dis | by raft | far |\n|---|---|---|---|---|---|---|")
    for stride, found in rows.items():
        columns = [mean(list(column)) for column in zip(*found, strict=True)]
        told = [f"{one:.2f} ({other:.2f})" for one, other in zip(columns[:3], columns[3:6], strict=True)]
        told += [f"{share:.0%}".replace("%", " %") for share in columns[6:]]
        print(f"| {stride} | " + " | ".join(told) + " |")


def main() -> None:
    """Print the table of the scenes and, with clips, theirs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="raft-small", help="a file of RAFT's weights, or a name")
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument("--scenes", type=int, default=8, help="scenes of each of three difficulties")
    parser.add_argument("--side", type=int, default=RaftFlow().side, help="of RAFT")
    parser.add_argument("--pairs", action="store_true")
    options = parser.parse_args()
    near, far = DisFlow(), RaftFlow(weights=options.weights, side=options.side)
    choose = ByDistance(near=near, far=far)
    with keeping(Policy(allow_pickle=True)):
        on_scenes(near, far, choose, options.scenes, pairs=options.pairs)
        if options.clips:
            on_clips(near, far, choose, options.clips)


if __name__ == "__main__":
    main()
