"""The whole command, decode and encode included: frames a second, and resident memory while it runs.

The source is repeated until it has the frames asked for (each repetition ends in a cut, so shots are found and edited too).

    python scripts/bench_command.py CLIP --frames 2000 --words "van gogh" [more options of `flowpaint edit`]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

from flowpaint import video
from flowpaint.types import Clip

PAGE = os.sysconf("SC_PAGE_SIZE")


def repeated(source: Path, frames: int, folder: Path, size: int | None) -> Path:
    """The clip, over and over, up to `frames` frames (and cut to a square of `size` pixels, if given)."""
    clip = video.read(source)
    if size is not None:
        clip = square(clip, size)
    step = (clip.end - clip.times[0]) / len(clip)
    looped = Clip(
        lambda index: clip.raw(index % len(clip)),
        times=[index * Fraction(step) for index in range(frames)],
        end=frames * Fraction(step),
        height=clip.height,
        width=clip.width,
        colour=clip.colour,
    )
    path = folder / "source.mp4"
    video.write(looped, path, encoding=video.Encoding(preset="ultrafast"))
    return path


def square(clip: Clip, size: int) -> Clip:
    import cv2

    side = min(clip.height, clip.width)
    top, left = (clip.height - side) // 2, (clip.width - side) // 2

    def read(index: int):
        cut = clip.raw(index)[top : top + side, left : left + side]
        return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA)

    return Clip(read, times=clip.times, end=clip.end, height=size, width=size, colour=clip.colour)


def watch(process: subprocess.Popen, samples: list[tuple[float, int]]) -> None:
    """Resident memory every two seconds, as (seconds, MiB)."""
    started = time.perf_counter()
    while process.poll() is None:
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        samples.append((time.perf_counter() - started, pages * PAGE >> 20))
        time.sleep(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, help="cut to a square of this many pixels")
    parser.add_argument("--words", default="van gogh")
    chosen, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        source = repeated(chosen.clip, chosen.frames, Path(folder), chosen.size)
        out = Path(folder) / "out.mp4"
        command = [sys.executable, "-m", "flowpaint", "edit", str(source), chosen.words, "-o", str(out), "-q", *options]
        started = time.perf_counter()
        process = subprocess.Popen(command)
        samples: list[tuple[float, int]] = []
        watcher = threading.Thread(target=watch, args=(process, samples))
        watcher.start()
        if process.wait() != 0:
            raise SystemExit(f"the command failed with {process.returncode}")
        watcher.join()
        seconds = time.perf_counter() - started
        report = json.loads(out.with_suffix(".json").read_text())
        tell(report, samples, seconds, chosen.frames)


def tell(report: dict, samples: list[tuple[float, int]], seconds: float, frames: int) -> None:
    size = f"{report['input']['width']}x{report['input']['height']}"
    print(f"{size}, {frames} frames, {len(report['shots'])} shots: {seconds:.1f} s, {frames / seconds:.2f} frames/s")
    print("seconds by stage:", report["seconds"])
    print(f"peak memory: {report['peak_memory']['resident'] >> 20} MiB")
    tenth = max(1, len(samples) // 10)
    peaks = [max(memory for _, memory in samples[place : place + tenth]) for place in range(0, len(samples), tenth)]
    print("highest in each tenth of the run, MiB:", peaks)


if __name__ == "__main__":
    main()
