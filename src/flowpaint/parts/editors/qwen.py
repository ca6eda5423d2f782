"""`QwenEditor`: words, instructions and references followed by Qwen-Image-Edit (Qwen Team, arXiv:2508.02324)."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...diffusion.loading import Place, Source, read_config
from ...errors import ConfigError
from ...types import Edit, Task, check_shape
from ...warp import resize
from ...weights import QWEN_EDIT
from . import asked
from .pipelines import Precision, check_precision, folder, kept, network, pil, place, run, scheduler, tokenizer

_CELL = 32  # pixels: the pipeline's own sizes are multiples of it
_ONE, _SEVERAL = "QwenImageEditPipeline", "QwenImageEditPlusPipeline"


@dataclass(frozen=True, kw_only=True)
class QwenEditor:
    """What Qwen-Image-Edit makes of a picture that it is shown, and of the reference, where there is one; no mask is looked at.

    It works at about `side` x `side` pixels in the picture's shape; `guidance` is classifier-free. Models from September 2025
    on read several pictures; the first one takes no reference.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"words", "instruction", "reference"})

    weights: str = "qwen-image-edit"
    num_steps: int = 40
    guidance: float = 4.0
    side: int = 1024
    dtype: Precision = "bfloat16"
    offload: bool = False

    def __post_init__(self) -> None:
        asked.check_values(self.num_steps, self.guidance)
        check_precision(self.dtype)
        asked.check_side(self.side, 2 * _CELL)

    def check(self) -> None:
        """Raises what an edit would raise later for want of weights, or for those of another kind."""
        self._found()

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] that `edit` makes of `image` [3, H, W].

        Raises `InputError` for other tasks and, but for references, without words; `ConfigError` for a reference to a model that
        reads one picture; `WeightsError` without weights.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        asked.check_task(edit, self.tasks, "qwen-image-edit")
        prompt, found = asked.told(edit, "qwen-image-edit"), self._found()
        size = asked.of_area(image.shape[-2], image.shape[-1], self.side, _CELL)
        small = resize(image[None], *size)[0]
        shown: Any = pil(small)
        if _class_of(found) == _SEVERAL:
            shown = [shown]
        if edit.task == "reference":
            if _class_of(found) == _ONE:
                raise ConfigError(f"{self.weights} reads one picture, no reference. Choose qwen-image-edit or a later one.")
            shown.append(pil(asked.reference(edit, image.device)))
        made = run(
            kept(_assembled, found, place(image.device, self.dtype, self.offload)),
            image=shown,
            prompt=prompt,
            negative_prompt=edit.negative or " ",  # without words there would be no guidance
            true_cfg_scale=self.guidance,
            height=size[0],
            width=size[1],
            num_inference_steps=self.num_steps,
            generator=generator,
        )
        return asked.completed(made.to(image), small, image, edit)

    def _found(self) -> Source:
        return folder(self.weights, QWEN_EDIT, (_SEVERAL, _ONE))


def _class_of(found: Source) -> str:
    return str(read_config(found.path / "model_index.json").get("_class_name"))


class _Reader:
    """Words and pictures as tokens for Qwen2.5-VL, as its processor makes them; that one also reads films, by torchvision."""

    def __init__(self, tokens: Any, pictures: Any) -> None:
        self.tokens, self.pictures = tokens, pictures

    def __call__(self, text: list[str], images: Any, padding: bool, return_tensors: str) -> Any:
        """A batch with `input_ids`, `attention_mask`, `pixel_values` and `image_grid_thw`: each place of a picture in the words
        becomes as many tokens as the network makes of that picture."""
        seen = self.pictures(images=images, return_tensors=return_tensors)
        counts = iter((seen["image_grid_thw"].prod(dim=1) // self.pictures.merge_size**2).tolist())
        filled = [re.sub(re.escape("<|image_pad|>"), lambda found: found[0] * int(next(counts)), one) for one in text]
        seen.update(self.tokens(filled, padding=padding, return_tensors=return_tensors))
        return seen


def _assembled(found: Source, where: Place, control: str) -> Any:
    del control  # it has none
    import diffusers
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessor

    tokens = tokenizer(AutoTokenizer, found.path / "tokenizer")
    cls: Any = getattr(diffusers, _class_of(found))
    made = cls(
        scheduler=scheduler(diffusers.FlowMatchEulerDiscreteScheduler, found),
        vae=network(diffusers.AutoencoderKLQwenImage, found, "vae", where),
        text_encoder=network(Qwen2_5_VLForConditionalGeneration, found, "text_encoder", where),
        tokenizer=tokens,
        processor=None,
        transformer=network(diffusers.QwenImageTransformer2DModel, found, "transformer", where),
    )
    made.processor = _Reader(tokens, tokenizer(Qwen2VLImageProcessor, found.path / "processor"))
    return made
