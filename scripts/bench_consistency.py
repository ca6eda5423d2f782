"""What FRESCO's consistency is worth with a given image model: the same key frames, bound together and not, on real clips.

For every clip 8 key frames are translated with the same words, noise and steps: by the model alone, with FRESCO's attention, with
its features optimised, with both, and with both and the background (saliency "motion") smoothed. Pixel-MSE (x 1000) is that of
neighbouring key frames aligned by the source's flow; nothing is propagated. With --propagated the model alone and both are also
run as whole methods, their key frames carried to every frame by the same propagator, so that its merit is not taken for FRESCO's.

    python scripts/bench_consistency.py CLIPS... --model NAME [--prompt WORDS] [--seeds 2] [--first-seed 0] [--stride 4]
        [--propagated] [--set part.field=value] [--sheet FILE]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from flowpaint import seams, video
from flowpaint.api.choose import choose_method
from flowpaint.diffusion.translate import with_control
from flowpaint.evaluation.aggregate import interval
from flowpaint.evaluation.judge import judge
from flowpaint.methods.fresco import Fresco, Translation
from flowpaint.moments import Case, Pass
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit, to_raw
from flowpaint.warp import resize

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

KEYS = 8
NONE = {"attention": "none", "optimise": False, "background": False}
VARIANTS = {
    "alone": NONE,
    "attention": {**NONE, "attention": "all"},
    "features": {**NONE, "optimise": True},
    "both": {**NONE, "attention": "all", "optimise": True},
    "background": {"attention": "all", "optimise": True, "background": True},
}
METRICS = ("pixel-mse", "edit-strength", "sharpness")


def numbers(source: Clip, result: Clip) -> dict[str, float]:
    """Pixel-MSE x 1000, edit strength and sharpness of one result."""
    judges = {name: seams.build("metric", name) for name in METRICS}
    card = judge(Case(source=source, result=result), judges, through=Pass(flow=seams.build("flow", "dis"), side=256), label="")
    return {
        "mse": 1000 * card.values["pixel_mse"],
        "strength": card.values["edit_strength"],
        "sharpness": card.values["sharpness"] / card.values["sharpness_source"],
    }


def key_frames(method: Fresco, clip: Clip, prompt: str, seed: int) -> tuple[Clip, Clip]:
    """The frames of `clip` as they are denoised, and their translations."""
    run = Run(seed=seed)
    work = Translation(method, clip, list(range(len(clip))), Edit(prompt=prompt), run)
    work.picture(0)
    kept = [run.store.get(f"fresco {index}")["picture"] for index in range(len(clip))]
    small = [to_raw(resize(frame[None], *work.size)[0]) for frame in clip]
    return Clip.from_array(np.stack(small)), Clip.from_array(np.stack(kept))


def report(name: str, rows: dict[str, list[dict[str, float]]], base: str) -> None:
    """Means over clips and seeds, and the mean difference to `base` with its interval of 95 %."""
    print(f"\n| {name} | Pixel-MSE x 1000 | against {base} | edit strength | sharpness |\n|---|---|---|---|---|")
    first = np.array([one["mse"] for one in rows[base]])
    for variant, found in rows.items():
        mse = np.array([one["mse"] for one in found])
        low, high = interval(mse - first) or (np.nan, np.nan)
        told = f"{mse.mean() / first.mean():.0%} ({low:+.2f} to {high:+.2f})" if variant != base else ""
        strength, sharp = (np.mean([one[key] for one in found]) for key in ("strength", "sharpness"))
        print(f"| {variant} | {mse.mean():.2f} | {told} | {strength:.1f} | {sharp:.2f} |", flush=True)
    for single in ("attention", "features"):
        if {"both", single} <= rows.keys():
            apart = np.array([both["mse"] - one["mse"] for both, one in zip(rows["both"], rows[single], strict=True)])
            low, high = interval(apart) or (np.nan, np.nan)
            print(f"both against {single} alone: {apart.mean():+.2f} ({low:+.2f} to {high:+.2f})", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("clips", nargs="+", type=Path)
    options.add_argument("--model", required=True)
    options.add_argument("--prompt", default="in the style of van gogh")
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--stride", type=int, default=4, help="frames between key frames")
    options.add_argument("--variants", default=",".join(VARIANTS), help="of " + ", ".join(VARIANTS) + "; `alone` is always run")
    options.add_argument("--propagated", action="store_true", help="the whole methods, too")
    options.add_argument("--set", action="append", default=[], dest="settings")
    options.add_argument("--sheet", type=Path, help="a picture of all key frames of the last clip")
    given = options.parse_args()
    method, _ = choose_method("fresco", settings=[f"model.weights={given.model}", *given.settings])
    assert isinstance(method, Fresco)
    model, control = with_control(method.model, method.control)
    method = replace(method, model=model, control=control)
    names = list(dict.fromkeys(("alone", *given.variants.split(","), *(["both"] if given.propagated else []))))
    if unknown := [name for name in names if name not in VARIANTS]:
        options.error(f"there is no variant {unknown[0]!r}; choose from {', '.join(VARIANTS)}")
    chosen = {name: replace(method, consistency=replace(method.consistency, **VARIANTS[name])) for name in names}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    carried: dict[str, list[dict[str, float]]] = {"alone": [], "both": []} if given.propagated else {}
    print(f"{given.model}, {given.prompt!r}, {given.seeds} seeds, torch {torch.__version__}")
    for path in given.clips:
        whole = video.read(path)
        frames = whole[: min(len(whole), given.stride * (KEYS - 1) + 1)]
        keys = frames[[min(given.stride * index, len(frames) - 1 - KEYS + index + 1) for index in range(KEYS)]]
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for name, variant in chosen.items():
                start = time.perf_counter()
                source, made = key_frames(variant, keys, given.prompt, seed)
                spent = time.perf_counter() - start
                rows[name].append(numbers(source, made))
                told = ", ".join(f"{measure} {value:.2f}" for measure, value in rows[name][-1].items())
                print(f"{path.stem}, seed {seed}, {name}: {told}, {spent:.0f} s", flush=True)
                if given.sheet and seed == given.first_seed:
                    strips = [np.concatenate([one.raw(index) for index in range(KEYS)], axis=1) for one in (source, made)]
                    video.write_picture(given.sheet.with_stem(f"{given.sheet.stem}-{path.stem}-{name}"), np.concatenate(strips))
            for name, found in carried.items():
                result = chosen[name](frames, Edit(prompt=given.prompt), Run(seed=seed))
                found.append(numbers(frames, Clip.from_array(np.stack([result.raw(index) for index in range(len(frames))]))))
                told = ", ".join(f"{measure} {value:.2f}" for measure, value in found[-1].items())
                print(f"{path.stem}, seed {seed}, {name}, all frames: {told}", flush=True)
    report("8 key frames", rows, "alone")
    if carried:
        report("all frames, by the same propagator", carried, "alone")


if __name__ == "__main__":
    main()
