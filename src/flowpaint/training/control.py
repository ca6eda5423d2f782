"""`ControlTrainer`: a ControlNet for edges on a frozen text-to-image model (Zhang, Rao and Agrawala, ICCV 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..seams import default
from . import standard
from .family import CONDITIONS, LOOKS, check_parts, complete
from .loop import Batch, keyed
from .noising import channel_weights, decoded, drawn, noised, sigma_squared, weighted
from .reading import Captioner, Latent, cropped, read_latent
from .recipes import AdamW
from .shards import Sample, first_of
from .skips import Skips

_WEIGHED = 4  # pictures on which it is measured what a channel shows
_NEEDED = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True, kw_only=True)
class ControlTrainer:
    """Trains a ControlNet for the model in the folder `base`, which stays as it is; with `joint` all of it learns along.

    The ControlNet starts as a copy of the UNet's encoder (or from the one in `base`) and reads one of `conditions` by lot in each
    sample, through convolutions of `embedding` widths: each but the first halves the map, so that it meets the latent's cells.
    Crops have `crop` cells until the last `late` share of the run, whose batches hold whole latents, fewer of them. A share
    `drop` of captions is empty, a share `bare` of samples goes without control. `visible` and `quiet` are as in `ImageTrainer`.
    """

    base: str = ""
    conditions: tuple[str, ...] = CONDITIONS
    embedding: tuple[int, ...] = (8, 16, 32, 64)
    crop: int = 16
    late: float = 0.0
    drop: float = 0.1
    bare: float = 0.0
    joint: bool = False
    visible: float = 0.0
    quiet: float = 0.0
    looks: tuple[str, ...] = LOOKS
    optimisation: AdamW = default("optimisation", "adamw")

    def __post_init__(self) -> None:
        shares = self.late, self.drop, self.bare, self.quiet
        if not self.conditions or not all(0.0 <= one <= 1.0 for one in shares) or self.crop < 0:
            raise ConfigError(
                f"Conditions {self.conditions}, shares {shares} (late, drop, bare, quiet) or crop {self.crop} do not train. "
                "Name a condition, give shares from 0 to 1."
            )

    def __call__(self, data: Path) -> "ControlTask":
        """The networks and the loss, ready to be trained on the shards with latents and control maps in `data`."""
        check_parts(self.base, _NEEDED)
        torch.manual_seed(self.optimisation.seed)  # the libraries draw first weights from the global generator
        return ControlTask(self, data)


class ControlTask:
    """A ControlNet in training."""

    def __init__(self, trainer: ControlTrainer, data: Path) -> None:
        self.trainer = trainer
        self.vae = standard.frozen(standard.autoencoder(trainer.base))
        self.schedule = standard.schedule(trainer.base)
        self.captioner = Captioner(standard.tokenizer(trainer.base, trainer.looks), trainer.looks, dropped=trainer.drop)
        rows = first_of(data, self.read, _WEIGHED)
        self.shown = rows[0]
        weights = channel_weights(self.vae, torch.stack([row.latent for row in rows]), trainer.visible)
        self.objective = _Controlled(trainer, weights)

    @property
    def trained(self) -> nn.ModuleDict:
        """The ControlNet, as "controlnet"; with `joint` also "unet" and "text_encoder"."""
        return self.objective.trained

    def read(self, sample: Sample) -> Latent:
        """The latents of a sample, its words, its control maps."""
        return read_latent(sample, self.trainer.conditions)

    def rows(self, batch: int, progress: float) -> int:
        """Fewer where latents are whole, so that a batch has about as many cells."""
        cells = self.shown.latent[0].numel()
        return batch if self._cells(progress) else max(1, batch * self.trainer.crop**2 // cells)

    def _cells(self, progress: float) -> int:
        return self.trainer.crop if progress < 1 - self.trainer.late else 0

    def batch(self, rows: Sequence[Latent], generator: torch.Generator, progress: float) -> Batch:
        """Latents and noise [B, C, h, w], control maps [B, 3, 8 h, 8 w], times and their share [B], tokens [B, L], lots."""
        latents, maps = cropped(rows, self._cells(progress), generator)
        chosen = torch.randint(len(self.trainer.conditions), (len(rows),), generator=generator).tolist()
        controls = [each[self.trainer.conditions[number]] for each, number in zip(maps, chosen, strict=True)]
        return {
            "latents": latents,
            "controls": torch.stack(controls).expand(-1, 3, -1, -1),
            "noise": torch.randn(latents.shape, generator=generator),
            "times": torch.randint(self.schedule.num_train, (len(rows),), generator=generator),
            "tokens": self.captioner(rows, generator),
            "share": (torch.rand(len(rows), generator=generator) >= self.trainer.bare).float(),
            "lots": torch.rand(len(rows), 2, generator=generator),
        }

    def show(self, trained: nn.ModuleDict) -> Tensor:
        """The control map of the first picture, and what is drawn from it under bare names of looks."""
        looks = self.trainer.looks[::3][:7]
        objective = self.objective
        device = next(trained.parameters()).device
        text, empty = (objective.text(trained, self.captioner.tokens(words).to(device)) for words in (looks, [""]))
        control = self.shown.controls[self.trainer.conditions[0]].expand(3, -1, -1)[None].to(device)
        noise = torch.randn(1, *self.shown.latent.shape, generator=keyed(0, 0)).expand(len(looks), -1, -1, -1).to(device)

        def predict(x: Tensor, t: int, rows: Tensor) -> Tensor:
            shown = control.expand(len(x), -1, -1, -1)
            return objective.predicted(
                trained, x, torch.tensor([t], device=device), rows, (shown, torch.ones(len(x), device=device))
            )

        return torch.cat((control.cpu(), decoded(self.vae.to(device), drawn(predict, text, empty, self.schedule, noise))))

    def export(self, trained: nn.ModuleDict, folder: Path) -> None:
        """What was trained in float16, and beside it the rest of the model."""
        for name, network in trained.items():
            standard.write_half(network, folder / name)
        complete(folder, Path(self.trainer.base))


class _Controlled(nn.Module):
    """The loss of a UNet under a ControlNet."""

    def __init__(self, trainer: ControlTrainer, weights: Tensor) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", weights, persistent=False)
        self.schedule = standard.schedule(trainer.base)
        model = {"unet": standard.unet(trainer.base), "text_encoder": standard.text_encoder(trainer.base)}
        control = standard.controlnet(trainer.base, model["unet"], trainer.embedding)
        self.skips = Skips(model["unet"], quiet=trainer.quiet)
        self.trained = nn.ModuleDict({"controlnet": control, **(model if trainer.joint else {})})
        self.frozen = nn.ModuleDict({} if trainer.joint else {name: standard.frozen(one) for name, one in model.items()})

    def _part(self, trained: nn.ModuleDict, name: str) -> Any:
        return trained[name] if name in trained else self.frozen[name]

    def text(self, trained: nn.ModuleDict, tokens: Tensor) -> Tensor:
        """Text [N, L, D] of tokens [N, L]."""
        found: Tensor = self._part(trained, "text_encoder")(input_ids=tokens).last_hidden_state
        return found

    def predicted(
        self, trained: nn.ModuleDict, x: Tensor, times: Tensor, text: Tensor, controls: tuple[Tensor, Tensor]
    ) -> Tensor:
        """What the UNet says of x [B, C, h, w] under `controls`: maps [B, 3, 8 h, 8 w], and the share [B] that each has a say."""
        shown, share = controls
        skips, middle = trained["controlnet"](x, times, encoder_hidden_states=text, controlnet_cond=shown, return_dict=False)
        heard = share[:, None, None, None]
        found: Tensor = self._part(trained, "unet")(
            x,
            times,
            encoder_hidden_states=text,
            down_block_additional_residuals=[heard * one for one in skips],
            mid_block_additional_residual=heard * middle,
        ).sample
        return found

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        text = self.text(self.trained, batch["tokens"])
        x, target = noised(batch["latents"], batch["noise"], batch["times"], self.schedule)
        with self.skips.hushed(batch["lots"], sigma_squared(batch["times"], self.schedule)):
            found = self.predicted(self.trained, x, batch["times"], text, (batch["controls"], batch["share"]))
        return {"loss": weighted(found, target, self.weights)}
