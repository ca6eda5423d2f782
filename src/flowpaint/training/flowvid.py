"""`FlowVidTrainer`: a video network that repairs a first frame warped along flow (Liang et al., CVPR 2024)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError
from ..hints import Pooling, joined, latent_mask
from ..networks.temporal import Position
from ..seams import default
from ..weights import SUITED, name_of
from . import inflating, standard
from .family import CONDITIONS, LOOKS, check_parts, complete
from .inflating import Levels
from .loop import Batch, keyed
from .noising import channel_weights, decoded, drawn, noised, weighted
from .reading import Captioner, HintedClip, num_frames_of, read_hinted
from .recipes import AdamW
from .shards import Sample, first_of

_WEIGHED = 4  # clips on which it is measured what a channel shows
_NEEDED = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_ROWS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 1.0))  # are warped frame, first frame and mask heard?
_CLASS = ("flowpaint.networks.video_unet", "VideoUNet")


@dataclass(frozen=True, kw_only=True)
class FlowVidTrainer:
    """Trains the inflated UNet of the image model in the folder `base` and its widened ControlNet on clips of `frames` frames; a
    video model in `base` goes on. Autoencoder and text encoder stay as they are. `motion` names AnimateDiff's motion weights, of
    which attentions along time begin (`inflating.take_motion`).

    The loss is that of v-prediction with zero terminal SNR, times drawn uniformly (`levels` "base": the model's own target and
    noise), but for a share `begun` of the clips, which are pure noise: on these rests sampling in a few steps. `train` "new"
    leaves every weight of the image model as it is: only attentions along time and the weights of the joined channels learn.
    Each clip has one of `conditions` by lot; a new ControlNet reads it through `embedding` widths. `pooling` makes the mask of
    latents ("nearest": FlowVid's; "max": no occluded pixel is lost); `position` is the network's.

    Conditions are left out by lot, so that one network serves without any of them: a share `drop` of the clips has no words,
    `bare` no control, `no_warp` no warped frame, `no_first` no first frame, `no_mask` no mask; what is left out is zero. A share
    `ablated` hears one of the lower rows of the paper's ablation (figure 6): control only, + warped frame, + mask.
    Crops have `crop` cells (0: whole) until the last `late` share of the run, whose batches hold whole latents, fewer clips.
    `visible` is as in `ImageTrainer`. With `only_new` no whole model is written, but what differs from `base`.
    """

    base: str = ""
    motion: str = ""
    frames: int = 16
    conditions: tuple[str, ...] = CONDITIONS
    embedding: tuple[int, ...] = (16, 32, 96, 256)
    position: Position = "sinusoidal"
    pooling: Pooling = "nearest"
    train: Literal["all", "new"] = "all"
    levels: Levels = "paper"
    only_new: bool = False
    crop: int = 0
    late: float = 0.0
    begun: float = 0.0
    drop: float = 0.1
    bare: float = 0.05
    no_warp: float = 0.05
    no_first: float = 0.05
    no_mask: float = 0.05
    ablated: float = 0.0
    visible: float = 0.0
    looks: tuple[str, ...] = LOOKS
    optimisation: AdamW = default("optimisation", "adamw")

    def __post_init__(self) -> None:
        shares = self.late, self.begun, self.drop, self.bare, self.no_warp, self.no_first, self.no_mask, self.ablated
        if not self.conditions or not all(0.0 <= one <= 1.0 for one in shares) or self.crop < 0 or self.frames < 1:
            raise ConfigError(
                f"{self.frames} frames, conditions {self.conditions}, shares {shares} (late, begun, drop, bare, no_warp, "
                f"no_first, no_mask, ablated) or crop {self.crop} do not train. Give a frame, a condition, shares of 0 to 1."
            )

    def __call__(self, data: Path) -> "FlowVidTask":
        """The networks and the loss, ready to be trained on the shards of `data prepare` from clips in `data`."""
        check_parts(self.base, (*_NEEDED, *(("controlnet",) if self.train == "new" else ())))
        own = standard.schedule(self.base)
        if self.train == "new" and self.levels == "paper" and own.prediction != "v":
            raise ConfigError(
                f"Weights that stay as they are cannot learn another target, and {self.base} predicts {own.prediction}, not v. "
                'Set levels to "base", or train to "all".'
            )
        torch.manual_seed(self.optimisation.seed)  # the libraries draw first weights from the global generator
        return FlowVidTask(self, data)


class FlowVidTask:
    """A video network and its ControlNet in training."""

    def __init__(self, trainer: FlowVidTrainer, data: Path) -> None:
        self.trainer = trainer
        self.vae = standard.frozen(standard.autoencoder(trainer.base))
        self.captioner = Captioner(standard.tokenizer(trainer.base, trainer.looks), trainer.looks, dropped=trainer.drop)
        rows = _first(data, self.read, trainer)
        self.shown: HintedClip = rows[0]
        channels = int(self.vae.config.latent_channels)
        if self.shown.latents.shape[1] != channels:
            raise InputError(
                f"The latents in {data} have {self.shown.latents.shape[1]} channels, {trainer.base} has {channels}. "
                "Prepare them with this base."
            )
        weights = channel_weights(self.vae, torch.stack([row.latents[0] for row in rows]), trainer.visible)
        self.objective = _Repair(trainer, weights)

    @property
    def trained(self) -> nn.ModuleDict:
        """The networks, as "unet" and "controlnet"."""
        return self.objective.trained

    def read(self, sample: Sample) -> HintedClip:
        """The latents of a clip and of its hint, its mask, its words, its control maps."""
        return read_hinted(sample, self.trainer.conditions, self.trainer.frames)

    def rows(self, batch: int, progress: float) -> int:
        """Fewer where latents are whole, so that a batch has about as many cells."""
        cells = self.shown.latents[0, 0].numel()
        return max(1, batch * self.trainer.crop**2 // cells) if self.trainer.crop and not self._cells(progress) else batch

    def _cells(self, progress: float) -> int:
        return self.trainer.crop if progress < 1 - self.trainer.late else 0

    def batch(self, rows: Sequence[HintedClip], generator: torch.Generator, progress: float) -> Batch:
        """Latents and noise [B, T, C, h, w], `joined` to them [B, T, 2 C + 1, h, w], control maps [B, T, 3, H, W], times and the
        share of the control [B], tokens [B, L]."""
        trainer = self.trainer
        clips = [self._told(one, self._cells(progress), generator) for one in rows]
        latents = torch.stack([one for one, _, _ in clips])
        last = self.objective.schedule.num_train - 1
        times = torch.randint(last + 1, (len(rows),), generator=generator)
        if trainer.begun:
            times = times.masked_fill(torch.rand(len(rows), generator=generator) < trainer.begun, last)
        return {
            "latents": latents,
            "joined": torch.stack([one for _, one, _ in clips]),
            "controls": torch.stack([one for _, _, one in clips]),
            "noise": torch.randn(latents.shape, generator=generator),
            "times": times,
            "tokens": self.captioner(rows, generator),
            "share": (torch.rand(len(rows), generator=generator) >= trainer.bare).float(),
        }

    def _told(self, row: HintedClip, cells: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Of a window of a clip the latents [T, C, h, w], what is joined to them, and the maps [T, 3, H, W] of one condition."""
        trainer = self.trainer
        height, width = row.latents.shape[2:]
        size = (cells, cells) if cells else (height, width)
        cell = row.occluded.shape[-1] // width
        if size[0] > height or size[1] > width:
            raise InputError(f"Latents of {height}x{width} hold no crop of {size[0]}x{size[1]}. Lower crop.")
        top, left = (int(torch.randint(room + 1, (1,), generator=generator)) for room in (height - size[0], width - size[1]))
        kept = self._kept(generator)
        name = trainer.conditions[int(torch.randint(len(trainer.conditions), (1,), generator=generator))]

        def cut(maps: Tensor, unit: int = 1) -> Tensor:
            rows, columns = (
                slice(unit * start, unit * (start + length)) for start, length in zip((top, left), size, strict=True)
            )
            return maps[..., rows, columns]

        latents = cut(row.latents)
        mask = latent_mask(cut(row.occluded, cell), cell=cell, pooling=trainer.pooling)
        told = joined(cut(row.hint), latents[0], mask, kept=kept)
        return latents, told, cut(row.controls[name], cell).expand(-1, 3, -1, -1)

    def _kept(self, generator: torch.Generator) -> Tensor:
        """Which of warped frame, first frame and mask a clip hears of, [3], 1 or 0."""
        trainer = self.trainer
        lots = torch.rand(4, generator=generator)
        if lots[3] < trainer.ablated:
            return torch.tensor(_ROWS[int(torch.randint(len(_ROWS), (1,), generator=generator))])
        return (lots[:3] >= torch.tensor([trainer.no_warp, trainer.no_first, trainer.no_mask])).float()

    def show(self, trained: nn.ModuleDict) -> Tensor:
        """The first clip, its warped first frame with gray where that shows nothing, and what is drawn from it."""
        row, objective, trainer = self.shown, self.objective, self.trainer
        device = next(trained.parameters()).device
        words = f"{row.subject}, {row.look}" if row.look else row.subject
        count = len(row.latents)
        text, empty = (objective.text(self.captioner.tokens([one]).to(device)) for one in (words, ""))
        cell = row.occluded.shape[-1] // row.latents.shape[-1]
        mask = latent_mask(row.occluded, cell=cell, pooling=trainer.pooling)
        told = joined(row.hint, row.latents[0], mask).to(device)
        control = row.controls[trainer.conditions[0]].expand(-1, 3, -1, -1).to(device)
        noise = torch.randn(row.latents.shape, generator=keyed(0, 0)).to(device)

        def predict(x: Tensor, t: int, rows: Tensor) -> Tensor:
            both = (told.repeat(2, 1, 1, 1), control.repeat(2, 1, 1, 1), torch.ones(2 * count, device=device))
            return objective.predicted(trained, x, torch.full((2 * count,), t, device=device), rows, both, num_frames=count)

        latents = drawn(predict, text.expand(count, -1, -1), empty, objective.schedule, noise)
        network = self.vae.to(device)
        several = torch.cat((row.latents.to(device), row.hint.to(device), latents))
        return torch.cat([decoded(network, one[None]) for one in several])

    def export(self, trained: nn.ModuleDict, folder: Path) -> None:
        """A whole model in float16, or with `only_new` what differs from `base` (`flowpaint.networks.difference`)."""
        from ..networks.difference import write_difference

        trainer, base = self.trainer, Path(self.trainer.base)
        networks = {"unet": trained["unet"], "controlnet": inflating.folded(trained["controlnet"])}
        folder.mkdir(parents=True, exist_ok=True)
        if trainer.levels == "paper":
            inflating.write_schedule(self.objective.schedule, folder)
        if trainer.only_new:
            write_difference(networks, folder, base, name_of(base))
        else:
            for name, network in networks.items():
                standard.write_half(network, folder / name)
            complete(folder, base, suited=False, unet=_CLASS)
        told = {"pooling": trainer.pooling, "fill": self.shown.fill}
        (folder / SUITED).write_text(json.dumps(told) + "\n", "utf-8")


def _first(data: Path, read: Any, trainer: FlowVidTrainer) -> list[HintedClip]:
    """The first clips. Raises `InputError` for shards of something else."""
    names = first_of(data, lambda sample: sorted(sample.files), 1)[0]
    wanted = ["latents.npy", "hint.npy", "occluded.npy", *(f"{one}.webp" for one in trainer.conditions)]
    missing = [one for one in wanted if one not in names]
    if missing:
        raise InputError(
            f"The samples in {data} have no {missing[0]}. Make clips with flow, then their hints: `flowpaint data prepare CLIPS "
            f"--model {trainer.base or 'BASE'}`, with `--set conditions=` for other control maps."
        )
    length = first_of(data, num_frames_of, 1)[0]
    if length < trainer.frames:
        raise InputError(f"The clips in {data} have {length} frames, not {trainer.frames}. Set frames, or make longer clips.")
    return first_of(data, read, _WEIGHED)


class _Repair(nn.Module):
    """The loss of a video network under its ControlNet on a batch of clips."""

    def __init__(self, trainer: FlowVidTrainer, weights: Tensor) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", weights, persistent=False)
        self.schedule = inflating.schedule(trainer.base, trainer.levels)
        self.trained = inflating.networks(trainer.base, trainer.embedding, trainer.position)
        if trainer.motion:
            inflating.take_motion(self.trained["unet"], trainer.motion)
        self.trained.requires_grad_(True)
        if trainer.train == "new":
            inflating.only_new_learn(self.trained)
        self.frozen = nn.ModuleDict({"text_encoder": standard.frozen(standard.text_encoder(trainer.base))})

    def text(self, tokens: Tensor) -> Tensor:
        """Text [N, L, D] of tokens [N, L]."""
        encoder: Any = self.frozen["text_encoder"]
        with torch.no_grad():
            found: Tensor = encoder(input_ids=tokens).last_hidden_state
        return found

    def predicted(
        self,
        trained: nn.ModuleDict,
        x: Tensor,
        times: Tensor,
        text: Tensor,
        told: tuple[Tensor, Tensor, Tensor],
        *,
        num_frames: int,
    ) -> Tensor:
        """What the network says of x [S, C, h, w], clips of `num_frames` one after another, as are times [S], text [S, L, D].

        `told`: what is joined [S, 2 C + 1, h, w], control maps [S, 3, H, W], and the share [S] that each of these has a say.
        """
        more, controls, share = told
        seen = torch.cat((x, more), dim=1)
        skips, middle = trained["controlnet"](
            seen, times, encoder_hidden_states=text, controlnet_cond=controls, return_dict=False
        )
        heard = share[:, None, None, None]
        found: Tensor = trained["unet"](
            seen,
            times,
            text,
            num_frames=num_frames,
            down_block_additional_residuals=[heard * one for one in skips],
            mid_block_additional_residual=heard * middle,
        ).sample
        return found

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        frames = batch["latents"].shape[1]
        latents, noise, more, controls = (batch[name].flatten(0, 1) for name in ("latents", "noise", "joined", "controls"))
        times, share, text = (
            one.repeat_interleave(frames, dim=0) for one in (batch["times"], batch["share"], self.text(batch["tokens"]))
        )
        x, target = noised(latents, noise, times, self.schedule)
        found = self.predicted(self.trained, x, times, text, (more, controls, share), num_frames=frames)
        return {"loss": weighted(found, target, self.weights)}
