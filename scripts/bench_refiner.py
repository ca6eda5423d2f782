"""Depth completion where the truth is known: the harmonic fill against the refiner, on scenes that no training has seen.

Of each scene an object is taken out: `swapped` for another shape, which is pasted before the rest of the hole is completed, as
StableV2V does; `later`, for the same, pasted once all that is behind the object is completed (the error is that in the same
pixels); `removed` for nothing. The number is the mean absolute error of depth in the hole, all frames together, depth of a scene
being in [0, 1] as rendered. Differences are paired; their interval is that of 95 % of bootstrap means over scenes. Seeds begin at
1,000,000: `data synth` begins at 0.

    python scripts/bench_refiner.py --weights RUN/export --scenes 200 --size 96 --each
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from collections.abc import Callable

import numpy as np
from torch import Tensor

from flowpaint.parts.complete import Harmonic, Refined
from flowpaint.seams import DepthCompleter
from flowpaint.training.holes import Hole, Removal, removal, removed, swapped

HELD_OUT = 1_000_000
DRAWS = 10_000
KINDS: dict[str, Callable[[Removal], Hole]] = {
    "swapped": swapped,
    "later": lambda row: removed(row, comes=True),
    "removed": removed,
}


def hole_error(found: Tensor, told: Hole, where: Tensor) -> float:
    """The mean absolute error where `where` is 1."""
    return (found - told.truth).abs()[where > 0].mean().item()


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Between which 95 % of the means of `differences` [N] drawn with replacement lie."""
    rng = np.random.default_rng(0)
    means = differences[rng.integers(len(differences), size=(DRAWS, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="name or folder of the refiner")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=96, help="pixels on a side")
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    parser.add_argument("--each", action="store_true", help="print a row for each scene, too")
    asked = parser.parse_args()
    completers: dict[str, DepthCompleter] = {"harmonic": Harmonic(), "refiner": Refined(weights=asked.weights)}
    rows: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in KINDS}
    spent = dict.fromkeys(completers, 0.0)
    if asked.each:
        print("| scene | hole | pixels | harmonic | refiner |\n|---|---|---|---|---|")
    for seed in range(asked.seed, asked.seed + asked.scenes):
        row = removal(seed, length=asked.frames, size=asked.size)
        for kind, make in KINDS.items():
            told = make(row)
            where = told.hole if kind == "removed" else swapped(row).hole
            if not where.any():
                continue  # the other shape covers all of it
            errors = []
            for name, complete in completers.items():
                start = time.perf_counter()
                found = complete(told.depth, told.hole, told.shape)
                spent[name] += time.perf_counter() - start
                errors.append(hole_error(found, told, where))
            rows[kind].append(tuple(errors))
            if asked.each:
                print(f"| {seed} | {kind} | {int(where.sum())} | {errors[0]:.4f} | {errors[1]:.4f} |")
    print("\n| hole | scenes | harmonic | refiner | difference (95 %) | better in |\n|---|---|---|---|---|---|")
    for kind, found_rows in rows.items():
        harmonic, refined = np.array(found_rows).T
        low, high = interval(refined - harmonic)
        print(
            f"| {kind} | {len(harmonic)} | {harmonic.mean():.4f} | {refined.mean():.4f} | {(refined - harmonic).mean():+.4f} "
            f"({low:+.4f} to {high:+.4f}) | {(refined < harmonic).mean():.0%} |"
        )
    count = sum(map(len, rows.values())) * asked.frames
    told_time = ", ".join(f"{name} {1000 * seconds / count:.1f} ms" for name, seconds in spent.items())
    print(f"\na frame of {asked.size}x{asked.size}: {told_time}")


if __name__ == "__main__":
    main()
