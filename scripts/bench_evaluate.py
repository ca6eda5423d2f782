"""How long judging takes: a clip, repeated to and fro up to a length, against itself as `sepia`, by the command line.

    python scripts/bench_evaluate.py CLIP --seconds 10 --side 512

Prints seconds and peak memory of `--metrics fast` and of all metrics that need no network, each in a process of its own; with
`--twice` also at double length, to show that memory does not grow.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flowpaint
from flowpaint import video
from flowpaint.api.judging import NETWORK_FREE


def prepare(clip: Path, folder: Path, seconds: float, side: int) -> tuple[Path, Path]:
    """A source of `seconds`, and its sepia version."""
    whole = video.read(clip)
    count = max(1, round(seconds * float(whole.rate)))
    turn = [*range(len(whole)), *range(len(whole) - 2, 0, -1)] or [0]
    frames = [turn[index % len(turn)] for index in range(count)]
    source = folder / f"source{count}.mp4"
    step = 1 / whole.rate
    long = flowpaint.Clip(
        lambda index: whole.raw(frames[index]),
        times=[index * step for index in range(count)],
        end=count * step,
        height=whole.height,
        width=whole.width,
    )
    assert min(whole.height, whole.width) == side, f"the clip is {whole.width}x{whole.height}"
    video.write(long, source, encoding=video.Encoding(preset="ultrafast", crf=10))
    result = folder / f"result{count}.mp4"
    flowpaint.edit(source, "sepia", quality="draft").save(result)
    return source, result


def run(result: Path, source: Path, metrics: str, report: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one judging process."""
    command = [sys.executable, "-m", "flowpaint", "evaluate", result, "--source", source, "--metrics", metrics, "-q"]
    started = time.perf_counter()
    child = subprocess.Popen([*map(str, command), "--report", str(report), "--overwrite"], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit("judging failed")
    return time.perf_counter() - started, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--twice", action="store_true")
    options = parser.parse_args()
    print("| metrics | length | seconds | peak MiB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for seconds in (options.seconds, *([2 * options.seconds] if options.twice else [])):
            # In a process of its own: a child's peak memory begins with that of the process that started it.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                source, result = pool.apply(prepare, (options.clip, Path(name), seconds, options.side))
            for label, metrics in (("fast", "fast"), ("all without a network", ",".join(NETWORK_FREE))):
                spent, peak = run(result, source, metrics, Path(name) / "report.html")
                print(f"| {label} | {seconds:g} s, {len(video.read(source))} frames | {spent:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
