"""Wan's networks from a folder that diffusers saved (Wan Team, 2025): video transformer with VACE, autoencoder, words."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, WeightsError
from ..weights import WAN_VACE, check_complete, here, known, model_folder, quiet, tensor_names
from .flow_matching import FlowSchedule
from .loading import Place, Source, config, finished, read_config, readable
from .saved import saved

NUM_TOKENS = 512  # that the transformer sees; its attention has no mask, so that the zeros after the words count, too

_CLASS = "WanVACETransformer3DModel"


def is_vace(name: str) -> bool:
    """Whether `name` is that of such a model: a public one, or a folder that diffusers saved with a transformer in it."""
    record, own = known(name), here(name)
    return record.layout is WAN_VACE if record is not None else own is not None and (own / "transformer").is_dir()


def source(weights: str) -> Source:
    """Where the model called `weights` is. Raises `WeightsError` when it is missing, damaged or not whole, `LicenceError` where
    the policy in force forbids its use, `ConfigError` for a folder of another model."""
    if not weights:
        raise WeightsError("No video model was chosen. Give a name or a folder, as in `--set model.weights=wan-vace-1.3b`.")
    folder = model_folder(weights, WAN_VACE, setting="model.weights")
    for file in WAN_VACE.weights(folder):
        _names(file)  # a damaged file is found before any long work
    found = Source(path=folder, shape=folder)
    _check_kind(found, weights)
    return found


_names = lru_cache(maxsize=64)(tensor_names)


def _check_kind(found: Source, weights: str) -> None:
    seen, index = config(found, "transformer"), read_config(found.path / "model_index.json")
    if seen.get("_class_name") != _CLASS:
        raise ConfigError(f"{weights} has no VACE: its transformer is a {seen.get('_class_name')}. Choose a model with {_CLASS}.")
    if (index.get("transformer_2") or [None])[0] is not None:
        raise ConfigError(f"{weights} has two transformers, which take turns. Choose a model of Wan 2.1, which has one.")
    wanted = 2 * channels(found) + cell(found) ** 2
    if seen.get("vace_in_channels", 96) != wanted:
        raise ConfigError(
            f"The transformer of {weights} reads {seen.get('vace_in_channels')} channels of conditions, its autoencoder gives "
            f"{wanted}. Choose a model whose parts belong together."
        )


def channels(found: Source) -> int:
    """Channels of a latent: 16 in the published models."""
    return int(config(found, "vae").get("z_dim", 16))


def cell(found: Source) -> int:
    """Pixels on a side of a latent's cell: 8 in the published models."""
    return int(2 ** len(config(found, "vae").get("temperal_downsample", (False, True, True))))


def patch(found: Source) -> int:
    """Cells on a side of the patches that the transformer reads: 2 in the published models."""
    return int(config(found, "transformer").get("patch_size", (1, 2, 2))[1])


@lru_cache(maxsize=16)
def schedule(found: Source) -> FlowSchedule:
    """The noise levels that the model was trained with."""
    return FlowSchedule.from_config(read_config(found.path / "scheduler" / "scheduler_config.json"))


@lru_cache(maxsize=2)
def transformer(found: Source, place: Place) -> nn.Module:
    """The network that denoises, read-only."""
    from diffusers import WanVACETransformer3DModel

    return saved(WanVACETransformer3DModel, found.path, "transformer", place)


@lru_cache(maxsize=2)
def vae(found: Source, place: Place) -> nn.Module:
    """The autoencoder of video, read-only."""
    from diffusers import AutoencoderKLWan

    return saved(AutoencoderKLWan, found.path, "vae", place)


# --------------------------------------------------------------------------------------------------------------------- words


def embedded(found: Source, place: Place, prompts: tuple[str, ...], warn: Callable[[str], None]) -> Tensor:
    """Embeddings [N, 512, D] of `prompts` by UMT5, zeros after their words, in the place's type and on its device.

    What is too long is cut off, and `warn` is told what. The text encoder is not kept: what it said is.
    """
    clean = tuple(" ".join(prompt.split()) for prompt in prompts)
    for prompt in dict.fromkeys(clean):
        cut = _unread(found, prompt)
        if cut:
            warn(f"The prompt is too long for the model: {cut!r} was not read. Say the most important things first.")
    different = tuple(sorted(set(clean)))
    rows = dict(zip(different, _rows(found, place, different), strict=True))
    filled = [nn.functional.pad(rows[prompt], (0, 0, 0, NUM_TOKENS - len(rows[prompt]))) for prompt in clean]
    return torch.stack(filled).to(place.device, place.dtype)


def _unread(found: Source, prompt: str) -> str:
    """The end of `prompt` that the transformer does not see, or ""."""
    tokens = _tokenizer(found)
    ids: list[int] = tokens(prompt, verbose=False)["input_ids"]
    return str(tokens.decode(ids[NUM_TOKENS - 1 : -1])).strip() if len(ids) > NUM_TOKENS else ""  # the last is for the end


@lru_cache(maxsize=4)
def _tokenizer(found: Source) -> Any:
    from transformers import AutoTokenizer

    with readable(f"the tokenizer of {found.path}"):
        return AutoTokenizer.from_pretrained(found.path / "tokenizer", local_files_only=True)


@lru_cache(maxsize=64)
def _rows(found: Source, place: Place, prompts: tuple[str, ...]) -> tuple[Tensor, ...]:
    """What UMT5 says of each prompt, [L, D] for its L tokens, on the CPU."""
    tokens, encoder = _tokenizer(found), _text_encoder(found, place)
    said = []
    with torch.no_grad():
        for prompt in prompts:
            ids: Tensor = tokens(prompt, truncation=True, max_length=NUM_TOKENS, return_tensors="pt")["input_ids"]
            said.append(encoder(input_ids=ids.to(place.device)).last_hidden_state[0].cpu())
    return tuple(said)


def _text_encoder(found: Source, place: Place) -> nn.Module:
    from transformers import UMT5EncoderModel

    cls: Any = UMT5EncoderModel
    how = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    with readable(f"the text_encoder of {found.path}"), quiet():
        network, told = cls.from_pretrained(found.path / "text_encoder", dtype=place.dtype, **how)
    check_complete(told["missing_keys"], f"The text_encoder in {found.path}", "Fetch it again")
    return finished(network, place)
