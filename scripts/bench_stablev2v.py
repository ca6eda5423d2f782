"""StableV2V's alignment judged on scenes whose edited version is known: an object swapped for one of another shape.

    python scripts/bench_stablev2v.py align [--scenes 24] [--models mean,median,similarity,affine,patches]
    python scripts/bench_stablev2v.py depth [--scenes 24] [--completers harmonic,refiner]
    python scripts/bench_stablev2v.py speed [--size 512] [--frames 16] [--generate flow-warp] [--model sd15] [--device cuda]

`align`: mask IoU, depth error under the new object, and end-point error of the simulated backward flow there, for the rules of
the paper's released code (restated in `Released` below from their description) and for ours with each motion model. Both are
given the true masks of the source's object, its true depth, and the same measured flow. `depth`: four ways to a depth map of the
edited scene, judged by the silhouette that it shows and by its PSNR about both objects. `speed`: the whole method with its
default renderer on a rendered scene.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flowpaint import scenes, seams
from flowpaint.align.depth import hole, mean_depth, pasted
from flowpaint.align.follow import Follower
from flowpaint.align.motion import MotionModel
from flowpaint.align.placement import lookup
from flowpaint.api.choose import choose_method
from flowpaint.evaluation.aggregate import interval, sign_flip
from flowpaint.scenes.scene import Scene
from flowpaint.seams import Run
from flowpaint.smoothing import dilate, erode
from flowpaint.types import Clip, Edit
from flowpaint.warp import grid_of, length, warp

SIZE = (192, 336)
FRAMES = 16
DIFFICULTY = 0.4
LEAST_AREA = 0.008  # of the picture that both objects must cover in every frame


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scene, rendered: frames [T, 3, H, W], the old and new object's true masks [T, 1, H, W], depths [T, 1, H, W] of the
    source, of the edited scene and of the scene without the object; the true backward flow [T - 1, 2, H, W] of the edited one.
    """

    seed: int
    frames: Tensor
    old: Tensor
    new: Tensor
    depth: Tensor
    edited_depth: Tensor
    behind: Tensor
    backward: Tensor


def cases(count: int, first: int = 0) -> Iterator[Case]:
    """The first `count` scenes in which one object is swapped and both shapes stay in sight; it shrinks with an even seed, and
    grows with an odd one.
    """
    seed, found = first, 0
    while found < count:
        case = _case(seed)
        seed += 1
        if case is not None:
            found += 1
            yield case


