"""The known-edit benchmark: a picture filter stands in for the editor, so the true edited video is known.

Each method gets the filter's answer for frame 0 only, laid onto its frame as the product does, and is asked for frames 8, 16
and 30; the truth is the filter's answer for those. Prints PSNR against EbSynth's by filter and by clip, mean and worst, SSIM,
the error in the occluded part, seconds a frame and peak memory, as Markdown tables. EbSynth's numbers come from CSV files, or
from the EbSynth program itself in the same run. (`flowpaint benchmark known-edits` judges the same cases through the whole
pipeline; this times propagation alone.)

    python scripts/bench_propagation.py --clips CLIPS --ebsynth-csv ebsynth.csv ebsynth2.csv
    python scripts/bench_propagation.py --clips CLIPS --only wolf,boxer --filters solarise,median --size 256

A method is a propagator's name; "analogy:global" and "analogy:local" force the extent of the edit. Clips that no CSV knows are
run where `--only` names them, and compared with nothing. `--csv FILE` keeps one row for each frame that was compared.
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
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from flowpaint import seams, video
from flowpaint.api.fit import lay
from flowpaint.evaluation.known_edits import TIMES
from flowpaint.parts.metrics.known_filters import FILTERS, prepare
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit, from_raw
from flowpaint.warp import visibility

Case = tuple[str, int, str]  # clip, short side, filter


@lru_cache(maxsize=1)
def sources(folder: Path, name: str, size: int) -> Clip:
    """Frames 0 to 30 of a clip, prepared: of the file `name` with any suffix."""
    clip = video.read(next(folder.glob(f"{name}.*")))
    frames = [prepare(clip.raw(index), size) for index in range(min(len(clip), max(TIMES) + 1))]
    return Clip.from_array(np.stack(frames), clip.rate)


@lru_cache(maxsize=len(TIMES))
def occluded(clip: Clip, t: int) -> np.ndarray:
    """Pixels of frame t that frame 0 does not show, by chained DIS flow both ways: bool [H, W]."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    a, b = (cv2.cvtColor(clip.raw(index), cv2.COLOR_RGB2GRAY) for index in (t, 0))
    there, again = (torch.from_numpy(dis.calc(*pair, None)).permute(2, 0, 1)[None] for pair in ((a, b), (b, a)))
    return visibility(there, again)[0, 0].numpy() < 0.5


def run_method(method: str, quality: str, clip: Clip, edited: np.ndarray, times: tuple[int, ...]) -> tuple[dict, float]:
    """The frames at `times`, and seconds a frame."""
    name, _, extent = method.partition(":")
    part = seams.build("propagator", name)
    laid = lay(from_raw(edited), clip.frame(0), name="key", number=0)
    started = time.perf_counter()
    result = part(clip, {0: laid.picture}, Edit(extent=extent or "auto"), Run(quality=quality))
    answers = {t: result.raw(t) for t in range(len(clip))}
    return {t: answers[t] for t in times}, (time.perf_counter() - started) / (len(clip) - 1)


def run_ebsynth(program: Path, clip: Clip, edited: np.ndarray, times: tuple[int, ...]) -> tuple[dict, float]:
    """The EbSynth command line with source colour 6, edges 1, position 2 and warped key 0.5 as guides."""
    answers, seconds = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for t in times:
            command = guides(Path(folder), clip.raw(0), edited, clip.raw(t))
            started = time.perf_counter()
            environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
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


# ---------------------------------------------------------------------------------------------------------------- cases


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="a folder of videos")
    parser.add_argument("--ebsynth-csv", type=Path, nargs="*", default=[], help="EbSynth's PSNR, and which cases to run")
    parser.add_argument("--ebsynth", type=Path, help="the EbSynth program, to run it side by side")
    parser.add_argument("--methods", default="analogy", help="also freeze, warp, analogy:global, analogy:local")
    parser.add_argument("--filters", default="", help="only these, with commas between")
    parser.add_argument("--only", default="", help="only clips whose names begin so, with commas between")
    parser.add_argument("--size", type=int, help="only this short side")
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="where one row for each compared frame is written")
    return parser.parse_args()


def known_numbers(tables: list[Path]) -> dict[Case, dict[int, float]]:
    """EbSynth's PSNR by case and frame."""
    found: dict[Case, dict[int, float]] = defaultdict(dict)
    for table in tables:
        for row in csv.DictReader(table.open()):
            found[row["clip"], int(row["size"]), row["filter"]][int(row["t"])] = float(row["ebsynth_psnr_db"])
    return found


