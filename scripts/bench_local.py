"""Known local edits: a part of a clip is edited in frame 0, and what each extent makes of the other frames.

Procedural scenes have exact masks. Objects of real clips are found in frame 0 by a box and followed; `--sheet` shows the masks,
which are to be looked at. Prints PSNR inside the part and at its rim, and how many pixels outside are not the source's, by
edit, then the means by kind with the worst, and how far `auto` stays behind the better of both forced extents.

    python scripts/bench_local.py
    python scripts/bench_local.py --clips CLIPS --sheet masks.png --only cups,man --kinds recolour
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import csv
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch

from flowpaint import seams, video
from flowpaint.evaluation.local_edits import CHANGES, LocalEdit, clip_edits, scene_edits, score
from flowpaint.parts.metrics.known_filters import prepare
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit

# Objects of real clips: the beginning of the file's name, and boxes (x0, y0, x1, y1) as shares of the frame.
OBJECTS = {
    "man_walking": [(0.12, 0.1, 0.88, 0.99)],
    "kitten": [(0.3, 0.05, 0.8, 0.85)],
    "cups": [(0.43, 0.4, 0.6, 0.75)],
    "dog_corgi": [(0.2, 0.5, 0.72, 0.99)],
    "old_man": [(0.15, 0.08, 0.97, 0.99)],
    "headturn": [(0.12, 0.02, 0.78, 0.99)],
    "juggle": [(0.44, 0.03, 0.66, 0.95)],
}
TWO = {"cups_two": ("cups", [(0.43, 0.4, 0.6, 0.75), (0.64, 0.4, 0.8, 0.75)])}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="a folder of videos; without it scenes alone")
    parser.add_argument("--only", default="", help="only edits whose names begin so, with commas between")
    parser.add_argument("--kinds", default="", help="only these kinds, with commas between")
    parser.add_argument("--extents", default="auto,global,local")
    parser.add_argument("--size", type=int, default=256, help="short side of real clips; scenes have two thirds of it")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--times", default="4,8,16,24")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheet", type=Path, help="a PNG of the masks of real clips")
    parser.add_argument("--pictures", type=Path, help="a folder for source | truth | results of the last time")
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def edits(options: argparse.Namespace) -> Iterator[LocalEdit]:
    side = options.size * 2 // 3
    yield from scene_edits((side, side * 4 // 3), options.frames)
    if options.clips is None:
        return
    named = {name: (name, boxes) for name, boxes in OBJECTS.items()} | TWO
    for name, (file, boxes) in named.items():
        if not name.startswith(tuple(options.only.split(","))):
            continue
        clip = opened(next(options.clips.glob(f"{file}*")), options)
        covers = [followed(clip, box) for box in boxes]
        kinds = tuple(CHANGES) if len(covers) == 1 else ("recolour",)
        if options.sheet:
            cv2.imwrite(str(options.sheet.with_stem(f"{options.sheet.stem}_{name}")), masks(clip, covers)[..., ::-1])
        yield from clip_edits(name, clip, covers[0], kinds, other=covers[1] if len(covers) > 1 else None)


def opened(path: Path, options: argparse.Namespace) -> Clip:
    clip = video.read(path)
    frames = [prepare(clip.raw(index), options.size) for index in range(min(len(clip), options.frames))]
    return Clip.from_array(np.stack(frames), clip.rate)


def followed(clip: Clip, box: tuple[float, ...]):
    """How much of the object in `box` shows in each frame: its mask, softened by a pixel."""
    sides = (clip.width, clip.height, clip.width, clip.height)
    part = seams.from_dict(
        {"kind": "segmenter", "part": "grabcut", "box": [share * side for share, side in zip(box, sides, strict=True)]}
    )
    found = part(clip.frames)[:, 0].numpy()
    soft = [cv2.GaussianBlur((one > 0.5).astype(np.float32), (0, 0), 0.7) for one in found]
    return lambda index: np.where(soft[index] < 0.02, 0, soft[index]).astype(np.float32)


def masks(clip: Clip, covers: list) -> np.ndarray:
    rows = []
    for index in np.linspace(0, len(clip) - 1, 5).round().astype(int):
        frame = clip.raw(index).astype(float)
        for cover, colour in zip(covers, ((255, 0, 0), (0, 0, 255)), strict=False):
            frame += 0.5 * cover(index)[..., None] * (np.array(colour) - frame)
        rows.append(frame.round().astype(np.uint8))
    return np.concatenate(rows, axis=1)


def run_edit(edit: LocalEdit, extent: str, times: list[int]) -> tuple[list[dict], str, np.ndarray]:
    run = Run()
    result = seams.build("propagator", "analogy")(edit.source, {0: edit.edited.frame(0)}, Edit(extent=extent), run)
    rows, last = [], edit.source.raw(0)
    for index in range(1, max(times) + 1):
        last = result.raw(index)
        if index in times:
            rows.append({"edit": edit.name, "kind": edit.kind, "extent": extent, "t": index, **asdict(score(edit, last, index))})
    return rows, run.notes.facts["extent of frame 0"], last


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    rows: list[dict] = []
    for edit in edits(options):
        wanted = edit.name.removeprefix("scene ").startswith(tuple(options.only.split(",")))
        if not wanted or (options.kinds and edit.kind not in options.kinds.split(",")):
            continue
        times = [time for time in map(int, options.times.split(",")) if time < len(edit.source)]
        cells = [edit.source.raw(times[-1]), edit.edited.raw(times[-1])]
        for extent in options.extents.split(","):
            mine, said, last = run_edit(edit, extent, times)
            rows += mine
            cells.append(last)
            numbers = ", ".join(f"{name} {mean(mine, name):.2f}" for name in ("inside", "rim"))
            stray = f"outside {100 * max(row['outside'] for row in mine):.2f} % by {max(row['largest'] for row in mine)}"
            print(f"{edit.name}, {edit.kind}, {extent}: {numbers}, {stray}" + f"; {said}" * (extent == "auto"), flush=True)
        if options.pictures:
            options.pictures.mkdir(exist_ok=True)
            name = f"{edit.name} {edit.kind}.png".replace(" ", "_")
            cv2.imwrite(str(options.pictures / name), np.concatenate(cells, axis=1)[..., ::-1])
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    report(rows)


def mean(rows: list[dict], what: str) -> float:
    values = [row[what] for row in rows if not math.isnan(row[what])]
    return float(np.mean(values)) if values else math.nan


def chosen(rows: list[dict], **wanted: str) -> list[dict]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def report(rows: list[dict]) -> None:
    """Markdown, by kind."""
    extents = list(dict.fromkeys(row["extent"] for row in rows))
    print("\n| kind | extent | inside, dB: mean (worst edit) | rim, dB: the same | not the source's outside: pixels, at most |")
    print("|---|---|---|---|---|")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        for extent in extents:
            mine = chosen(rows, kind=kind, extent=extent)
            cells = [f"{mean(mine, what):.2f} ({worst(mine, what):.2f})" for what in ("inside", "rim")]
            strays = f"{100 * mean(mine, 'outside'):.3f} %, {max(row['largest'] for row in mine)}"
            print(f"| {kind} | {extent} | {' | '.join(cells)} | {strays} |")
    if {"auto", "global", "local"} <= set(extents):
        for what in ("inside", "rim"):
            behind = {}
            for name, kind in dict.fromkeys((row["edit"], row["kind"]) for row in rows):
                here = {extent: mean(chosen(rows, edit=name, kind=kind, extent=extent), what) for extent in extents}
                behind[f"{name}, {kind}"] = max(here["global"], here["local"]) - here["auto"]
            most = max(behind, key=lambda one: behind[one])
            mean_behind = np.mean(list(behind.values()))
            print(f"\nauto behind the better of both, {what}: {mean_behind:.2f} dB, at most {behind[most]:.2f} ({most})")


def worst(rows: list[dict], what: str) -> float:
    return min(mean(chosen(rows, edit=name), what) for name in dict.fromkeys(row["edit"] for row in rows))


if __name__ == "__main__":
    main()
