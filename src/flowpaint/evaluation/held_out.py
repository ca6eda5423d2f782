"""Does a small model do what it was trained for? Reconstruction and looks on pictures that it has not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import seams
from ..diffusion.model import LatentDiffusion
from ..diffusion.sampling import add_noise, noise_levels, sample
from ..types import Edit
from .likeness import nearest_look

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """How pictures are edited: by SDEdit (Meng et al., ICLR 2022) at `strength` under the maps of `condition`."""

    strength: float = 0.7
    num_steps: int = 20
    guidance: float = 4.0
    condition: str = "softedge"
    prompt: str = "{look}"
    seed: int = 0


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


def edited(model: LatentDiffusion, picture: Tensor, prompts: Sequence[str], trial: Trial) -> Tensor:
    """`picture` [3, H, W] in [0, 1] under each of `prompts`: [N, 3, H, W]."""
    run = seams.Run(seed=trial.seed)
    times = noise_levels(trial.num_steps, strength=trial.strength, schedule=model.schedule)
    condition: seams.SpatialCondition = seams.build("condition", trial.condition)
    latents = model.encode(picture[None]).expand(len(prompts), -1, -1, -1)
    size = picture.shape[1], picture.shape[2]
    if not times:
        return model.decode(latents, size=size)
    noise = torch.randn(latents[:1].shape, generator=run.generator())
    text = model.embed([Edit(prompt=prompt) for prompt in prompts])
    controls = [condition(picture[None])] if model.controlnets else []
    denoise = model.denoiser(text, controls, guidance=trial.guidance)
    done = sample(denoise, add_noise(latents, times[0].t, noise), times, run=run)
    return model.decode(done, size=size)


def teachers(picture: Tensor, looks: Sequence[str]) -> dict[str, Tensor]:
    """`picture` [3, H, W] in [0, 1] in each of the built-in `looks`."""
    painted = {}
    for look in looks:
        editor: seams.ImageEditor = seams.build("editor", "looks", looks=((look, 1.0),))
        painted[look] = editor(picture, Edit(prompt=look), torch.Generator().manual_seed(0))
    return painted


def judge_looks(
    model: LatentDiffusion, pictures: Mapping[str, Tensor], looks: Sequence[str], trial: Trial, *, progress: Progress
) -> Verdict:
    """For each of `pictures` and `looks`, which look's teacher picture the edited one is most like. Chance is 1 in `looks`."""
    made: dict[tuple[str, str], Tensor] = {}
    nearest: dict[tuple[str, str], str] = {}
    prompts = [trial.prompt.format(look=look) for look in looks]
    for number, (name, picture) in enumerate(pictures.items()):
        known = teachers(picture, looks)
        for look, result in zip(looks, edited(model, picture, prompts, trial), strict=True):
            made[name, look], nearest[name, look] = result, nearest_look(result, known)
        progress("judge", number + 1, len(pictures))
    return Verdict(pictures=made, nearest=nearest)
