"""Shards of clips turned into what FlowVid learns from: latents of the frames and of the hints, masks, control maps."""

import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import seams
from ..errors import ConfigError, InputError, WeightsError
from ..hints import Fill, filled, hint
from ..seams import Executor, SpatialCondition
from ..smoothing import dilate
from .family import CONDITIONS, LOOKS, part_of
from .latents import encoded
from .pictures import in_look, to_bytes
from .shards import Sample, ShardWriter, read_shard, shards_in
from .standard import autoencoder, frozen

Progress = Callable[[str, int, int], None]
Random = np.random.Generator

_BROKEN = (ValueError, OSError, KeyError, EOFError)
_FAINT = 0.01  # a difference that is hardly seen: that of a vignette which stays while things move
_PATCH = 32  # pixels over which the error of a flow hardly changes
_TALLEST = 16383  # pixels of a WebP file, in which the maps of a clip lie one below the other


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawClip:
    """A clip as `clip_files` wrote it: frames [T, 3, H, W], backward flow and visibility of T - 1, control maps [T, H, W]."""

    frames: Tensor
    backward: Tensor
    visible: Tensor
    controls: Mapping[str, Tensor]
    told: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class HintMaker:
    """Encodes the clips of a shard with the autoencoder of the model in the folder `base`, each `copies` times.

    What differs between the copies is drawn by lot, that a network meet in training what it meets at work, where the first frame
    is an edit and its flow is measured (condition augmentation; the paper does not tell of any). A share `styled` of them is seen
    in one of `looks` (see `painted`). In each, the occluded part grows by up to `grow` pixels, the flow errs by up to `shake`
    pixels (a deviation, smooth in space), and the colours of what is warped by up to `tint`; the first frame stays as it is.
    `fill` is what is seen where the first frame is not (`flowpaint.hints.filled`). Control maps are of the clip as it was, for
    `conditions`; "depth" is the clip's own if it has one.
    Raises `ConfigError` for values outside their range.
    """

    copies: int = 2
    styled: float = 0.5
    looks: tuple[str, ...] = LOOKS
    conditions: tuple[str, ...] = CONDITIONS
    grow: int = 8
    shake: float = 1.0
    tint: float = 0.05
    fill: Fill = "gray"
    base: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1 or not 0.0 <= self.styled <= 1.0 or min(self.grow, self.shake, self.tint) < 0 or not self.looks:
            raise ConfigError(
                f"copies {self.copies}, styled {self.styled}, grow {self.grow}, shake {self.shake} or tint {self.tint} make no "
                "hints. Give one copy or more, a share from 0 to 1, nothing below 0, and a look."
            )

    def __call__(self, path: Path, device: str = "cpu", bf16: bool = False) -> list[dict[str, bytes]]:
        """The samples that come of the shard `path`; what is broken in it is left out.

        Files: `latents.npy` and `hint.npy` float16 [T, C, h, w], as `LatentDiffusion` scales them; `occluded.npy` uint8
        [T, 1, H, W / 8], a bit a pixel, 1 = not seen in the first frame; `CONDITION.webp` [T H, W], maps one below the other;
        `json`, the clip's own with the look. `bf16` runs the autoencoder in bfloat16. Raises `InputError` for shards without
        clips, or of another size than the autoencoder's cells fill, `WeightsError` where there is no autoencoder.
        """
        if part_of(self.base, "vae") is None:
            raise WeightsError(f"The model {self.base!r} has no vae. Name the folder of the model that is to learn, by --model.")
        network = frozen(autoencoder(self.base)).to(device)
        found: list[dict[str, bytes]] = []
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            for sample in read_shard(path)[0]:
                if "picture.webp" in sample.files or "latent.npy" in sample.files:
                    raise InputError(f"{path} holds pictures, no clips. Give the shards that `data synth --clips` made.")
                try:
                    clip = _read(sample, self.conditions)
                except _BROKEN:
                    continue
                found += self._copies(clip, sample.key, network)
        return found

    def _copies(self, clip: RawClip, key: str, network: Any) -> list[dict[str, bytes]]:
        height, width = clip.frames.shape[-2:]
        cell = 2 ** (len(network.config.block_out_channels) - 1)
        if height % cell or width % cell or width % 8 or len(clip.frames) * height > _TALLEST:
            raise InputError(
                f"Clips of {len(clip.frames)} frames of {width}x{height} cannot be kept. Give sides that are multiples of "
                f"{max(cell, 8)}, and frames that are together at most {_TALLEST} pixels high."
            )
        kept = {f"{name}.webp": to_bytes(one.flatten(0, 1)[None]) for name, one in clip.controls.items()}
        number = zlib.crc32(f"{clip.told.get('origin')} {clip.told.get('seed')} {key}".encode())
        return [
            {**self._copy(clip, network, np.random.default_rng([112, self.seed, number, copy])), **kept}
            for copy in range(self.copies)
        ]

    def _copy(self, clip: RawClip, network: Any, rng: Random) -> dict[str, bytes]:
        look = str(rng.choice(list(self.looks))) if rng.random() < self.styled else ""
        seed = int(rng.integers(2**31))
        frames = painted(clip, look, seed) if look else clip.frames
        warped, mask = self.hinted(frames[0], clip.backward, clip.visible, rng)
        warped = filled(warped, mask, self.fill)
        latents = torch.cat([encoded(network, one[None]) for one in frames]).cpu()
        hints = torch.cat([latents[:1], *(encoded(network, one[None]).cpu() for one in warped[1:])])
        return {
            "latents.npy": _bytes(latents.half().numpy()),
            "hint.npy": _bytes(hints.half().numpy()),
            "occluded.npy": _bytes(np.packbits(mask.bool().numpy(), axis=-1)),
            "json": json.dumps({**clip.told, "look": look, "fill": self.fill}).encode(),
        }

    def hinted(self, first: Tensor, backward: Tensor, visible: Tensor, rng: Random) -> tuple[Tensor, Tensor]:
        """`hint` of the same tensors, after what is drawn from `rng` befell them: [T, 3, H, W] in [0, 1], [T, 1, H, W].

        `first` [3, H, W] in [0, 1], `backward` [N, 2, H, W] in pixels, `visible` [N, 1, H, W].
        """
        grow, shake, tint = int(rng.integers(self.grow + 1)), self.shake * rng.random(), self.tint * rng.random()
        gain, offset = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 1, 1))).float() * tint
        hidden = dilate(1 - visible, grow) if grow else 1 - visible
        errors = _smooth(backward.shape, torch.Generator().manual_seed(int(rng.integers(2**62))))
        tinted = (first * (1 + gain) + offset).clamp(0, 1)
        warped, mask = hint(tinted, backward + shake * errors, 1 - hidden)
        return torch.cat((first[None], warped[1:])), mask


