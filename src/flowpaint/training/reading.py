"""Samples as a diffusion trainer reads them: latents, words, control maps, and of clips the hints."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .captions import caption
from .family import names_of
from .pictures import from_bytes
from .shards import Sample
from .vocabulary import neutral, strewn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Latent:
    """A picture as latents [C, h, w], float32; `look` is "" for a plain one; `controls` by name, [1, H, W] in [0, 1]."""

    latent: Tensor
    subject: str
    look: str
    controls: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HintedClip:
    """A clip as latents [T, C, h, w], and its warped first frame as latents `hint` [T, C, h, w], float32.

    `occluded` [T, 1, H, W] is 1 where the first frame does not show what the frame does; `look` is "" for a plain clip;
    `controls` by name, [T, 1, H, W] in [0, 1]; `fill` says what the hint shows there (`flowpaint.hints.filled`).
    """

    latents: Tensor
    hint: Tensor
    occluded: Tensor
    subject: str
    look: str
    controls: Mapping[str, Tensor]
    fill: str = "gray"


class Captioned(Protocol):
    """What has words: a subject, and a look or ""."""

    @property
    def subject(self) -> str:
        """What is seen."""
        ...

    @property
    def look(self) -> str:
        """How it is painted."""
        ...


def read_latent(sample: Sample, controls: Sequence[str] = ()) -> Latent:
    """A sample of shards with latents. Raises ValueError, OSError or KeyError where it is broken."""
    latent = torch.from_numpy(np.load(io.BytesIO(sample.files["latent.npy"]), allow_pickle=False)).float()
    if latent.ndim != 3 or not latent.isfinite().all():
        raise ValueError(f"{sample.key} has a latent {tuple(latent.shape)} that is not finite or no picture's")
    told = json.loads(sample.files["json"])
    maps = {name: from_bytes(sample.files[f"{name}.webp"])[:1] for name in controls}
    return Latent(latent=latent, subject=told["subject"], look=told["look"], controls=maps)


def read_hinted(sample: Sample, controls: Sequence[str], num_frames: int) -> HintedClip:
    """The first `num_frames` frames of a sample of `HintMaker`.

    Raises ValueError, OSError or KeyError where it is broken or shorter.
    """

    def array(name: str) -> Any:
        found = np.load(io.BytesIO(sample.files[f"{name}.npy"]), allow_pickle=False)
        if found.ndim != 4 or len(found) < num_frames:
            raise ValueError(f"{sample.key} has {name} {found.shape}, of which {num_frames} frames cannot be read")
        return found[:num_frames]

    latents, hint = (torch.from_numpy(array(name)).float() for name in ("latents", "hint"))
    if latents.shape != hint.shape or not (latents.isfinite().all() and hint.isfinite().all()):
        raise ValueError(f"{sample.key} has latents {tuple(latents.shape)} and hints that do not fit or are not finite")
    occluded = torch.from_numpy(np.unpackbits(array("occluded"), axis=-1)).float()
    height, width = occluded.shape[-2:]
    maps = {name: from_bytes(sample.files[f"{name}.webp"])[0].view(-1, 1, height, width)[:num_frames] for name in controls}
    told = json.loads(sample.files["json"])
    return HintedClip(
        latents=latents,
        hint=hint,
        occluded=occluded,
        subject=told["subject"],
        look=told["look"],
        controls=maps,
        fill=told.get("fill", "gray"),
    )


def num_frames_of(sample: Sample) -> int:
    """How many frames a sample of `HintMaker` has. Raises ValueError, OSError or KeyError where it is broken."""
    return len(np.load(io.BytesIO(sample.files["latents.npy"]), allow_pickle=False))


class Captioner:
    """Sentences about samples, as tokens: no words at all for the share `dropped`, strange words in the share `strange`."""

    def __init__(self, tokenizer: Any, looks: Sequence[str], *, dropped: float = 0.1, strange: float = 0.3) -> None:
        self._tokenizer, self._dropped, self._strange = tokenizer, dropped, strange
        self._names = {look: names_of(look) for look in looks}
        self._ordinary = neutral(self._names.values())

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token numbers [N, L] of `texts`, cut off and padded to what the encoder reads."""
        length = int(self._tokenizer.model_max_length)
        found = self._tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        ids: Tensor = found["input_ids"]
        return ids

    def __call__(self, rows: Sequence[Captioned], generator: torch.Generator) -> Tensor:
        """Token numbers [B, L] of one sentence for each of `rows`."""
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        return self.tokens([self._sentence(row, rng) for row in rows])

    def _sentence(self, row: Captioned, rng: np.random.Generator) -> str:
        if rng.random() < self._dropped:
            return ""
        text = caption(row.subject, self._names.get(row.look, (row.look,)) if row.look else (), rng)
        return strewn(text, self._ordinary, rng) if rng.random() < self._strange else text


def cropped(
    rows: Sequence[Latent], cells: int, generator: torch.Generator, cell: int = 8
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Random crops [B, C, cells, cells] of the latents, and of their control maps, `cell` pixels for each of the latent's cells.

    0 cells take all. Raises ValueError for latents smaller than the crop.
    """
    latents, maps = [], []
    for row in rows:
        height, width = row.latent.shape[1:]
        size = (cells, cells) if cells else (height, width)
        if height < size[0] or width < size[1]:
            raise ValueError(f"latents of {height}x{width} hold no crop of {size[0]}x{size[1]}")
        top, left = (int(torch.randint(room + 1, (1,), generator=generator)) for room in (height - size[0], width - size[1]))
        latents.append(row.latent[:, top : top + size[0], left : left + size[1]])
        window = (slice(None), slice(cell * top, cell * (top + size[0])), slice(cell * left, cell * (left + size[1])))
        maps.append({name: one[window] for name, one in row.controls.items()})
    return torch.stack(latents), maps
