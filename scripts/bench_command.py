"""The whole command, decode and encode included: frames a second, stage by stage, how many cores are busy, and memory.

    python scripts/bench_command.py CLIP [--frames 60] [--sizes 512x512 1280x720] [--cases "van gogh" sepia propagate]
        [--against CHECKOUT] [--runs 1] [--memory] [-- more options of the command]

The clip is cut to the shape of each size, scaled to it, and repeated until it has the frames asked for (each repetition ends in a
cut, so shots are found and edited, too). A case is a look, or `propagate`: a picture of frame 0, edited here as if by hand (other
colours, paper grain, over the whole picture), is carried to all frames of the first shot. `--against` runs another checkout of
flowpaint in turn with this one, on the same files; `--runs` repeats both and shows each one's fastest run.

*Cores busy* is processor time over wall time, of the whole command, start included. *Frames/s* is of the whole command, too; the
seconds of the stages are those of the report: stages in several threads overlap, so that they may add up to more than the total.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from flowpaint import video
from flowpaint.types import Clip

PAGE = os.sysconf("SC_PAGE_SIZE")
HERE = Path(__file__).resolve().parents[1]
SIZES = ("512x512", "1280x720", "1920x1080")
CASES = ("van gogh", "pencil", "sepia", "teal and orange", "propagate")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of the command."""

    wall: float  # seconds
    processor: float  # seconds, of all threads
    peak: int  # bytes
    report: dict
    samples: list[tuple[float, int]]  # seconds, MiB


def sized(source: Path, frames: int, size: tuple[int, int], folder: Path) -> Path:
    """Write the clip, over and over up to `frames` frames, cut and scaled to `size` (width, height)."""
    clip = video.read(source)
    scale = max(size[0] / clip.width, size[1] / clip.height)
    width, height = round(size[0] / scale), round(size[1] / scale)
    left, top = (clip.width - width) // 2, (clip.height - height) // 2
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC

    def read(index: int) -> np.ndarray:
        cut = clip.raw(index % len(clip))[top : top + height, left : left + width]
        return cut if scale == 1 else cv2.resize(cut, size, interpolation=way)

    step = Fraction((clip.end - clip.times[0]) / len(clip))
    looped = Clip(
        read,
        times=[index * step for index in range(frames)],
        end=frames * step,
        height=size[1],
        width=size[0],
        colour=clip.colour,
    )
    path = folder / f"{size[0]}x{size[1]}.mp4"
    video.write(looped, path, encoding=video.Encoding(preset="veryfast"))
    return path


def edited_by_hand(source: Path, folder: Path) -> Path:
    """Write frame 0 with other colours and paper grain: an edit of the whole picture that no function of colour explains."""
    picture = video.read(source).raw(0).astype(np.float32) / 255
    mixed = picture @ np.array([[0.2, 0.5, 0.4], [0.6, 0.3, 0.1], [0.3, 0.1, 0.7]], np.float32)
    grain = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, picture.shape[:2]).astype(np.float32), (0, 0), 1.5)
    made = np.clip(mixed**0.8 + 0.12 * grain[..., None], 0, 1)
    path = folder / f"{source.stem}.png"
    video.write_picture(path, (made * 255).astype(np.uint8))
    return path


def run(checkout: Path, source: Path, case: str, folder: Path, more: list[str]) -> Measured:
    """Run one command of the flowpaint in `checkout`. Exit where it fails."""
    out = folder / "out.mp4"
    for old in folder.glob("out*"):
        old.unlink()
    if case == "propagate":
        asked = ["propagate", str(source), "--keyframe", f"0={folder / source.stem}.png", "--other-shots", "keep"]
    else:
        asked = ["edit", str(source), case]
    command = [sys.executable, "-m", "flowpaint", *asked, "-o", str(out), "-q", *more]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_WAIT_POLICY": "PASSIVE"}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    samples: list[tuple[float, int]] = []
    watcher = threading.Thread(target=watch, args=(process.pid, samples))
    watcher.start()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    report = json.loads(out.with_suffix(".json").read_text())
    return Measured(wall=wall, processor=used.ru_utime + used.ru_stime, peak=used.ru_maxrss << 10, report=report, samples=samples)


def watch(pid: int, samples: list[tuple[float, int]]) -> None:
    """Note resident memory twice a second, as (seconds, MiB), until the process is gone."""
    started = time.perf_counter()
    while True:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return
        if pages == 0:  # it has ended and was not waited for yet
            return
        samples.append((time.perf_counter() - started, pages * PAGE >> 20))
        time.sleep(0.5)


def row(size: str, case: str, name: str, found: Measured) -> str:
    frames = found.report["input"]["num_frames"]
    seconds = dict(found.report["seconds"])
    total = seconds.pop("total")
    stages = ", ".join(
        f"{stage} {spent:.1f}" for stage, spent in sorted(seconds.items(), key=lambda one: -one[1]) if spent >= 0.05
    )
    busy = found.processor / found.wall
    return (
        f"| {size} | {case} | {name} | {frames / found.wall:.2f} | {busy:.2f} | {found.wall:.1f} | {found.wall - total:.1f} "
        f"| {found.processor / frames * 1000:.0f} | {found.peak >> 20} | {stages} |"
    )


def tell_memory(samples: list[tuple[float, int]]) -> None:
    tenth = max(1, len(samples) // 10)
    peaks = [max(memory for _, memory in samples[place : place + tenth]) for place in range(0, len(samples), tenth)]
    print("highest in each tenth of the run, MiB:", peaks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="WIDTHxHEIGHT")
    parser.add_argument("--cases", nargs="+", default=CASES, help="looks, or propagate")
    parser.add_argument("--against", type=Path, help="another checkout of flowpaint, run in turn with this one")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="show resident memory over the run")
    chosen, more = parser.parse_known_args()
    checkouts = ([("before", chosen.against.resolve())] if chosen.against else []) + [("now", HERE)]
    print(f"{os.cpu_count()} cores, load before: {os.getloadavg()[0]:.1f}")
    print("| size | case | flowpaint | frames/s | cores busy | s | start, s | processor, ms a frame | peak MiB | stages, s |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in chosen.sizes:
            width, _, height = size.partition("x")
            source = sized(chosen.clip, chosen.frames, (int(width), int(height)), folder)
            edited_by_hand(source, folder)
            for case in chosen.cases:
                found: dict[str, Measured] = {}
                for _ in range(chosen.runs):
                    for label, checkout in checkouts:
                        one = run(checkout, source, case, folder, [part for part in more if part != "--"])
                        found[label] = min(found.get(label, one), one, key=lambda one: one.wall)
                for label, one in found.items():
                    print(row(size, case, label, one), flush=True)
                    if chosen.memory:
                        tell_memory(one.samples)


if __name__ == "__main__":
    main()
