"""LoRA: small changes to a network's layers from a file (Hu et al., ICLR 2022), laid in by PEFT."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import ConfigError, MissingExtraError
from ..weights import LORA, model_file, read_state

Loras: TypeAlias = tuple[tuple[str, float], ...]  # file, scale


@lru_cache(maxsize=4)
def _lora_state(file: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Tensors of a LoRA by diffusers' names, kohya's translated, and its alphas."""
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin

    state = read_state(Path(file))
    reading: Callable[..., Any] = StableDiffusionLoraLoaderMixin.lora_state_dict
    try:
        found, alphas = reading(dict(state))
    except (ValueError, KeyError) as error:
        raise ConfigError(f"The LoRA {file} is of a kind that is not known: {error}. Give one for the model's family.") from error
    return found, alphas


def touches(loras: Loras, part: str) -> bool:
    """One of the LoRAs has tensors for `part`."""
    return any(name.startswith(f"{part}.") for file, _ in loras for name in _lora_state(file)[0])


def chosen_loras(names: Sequence[str], scales: Sequence[float]) -> Loras:
    """The files of the LoRAs called `names`, each with its scale.

    Raises `MissingExtraError` without PEFT, `WeightsError` for one that is not to be had, `LicenceError` where the policy in
    force forbids its use.
    """
    if names and importlib.util.find_spec("peft") is None:
        raise MissingExtraError("LoRA needs PEFT, which is not installed. Run `pip install 'flowpaint[diffusion]'`.")
    files = [str(model_file(name, LORA, network="the LoRA", setting="model.lora")) for name in names]
    return tuple(zip(files, scales or (1.0,) * len(files), strict=True))


def check_loras(loras: Loras) -> None:
    """Raises `WeightsError` or `ConfigError` for a file that cannot be read."""
    for file, _ in loras:
        _lora_state(file)


def add_loras(network: Any, part: str, loras: Loras) -> None:
    """Lay `loras` into `network`, the model's `part` ("unet" or "text_encoder"). Raises `ConfigError` where one does not fit."""
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin

    names = []
    for number, (file, _) in enumerate(loras):
        mine, alphas = matching(network, part, file), _lora_state(file)[1]
        if not mine:
            continue
        names.append((f"lora{number}", loras[number][1]))
        try:
            if part == "unet":
                network.load_lora_adapter(mine, prefix=part, network_alphas=alphas, adapter_name=names[-1][0])
            else:
                StableDiffusionLoraLoaderMixin.load_lora_into_text_encoder(
                    mine, alphas, network, prefix=part, adapter_name=names[-1][0]
                )
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"The LoRA {file} does not fit the model. Choose one of the model's family.") from error
    if names:
        _weigh(network, part, names)


def matching(network: Any, part: str, file: str) -> dict[str, Any]:
    """The tensors of a LoRA for one part. Raises `ConfigError` where no part has such layers, or none of such a width."""
    state = _lora_state(file)[0]
    mine = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
    known = {f"{part}.{name}": module for name, module in network.named_modules()}
    matched = {name: known[layer] for name in mine if (layer := name.partition(".lora")[0]) in known}
    for name, module in matched.items():
        reads = name.endswith(("lora_A.weight", "down.weight"))  # the half that is as wide as what the layer reads
        if reads and module.weight.shape[1] != mine[name].shape[1]:
            raise ConfigError(f"The LoRA {file} does not fit the model. Choose one of the model's family.")
    if matched:
        return mine
    if part == "unet" and not touches(((file, 1.0),), "text_encoder"):
        raise ConfigError(f"The LoRA {file} matches nothing in the model. Choose one that was made for the model's family.")
    return {}


def _weigh(network: Any, part: str, names: list[tuple[str, float]]) -> None:
    adapters, scales = [name for name, _ in names], [scale for _, scale in names]
    if part == "unet":
        network.set_adapters(adapters, scales)
        return
    from diffusers.utils import peft_utils

    weigh: Callable[..., Any] = peft_utils.set_weights_and_activate_adapters
    weigh(network, adapters, scales)