def painted(clip: RawClip, look: str, seed: int) -> Tensor:
    """The frames of `clip` in the built-in look of that name: [T, 3, H, W] in [0, 1].

    Many looks put their strokes elsewhere in every frame, ten times as unlike along the flow as the clip itself: from such frames
    a network would learn that what it is told of the first one does not hold. Where a look does so, a frame shows what was
    painted in the first one wherever that is seen, and strokes of its own elsewhere.
    """
    frames = torch.stack([in_look(one, look, seed) for one in clip.frames])
    carried, mask = hint(frames[0], clip.backward, clip.visible)
    plain, _ = hint(clip.frames[0], clip.backward, clip.visible)
    change, own = (_unlike(*pair, 1 - mask) for pair in ((carried, frames), (plain, clip.frames)))
    return torch.where(mask > 0, frames, carried) if change > 2 * own + _FAINT else frames


def _unlike(a: Tensor, b: Tensor, seen: Tensor) -> float:
    """The mean difference of a and b [T, 3, H, W] where `seen` [T, 1, H, W] is 1, without the first frame."""
    return float(((a - b).abs() * seen)[1:].sum() / (3 * seen[1:].sum()).clamp_min(1))


def _smooth(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise of this shape [N, 2, H, W] and about unit deviation that hardly changes within a patch."""
    coarse = torch.randn(*shape[:2], *(max(2, side // _PATCH + 1) for side in shape[2:]), generator=generator)
    return F.interpolate(coarse, size=shape[2:], mode="bicubic", align_corners=True)


def _read(sample: Sample, conditions: tuple[str, ...]) -> RawClip:
    """Raises ValueError, OSError or KeyError for a broken sample."""

    def array(name: str) -> Tensor:
        return torch.from_numpy(np.load(io.BytesIO(sample.files[f"{name}.npy"]), allow_pickle=False)).float()

    frames, backward, visible = array("frames") / 255, array("backward"), array("visibility") / 255
    count = len(frames) - 1
    if backward.shape != (count, 2, *frames.shape[2:]) or visible.shape != (count, 1, *frames.shape[2:]) or count < 1:
        raise ValueError(f"{sample.key} has flow {tuple(backward.shape)} for frames {tuple(frames.shape)}")
    if not backward.isfinite().all():
        raise ValueError(f"{sample.key} has flow that is not finite")
    measured = {"depth": array("depth")[:, 0] / 255} if "depth" in conditions and "depth.npy" in sample.files else {}
    controls = {name: measured[name] if name in measured else _control(name, frames) for name in conditions}
    return RawClip(frames=frames, backward=backward, visible=visible, controls=controls, told=json.loads(sample.files["json"]))


def _control(name: str, frames: Tensor) -> Tensor:
    condition: SpatialCondition = seams.build("condition", name)
    return condition(frames)[:, 0]


def holds_clips(source: Path) -> bool:
    """Whether the first sample in the shards of `source` is a clip."""
    samples = read_shard(shards_in(source)[0])[0]
    return bool(samples) and "frames.npy" in samples[0].files


def encode_clips(
    sources: Sequence[Path],
    output: Path,
    *,
    maker: HintMaker,
    executor: Executor,
    device: str = "cpu",
    bf16: bool = False,
    progress: Progress,
) -> int:
    """The number of samples that `maker` made of the clips in the folders `sources` of shards and that were written to `output`.

    Raises `InputError` where there is no sound clip, and what `maker` raises.
    """
    shards = [path for source in sources for path in shards_in(source)]
    written = 0
    with ShardWriter(output, size=32) as kept:
        found = executor.map(partial(maker, device=device, bf16=bf16), shards, str)
        for number, samples in enumerate(found):
            for files in samples:
                kept.write(files)
                written += 1
            progress("hints", number + 1, len(shards))
    if not written:
        named = ", ".join(str(one) for one in sources)
        raise InputError(f"No clip in {named} has frames and flow. Make clips by `data synth --clips` or `data prepare VIDEOS`.")
    return written


def _bytes(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
