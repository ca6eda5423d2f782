"""The known-edit benchmark: a picture filter stands in for the editor, so the true edited video is known.

Each method gets the filter's answer for frame 0 only and is asked for frames 8, 16 and 30; the truth is the filter's answer
for those. Prints PSNR, SSIM, the error in the occluded part, seconds a frame and peak memory, as a Markdown table, and
compares with a CSV of EbSynth's results, or with the EbSynth program itself in the same run. (`flowpaint benchmark known-edits`
judges the same cases through the whole pipeline; this times propagation alone.)

    python scripts/bench_propagation.py --clips CLIPS --ebsynth-csv known_edits/ebsynth.csv
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import csv
import resource
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from flowpaint import seams, video
from flowpaint.evaluation.known_edits import TIMES
from flowpaint.parts.metrics.known_filters import FILTERS, prepare
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit, from_raw
from flowpaint.warp import visibility

torch.set_num_threads(2)


def sources(folder: Path, name: str, size: int) -> Clip:
    clip = video.read(next(folder.glob(f"{name}.*")))
    frames = [prepare(clip.raw(index), size) for index in range(max(TIMES) + 1)]
    return Clip.from_array(np.stack(frames), clip.rate)


def occluded(clip: Clip, t: int) -> np.ndarray:
    """Pixels of frame t that frame 0 does not show, by chained DIS flow both ways: bool [H, W]."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    a, b = (cv2.cvtColor(clip.raw(index), cv2.COLOR_RGB2GRAY) for index in (t, 0))
    there, again = (torch.from_numpy(dis.calc(*pair, None)).permute(2, 0, 1)[None] for pair in ((a, b), (b, a)))
    return visibility(there, again)[0, 0].numpy() < 0.5


def run_method(method: str, quality: str, clip: Clip, edited: np.ndarray, times: tuple[int, ...]) -> tuple[dict, float]:
    part = seams.build("propagator", method)
    started = time.perf_counter()
    result = part(clip, {0: from_raw(edited)}, Edit(), Run(quality=quality))
    answers = {t: result.raw(t) for t in range(len(clip))}
    return {t: answers[t] for t in times}, (time.perf_counter() - started) / (len(clip) - 1)


def run_ebsynth(program: Path, clip: Clip, edited: np.ndarray, times: tuple[int, ...]) -> tuple[dict, float]:
    """The EbSynth command line with source colour 6, edges 1, position 2 and warped key 0.5 as guides."""
    answers, seconds = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for t in times:
            command = guides(Path(folder), clip.raw(0), edited, clip.raw(t))
            started = time.perf_counter()
            environment = {**os.environ, "OMP_NUM_THREADS": "2"}
            subprocess.run([program, *command], check=True, capture_output=True, env=environment)
            seconds.append(time.perf_counter() - started)
            answers[t] = cv2.imread(str(Path(folder) / "out.png"))[..., ::-1]
    return answers, float(np.mean(seconds))


def guides(folder: Path, key: np.ndarray, edited: np.ndarray, target: np.ndarray) -> list[str]:
    """Writes the guide pictures; returns the program's arguments."""
    grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (key, target)]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[1], grey[0], None)
    height, width = grey[0].shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    position = np.dstack([255 * x / (width - 1), 255 * y / (height - 1), 0 * x]).round().astype(np.uint8)

    def warped(picture: np.ndarray) -> np.ndarray:
        return cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    def edges(picture: np.ndarray) -> np.ndarray:
        smooth = cv2.GaussianBlur(picture, (0, 0), 1).astype(np.float32)
        return np.clip(4 * np.abs(cv2.Laplacian(smooth, cv2.CV_32F)), 0, 255).astype(np.uint8)

    pairs = [
        (key, target, 6.0),
        (edges(grey[0]), edges(grey[1]), 1.0),
        (position, warped(position), 2.0),
        (edited, warped(edited), 0.5),
    ]
    arguments = ["-style", str(folder / "style.png")]
    cv2.imwrite(str(folder / "style.png"), edited[..., ::-1])
    for number, (one, two, weight) in enumerate(pairs):
        names = [str(folder / f"{side}{number}.png") for side in ("key", "target")]
        for name, picture in zip(names, (one, two), strict=True):
            cv2.imwrite(name, picture[..., ::-1] if picture.ndim == 3 else picture)
        arguments += ["-guide", *names, "-weight", str(weight)]
    settings = ["-uniformity", "3500", "-searchvoteiters", "6", "-patchmatchiters", "4", "-backend", "cpu"]
    return [*arguments, *settings, "-output", str(folder / "out.png")]


