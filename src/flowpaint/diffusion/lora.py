"""LoRA: small changes to a network's layers from a file (Hu et al., ICLR 2022), laid in by PEFT."""

import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Size, Tensor, nn

from ..errors import ConfigError, MissingExtraError
from ..weights import LORA, model_file
from .lora_file import LoraFile, LoraLayer, read_lora

Loras: TypeAlias = tuple[tuple[str, float], ...]  # file, scale
Layers: TypeAlias = Mapping[str, Size]  # layers of a network that a LoRA can change, with the shapes of their weights
OTHERS = "Choose one that was made for the model's family."


def chosen_loras(names: Sequence[str], scales: Sequence[float]) -> Loras:
    """The files of the LoRAs called `names`, each with its scale.

    Raises `MissingExtraError` without PEFT, `WeightsError` for one that is not to be had, `LicenceError` where the policy in
    force forbids its use.
    """
    if names and importlib.util.find_spec("peft") is None:
        raise MissingExtraError("LoRA needs PEFT, which is not installed. Run `pip install 'flowpaint[diffusion]'`.")
    files = [str(model_file(name, LORA, network="the LoRA", setting="model.lora")) for name in names]
    return tuple(zip(files, scales or (1.0,) * len(files), strict=True))


def layers_of(network: nn.Module) -> dict[str, Size]:
    """Return the layers of `network` that a LoRA can change, with the shapes of their weights."""
    return {name: one.weight.shape for name, one in network.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)}


def add_loras(network: Any, part: str, loras: Loras) -> None:
    """Add to `network`, the model's `part`, what `loras` change in it. Raises `ConfigError` for one that does not fit."""
    from diffusers.utils import peft_utils

    layers = layers_of(network)  # before the first is added: it renames what it changes
    added, scales = [], []
    for number, (file, scale) in enumerate(loras):
        changes = fit(file, read_lora(file), part, layers).layers
        if changes:
            added.append(f"lora{number}")
            scales.append(scale)
            _inject(network, changes, added[-1])
    if added:
        weigh: Callable[..., Any] = peft_utils.set_weights_and_activate_adapters
        weigh(network, added, scales)


# ----------------------------------------------------------------------------------------------------------------- matching


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The changes that one network takes, by its layers' names, and the names in the file of those that it does not."""

    layers: Mapping[str, LoraLayer]
    lost: tuple[str, ...]


def fit(file: str, read: LoraFile, part: str, layers: Layers) -> Fit:
    """Match the changes of one part with a network's layers. Raises `ConfigError` for one of another size than its layer."""
    known = {_plain(name): name for name in layers}
    fitting: dict[str, LoraLayer] = {}
    lost = []
    for name, change in read.parts.get(part, {}).items():
        layer = known.get(_plain(name))
        if layer is None or layer in fitting:
            lost.append(name)
            continue
        wanted, given = layers[layer], (change.up.shape[0], *change.down.shape[1:])
        if tuple(wanted) != given:
            of = f"{part}.{layer} is of shape {_sides(wanted)} in the model, and of {_sides(given)} in the file"
            raise ConfigError(f"The LoRA {file} does not fit the model: {of}. {OTHERS}")
        fitting[layer] = change
    return Fit(layers=fitting, lost=tuple(lost))


def _plain(name: str) -> str:
    """What all namings of a layer have in common.

    Kohya's scripts write underscores for the dots; transformers before 5 has a level `text_model` above the layers of a text
    encoder, which stays in the names that files have.
    """
    return name.replace(".", "_").removeprefix("text_model_")


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape)


# ------------------------------------------------------------------------------------------------------------------- laying in


def _inject(network: nn.Module, changes: Mapping[str, LoraLayer], adapter: str) -> None:
    """Add `changes` to the layers of `network` that they are named after, as PEFT's adapter of that name."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    ranks = {f"^{re.escape(name)}": one.down.shape[0] for name, one in changes.items()}
    rank = next(iter(ranks.values()))
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,  # each change holds its own scale
        rank_pattern=ranks,
        alpha_pattern=ranks,
        target_modules="|".join(re.escape(name) for name in changes),  # whole names, where a list would match ends, too
        use_dora=any(one.magnitude is not None for one in changes.values()),
        lora_bias=any(one.bias is not None for one in changes.values()),
    )
    with warnings.catch_warnings():  # PEFT warns of every adapter after the first, which is meant here
        warnings.filterwarnings("ignore", message="Already found a `peft_config`", category=UserWarning)
        inject_adapter_in_model(config, network, adapter_name=adapter, low_cpu_mem_usage=True)  # no random numbers are drawn
    told: Any = set_peft_model_state_dict(network, _state(changes), adapter_name=adapter, low_cpu_mem_usage=True)
    odd = [*told.unexpected_keys, *(name for name in told.missing_keys if adapter in name)]
    if odd:
        raise ConfigError(f"A LoRA takes only in part: {odd[0]} is missing or unknown. Choose one without DoRA or biases.")


def _state(changes: Mapping[str, LoraLayer]) -> dict[str, Tensor]:
    """The tensors of `changes` by PEFT's names."""
    state: dict[str, Tensor] = {}
    for name, one in changes.items():
        named: dict[str, Tensor | None] = {"lora_A.weight": one.down, "lora_B.weight": one.up, "lora_B.bias": one.bias}
        named["lora_magnitude_vector"] = one.magnitude
        state |= {f"{name}.{kind}": value for kind, value in named.items() if value is not None}
    return state
