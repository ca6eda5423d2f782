"""`ExampleEditor`: the object of a reference picture painted into a mask by Paint by Example (Yang et al., CVPR 2023)."""

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...carry import finished
from ...diffusion import loading
from ...diffusion.loading import Place, Source
from ...diffusion.translate import working_size
from ...enlarge import enlarge
from ...types import Edit, Task, check_shape
from ...warp import resize
from ...weights import PAINT_BY_EXAMPLE
from . import asked
from .pipelines import Precision, canvas, check_precision, folder, kept, network, place, run, scheduler

_GROWTH = 4  # pixels that a mask grows by at 480 lines: 9 x 9 used once
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of what CLIP was trained on, RGB in [0, 1]
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class ExampleEditor:
    """What the edit's reference shows, painted into its mask, which grows by `grow` pixels (None: 4 at 480 lines).

    The reference is stretched to the square that the network's eye sees, as objects were in its training: padding would show it
    borders, cropping would lose the object's ends. It is painted at a short side of `side` pixels at most (0: that of the
    model's training), in `num_steps` steps of the sampler that the model came with, PLMS. The published weights are pickles.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"reference"})

    weights: str = "paint-by-example"
    grow: int | None = None
    num_steps: int = 50
    guidance: float = 5.0
    side: int = 0
    dtype: Precision = "float32"
    offload: bool = False

    def __post_init__(self) -> None:
        asked.check_values(self.num_steps, self.guidance, self.grow)
        check_precision(self.dtype)

    def check(self) -> None:
        """Raises what an edit would raise later for want of weights, or for those of another kind."""
        self._found()

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] of `image` [3, H, W] with the reference's object painted in; the rest to the bit.

        Raises `InputError` for other tasks, without a mask, and for one that marks nothing; `WeightsError` without weights.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        asked.check_task(edit, self.tasks, "paint-by-example")
        example = asked.reference(edit, image.device)
        mask = asked.region(edit, image, "paint-by-example", needed=True)
        found = self._found()
        grow = asked.reach(image, _GROWTH) if self.grow is None else self.grow
        area = asked.grown(mask, grow)
        size = working_size(canvas(found), image.shape[-2], image.shape[-1], self.side)
        small = resize(image[None], *size)
        made = run(
            kept(_assembled, found, place(image.device, self.dtype, self.offload)),
            example_image=_seen(example, found),
            image=small * 2 - 1,
            mask_image=asked.shrunk(area, *size),
            num_inference_steps=self.num_steps,
            guidance_scale=self.guidance,
            generator=generator,
        )
        whole = enlarge(small[0], made.to(image), image)
        return finished(asked.laid(whole, image, area, grow), image, edit)

    def _found(self) -> Source:
        return folder(self.weights, PAINT_BY_EXAMPLE, ("PaintByExamplePipeline",))


def _seen(example: Tensor, found: Source) -> Tensor:
    """`example` [3, h, w] in [0, 1] as CLIP's eye wants it: [1, 3, side, side]."""
    side = int(loading.config(found, "image_encoder").get("image_size", 224))
    square = F.interpolate(example[None], size=(side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    mean, deviation = (square.new_tensor(values)[None, :, None, None] for values in (_MEAN, _DEVIATION))
    return (square - mean) / deviation


def _assembled(found: Source, where: Place, control: str) -> Any:
    del control  # it has none
    from diffusers import PaintByExamplePipeline, PNDMScheduler

    cls: Any = PaintByExamplePipeline
    room = importlib.import_module(cls.__module__.rpartition(".")[0])  # it has moved, and will again
    return cls(
        vae=loading.vae(found, where),
        unet=loading.unet(found, where, (), None),
        image_encoder=network(room.PaintByExampleImageEncoder, found, "image_encoder", where),
        scheduler=scheduler(PNDMScheduler, found),
        safety_checker=None,
        feature_extractor=None,
    )
