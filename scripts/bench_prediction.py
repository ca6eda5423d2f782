"""Why FlowVid predicts v: two short trainings at 64 pixels, alike but for the target, and the colour of what they draw.

A network of `mini`'s size with random weights learns to repair hints, once with v-prediction and zero terminal SNR, once as
Stable Diffusion 1.x does, by the noise (eps). Both see the same clips, noise and times. Each draws held-out clips from noise;
shown is how far the mean of a whole clip is from the true one, in levels of 255, and its error.

    python scripts/bench_prediction.py --data HINTS --judged HINTS --base FOLDER [--steps 1200] [--batch 4] [--clips 16]

HINTS are shards of `flowpaint data prepare CLIPS --model FOLDER`; FOLDER is that of `mini`.
"""

import os

import flowpaint  # noqa: F401  it switches off what the libraries below would send

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import shutil
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from flowpaint.diffusion.levels import noise_levels
from flowpaint.diffusion.sampling import sample, to_x0
from flowpaint.evaluation.aggregate import interval, sign_flip
from flowpaint.seams import Run
from flowpaint.training.flowvid import FlowVidTask, FlowVidTrainer
from flowpaint.training.noising import decoded
from flowpaint.training.shards import read_shard, shards_in

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

SCHEDULES = {
    "v": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    "eps": {"prediction_type": "epsilon", "rescale_betas_zero_snr": False, "timestep_spacing": "leading", "steps_offset": 1},
}


def blank(base: Path, folder: Path, target: str) -> Path:
    """The model in `base` with random weights in its UNet and a new ControlNet, and the noise levels of `target`."""
    shutil.copytree(base, folder)
    for part in ("unet", "controlnet", "scheduler"):
        shutil.rmtree(folder / part)
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(json.loads((base / "unet" / "config.json").read_text("utf-8")))
    unet.save_pretrained(folder / "unet")
    ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 96, 160)).save_pretrained(folder / "controlnet")
    levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    DDIMScheduler(**levels, set_alpha_to_one=True, **SCHEDULES[target]).save_pretrained(folder / "scheduler")
    return folder


def trained(task: FlowVidTask, rows: list[Any], *, steps: int, batch: int) -> None:
    """Some steps of AdamW on the task's loss; clips, noise and times hang on the step alone."""
    weights = [one for one in task.trained.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=5e-4, weight_decay=1e-2)
    turns, start = cycle(range(len(rows))), time.perf_counter()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 5e-4 * min(1.0, (step + 1) / 50) * min(1.0, 2 * (1 - step / steps))
        told = task.batch([rows[next(turns)] for _ in range(batch)], torch.Generator().manual_seed(step), 0.0)
        loss = task.objective(told)["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}, {time.perf_counter() - start:.0f} s", flush=True)


@torch.no_grad()
def drawn(task: FlowVidTask, row: Any, seed: int) -> tuple[Tensor, Tensor]:
    """What the network draws of a clip, and the truth, both as its autoencoder shows them: [T, 3, 64, 64] in [0, 1]."""
    objective = task.objective
    told = task.batch([row], torch.Generator().manual_seed(seed), 0.0)
    latents, more, controls = (told[name][0] for name in ("latents", "joined", "controls"))
    count, schedule = len(latents), objective.schedule
    text = objective.text(told["tokens"]).expand(count, -1, -1)

    def denoise(x: Tensor, level: Any) -> Tensor:
        times = torch.full((count,), round(level.t))
        said = objective.predicted(task.trained, x, times, text, (more, controls, torch.ones(count)), num_frames=count)
        return to_x0(said, x, level, schedule.prediction)

    made = sample(denoise, torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)),
                  noise_levels(20, schedule=schedule), run=Run())  # fmt: skip
    return decoded(task.vae, made), decoded(task.vae, latents)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--judged", "--base"):
        options.add_argument(name, type=Path, required=True)
    options.add_argument("--steps", type=int, default=1200)
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--clips", type=int, default=16)
    given = options.parse_args()
    shifts: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as place:
        for target in SCHEDULES:
            base = blank(given.base, Path(place) / target, target)
            heard = {"no_warp": 0.0, "no_first": 0.0, "no_mask": 0.0, "bare": 0.0}
            trainer = FlowVidTrainer(base=str(base), frames=8, crop=8, levels="base", pooling="max", visible=1.0, **heard)
            task = trainer(given.data)
            rows = [task.read(one) for path in shards_in(given.data)[:16] for one in read_shard(path)[0]]
            trained(task, rows, steps=given.steps, batch=given.batch)
            judged = [task.read(one) for path in shards_in(given.judged) for one in read_shard(path)[0]][: given.clips]
            pairs = [drawn(task, row, seed) for seed, row in enumerate(judged)]
            shifts[target] = np.array(
                [255 * float((a.mean(dim=(0, 2, 3)) - b.mean(dim=(0, 2, 3))).abs().mean()) for a, b in pairs]
            )
            errors = [float(-10 * torch.log10((a - b).square().mean())) for a, b in pairs]
            print(f"{target}: shift of the mean colour {shifts[target].mean():.1f} levels, {np.mean(errors):.1f} dB", flush=True)
    apart = shifts["eps"] - shifts["v"]
    low, high = interval(apart) or (np.nan, np.nan)
    told = f"{apart.mean():+.1f} levels ({low:+.1f} to {high:+.1f}), p {sign_flip(apart):.4f}"
    print(f"eps - v: {told}, above 0 in {(apart > 0).sum()} of {len(apart)}")


if __name__ == "__main__":
    main()