def cases(options: argparse.Namespace, known: dict[Case, dict[int, float]]) -> Iterator[Case]:
    """What to run: what the tables know, else the clips that `--only` names, all of one clip together."""
    beginnings = tuple(options.only.split(","))
    wanted = set(options.filters.split(",")) if options.filters else set(FILTERS)
    if unknown := wanted - set(FILTERS):
        raise SystemExit(f"There is no filter called {', '.join(unknown)}. Choose from {', '.join(FILTERS)}.")
    listed = {case for case in known if case[0].startswith(beginnings)}
    if options.only:
        files = [file.stem for file in sorted(options.clips.iterdir()) if file.is_file() and file.stem.startswith(beginnings)]
        unlisted = [name for name in files if not any(case[0] == name for case in known)]
        listed |= {(name, options.size or 256, kind) for name in unlisted for kind in FILTERS}
    order = list(FILTERS)
    for case in sorted(listed, key=lambda one: (one[0], one[1], order.index(one[2]))):
        if case[2] in wanted and options.size in (None, case[1]):
            yield case


def run_case(options: argparse.Namespace, case: Case, known: dict[int, float]) -> list[dict]:
    """One row for each method and frame."""
    name, size, kind = case
    clip = sources(options.clips, name, size)
    times = tuple(t for t in TIMES if t < len(clip))
    truth = {t: FILTERS[kind](clip.raw(t)) for t in (0, *times)}
    found = {m: run_method(m, options.quality, clip, truth[0], times) for m in options.methods.split(",")}
    if options.ebsynth:
        found["ebsynth"] = run_ebsynth(options.ebsynth, clip, truth[0], times)
    facts = {"clip": name, "size": size, "filter": kind}
    rows = []
    for method, (answers, seconds) in found.items():
        for t in times:
            scores = score(answers[t], truth[t], occluded(clip, t))
            gain = scores["psnr"] - known.get(t, float("nan"))
            rows.append({**facts, "method": method, "t": t, **scores, "gain": gain, "seconds": seconds})
    means = [(m, mean_of(rows, "psnr", method=m), mean_of(rows, "gain", method=m), found[m][1]) for m in found]
    print(f"{name} {size} {kind}: " + ", ".join("{} {:.2f} ({:+.2f}) {:.3f}s".format(*one) for one in means), flush=True)
    return rows


# -------------------------------------------------------------------------------------------------------------- reports


def chosen(rows: list[dict], **wanted: object) -> list[dict]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def mean_of(rows: list[dict], what: str, **wanted: object) -> float:
    values = [row[what] for row in chosen(rows, **wanted) if not np.isnan(row[what])]
    return float(np.mean(values)) if values else float("nan")


def distinct(rows: list[dict], key: str) -> list:
    return list(dict.fromkeys(row[key] for row in rows))


def report(rows: list[dict]) -> None:
    """Markdown: each method as a whole, then what it gains over EbSynth (or its PSNR) by filter and clip."""
    print("\n| size | method | PSNR dB | against EbSynth | SSIM | error where occluded | s a frame |")
    print("|---|---|---|---|---|---|---|")
    for size in distinct(rows, "size"):
        for method in distinct(rows, "method"):
            mean = {key: mean_of(rows, key, size=size, method=method) for key in ("psnr", "gain", "ssim", "occluded", "seconds")}
            row = "| {} | {} | {psnr:.2f} | {gain:+.2f} | {ssim:.4f} | {occluded:.2f} | {seconds:.3f} |"
            print(row.format(size, method, **mean))
    for size in distinct(rows, "size"):
        for method in distinct(rows, "method"):
            mine = chosen(rows, size=size, method=method)
            what = "psnr" if np.isnan(mean_of(mine, "gain")) else "gain"
            by_case(mine, what, f"{method} at {size}: {'against EbSynth' if what == 'gain' else 'PSNR'}, dB")


def by_case(rows: list[dict], what: str, title: str) -> None:
    """One row a clip, one column a filter (each a mean over the frames), with means, worst clips and worst single frames."""
    kinds = distinct(rows, "filter")
    print(f"\n{title}\n")
    print(f"| | {' | '.join(kinds)} | mean | worst |\n|---|{'---|' * (len(kinds) + 2)}")
    table = {name: {kind: mean_of(rows, what, clip=name, filter=kind) for kind in kinds} for name in distinct(rows, "clip")}
    for name, values in table.items():
        print_row(name, list(values.values()), float(np.nanmean(list(values.values()))), float(np.nanmin(list(values.values()))))
    columns = {kind: [values[kind] for values in table.values()] for kind in kinds}
    means, worst = ([float(one(values)) for values in columns.values()] for one in (np.nanmean, np.nanmin))
    print_row("mean", means, float(np.nanmean(means)), min(means))
    print_row("worst clip", worst, float("nan"), min(worst))
    frames = [min(row[what] for row in chosen(rows, filter=kind)) for kind in kinds]
    print_row("worst frame", frames, float("nan"), min(frames))


def print_row(name: str, values: list[float], mean: float, worst: float) -> None:
    print(f"| {name} | {' | '.join(f'{value:+.2f}' for value in values)} | {mean:+.2f} | {worst:+.2f} |".replace("+nan", ""))


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    known = known_numbers(options.ebsynth_csv)
    rows: list[dict] = []
    for case in cases(options, known):
        rows += run_case(options, case, known.get(case, {}))
    if not rows:
        raise SystemExit("There is nothing to run. Name clips with --only, or tables with --ebsynth-csv.")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    report(rows)
    print(f"\nPeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
