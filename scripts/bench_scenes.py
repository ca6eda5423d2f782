"""Frames a second of the scene renderer on one core: picture, truth and flow to the next frame, 256x256, four layers.

Run as `python scripts/bench_scenes.py`. Times are processor time, so that other work on the machine does not count.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # these are read when numpy and torch are imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import time
from dataclasses import replace

import torch

from flowpaint.scenes import Scene, render_with_flow, sample_scene


def main() -> None:
    """Print one row a scene, then the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--frames", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates = []
    for seed, scene in chosen(options.scenes, options.layers):
        rates.append(options.frames / seconds(scene, options.size, options.frames))
        print(f"scene {seed:3d}  {rates[-1]:6.1f} frames/s")
    print(f"mean {len(rates) / sum(1 / rate for rate in rates):.1f} frames/s, slowest {min(rates):.1f}")


def chosen(count: int, num_layers: int) -> list[tuple[int, Scene]]:
    """The first sampled scenes of full difficulty with so many layers; shutters closed, as each sample costs a picture."""
    found: list[tuple[int, Scene]] = []
    seed = 0
    while len(found) < count:
        scene = sample_scene(seed, 1.0)
        if len(scene.layers) == num_layers:
            found.append((seed, replace(scene, light=replace(scene.light, shutter=0.0))))
        seed += 1
    return found


def seconds(scene: Scene, size: int, num_frames: int) -> float:
    """Processor time of `num_frames` frames with flow."""
    render_with_flow(scene, 0, 1, (size, size))
    start = time.process_time()
    for frame in range(num_frames):
        render_with_flow(scene, frame, frame + 1, (size, size))
    return time.process_time() - start


if __name__ == "__main__":
    main()
