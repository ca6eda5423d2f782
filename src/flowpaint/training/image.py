"""`ImageTrainer`: text to image in latents, from nothing or from the weights of any model in diffusers' layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..diffusion.levels import Schedule
from ..errors import ConfigError, InputError, WeightsError
from ..seams import default
from . import standard
from .family import LOOKS, complete, part_of
from .loop import Batch, keyed
from .noising import channel_weights, decoded, drawn, noised, sigma_squared, weighted
from .reading import Captioner, Latent, cropped, read_latent
from .recipes import AdamW
from .shards import Sample, first_of
from .skips import Skips

_SHOWN = 8  # looks in a sheet of samples
_WEIGHED = 4  # pictures on which it is measured what a channel shows


@dataclass(frozen=True, kw_only=True)
class ImageTrainer:
    """Trains a UNet, and the text encoder with it where `train_text`, on latents with captions.

    `base` is the folder of a model: at least its autoencoder, with which the latents were made. Networks that it lacks are made
    new, of these sizes; those that it has go on. `tune` "lora" leaves their weights and learns changes of rank `rank` to the
    attentions (Hu et al., ICLR 2022). Crops have `crop` cells until the last `late` share of the run, whose batches hold whole
    latents, fewer of them. A share `drop` of the captions is empty, which guidance needs (Ho and Salimans, 2022). What a channel
    shows in the picture weighs in the loss, to the power `visible` (`channel_weights`); 0: all alike, as in the papers. A share
    `quiet` of the noisiest samples goes without skip connections (`Skips`), so that what lies deep in a small network is heard.
    """

    base: str = ""
    widths: tuple[int, ...] = (96, 160)
    layers: int = 1
    head: int = 32
    groups: int = 16
    text_width: int = 160
    text_layers: int = 3
    crop: int = 16
    late: float = 0.1
    drop: float = 0.1
    visible: float = 0.0
    quiet: float = 0.0
    train_text: bool = True
    tune: Literal["all", "lora"] = "all"
    rank: int = 8
    looks: tuple[str, ...] = LOOKS
    optimisation: AdamW = default("optimisation", "adamw")

    def __post_init__(self) -> None:
        if any(width % self.head or width % self.groups for width in (*self.widths, self.text_width)):
            raise ConfigError(
                f"Widths {self.widths} and {self.text_width} do not divide into heads of {self.head} and {self.groups} groups. "
                "Choose multiples of both."
            )
        shares = self.late, self.drop, self.quiet
        if not all(0.0 <= one <= 1.0 for one in shares) or self.drop == 1.0 or self.crop < 0:
            raise ConfigError(
                f"Shares {shares} (late, drop, quiet) or crop {self.crop} do not train. Give shares from 0 to 1, drop below 1."
            )

    def __call__(self, data: Path) -> "ImageTask":
        """The networks and the loss, ready to be trained on the shards with latents in `data`."""
        if part_of(self.base, "vae") is None:
            raise WeightsError("The trainer has no autoencoder. Name as `base` the folder of the model that made the latents.")
        torch.manual_seed(self.optimisation.seed)  # the libraries draw first weights from the global generator
        return ImageTask(self, data)


class ImageTask:
    """A text-to-image model in training."""

    def __init__(self, trainer: ImageTrainer, data: Path) -> None:
        self.trainer = trainer
        self.vae = standard.frozen(standard.autoencoder(trainer.base))
        channels = int(self.vae.config.latent_channels)
        rows = first_of(data, read_latent, _WEIGHED)
        first = rows[0].latent
        if len(first) != channels:
            raise InputError(
                f"The latents in {data} have {len(first)} channels, {trainer.base} has {channels}. Prepare them with this base."
            )
        self.size = tuple(first.shape)
        self.schedule = standard.schedule(trainer.base)
        self.tokenizer = standard.tokenizer(trainer.base, trainer.looks)
        self.captioner = Captioner(self.tokenizer, trainer.looks, dropped=trainer.drop)
        weights = channel_weights(self.vae, torch.stack([row.latent for row in rows]), trainer.visible)
        self.objective = _Denoising(trainer, self.schedule, weights, self.tokenizer)

    @property
    def trained(self) -> nn.ModuleDict:
        """ "unet", and "text_encoder" where it learns too."""
        return self.objective.trained

    def read(self, sample: Sample) -> Latent:
        """The latents of a sample and its words."""
        return read_latent(sample)

    def rows(self, batch: int, progress: float) -> int:
        """Fewer where latents are whole, so that a batch has about as many cells."""
        return batch if self._cells(progress) else max(1, batch * self.trainer.crop**2 // (self.size[1] * self.size[2]))

    def _cells(self, progress: float) -> int:
        return self.trainer.crop if progress < 1 - self.trainer.late else 0

    def batch(self, rows: Sequence[Latent], generator: torch.Generator, progress: float) -> Batch:
        """Latents and noise [B, C, h, w], times [B], tokens [B, L], lots [B, 2]."""
        latents, _ = cropped(rows, self._cells(progress), generator)
        return {
            "latents": latents,
            "noise": torch.randn(latents.shape, generator=generator),
            "times": torch.randint(self.schedule.num_train, (len(rows),), generator=generator),
            "tokens": self.captioner(rows, generator),
            "lots": torch.rand(len(rows), 2, generator=generator),
        }

    def show(self, trained: nn.ModuleDict) -> Tensor:
        """What is drawn from the same noise under bare names of looks."""
        looks = self.trainer.looks[:: max(1, len(self.trainer.looks) // _SHOWN)][:_SHOWN]
        device = self.objective.device
        unet, encode = trained["unet"], self.objective.encoder(trained)
        text, empty = (encode(self.captioner.tokens(words).to(device)) for words in (looks, [""]))
        noise = torch.randn(1, *self.size, generator=keyed(0, 0)).expand(len(looks), -1, -1, -1).to(device)
        latents = drawn(lambda x, t, rows: unet(x, t, encoder_hidden_states=rows).sample, text, empty, self.schedule, noise)
        return decoded(self.vae.to(device), latents)

    def export(self, trained: nn.ModuleDict, folder: Path) -> None:
        """A whole model in float16; of a LoRA, its file alone."""
        if self.trainer.tune == "lora":
            standard.write_lora(trained["unet"], folder)
            return
        for name, network in trained.items():
            standard.write_half(network, folder / name)
        standard.write_plain(folder, self.tokenizer, self.trainer.base)
        complete(folder, Path(self.trainer.base))


class _Denoising(nn.Module):
    """The loss of a diffusion network on a batch."""

    def __init__(self, trainer: ImageTrainer, schedule: Schedule, weights: Tensor, tokenizer: Any) -> None:
        super().__init__()
        self.schedule = schedule
        self.weights: Tensor
        self.register_buffer("weights", weights, persistent=False)
        sizes = standard.Sizes(
            widths=trainer.widths,
            layers=trainer.layers,
            head=trainer.head,
            groups=trainer.groups,
            text_width=trainer.text_width,
            text_layers=trainer.text_layers,
        )
        encoder = standard.text_encoder(trainer.base, tokenizer, sizes)
        unet = standard.unet(trainer.base, len(weights), int(encoder.config.hidden_size), sizes)
        if trainer.tune == "lora":
            unet = standard.with_lora(unet, trainer.rank)
        learns_text = trainer.train_text and trainer.tune == "all"
        self.skips = Skips(unet, quiet=trainer.quiet)
        self.trained = nn.ModuleDict({"unet": unet, **({"text_encoder": encoder} if learns_text else {})})
        self.frozen = nn.ModuleDict({} if learns_text else {"text_encoder": standard.frozen(encoder)})

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.trained.parameters()).device

    def encoder(self, trained: nn.ModuleDict) -> Any:
        """Tokens [N, L] to text [N, L, D], by the encoder among `trained` or the frozen one."""
        network: Any = trained["text_encoder"] if "text_encoder" in trained else self.frozen["text_encoder"]
        return lambda tokens: network(input_ids=tokens).last_hidden_state

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        text = self.encoder(self.trained)(batch["tokens"])
        x, target = noised(batch["latents"], batch["noise"], batch["times"], self.schedule)
        with self.skips.hushed(batch["lots"], sigma_squared(batch["times"], self.schedule)):
            found = self.trained["unet"](x, batch["times"], encoder_hidden_states=text).sample
        return {"loss": weighted(found, target, self.weights)}
