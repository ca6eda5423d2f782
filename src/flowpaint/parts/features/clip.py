"""`ClipFeatures`: pictures and words in one space (Radford et al., ICML 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import WeightsError
from ...networks.pretrained import pretrained
from ...types import check_shape
from ...weights import CLIP, model_folder
from .fitting import Facts, about, check_batch, in_batches, squeezed

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """CLIP by transformers: `weights` is a folder that `save_pretrained` wrote, or a public name of Hugging Face.

    Pictures are resized to the network's short side (bicubic, antialiased), cropped to the middle square and normalised, as
    OpenAI does. Raises `WeightsError` when first asked, if the weights are neither here nor to be had.
    """

    weights: str = "openai/clip-vit-base-patch32"
    batch: int = 16

    def __post_init__(self) -> None:
        check_batch(self.batch)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Image embeddings [N, D], not normalised, of pictures [N, 3, H, W] in [0, 1]."""
        return self.rows(self.fit(pictures))

    def fit(self, pictures: Tensor) -> Tensor:
        """The middle square of pictures [N, 3, H, W] at the network's size: [N, 3, S, S] in [0, 1]."""
        check_shape(pictures=(pictures, "N 3 H W"))
        side: int = _model(self._folder, pictures.device).vision_model.embeddings.image_size
        height, width = pictures.shape[-2:]
        short = min(height, width)
        resized = squeezed(pictures, side * height // short, side * width // short, "bicubic")
        top, left = ((length - side) // 2 for length in resized.shape[-2:])
        return resized[..., top : top + side, left : left + side]

    def rows(self, fitted: Tensor) -> Tensor:
        """Image embeddings [N, D] of pictures [N, 3, S, S] that `fit` gave."""
        model = _model(self._folder, fitted.device)
        mean, deviation = (fitted.new_tensor(values)[None, :, None, None] for values in (_MEAN, _DEVIATION))

        def embedded(pictures: Tensor) -> Tensor:
            seen = model.vision_model(pixel_values=(pictures - mean) / deviation)
            projected: Tensor = model.visual_projection(seen.pooler_output)
            return projected

        return in_batches(embedded, fitted, self.batch)

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings [N, D] on the CPU, not normalised. What is beyond the network's length is cut off: see `unread`."""
        model = _model(self._folder, torch.device("cpu"))
        tokenizer = _tokenizer(self._folder)
        rows = []
        for prompt in prompts:  # one by one: nothing is padded, so no prompt changes another's numbers
            given = tokenizer(prompt, truncation=True, max_length=_length(model), return_tensors="pt")
            with torch.no_grad():
                seen = model.text_model(input_ids=given["input_ids"])
                rows.append(model.text_projection(seen.pooler_output).float())
        return torch.cat(rows)

    def unread(self, prompt: str) -> int:
        """How many of the prompt's tokens are cut off because the network reads no more."""
        ids: list[int] = _tokenizer(self._folder)(prompt, verbose=False)["input_ids"]
        return max(0, len(ids) - _length(_model(self._folder, torch.device("cpu"))))

    def check(self) -> None:
        """Raises what a run would raise later for want of weights."""
        _ = self._folder

    def facts(self) -> Facts:
        """Network, file of weights and its hash. Raises `WeightsError` without weights."""
        folder = self._folder
        file = CLIP.weights(folder)[0]
        local = Path(self.weights).expanduser().is_dir()  # a card is shown to others, whom this machine's folders do not concern
        return about(f"CLIP {folder.name if local else self.weights}", file)

    @property
    def _folder(self) -> Path:
        return _folder(self.weights)


def _folder(weights: str) -> Path:
    return model_folder(weights, CLIP, setting="clip.extractor.weights")


@lru_cache(maxsize=4)
def _model(folder: Path, device: torch.device) -> "CLIPModel":
    from transformers import CLIPModel

    found: CLIPModel = pretrained(CLIPModel, folder, device, title="CLIP")
    return found


@lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> "CLIPTokenizer":
    from transformers import CLIPTokenizer

    sets = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    if not any(all((folder / name).is_file() for name in names) for names in sets):  # transformers would make one up
        raise WeightsError(f"{folder} has no tokenizer of CLIP. Put tokenizer.json, or vocab.json and merges.txt, beside it.")
    try:
        found: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"The tokenizer in {folder} cannot be read: {error}. Give that of CLIP.") from error
    return found


def _length(model: "CLIPModel") -> int:
    """How many tokens the text network reads: 77 in the published ones."""
    return int(model.text_model.embeddings.position_embedding.num_embeddings)