def score(answer: np.ndarray, truth: np.ndarray, hidden: np.ndarray) -> dict[str, float]:
    error = np.abs(answer.astype(float) - truth).mean(axis=2)
    return {
        "psnr": peak_signal_noise_ratio(truth, answer, data_range=255),
        "ssim": structural_similarity(answer, truth, channel_axis=2),
        "occluded": error[hidden].mean() if hidden.any() else float("nan"),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--ebsynth-csv", type=Path, required=True, help="which cases to run, and EbSynth's PSNR on them")
    parser.add_argument("--ebsynth", type=Path, help="the EbSynth program, to run it side by side")
    parser.add_argument("--methods", default="freeze,warp,analogy")
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--size", type=int, help="only this short side")
    parser.add_argument("--only", default="", help="only clips whose name begins so")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    cases = defaultdict(dict)
    for row in csv.DictReader(options.ebsynth_csv.open()):
        cases[row["clip"], int(row["size"]), row["filter"]][int(row["t"])] = float(row["ebsynth_psnr_db"])
    rows = []
    for (name, size, kind), known in cases.items():
        if (options.size and size != options.size) or not name.startswith(options.only):
            continue
        rows += run_case(options, (name, size, kind), known)
    report(rows)
    print(f"\nPeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def run_case(options: argparse.Namespace, case: tuple[str, int, str], known: dict[int, float]) -> list[dict]:
    name, size, kind = case
    clip = sources(options.clips, name, size)
    truth = {t: FILTERS[kind](clip.raw(t)) for t in (0, *TIMES)}
    hidden = {t: occluded(clip, t) for t in TIMES}
    found = {m: run_method(m, options.quality, clip, truth[0], TIMES) for m in options.methods.split(",")}
    if options.ebsynth:
        found["ebsynth"] = run_ebsynth(options.ebsynth, clip, truth[0], TIMES)
    rows = []
    for method, (answers, seconds) in found.items():
        scores = [score(answers[t], truth[t], hidden[t]) for t in TIMES]
        mean = {key: float(np.nanmean([one[key] for one in scores])) for key in scores[0]}
        against = mean["psnr"] - float(np.mean([known[t] for t in TIMES]))
        rows.append(
            {"clip": name, "size": size, "filter": kind, "method": method, "seconds": seconds, "against": against, **mean}
        )
    shown = ", ".join(f"{row['method']} {row['psnr']:.2f} ({row['against']:+.2f}) {row['seconds']:.3f}s" for row in rows)
    print(f"{name} {size} {kind}: {shown}", flush=True)
    return rows


def report(rows: list[dict]) -> None:
    """Markdown: one row a (size, method), and how analogy stands on every filter."""
    print("\n| size | method | PSNR dB | against EbSynth's csv | SSIM | error where occluded | s a frame |")
    print("|---|---|---|---|---|---|---|")
    for size, method in sorted({(row["size"], row["method"]) for row in rows}):
        mine = [row for row in rows if (row["size"], row["method"]) == (size, method)]
        mean = {key: np.nanmean([row[key] for row in mine]) for key in ("psnr", "against", "ssim", "occluded", "seconds")}
        print(
            "| {} | {} | {psnr:.2f} | {against:+.2f} | {ssim:.4f} | {occluded:.2f} | {seconds:.3f} |".format(size, method, **mean)
        )
    print("\n| size | filter | analogy against EbSynth, mean dB | worst clip dB |\n|---|---|---|---|")
    for size, kind in sorted({(row["size"], row["filter"]) for row in rows}):
        gains = [row["against"] for row in rows if (row["size"], row["filter"], row["method"]) == (size, kind, "analogy")]
        if gains:
            print(f"| {size} | {kind} | {np.mean(gains):+.2f} | {min(gains):+.2f} |")


if __name__ == "__main__":
    main()
