"""Whether LoRAs belong to a model, and what of them it does not use: known from its configs, before its weights are read."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

import torch

from ..errors import ConfigError
from .loading import Source, config, empty
from .lora import OTHERS, Fit, Layers, Loras, fit, layers_of
from .lora_file import LoraFile, read_lora


def check_loras(loras: Loras, found: Source) -> list[str]:
    """Return a sentence for all that the model does not use of `loras`.

    Raises `ConfigError` for a LoRA whose change of the UNet matches nothing in the model, for one without such a change that
    matches nothing else, and for one that changes layers of another size. Raises `WeightsError` for a file that cannot be read.
    """
    model = {part: _layers(found, part) for part in ("unet", "text_encoder")} if loras else {}
    return [sentence for file, _ in loras for sentence in _unused(file, model)]


@lru_cache(maxsize=8)
def _layers(found: Source, part: str) -> Layers:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    if part == "unet":
        return layers_of(empty(UNet2DConditionModel, found, part))
    with torch.device("meta"):
        return layers_of(CLIPTextModel(CLIPTextConfig.from_dict(config(found, part))))


def _unused(file: str, model: Mapping[str, Layers]) -> Iterator[str]:
    read = read_lora(file)
    fits = {part: fit(file, read, part, layers) for part, layers in model.items()}
    _check_matches(file, read, fits)
    for part, named in read.parts.items():
        lost = fits[part].lost if part in fits else tuple(named)
        if lost:
            which = f"{len(lost)} of the {len(named)} layers that the LoRA {file} changes in its part {part}"
            yield f"{which} are not in the model, such as {lost[0]}. They are not used; if they matter, choose another LoRA."
    if read.unread:
        which = f"{len(read.unread)} tensors of the LoRA {file} are of a kind that is not used, such as {read.unread[0]}"
        yield f"{which}. Its effect may differ from what it was trained for; choose a LoRA without them."


def _check_matches(file: str, read: LoraFile, fits: Mapping[str, Fit]) -> None:
    """Raise `ConfigError` unless the UNet half of a LoRA, or all of it where it has none, matches something in the model."""
    halves = {"unet"} & read.parts.keys() or fits.keys() & read.parts.keys()
    if any(fits[part].layers for part in halves):
        return
    part, named = next((part, named) for part, named in read.parts.items() if part in halves or not halves)
    where = "the model's UNet" if part == "unet" else "the model"
    raise ConfigError(f"The LoRA {file} matches nothing in {where}, which has no layer {part}.{next(iter(named))}. {OTHERS}")
