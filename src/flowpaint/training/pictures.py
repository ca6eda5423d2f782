"""Pictures to learn from: views of procedural scenes, crops of photographs, and both in the built-in looks."""

import io
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from .. import seams
from ..errors import VideoError
from ..scenes import render, sample_scene
from ..types import Edit
from ..warp import resize
from .captions import scene_subject

_LARGEST = 1440  # pixels of the short side that a photograph keeps in memory
_SCENES = 0.5  # share of pictures that are rendered


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photograph:
    """A photograph, uint8 [H, W, 3], and words for what it shows."""

    name: str
    pixels: npt.NDArray[np.uint8]
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A picture [3, H, W] in [0, 1]: `subject` in words, and where it comes from."""

    rgb: Tensor
    subject: str
    origin: str


def photographs(folder: Path) -> tuple[Photograph, ...]:
    """The pictures that `photos.toml` in `folder` lists: file name -> {subject, ...}. Raises `VideoError` for a missing one."""
    try:
        listed = tomllib.loads((folder / "photos.toml").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise VideoError(
            f'{folder / "photos.toml"} cannot be read ({error}). List the photographs in it: "name.jpg" = {{subject = "a tree"}}.'
        ) from error
    return tuple(_photograph(folder / name, told) for name, told in sorted(listed.items()))


def _photograph(path: Path, told: dict[str, str]) -> Photograph:
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read as a picture ({error}). Repair it, or take it out of photos.toml.") from error
    scale = _LARGEST / min(image.size)
    if scale < 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    return Photograph(name=path.name, pixels=np.asarray(image), subject=told["subject"])


def picture(seed: int, photos: Sequence[Photograph], size: int) -> Picture:
    """A square picture of `size` pixels, the same for the same arguments: half of them scenes, with photographs as textures."""
    rng = np.random.default_rng([108, seed])
    if not photos or rng.random() < _SCENES:
        scene = sample_scene(seed, float(rng.uniform(0.2, 1.0)), [one.pixels for one in photos])
        rgb = render(scene, float(rng.uniform(0, 100)), (size, size)).rgb
        return Picture(rgb=rgb, subject=scene_subject(scene), origin="scene")
    photo = photos[int(rng.integers(len(photos)))]
    return Picture(rgb=_crop(photo, rng, size), subject=photo.subject, origin=photo.name)


def _crop(photo: Photograph, rng: np.random.Generator, size: int) -> Tensor:
    """A random square of a photograph, at least a third of it or `size` pixels, perhaps mirrored, in a slightly other light."""
    height, width = photo.pixels.shape[:2]
    short = min(height, width)
    least = min(short, max(size, short / 3))
    side = round(least * (short / least) ** rng.random())
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    cut = torch.from_numpy(photo.pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1).float() / 255
    if rng.random() < 0.5:
        cut = cut.flip(-1)
    light = torch.from_numpy(rng.uniform(0.85, 1.15) * rng.uniform(0.93, 1.07, 3)).float()
    return (resize(cut[None], size, size)[0].clamp(0, 1) * light[:, None, None]).clamp(0, 1)


def in_look(rgb: Tensor, look: str, seed: int) -> Tensor:
    """`rgb` [3, H, W] in [0, 1] as the built-in look of that name paints it."""
    editor = seams.build("editor", "looks", looks=((look, 1.0),))
    painted: Tensor = editor(rgb, Edit(prompt=look), torch.Generator().manual_seed(seed))
    return painted


def to_bytes(rgb: Tensor, kind: str = "WEBP") -> bytes:
    """`rgb` [3, H, W] or [1, H, W] in [0, 1] as the bytes of a lossless picture file."""
    levels = (rgb * 255).round().byte().permute(1, 2, 0).numpy()
    kept = io.BytesIO()
    # WebP's fastest setting: a hundredth of its default's time, for files a tenth larger.
    Image.fromarray(levels if len(rgb) == 3 else levels[..., 0]).save(kept, kind, lossless=True, quality=0, method=0)
    return kept.getvalue()


def from_bytes(content: bytes) -> Tensor:
    """The picture [3, H, W] in [0, 1] in the bytes of a file; a grey one has three equal channels."""
    with Image.open(io.BytesIO(content)) as opened:
        levels = np.array(opened.convert("RGB"))
    return torch.from_numpy(levels).permute(2, 0, 1).float() / 255
