"""Shards of pictures turned into shards of latents by the autoencoder of a model."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pictures import from_bytes
from .shards import Sample, ShardWriter, read_shard, shards_in
from .standard import autoencoder, frozen

Progress = Callable[[str, int, int], None]


def encode_pictures(
    source: Path,
    output: Path,
    *,
    base: str,
    batch: int = 8,
    device: str = "cpu",
    bf16: bool = False,
    progress: Progress,
) -> int:
    """The number of samples of `source` written to `output`, `picture.webp` of each turned into `latent.npy`.

    The latent is float16 [C, h, w], the mode of the posterior of the autoencoder in the folder `base`, scaled as
    `LatentDiffusion` scales it. `bf16` runs the network in bfloat16, which errs by some thousandths of a deviation. Samples
    without a sound picture are left out.
    """
    network = frozen(autoencoder(base)).to(device)
    shards = shards_in(source)
    written = 0
    with ShardWriter(output) as kept:
        for number, path in enumerate(shards):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
                for sample, latent in _encoded(read_shard(path)[0], network, batch):
                    files = {name: content for name, content in sample.files.items() if name != "picture.webp"}
                    kept.write({"latent.npy": latent, **files})
                    written += 1
            progress("latents", number + 1, len(shards))
    return written


def _encoded(samples: list[Sample], network: Any, batch: int) -> Iterator[tuple[Sample, bytes]]:
    pending: list[tuple[Sample, Tensor]] = []
    for sample in samples:
        try:
            picture = from_bytes(sample.files["picture.webp"])
        except (OSError, ValueError, KeyError):
            continue
        if pending and (len(pending) == batch or pending[0][1].shape != picture.shape):
            yield from _flushed(pending, network)
            pending = []
        pending.append((sample, picture))
    if pending:
        yield from _flushed(pending, network)


def _flushed(pending: list[tuple[Sample, Tensor]], network: Any) -> Iterator[tuple[Sample, bytes]]:
    latents = encoded(network, torch.stack([picture for _, picture in pending]))
    for (sample, _), latent in zip(pending, latents.half().cpu().numpy(), strict=True):
        content = io.BytesIO()
        np.save(content, latent)
        yield sample, content.getvalue()


@torch.no_grad()
def encoded(network: Any, pictures: Tensor) -> Tensor:
    """Latents [N, C, h, w] of `pictures` [N, 3, H, W] in [0, 1], as `LatentDiffusion` has them."""
    device = next(network.parameters()).device
    mean: Tensor = network.encode(pictures.to(device) * 2 - 1).latent_dist.mean.float()
    latents: Tensor = (mean - (network.config.shift_factor or 0.0)) * network.config.scaling_factor
    return latents
