"""FRESCO's fast forms against the straightforward ones, on the same machine, in the same run.

token paths   sorted, against one token after the other, 512 x 512 pixels, 8 frames, divisors 8 and 16
l2sq          squared spatial loss with its gradient through C x C products, against Gram matrices held whole, 640 x 64 x 64
l1            absolute spatial loss with its gradient in rows, likewise: time, peak memory, difference
whole         8 frames of 512 x 512, 20 steps of 20, as the method does them, at Stable Diffusion 1.5's size with random weights:
              seconds and peak memory; on a GPU, or where --whole asks for it

The source's Gram matrix of the straightforward form is kept and counts neither as time nor as memory.

    python scripts/bench_fresco.py [--rows 4] [--device cpu] [--whole] [--width 320] [--side 512]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench_networks import save_random
from flowpaint import seams
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.methods.fresco import Fresco, Translation
from flowpaint.parts.consistency.losses import gram, source_energy, spatial_loss, unit_tokens
from flowpaint.parts.consistency.paths import neighbours
from flowpaint.parts.consistency.ring import sampled, sampled_flow
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit

torch.set_num_threads(2)

CHANNELS, SIDE = 640, 64
HEADER = "| what | straightforward | ours | gain |\n|---|---|---|---|"


def seconds(work: Callable[[], object], times: int) -> float:
    """The median time of `work`, after one run to warm up."""
    spent = []
    for _ in range(times + 1):
        _wait()
        start = time.perf_counter()
        work()
        _wait()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak(work: Callable[[], object], device: torch.device) -> float:
    """MiB that `work` holds at most, beyond what was held before. On a CPU the process is watched every 2 ms."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    most, done = [_resident()], threading.Event()
    before = most[0]

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return (most[0] - before) / 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def clip(num_frames: int, side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Random frames, smooth backward flow of some 20 pixels and visibility with blobs, from one seed."""
    generator = torch.Generator().manual_seed(0)

    def smooth(channels: int) -> Tensor:
        coarse = torch.randn(num_frames, channels, 6, 6, generator=generator)
        return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)

    frames = torch.rand(num_frames, 3, side, side, generator=generator)
    return frames.to(device), (20 * smooth(2)).to(device), (smooth(1) > -0.8).float().to(device)


def neighbours_by_token(frames: Tensor, backward: Tensor, seen: Tensor, size: tuple[int, int]) -> Tensor:
    """What `neighbours` gives, token by token on tensors."""
    height, width = size
    colours = sampled(2 * frames - 1, height, width).flatten(2)
    flow = sampled_flow(backward, height, width).flatten(2)
    hidden = sampled(1 - seen, height, width).flatten(1) > 0.5
    matched = torch.full((len(frames) - 1, height * width), -1)
    for pair in range(len(frames) - 1):
        best, taken = {}, set()
        for token in range(height * width):
            x = round(token % width + flow[pair, 0, token].item())
            y = round(token // width + flow[pair, 1, token].item())
            if hidden[pair, token] or not (0 <= x < width and 0 <= y < height):
                continue
            place = y * width + x
            error = (colours[pair + 1, :, token] - colours[pair, :, place]).square().mean()
            if place not in best or error < best[place]:
                best[place], matched[pair, place] = error, token
        taken = set(matched[pair].tolist())
        left = iter([token for token in range(height * width) if token not in taken])
        for place in range(height * width):
            if matched[pair, place] < 0:
                matched[pair, place] = next(left)
    return matched


def token_paths_rows(device: torch.device) -> list[str]:
    """A row for each divisor, and one for both together: what a batch needs."""
    rows, loops, sorts = [], [], []
    given = clip(8, 512, device)
    for divisor in (8, 16):
        size = (512 // divisor, 512 // divisor)
        start = time.perf_counter()
        slow = neighbours_by_token(*given, size)
        loops.append(time.perf_counter() - start)
        fast, _ = neighbours(*given, size)
        same = (slow == fast.cpu()).float().mean().item()
        sorts.append(seconds(partial(neighbours, *given, size), 9))
        rows.append(_path_row(f"divisor {divisor} ({same:.2%} equal)", loops[-1], sorts[-1]))
    return [*rows, _path_row("both, as a batch needs them", sum(loops), sum(sorts))]


def _path_row(what: str, loop: float, ours: float) -> str:
    return f"| token paths, 512x512, 8 frames, {what} | {loop:.2f} s | {1000 * ours:.1f} ms | {loop / ours:.0f} x |"


def plain(features: Tensor, wanted: Tensor, norm: str) -> Tensor:
    """The loss by Gram matrices; that of the source, `wanted`, is kept from step to step."""
    apart = gram(unit_tokens(features)) - wanted
    return apart.abs().mean() if norm == "l1" else apart.square().mean()


def spatial_rows(norm: str, rows: int, device: torch.device) -> list[str]:
    generator = torch.Generator().manual_seed(1)
    features, other = torch.randn(2, rows, CHANNELS, SIDE, SIDE, generator=generator).to(device)
    source = unit_tokens(other)
    kept, energy = gram(source), source_energy(source)

    def run(loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        at = features.clone().requires_grad_()
        value = loss(at)
        return value.detach(), torch.autograd.grad(value, at)[0]

    def slow() -> tuple[Tensor, Tensor]:
        return run(lambda x: plain(x, kept, norm))

    def fast() -> tuple[Tensor, Tensor]:
        return run(lambda x: spatial_loss(x, source, norm=norm, energy=energy))

    (value, slope), (wanted, exact) = fast(), slow()
    apart = abs(value / wanted - 1).item(), ((slope - exact).norm() / exact.norm()).item()
    before, after = seconds(slow, 3), seconds(fast, 3)
    ours, held = peak(fast, device), peak(slow, device)
    name = f"{norm} spatial loss and gradient, {rows} x {CHANNELS} x {SIDE} x {SIDE}"
    return [
        f"| {name} | {before:.2f} s | {after:.2f} s | {before / after:.1f} x |",
        f"| {name}: peak memory of a step | {held:.0f} MiB | {ours:.0f} MiB | {ours / held:.1%} |",
        f"| {name}: relative difference of value, gradient | | {apart[0]:.1e}, {apart[1]:.1e} | |",
    ]


def whole_batch(device: torch.device, width: int, side: int, compats: Sequence[str] = ("official", "paper")) -> list[str]:
    """A row for each way of counting, with the networks loaded and warm."""
    found = []
    half = device.type == "cuda"
    frames = clip(8, side, torch.device("cpu"))[0]
    smooth = F.interpolate(F.interpolate(frames, scale_factor=1 / 16), size=(side, side), mode="bicubic").clamp(0, 1)
    with tempfile.TemporaryDirectory() as folder:
        weights = save_random(Path(folder) / "model", width, torch.float16 if half else torch.float32)
        model = LatentDiffusion(weights=str(weights), dtype="float16" if half else "float32")
        for compat in compats:
            method = Fresco(model=model, strength=1.0, side=side, consistency=seams.build("consistency", "fresco", compat=compat))

            def work(num_steps: int, method: Fresco = method) -> None:
                run = Run(device=str(device))
                short = replace(method, num_steps=num_steps)
                Translation(short, Clip.from_array(smooth), list(range(8)), Edit(prompt="a statue"), run).picture(0)
                _wait()

            work(2)
            start = time.perf_counter()
            held = peak(lambda work=work: work(20), device)
            spent = time.perf_counter() - start
            total = torch.cuda.max_memory_allocated() / 2**20 if half else held
            name = f"a whole batch: 8 frames of {side}x{side}, 20 steps, width {width}, {compat}"
            found.append(f"| {name} | | {spent:.1f} s | peak {total:.0f} MiB {'in all' if half else 'beyond the weights'} |")
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=4, help="rows of the network batch")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--whole", action="store_true", help="the whole batch on a CPU too")
    options.add_argument("--width", type=int, default=320, help="of the networks of the whole batch; 320 is that of SD 1.5")
    options.add_argument("--side", type=int, default=512, help="of the whole batch's frames")
    given = options.parse_args()
    device = torch.device(given.device)
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{what}, torch {torch.__version__}\n\n{HEADER}")
    print(*token_paths_rows(device), sep="\n", flush=True)
    for norm in ("l2sq", "l1"):
        print(*spatial_rows(norm, given.rows, device), sep="\n", flush=True)
    if given.whole or device.type == "cuda":
        print(*whole_batch(device, given.width, given.side), sep="\n", flush=True)


if __name__ == "__main__":
    main()
