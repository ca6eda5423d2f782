"""Words as numbers for a diffusion network, kept so that the text encoder can go."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .loading import Place, Source, text_encoder, tokenizer
from .lora import Loras

if TYPE_CHECKING:
    from transformers import CLIPTextModel


def embedded(
    found: Source,
    place: Place,
    loras: Loras,
    prompts: tuple[str, ...],
    warn: Callable[[str], None],
    *,
    skip: int = 0,
) -> Tensor:
    """Embeddings [N, L, D] of `prompts`, in the place's type and on its device: the encoder's last layer but `skip`, normed.

    What is too long for the encoder is cut off, and `warn` is told what.
    """
    for prompt in dict.fromkeys(prompts):
        cut = unread(found, prompt)
        if cut:
            warn(f"The prompt is too long for the model: {cut!r} was not read. Say the most important things first.")
    different = tuple(sorted(set(prompts)))  # the same words of more frames are the same rows
    rows = _rows(found, place, loras, different, skip).to(place.device, place.dtype)
    return rows[[different.index(prompt) for prompt in prompts]]


def unread(found: Source, prompt: str) -> str:
    """The end of `prompt` that the encoder does not read, or ""."""
    tokens = tokenizer(found)
    ids: list[int] = tokens(prompt, verbose=False)["input_ids"]
    kept = int(tokens.model_max_length)
    if len(ids) <= kept:
        return ""
    told = tokens.decode(ids[kept - 1 : -1])  # the last place it reads is for the end of text
    return str(told).strip()


@lru_cache(maxsize=64)
def _rows(found: Source, place: Place, loras: Loras, prompts: tuple[str, ...], skip: int) -> Tensor:
    tokens = tokenizer(found)
    encoder = text_encoder(found, Place(device=place.device, dtype=place.dtype), loras)
    with torch.no_grad():
        return torch.stack([_row(encoder, tokens, prompt, skip) for prompt in prompts]).cpu()


def _row(encoder: "CLIPTextModel", tokens: object, prompt: str, skip: int) -> Tensor:
    cut = {"padding": "max_length", "truncation": True, "max_length": tokens.model_max_length, "return_tensors": "pt"}  # type: ignore[attr-defined]
    ids: Tensor = tokens(prompt, **cut)["input_ids"]  # type: ignore[operator]
    said: Any = encoder(input_ids=ids.to(encoder.device), output_hidden_states=bool(skip))
    if not skip:
        last: Tensor = said.last_hidden_state[0]
        return last
    norm: Any = getattr(encoder, "text_model", encoder).final_layer_norm  # newer versions of transformers have no inner model
    early: Tensor = norm(said.hidden_states[-1 - skip])[0]
    return early
