"""`AutoencoderTrainer`: an autoencoder whose latents a small diffusion network can learn (Rombach et al., CVPR 2022)."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..seams import default
from .loop import Batch
from .pictures import from_bytes
from .principal import with_principal_start
from .recipes import AdamW
from .shards import Sample, first_of
from .standard import write_half

_KEPT = 64  # pictures kept to show, to begin from, and to measure the latents on


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainer:
    """Trains an `AutoencoderKL` on random crops of `size` pixels.

    The loss is the squared error + `l1` times the absolute one (pictures in [-1, 1]) + `shrink` times the mean square of the
    latents (that part of the divergence from a unit Gaussian which depends on the mean). `noise` times the latents' deviation is
    added to them, so that they bear the errors of a diffusion network; it is the posterior's deviation in what is written. Each
    width but the last halves the sides. Weights begin as a transform to principal components ("principal"), drawn by lot
    ("random"), or as those in the folder `start`.
    """

    widths: tuple[int, ...] = (16, 32, 96, 160)
    layers: int = 1
    channels: int = 16
    groups: int = 4
    size: int = 128
    l1: float = 0.1
    shrink: float = 1e-5
    noise: float = 0.05
    first: Literal["principal", "random"] = "principal"
    start: str = ""
    optimisation: AdamW = default("optimisation", "adamw")

    def __post_init__(self) -> None:
        cell = 2 ** (len(self.widths) - 1)
        if not self.widths or self.size % cell or any(width % self.groups for width in self.widths):
            raise ConfigError(
                f"Widths {self.widths} do not fit {self.groups} groups and crops of {self.size}. "
                f"Give multiples of {self.groups}, and crops of a multiple of {cell}."
            )

    def __call__(self, data: Path) -> "AutoencoderTask":
        """The networks and the loss, ready to be trained on the shards in `data`."""
        torch.manual_seed(self.optimisation.seed)  # the libraries draw first weights from the global generator
        return AutoencoderTask(self, data)


class AutoencoderTask:
    """An autoencoder in training."""

    def __init__(self, trainer: AutoencoderTrainer, data: Path) -> None:
        self.trainer = trainer
        self.objective = _Reconstruction(trainer)
        self._kept = first_of(data, self.read, _KEPT)
        if trainer.first == "principal" and not trainer.start:
            with_principal_start(self.trained["vae"], torch.stack(self._kept) * 2 - 1)

    @property
    def trained(self) -> nn.ModuleDict:
        """The autoencoder, as "vae"."""
        return self.objective.trained

    def read(self, sample: Sample) -> Tensor:
        """The picture of a sample."""
        picture = from_bytes(sample.files["picture.webp"])
        if len(picture) != 3 or min(picture.shape[1:]) < self.trainer.size:
            raise ValueError(f"{sample.key} is {tuple(picture.shape)}")
        return picture

    def rows(self, batch: int, progress: float) -> int:
        """As many as the recipe says."""
        del progress
        return batch

    def batch(self, rows: Sequence[Tensor], generator: torch.Generator, progress: float) -> Batch:
        """Crops [B, 3, size, size] in [-1, 1], half of them mirrored, and noise for the latents."""
        del progress
        size, trainer = self.trainer.size, self.trainer
        crops = []
        for picture in rows:
            top, left, turned = (
                int(torch.randint(most, (1,), generator=generator))
                for most in (picture.shape[1] - size + 1, picture.shape[2] - size + 1, 2)
            )
            crop = picture[:, top : top + size, left : left + size]
            crops.append(crop.flip(-1) if turned else crop)
        cells = size // 2 ** (len(trainer.widths) - 1)
        noise = torch.randn(len(rows), trainer.channels, cells, cells, generator=generator)
        return {"pictures": torch.stack(crops) * 2 - 1, "noise": noise}

    def show(self, trained: nn.ModuleDict) -> Tensor:
        """Eight pictures of the data and, below, what comes back of them."""
        pictures = torch.stack(self._kept[:8])
        return torch.cat((pictures, reconstructed(trained["vae"], pictures)))

    def export(self, trained: nn.ModuleDict, folder: Path) -> None:
        """`vae` in float16, its latents standardised on pictures of the data."""
        network = standardised(trained["vae"], torch.stack(self._kept), noise=self.trainer.noise)
        write_half(network, folder / "vae")


class _Reconstruction(nn.Module):
    """Pictures through the autoencoder and back."""

    def __init__(self, trainer: AutoencoderTrainer) -> None:
        super().__init__()
        self.trainer = trainer
        self.trained = nn.ModuleDict({"vae": _network(trainer)})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        network: Any = self.trained["vae"]
        pictures, trainer = batch["pictures"], self.trainer
        latents = network.encode(pictures).latent_dist.mean.float()
        noise = trainer.noise * latents.detach().std() * batch["noise"]
        back = network.decode(latents + noise).sample.float()
        squared, absolute, size = F.mse_loss(back, pictures), F.l1_loss(back, pictures), latents.square().mean()
        return {
            "loss": squared + trainer.l1 * absolute + trainer.shrink * size,
            "squared": squared,
            "latents": size,
            "psnr": 10 * torch.log10(4 / squared.detach()),
        }


def _network(trainer: AutoencoderTrainer) -> nn.Module:
    from diffusers import AutoencoderKL

    cls: Any = AutoencoderKL
    if trainer.start:
        read: nn.Module = cls.from_pretrained(trainer.start, subfolder="vae", local_files_only=True)
        return read.float()
    stages = len(trainer.widths)
    made: nn.Module = cls(
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=trainer.widths,
        layers_per_block=trainer.layers,
        latent_channels=trainer.channels,
        norm_num_groups=trainer.groups,
        mid_block_add_attention=False,
        sample_size=trainer.size,
        scaling_factor=1.0,
        force_upcast=False,
    )
    return made


@torch.no_grad()
def reconstructed(network: Any, pictures: Tensor) -> Tensor:
    """`pictures` [N, 3, H, W] in [0, 1] there and back."""
    device = next(network.parameters()).device
    latents = network.encode(pictures.to(device) * 2 - 1).latent_dist.mode()
    back: Tensor = network.decode(latents).sample
    return (back / 2 + 0.5).clamp(0, 1).cpu()


@torch.no_grad()
def standardised(network: Any, pictures: Tensor, noise: float) -> Any:
    """A copy of `network` whose latents have mean 0 and deviation 1 in each channel on `pictures` [N, 3, H, W] in [0, 1], and a
    posterior of deviation `noise`.

    The change is folded into the 1 x 1 convolutions on both sides of the latents: what comes back stays as it was.
    """
    changed: Any = copy.deepcopy(network).eval()
    device = next(changed.parameters()).device
    latents = torch.cat([changed.encode(one[None].to(device) * 2 - 1).latent_dist.mean for one in pictures])
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    into, out, count = changed.quant_conv, changed.post_quant_conv, len(mean)
    into.weight[:count] /= deviation[:, None, None, None]
    into.bias[:count] = (into.bias[:count] - mean) / deviation
    into.weight[count:] = 0.0
    into.bias[count:] = 2 * math.log(max(noise, 1e-6))  # the posterior's log variance
    out.bias += out.weight[..., 0, 0] @ mean  # before the weights take the deviation
    out.weight *= deviation[None, :, None, None]
    changed.register_to_config(scaling_factor=1.0, shift_factor=0.0)
    return changed
