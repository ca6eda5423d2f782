"""`InpaintEditor`: words or a sketch painted into a mask by Stable Diffusion (StableV2V, arXiv:2411.11045, section 3.1)."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from ...carry import finished
from ...diffusion import loading
from ...diffusion.loading import Place, Source
from ...diffusion.translate import working_size
from ...enlarge import enlarge
from ...errors import ConfigError
from ...seams import SpatialCondition, build, to_dict
from ...types import Edit, Task, check_shape
from ...warp import resize
from ...weights import known
from . import asked
from .pipelines import Precision, canvas, check_precision, kept, own_settings, place, run, scheduler

_FREE, _LED = 81, 9  # pixels that a mask grows by at 480 lines: 19 x 19 used 9 times, and about a latent's cell


@dataclass(frozen=True, kw_only=True)
class InpaintEditor:
    """What the words say, painted into the edit's mask by a Stable Diffusion that was trained to (or everywhere without a mask).

    With `control` or `controlnet` a ControlNet looks at the unedited picture (StableV2V's best uses depth); the one is found by
    the other where only one is named. A sketch is looked at by the ControlNet `scribble`. The mask grows by `grow` pixels; None
    is 81 at 480 lines as in StableV2V, so that a shape is free to change, and 9 where a ControlNet says what shape it has. It
    is painted at a short side of `side` pixels at most (0: that of the model's training), in `num_steps` steps of UniPC (Zhao et
    al., NeurIPS 2023). A model that was not trained for masks paints everywhere and is held to the picture step by step.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"words", "sketch"})

    weights: str = "sd15-inpainting"
    shape: str = ""
    controlnet: str = ""
    control: SpatialCondition | None = field(default=None, metadata={"kind": "condition"})
    scribble: str = "scribble-sd15"
    control_scale: float = 1.0
    grow: int | None = None
    num_steps: int = 50
    guidance: float = 9.0
    side: int = 0
    dtype: Precision = "float32"
    offload: bool = False

    def __post_init__(self) -> None:
        asked.check_values(self.num_steps, self.guidance, self.grow)
        check_precision(self.dtype)

    def check(self) -> None:
        """Raises what an edit with words would raise later for want of weights, or for those of another kind."""
        found = self._found()
        name = self._net(found)
        if name:
            with own_settings():
                loading.check_controlnets((name,), found)
            check = getattr(self._condition(), "check", None)
            if check is not None:
                check()

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] of `image` [3, H, W] with what `edit` asks for painted in; the rest to the bit.

        Raises `InputError` for other tasks, without words, and for a mask that marks nothing; `WeightsError` without weights.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        asked.check_task(edit, self.tasks, "inpaint")
        prompt = asked.words(edit, "inpaint")
        mask = asked.region(edit, image, "inpaint")
        found = self._found()
        net = self.scribble if edit.task == "sketch" else self._net(found)
        if net:
            with own_settings("scribble" if edit.task == "sketch" else "controlnet"):
                loading.check_controlnets((net,), found)
        grow = asked.reach(image, _LED if net else _FREE) if self.grow is None else self.grow
        area = asked.grown(mask, grow)
        size = working_size(canvas(found), image.shape[-2], image.shape[-1], self.side)
        small = resize(image[None], *size)
        led: dict[str, Any] = {}
        if net:
            led = {"control_image": self._map(edit, image, small), "controlnet_conditioning_scale": self.control_scale}
        made = run(
            kept(_assembled, found, place(image.device, self.dtype, self.offload), net),
            prompt=prompt,
            negative_prompt=edit.negative or None,
            image=small,
            mask_image=asked.shrunk(area, *size),
            height=size[0],
            width=size[1],
            strength=1.0,
            num_inference_steps=self.num_steps,
            guidance_scale=self.guidance,
            generator=generator,
            **led,
        )
        whole = enlarge(small[0], made.to(image), image)
        return finished(asked.laid(whole, image, area, grow), image, edit)

    def _found(self) -> Source:
        with own_settings():
            found = loading.source(self.weights, self.shape)
        channels = loading.config(found, "unet").get("in_channels")
        if loading.is_video(found) or channels not in (4, 9):
            raise ConfigError(
                f"{self.weights} cannot paint into a mask: its network reads {channels} channels. Choose sd15-inpainting."
            )
        return found

    def _net(self, found: Source) -> str:
        """The ControlNet that words are painted with, or ""."""
        if self.controlnet or self.control is None:
            return self.controlnet
        kind = str(to_dict(self.control)["part"])
        public = loading.public_controlnet(found, kind)
        if public is None:
            raise ConfigError(f"There is no public ControlNet for {kind!r} and this model. Name one by editor.controlnet.")
        return public

    def _condition(self) -> SpatialCondition:
        if self.control is not None:
            return self.control
        record = known(self.controlnet)
        if record is None or not record.sees:
            raise ConfigError(f"What the ControlNet {self.controlnet} sees is not known. Say it, as in editor.control=depth.")
        return cast(SpatialCondition, build("condition", record.sees[0]))

    def _map(self, edit: Edit, image: Tensor, small: Tensor) -> Tensor:
        """What the ControlNet looks at: [1, 3, h, w] in [0, 1]."""
        if edit.task == "sketch":
            return resize(asked.drawing(edit, image)[None], *small.shape[-2:])
        return self._condition()(small)


def _assembled(found: Source, where: Place, control: str) -> Any:
    from diffusers import StableDiffusionControlNetInpaintPipeline, StableDiffusionInpaintPipeline, UniPCMultistepScheduler

    parts: dict[str, Any] = {
        "vae": loading.vae(found, where),
        "text_encoder": loading.text_encoder(found, where, ()),
        "tokenizer": loading.tokenizer(found),
        "unet": loading.unet(found, where, (), None),
        "scheduler": scheduler(UniPCMultistepScheduler, found),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    if control:
        made: Any = StableDiffusionControlNetInpaintPipeline
        return made(**parts, controlnet=loading.controlnet(control, found, where))
    plain: Any = StableDiffusionInpaintPipeline
    return plain(**parts)
