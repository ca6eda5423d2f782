"""`InstructEditor`: instructions followed by InstructPix2Pix (Brooks, Holynski, Efros, CVPR 2023)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...diffusion import loading
from ...diffusion.loading import Place, Source
from ...diffusion.translate import working_size
from ...errors import ConfigError
from ...types import Edit, Task, check_shape
from ...warp import resize
from . import asked
from .pipelines import Precision, canvas, check_precision, kept, own_settings, place, run, scheduler


@dataclass(frozen=True, kw_only=True)
class InstructEditor:
    """What an instruction ("make it snow") makes of a picture: no mask is looked at.

    `guidance` is that of the words and `image_guidance`, 1 or more, that of the picture (Eq. 3 of the paper; the defaults are
    StableV2V's). It works at a short side of `side` pixels at most (0: that of the model's training), in `num_steps` ancestral
    steps of Euler (Karras et al., 2022).
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"instruction"})

    weights: str = "instruct-pix2pix"
    shape: str = ""
    num_steps: int = 50
    guidance: float = 9.0
    image_guidance: float = 1.0
    side: int = 0
    dtype: Precision = "float32"
    offload: bool = False

    def __post_init__(self) -> None:
        asked.check_values(self.num_steps, self.guidance)
        check_precision(self.dtype)
        if not 1.0 <= self.image_guidance < float("inf"):
            raise ConfigError(f"An image guidance of {self.image_guidance} cannot be. Give 1 or more.")

    def check(self) -> None:
        """Raises what an edit would raise later for want of weights, or for those of another kind."""
        self._found()

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] that the instruction of `edit` makes of `image` [3, H, W].

        Raises `InputError` for other tasks and without words, `WeightsError` without weights.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        asked.check_task(edit, self.tasks, "instruct-pix2pix")
        prompt = asked.words(edit, "instruct-pix2pix")
        found = self._found()
        size = working_size(canvas(found), image.shape[-2], image.shape[-1], self.side)
        small = resize(image[None], *size)
        made = run(
            kept(_assembled, found, place(image.device, self.dtype, self.offload)),
            prompt=prompt,
            negative_prompt=edit.negative or None,
            image=small,
            num_inference_steps=self.num_steps,
            guidance_scale=self.guidance,
            image_guidance_scale=self.image_guidance,
            generator=generator,
        )
        return asked.completed(made.to(image), small[0], image, edit)

    def _found(self) -> Source:
        with own_settings():
            found = loading.source(self.weights, self.shape)
        channels = loading.config(found, "unet").get("in_channels")
        if loading.is_video(found) or channels != 8:
            raise ConfigError(
                f"{self.weights} follows no instructions: its network reads {channels} channels, not 8. Choose instruct-pix2pix."
            )
        return found


def _assembled(found: Source, where: Place, control: str) -> Any:
    del control  # it has none
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline

    cls: Any = StableDiffusionInstructPix2PixPipeline
    return cls(
        vae=loading.vae(found, where),
        text_encoder=loading.text_encoder(found, where, ()),
        tokenizer=loading.tokenizer(found),
        unet=loading.unet(found, where, (), None),
        scheduler=scheduler(EulerAncestralDiscreteScheduler, found),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
