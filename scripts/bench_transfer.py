"""What `analogy` spends a frame's time on: milliseconds of one core by stage, and frames a second with two threads.

One edited frame (the first, by OpenCV's stylisation) is carried over the clip, at several sizes. With `--before`, the folder
`src` of another version of flowpaint, that version is timed as well, in the same run.

    python scripts/bench_transfer.py CLIP --before ../old/src
"""

import os

os.environ["OMP_NUM_THREADS"] = "2"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import contextlib
import importlib
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

PARTS = "flowpaint.parts.propagate."
# Where a stage's time is spent; what it calls of another stage counts for that one. Names that a version lacks are left out.
STAGES = {
    "key frame": [("analogy", "_Work._prepare")],
    "flow": [("analogy", "_Work._both")],
    "matching": [("analogy", "_Work._track")],
    "filter": [("bank", "Bank.of"), ("bank", "Filter.coarse"), ("compose", "filtered"), ("analogy", "filtered")],
    "transfer": [("transfer", "Transfer.__call__"), ("transfer", "Transfer.vote"), ("analogy", "_Work._fuse")],
    "steadying": [("analogy", "_Work._settle"), ("analogy", "_Work._steady")],
    "pictures in and out": [("analogy", "_Work._full"), ("analogy", "to_raw"), ("analogy", "_Work._remember")],
    "the rest": [("analogy", "_Work.advance")],
}


class Watch:
    """Seconds by stage, each second counted once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inner = [0.0]

    def over(self, owner: object, name: str, stage: str) -> None:
        """Time every call of `owner`'s function `name`."""
        found = vars(owner)[name]
        work = found.__func__ if isinstance(found, classmethod) else found

        def timed(*given, **named):
            begun = time.process_time()
            self.inner.append(0.0)
            try:
                return work(*given, **named)
            finally:
                spent = time.process_time() - begun
                self.seconds[stage] += spent - self.inner.pop()
                self.inner[-1] += spent

        setattr(owner, name, classmethod(timed) if isinstance(found, classmethod) else timed)


def watched() -> Watch:
    watch = Watch()
    for stage, places in STAGES.items():
        for module, path in places:
            with contextlib.suppress(ImportError, AttributeError, KeyError):
                owner = importlib.import_module(PARTS + module)
                *outer, name = path.split(".")
                for one in outer:
                    owner = getattr(owner, one)
                watch.over(owner, name, stage)
    return watch


def one(clip: Path, width: int, height: int, frames: int) -> None:
    """Time the flowpaint that is on the path; print a row as JSON."""
    import cv2
    import numpy as np
    import torch

    from flowpaint import seams, video
    from flowpaint.seams import Run
    from flowpaint.types import Clip, Edit, from_raw

    source = video.read(clip)
    pictures = [cv2.resize(source.raw(index), (width, height), interpolation=cv2.INTER_AREA) for index in range(frames)]
    still = Clip.from_array(np.stack(pictures), 25)
    edited = from_raw(cv2.stylization(pictures[0], sigma_s=20, sigma_r=0.35))

    def carried():
        part = seams.build("propagator", "analogy")
        return part(still, {0: edited}, Edit(extent="global"), Run())

    speed = frames_a_second(carried, frames)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    watch = watched()
    result = carried()
    for index in range(frames):
        result.raw(index)
    row = {stage: 1000 * watch.seconds[stage] / (1 if stage == "key frame" else frames - 1) for stage in STAGES}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({**row, "frames/s": speed, "MiB": memory}))


def frames_a_second(carried, frames: int) -> float:
    """With two threads, the frames after the third."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            parallel = importlib.import_module("flowpaint.parallel")
            stack.enter_context(parallel.one_thread_each())
            stack.enter_context(parallel.threads_for_each(2))
        result = carried()
        for index in range(3):
            result.raw(index)
        begun = time.perf_counter()
        for index in range(3, frames):
            result.raw(index)
        return (frames - 3) / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--sizes", default="512x512,1280x720,1920x1080")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--before", type=Path, help="the folder `src` of another version")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        one(options.clip, *map(int, options.only.split("x")), options.frames)
        return
    versions = {"before": options.before} if options.before else {}
    versions["now"] = Path(__file__).resolve().parents[1] / "src"
    print("| size | version | " + " | ".join(STAGES) + " | ms a frame | frames/s, two threads | MiB |")
    print("|---" * (len(STAGES) + 5) + "|")
    for size in options.sizes.split(","):
        for version, folder in versions.items():
            command = [sys.executable, __file__, str(options.clip), "--only", size, "--frames", str(options.frames)]
            environment = {**os.environ, "PYTHONPATH": str(folder)}
            told = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
            total = sum(told[stage] for stage in STAGES if stage != "key frame")
            cells = [f"{told[stage]:.0f}" for stage in STAGES]
            print(
                f"| {size} | {version} | "
                + " | ".join([*cells, f"{total:.0f}", f"{told['frames/s']:.2f}", str(told["MiB"])])
                + " |"
            )


if __name__ == "__main__":
    main()
