"""`KleinEditor`: words, instructions and references followed by FLUX.2 klein (Black Forest Labs, January 2026)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...diffusion.loading import Place, Source, read_config
from ...types import Edit, Task, check_shape
from ...warp import resize
from ...weights import FLUX2_KLEIN
from . import asked
from .pipelines import Precision, check_precision, folder, kept, network, pil, place, run, scheduler, tokenizer

_CELL = 16  # pixels on a side of a patch of four latents


@dataclass(frozen=True, kw_only=True)
class KleinEditor:
    """What FLUX.2 klein makes of a picture that it is shown, and of the reference, where there is one; no mask is looked at.

    It works at about `side` x `side` pixels in the picture's shape. The published models are distilled to four steps without
    guidance; the "base" ones want `num_steps=50` and `guidance=4`.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"words", "instruction", "reference"})

    weights: str = "flux2-klein-4b"
    num_steps: int = 4
    guidance: float = 1.0
    side: int = 1024
    dtype: Precision = "bfloat16"
    offload: bool = False

    def __post_init__(self) -> None:
        asked.check_values(self.num_steps, self.guidance)
        check_precision(self.dtype)
        asked.check_side(self.side, 192)  # the pipeline refuses sides below 64, here of a picture eight times as long as wide

    def check(self) -> None:
        """Raises what an edit would raise later for want of weights, or for those of another kind."""
        self._found()

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] that `edit` makes of `image` [3, H, W].

        Raises `InputError` for other tasks and, but for references, without words; `WeightsError` without weights.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        asked.check_task(edit, self.tasks, "flux2-klein")
        prompt = asked.told(edit, "flux2-klein")
        size = asked.of_area(image.shape[-2], image.shape[-1], self.side, _CELL)
        small = resize(image[None], *size)[0]
        shown = [pil(small)]
        if edit.task == "reference":
            example = asked.reference(edit, image.device)
            rows, columns = asked.of_area(example.shape[-2], example.shape[-1], self.side, _CELL)
            shown.append(pil(resize(example[None], rows, columns)[0]))
        made = run(
            kept(_assembled, self._found(), place(image.device, self.dtype, self.offload)),
            image=shown,
            prompt=prompt,
            height=size[0],
            width=size[1],
            num_inference_steps=self.num_steps,
            guidance_scale=self.guidance,
            generator=generator,
        )
        return asked.completed(made.to(image), small, image, edit)

    def _found(self) -> Source:
        return folder(self.weights, FLUX2_KLEIN, ("Flux2KleinPipeline",))


def _assembled(found: Source, where: Place, control: str) -> Any:
    del control  # it has none
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    cls: Any = Flux2KleinPipeline
    return cls(
        scheduler=scheduler(FlowMatchEulerDiscreteScheduler, found),
        vae=network(AutoencoderKLFlux2, found, "vae", where),
        text_encoder=network(Qwen3ForCausalLM, found, "text_encoder", where),
        tokenizer=tokenizer(AutoTokenizer, found.path / "tokenizer"),
        transformer=network(Flux2Transformer2DModel, found, "transformer", where),
        is_distilled=bool(read_config(found.path / "model_index.json").get("is_distilled", False)),
    )
