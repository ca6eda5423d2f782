"""Does a small model do what it was trained for? Reconstruction and looks on pictures that it has not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import seams
from ..diffusion.model import LatentDiffusion
from ..types import Edit
from .likeness import nearest_look

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What came out: by picture and look, the edited picture and the look that it is most like."""

    pictures: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    nearest: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The share of edits that are most like the look that was asked for."""
        return sum(found == look for (_, look), found in self.nearest.items()) / len(self.nearest)

    def hits(self, look: str) -> int:
        """The number of pictures on which `look` was met."""
        return sum(found == look for (_, asked), found in self.nearest.items() if asked == look)


def psnr(a: Tensor, b: Tensor) -> float:
    """The peak signal-to-noise ratio of two pictures in [0, 1], in dB."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-10)))


def reconstruction(model: LatentDiffusion, picture: Tensor) -> float:
    """PSNR in dB of a picture [3, H, W] in [0, 1] that went through the model's autoencoder."""
    return psnr(model.decode(model.encode(picture[None]), size=(picture.shape[1], picture.shape[2]))[0], picture)


def teachers(picture: Tensor, looks: Sequence[str]) -> dict[str, Tensor]:
    """`picture` [3, H, W] in [0, 1] in each of the built-in `looks`."""
    painted = {}
    for look in looks:
        editor: seams.ImageEditor = seams.build("editor", "looks", looks=((look, 1.0),))
        painted[look] = editor(picture, Edit(prompt=look), torch.Generator().manual_seed(0))
    return painted


def judge_looks(
    editor: seams.ImageEditor,
    pictures: Mapping[str, Tensor],
    looks: Sequence[str],
    *,
    prompt: str = "{look}",
    seed: int = 0,
    progress: Progress,
) -> Verdict:
    """For each of `pictures` and `looks`, which look's teacher picture the edited one is most like. Chance is 1 in `looks`.

    All edits start from the same noise.
    """
    made: dict[tuple[str, str], Tensor] = {}
    nearest: dict[tuple[str, str], str] = {}
    for number, (name, picture) in enumerate(pictures.items()):
        known = teachers(picture, looks)
        for look in looks:
            edit = Edit(prompt=prompt.format(look=look))
            made[name, look] = editor(picture, edit, torch.Generator().manual_seed(seed))
            nearest[name, look] = nearest_look(made[name, look], known)
        progress("judge", number + 1, len(pictures))
    return Verdict(pictures=made, nearest=nearest)
