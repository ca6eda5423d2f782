"""What FlowVid's network is worth: edits whose true result is known, on clips and on procedural scenes.

Each case is 8 key frames; the first is given edited (left as it is, filtered, or of a scene in other colours and textures), the
truth is the same edit of each frame.
Rows of `ablation` come from one network whose hints are left out; `rows` set it beside its autoencoder's ceiling, the warp with
its gray, the warp with its holes inpainted (OpenCV, Telea) and spread over, `analogy`, and the composite. PSNR in dB: of all, of
the occluded part (what the source's flow does not show of the first frame) and of the rest; the composite's and analogy's also
over every frame ("film"). Cases are worked on one by one, each a line in OUTPUT; several processes may share them.

    python scripts/bench_flowvid.py run OUTPUT.jsonl [--clips FOLDER] [--scenes 4] [--model NAME] [--share 0/2] [--sheets FOLDER]
        [--set field=value] [--ablation] [--raw]
    python scripts/bench_flowvid.py report OUTPUT.jsonl...

How fast it is says another file, `flowvid_speed.py`, to which this hands over:

    python scripts/bench_flowvid.py speed [--small | --cpu-mini] [--help]
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor

from flowpaint import video
from flowpaint.api.choose import choose_method
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.repair import TrainedRepairer
from flowpaint.evaluation.aggregate import interval, sign_flip
from flowpaint.evaluation.known_edits import edited, prepared
from flowpaint.hints import GRAY, Hinted, Repaired, Repairer, filled
from flowpaint.methods.flowvid import FlowVid
from flowpaint.runs import PrefixedStore
from flowpaint.scenes import clip as scene_clip
from flowpaint.scenes import edit as scene_edit
from flowpaint.scenes import sample_scene
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip, Edit, from_raw, to_raw

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

Rows: TypeAlias = dict[str, dict[str, float]]

KEYS = 8
HELD_OUT = 900_000  # seeds of scenes from here on: training takes others
ABLATION = {"control": (), "warp": ("warp",), "mask": ("warp", "mask"), "first": ("warp", "first", "mask")}
EDITS = ("identity", "colour", "poster", "pencil")  # of the clips, in turn


@dataclass(frozen=True, kw_only=True)
class Listening(FlowVid):
    """FlowVid that remembers what its network was told."""

    told: list[tuple[Hinted, Repairer]] = field(default_factory=list, compare=False)

    def _repairer(self, model: LatentDiffusion, run: Run) -> Repairer:
        inner = super()._repairer(model, run)

        def repair(told: Hinted, run: Run) -> Repaired:
            self.told.append((told, inner))
            return inner(told, run)

        return repair


def cases(clips: Path | None, scenes: int) -> Iterator[tuple[str, Clip, Clip, int]]:
    """Name, source, truth and frames from one key frame to the next."""
    for number, path in enumerate(sorted(clips.glob("*.mp4")) if clips else ()):
        whole = video.read(path)
        stride = 4 if len(whole) > 4 * (KEYS - 1) else 2
        known = path.stem.startswith(("bigbuckbunny", "derived"))  # ten frames of it were textures in training; copies of others
        if known or len(whole) <= stride * (KEYS - 1) or min(whole.height, whole.width) < 256:
            continue
        source = prepared(whole[: stride * (KEYS - 1) + 1], 256)
        name = path.stem.split("_")[0]
        how = EDITS[number % len(EDITS)]
        yield f"{name}-{how}", source, source if how == "identity" else edited(source, how), stride
    for seed in range(HELD_OUT, HELD_OUT + scenes):
        scene = sample_scene(seed, 0.5)
        source = scene_clip(scene, 2 * (KEYS - 1) + 1, (256, 256))
        yield f"scene{seed}-identity", source, source, 2
        yield f"scene{seed}-restyle", source, scene_clip(scene_edit(scene, "restyle", seed), len(source), (256, 256)), 2


def numbers(found: Tensor, truth: Tensor, hidden: Tensor) -> dict[str, float]:
    """PSNR of T frames [T, 3, H, W]: of all pixels, of those where `hidden` [T, 1, H, W] is 1, of the others."""
    error = (found - truth).square().mean(dim=1, keepdim=True)
    parts = {"all": torch.ones_like(hidden), "occluded": hidden, "seen": 1 - hidden}
    return {
        name: float(-10 * torch.log10(((error * part).sum() / part.sum()).clamp_min(1e-10)))
        for name, part in parts.items()
        if part.sum() >= 64
    }


def inpainted(told: Hinted) -> Tensor:
    """The warped pictures, their holes filled by OpenCV: [T, 3, H, W]."""
    done = []
    for picture, hole in zip(told.warped, told.mask, strict=True):
        mask = (hole[0].numpy() > 0).astype(np.uint8)
        done.append(from_raw(cv2.inpaint(to_raw(picture), mask, 5, cv2.INPAINT_TELEA)))
    return torch.stack(done)


def one(method: Listening, source: Clip, truth: Clip, stride: int, *, ablation: bool, whole: bool) -> tuple[Rows, Tensor]:
    """All rows of one case, and its sheet: truth, warp, raw, and of the `whole` composite and analogy."""
    run, edit = Run(store=MemoryStore()), Edit(keyframes={0: truth.frame(0)})
    method = replace(method, placing="even", stride=stride, window=KEYS, told=[])
    between = replace(run, store=PrefixedStore(run.store, "between: "))  # as the composite finds it
    start = time.perf_counter()
    held: list[Mapping[int, Tensor]] = []
    replace(method, repair="all", propagate=lambda clip, keys, *_: held.append(keys) or clip)(source, edit, between)
    raw = torch.stack([held[0][key] for key in list(held[0])[1:]])
    spent = time.perf_counter() - start
    (told, repairer), *_ = method.told
    assert isinstance(repairer, TrainedRepairer)
    places = [min(stride * key, len(source) - 1) for key in range(KEYS)]
    true, hidden = truth.frames[places], told.mask[1:]
    ceiling = repairer.model.decode(repairer.model.encode(true), (source.height, source.width))
    shown = {
        "raw": raw,
        "ceiling": ceiling[1:],
        "gray": torch.where(told.mask > 0, GRAY, told.warped)[1:],
        "inpainted": inpainted(told)[1:],
        "spread": filled(told.warped, told.mask, "spread")[1:],
    }
    films = {}
    if whole:
        films["analogy"] = torch.stack(list(method.propagate(source, edit.keyframes, edit, Run())))
        films["composite"] = torch.stack(list(method(source, edit, run)))
        shown |= {name: film[places][1:] for name, film in films.items()}
    if ablation:
        for name, heard in ABLATION.items():
            shown[f"ablation {name}"] = replace(repairer, heard=heard)(told, run).pictures[1:]
    rows = {name: numbers(pictures, true[1:], hidden) for name, pictures in shown.items()}
    for name, film in films.items():
        rows[name]["film"] = numbers(film[1:], truth.frames[1:], torch.zeros_like(film[1:, :1]))["all"]
    rows["raw"]["seconds"] = spent
    rows["gray"]["share"] = float(hidden.mean())
    strips = [true[1:], *(shown[name] for name in ("gray", "raw", *reversed(films)))]
    return rows, torch.cat([torch.cat(list(strip[::3]), dim=-1) for strip in strips], dim=-2)


def paired(rows: list[dict[str, dict[str, float]]], a: str, b: str, part: str) -> str:
    """The mean difference of two rows in one part, its interval of 95 %, p, and in how many cases it is above 0."""
    both = [(row[a][part], row[b][part]) for row in rows if a in row and b in row and part in row[a] and part in row[b]]
    apart = np.array([x - y for x, y in both])
    if len(apart) < 6:
        return f"{a} - {b}, {part}: too few cases ({len(apart)})"
    low, high = interval(apart) or (np.nan, np.nan)
    return (
        f"{a} - {b}, {part}: {apart.mean():+.2f} dB ({low:+.2f} to {high:+.2f}), p {sign_flip(apart):.4f}, "
        f"{(apart > 0).sum()} of {len(apart)}, least {apart.min():+.2f}"
    )


def report(files: list[Path]) -> None:
    found = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    rows = [one["rows"] for one in found]
    print(f"{len(rows)} cases, {np.mean([row['gray']['share'] for row in rows]):.1%} occluded\n")
    print("| row | all | occluded | seen |\n|---|---|---|---|")
    for name in rows[0]:
        cells = [np.mean([row[name][part] for row in rows if part in row[name]]) for part in ("all", "occluded", "seen")]
        print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    print()
    if "ablation control" in rows[0]:
        for part in ("all", "occluded"):
            for lower, upper in zip(list(ABLATION)[:-1], list(ABLATION)[1:], strict=True):
                print(paired(rows, f"ablation {upper}", f"ablation {lower}", part))
    for b in ("gray", "inpainted", "spread", "analogy"):
        print(paired(rows, "raw", b, "occluded"))
    print(paired(rows, "raw", "ceiling", "seen"))
    for part in ("occluded", "film"):
        print(paired(rows, "composite", "analogy", part))


def main() -> None:
    if sys.argv[1:2] == ["speed"]:
        import flowvid_speed

        flowvid_speed.main(sys.argv[2:])
        return
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--clips", type=Path)
    options.add_argument("--scenes", type=int, default=4)
    options.add_argument("--model", default="mini-flowvid")
    options.add_argument("--share", default="0/1", help="which of how many processes this one is")
    options.add_argument("--sheets", type=Path)
    options.add_argument("--set", action="append", default=[], dest="settings")
    options.add_argument("--ablation", action="store_true")
    options.add_argument("--raw", action="store_true", help="the network alone, without analogy and the composite")
    given = options.parse_args()
    if given.what == "report":
        report(given.files)
        return
    chosen, _ = choose_method("flowvid", settings=[f"model.weights={given.model}", "repair=occluded", *given.settings])
    assert isinstance(chosen, FlowVid)
    method = Listening(**{name: getattr(chosen, name) for name in chosen.__dataclass_fields__})
    mine, of = (int(part) for part in given.share.split("/"))
    done = (
        {json.loads(line)["name"] for line in given.files[0].read_text("utf-8").splitlines()}
        if given.files[0].exists()
        else set()
    )
    for number, (name, source, truth, stride) in enumerate(cases(given.clips, given.scenes)):
        if number % of != mine or name in done:
            continue
        rows, sheet = one(method, source, truth, stride, ablation=given.ablation, whole=not given.raw)
        with given.files[0].open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, "rows": rows}) + "\n")
        told = ", ".join(f"{row} {found.get('occluded', float('nan')):.2f}" for row, found in rows.items())
        gain = "" if given.raw else f"; film {rows['composite']['film'] - rows['analogy']['film']:+.2f}"
        print(f"{name}: occluded {told}{gain}", flush=True)
        if given.sheets:
            given.sheets.mkdir(parents=True, exist_ok=True)
            video.write_picture(given.sheets / f"{name}.png", to_raw(sheet))


if __name__ == "__main__":
    main()