def both_ways(count: int, first: int = 0) -> Iterator[Case]:
    """`count` scenes, half of which make the object larger and half smaller."""
    left = [count - count // 2, count // 2]
    for case in cases(4 * count + 8, first):
        if left[case.seed % 2]:
            left[case.seed % 2] -= 1
            yield case
        if not any(left):
            return


def _case(seed: int) -> Case | None:
    source = scenes.sample_scene(seed, DIFFICULTY)
    edited = scenes.edit(source, "swap", seed)  # the other shape is the smaller one, as a rule
    if seed % 2:
        source, edited = edited, source
    number = next((one for one, layer in enumerate(source.layers) if layer != edited.layers[one]), None)
    if number is None:
        return None
    gone = Scene(layers=(*source.layers[:number], *source.layers[number + 1 :]), camera=source.camera, light=source.light)
    shown = [[scenes.render(one, float(time), SIZE) for time in range(FRAMES)] for one in (source, edited, gone)]
    old, new = (torch.stack([frame.masks[number] for frame in frames]) for frames in shown[:2])
    if min(float(one.mean(dim=(1, 2, 3)).min()) for one in (old, new)) < LEAST_AREA:
        return None
    return Case(
        seed=seed,
        frames=torch.stack([one.rgb for one in shown[0]]),
        old=old,
        new=new,
        depth=torch.stack([one.depth for one in shown[0]]),
        edited_depth=torch.stack([one.depth for one in shown[1]]),
        behind=torch.stack([one.depth for one in shown[2]]),
        backward=torch.cat([scenes.correspond(edited, float(k), float(k - 1), SIZE).vectors for k in range(1, FRAMES)]),
    )


# ------------------------------------------------------------------------------------------------------------------ rules


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What a rule makes of a case: masks [T, 1, H, W], simulated backward flow [T - 1, 2, H, W], pasted depth [T, 1, H, W]."""

    masks: Tensor
    backward: Tensor
    depth: Tensor


def ours(case: Case, model: MotionModel) -> Aligned:
    """Our rules, with one motion model."""
    follower = Follower(flow=seams.build("flow", "dis"), model=model, anchor=case.frames[:1], masks=[case.old[:1]])
    masks, flows, depths = [case.new[:1]], [], []
    near = mean_depth(case.depth[:1], case.old[:1], None)
    for k in range(FRAMES):
        if k:
            follower.advance(case.frames[k : k + 1], [case.old[k : k + 1]])
            now = follower.objects[0]
            masks.append((lookup(case.new[:1], now.place.points(*SIZE)) > 0.5).float())
            flows.append(now.step.points(*SIZE) - grid_of(case.frames))
            near = mean_depth(case.depth[k : k + 1], case.old[k : k + 1], near)
        depths.append(pasted(case.depth[k : k + 1], masks[k], near or 0.0))
    return Aligned(masks=torch.cat(masks), backward=torch.cat(flows), depth=torch.cat(depths))


def released(case: Case) -> Aligned:
    """The rules of the released code, as its readers describe them: the paste region is the new mask dilated by 9 x 9 once and
    eroded by 9 x 9 six times; the mean is that of the flow on the new frame's grid under the old frame's mask; each mask is
    multiplied with the one before; sampling positions are scaled by the size less one and read as if by the size.
    """
    flow = seams.build("flow", "dis")
    masks, flows = [case.new[:1]], []
    for k in range(1, FRAMES):
        measured = flow(case.frames[k : k + 1], case.frames[k - 1 : k]).vectors
        under = case.old[k - 1 : k]
        mean = (measured * under).sum(dim=(2, 3), keepdim=True) / under.sum()
        region = dilate(masks[-1], 4)
        for _ in range(6):
            region = erode(region, 4)
        simulated = torch.where(region > 0.5, mean, measured)
        flows.append(simulated)
        masks.append((_misread(masks[-1], simulated) > 0.5).float() * masks[-1])
    depths = []
    for k in range(FRAMES):
        near = mean_depth(case.depth[k : k + 1], case.old[k : k + 1], None)
        depths.append(pasted(case.depth[k : k + 1], masks[k], near or 0.0))
    return Aligned(masks=torch.cat(masks), backward=torch.cat(flows), depth=torch.cat(depths))


def _misread(mask: Tensor, flow: Tensor) -> Tensor:
    height, width = mask.shape[-2:]
    points = (grid_of(mask) + flow).permute(0, 2, 3, 1)
    unit = 2 * points / points.new_tensor([width - 1, height - 1]) - 1
    return F.grid_sample(mask, unit, align_corners=False)


# --------------------------------------------------------------------------------------------------------------- measures


def iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of masks [T, 1, H, W], the mean over frames."""
    both, either = torch.minimum(a, b).sum(dim=(1, 2, 3)), torch.maximum(a, b).sum(dim=(1, 2, 3))
    return float((both / either.clamp_min(1)).mean())


def measured(case: Case, made: Aligned) -> dict[str, float]:
    """Mask IoU, absolute depth error and end-point error under the true new object, frames 1 and up."""
    new = case.new[1:]
    apart = length(made.backward - case.backward)
    return {
        "mask IoU": iou(made.masks[1:], new),
        "depth error": float(((made.depth - case.edited_depth)[1:].abs() * new).sum() / new.sum()),
        "end-point error": float((apart * new).sum() / new.sum()),
    }


def strategies(case: Case, completers: Sequence[str]) -> dict[str, Tensor]:
    """Depth of the edited scene [T, 1, H, W], four ways (the paper's table of ablations)."""
    flow = seams.build("flow", "dis")
    made = ours(case, "similarity")
    carried = [case.edited_depth[:1]]
    for k in range(1, FRAMES):
        carried.append(warp(carried[-1], flow(case.frames[k : k + 1], case.frames[k - 1 : k]).vectors))
    holes = torch.cat([hole(one) for one in case.old.split(1)])
    refined = {}
    for name in completers:
        fill = seams.build("completer", name)
        refined[f"pasted, then {name}"] = fill(made.depth, holes * (1 - made.masks), case.new[:1])  # the paper's order
        refined[f"{name}, then pasted"] = torch.where(made.masks > 0.5, made.depth, fill(case.depth, holes, case.new[:1]))
    return {"source": case.depth, "edited, warped": torch.cat(carried), "pasted": made.depth, **refined}


def silhouette(case: Case, depth: Tensor) -> dict[str, float]:
    """IoU of what stands out from the true background with the true new object, and PSNR about both objects, frames 1 and up.

    A pixel stands out where it is nearer to the new object's true depth than to that behind it.
    """
    near = (case.edited_depth * case.new).sum(dim=(1, 2, 3)) / case.new.sum(dim=(1, 2, 3))
    limit = 0.5 * (near[:, None, None, None] + case.behind)
    about = (dilate(torch.maximum(case.old, case.new), 4) > 0.5).float()
    stands = ((depth > limit) & (near[:, None, None, None] > case.behind)).float() * about
    error = float(((depth - case.edited_depth).square() * about)[1:].sum() / about[1:].sum())
    return {"silhouette IoU": iou(stands[1:], (case.new * about)[1:]), "masked PSNR": -10 * math.log10(max(error, 1e-10))}


# ----------------------------------------------------------------------------------------------------------------- tables


def table(rows: dict[str, list[dict[str, float]]], against: str) -> None:
    """One line a rule: means with 95 % intervals over scenes, and p of the difference from `against` (sign flips)."""
    measures = list(next(iter(rows.values()))[0])
    print(f"| {'rule':24} | " + " | ".join(f"{one:34}" for one in measures) + " |")
    for name, found in rows.items():
        cells = []
        for one in measures:
            values = np.array([row[one] for row in found])
            low, high = interval(values) or (math.nan, math.nan)
            p = sign_flip(values - np.array([row[one] for row in rows[against]])) if name != against else 1.0
            cells.append(f"{values.mean():8.3f} ({low:.3f} to {high:.3f}) p {p:.4f}")
        print(f"| {name:24} | " + " | ".join(f"{one:34}" for one in cells) + " |")


def align(args: argparse.Namespace) -> None:
    """The table of `align`."""
    rules: dict[str, Callable[[Case], Aligned]] = {"released": released}
    for model in args.models.split(","):
        rules[f"ours, {model}"] = lambda case, model=model: ours(case, model)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in rules}
    for case in cases(args.scenes, args.first):
        for name, rule in rules.items():
            rows[name].append(measured(case, rule(case)))
    table(rows, "released")
    best = rows[f"ours, {args.models.split(',')[-1]}"]
    for measure, sign in (("mask IoU", 1), ("depth error", -1), ("end-point error", -1)):
        won = sum(sign * (a[measure] - b[measure]) > 0 for a, b in zip(best, rows["released"], strict=True))
        print(f"{args.models.split(',')[-1]} better than released in {measure}: {won} of {len(best)} scenes")


def depth(args: argparse.Namespace) -> None:
    """The table of `depth`."""
    rows: dict[str, list[dict[str, float]]] = {}
    grows = []
    for case in both_ways(args.scenes, args.first):
        grows.append(bool(case.seed % 2))
        for name, made in strategies(case, args.completers.split(",")).items():
            rows.setdefault(name, []).append(silhouette(case, made))
    for title, kept in (("all", {True, False}), ("the new shape is the larger one", {True}), ("the smaller one", {False})):
        print(f"\n{title}: {sum(one in kept for one in grows)} scenes")
        table(
            {name: [row for row, one in zip(found, grows, strict=True) if one in kept] for name, found in rows.items()}, "pasted"
        )


def speed(args: argparse.Namespace) -> None:
    """How long the whole method takes on a rendered scene, the object marked by its true mask in frame 0."""
    size = (args.size, args.size)
    source = scenes.sample_scene(args.first + 3, 0.4)
    edited = scenes.edit(source, "swap", args.first + 3)
    number = next(one for one, layer in enumerate(source.layers) if layer != edited.layers[one])
    clip = scenes.clip(source, args.frames, size)
    mask = scenes.render(source, 0.0, size).masks[number]
    wish = Edit(keyframes={0: scenes.render(edited, 0.0, size).rgb}, objects=(Clip.from_array(mask[None].expand(1, 3, -1, -1)),))
    begun = time.perf_counter()
    settings = [f"generate={args.generate}", *([f"generate.model.weights={args.model}"] if args.model else [])]
    method, _ = choose_method("stablev2v", settings=settings)
    result: Any = method(clip, wish, Run(device=args.device))
    for index in range(len(result)):
        result.frame(index)
    if args.device.startswith("cuda"):
        torch.cuda.synchronize()
    spent, where = time.perf_counter() - begun, f"{args.device}, {torch.get_num_threads()} threads"
    print(f"{args.frames} frames of {args.size}x{args.size} by {args.generate}: {spent:.1f} s on {where}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("align", "depth", "speed"))
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scene tried")
    parser.add_argument("--models", default="mean,median,similarity,affine,patches")
    parser.add_argument("--completers", default="harmonic")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--generate", default="flow-warp", help="the part that makes frames (speed)")
    parser.add_argument("--model", default="", help="its model, by name or folder (speed)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (speed)")
    args = parser.parse_args()
    {"align": align, "depth": depth, "speed": speed}[args.what](args)


if __name__ == "__main__":
    main()
