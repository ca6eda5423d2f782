"""Reading a LoRA file: the layers it changes, by part of the model, whoever named them.

Four namings are in use. Kohya's scripts write `lora_unet_down_blocks_0_….lora_down.weight` with a tensor `….alpha`; PEFT and
diffusers write `unet.down_blocks.0.….lora_A.weight` with alphas in the header; diffusers 0.21 wrote `….lora.down.weight` and
`….lora_linear_layer.down.weight`, and earlier versions `….processor.to_q_lora.down.weight`.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, WeightsError
from ..weights import file_header, read_state

_HEADER = "lora_adapter_metadata"  # diffusers' key for PEFT's settings
_MATRIX = re.compile(
    r"\.(?:to_(?P<attention>q|k|v|out)_lora|lora_linear_layer|lora)[._](?P<half>down|up|A|B)(?:\.\w+)?\.(?P<kind>weight|bias)$"
)
_OTHER = re.compile(r"\.(?P<kind>alpha|lora_magnitude_vector)(?:\.\w+)*$")
_KINDS = {("down", "weight"): "down", ("up", "weight"): "up", ("up", "bias"): "bias"}
_KOHYA = re.compile(r"lora_(?P<part>unet|te\d?)_(?P<layer>.+)")
_KOHYA_PARTS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_BARE = ("down_blocks", "mid_block", "up_blocks")  # names of the first LoRAs of diffusers begin with a block of the UNet
_DAMAGED = "Fetch the file again, or give another."


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraLayer:
    """One layer's change, `up @ down`, the file's own scale already in `up`.

    `down` [rank, in, ...], `up` [out, rank, ...], `bias` [out]; `magnitude` [out] where the change is a DoRA (Liu et al., ICML
    2024).
    """

    down: Tensor
    up: Tensor
    bias: Tensor | None = None
    magnitude: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraFile:
    """The changes of each part ("unet", "text_encoder", others), by the layers' names in the file, and the names of all other
    tensors."""

    parts: Mapping[str, Mapping[str, LoraLayer]]
    unread: tuple[str, ...]


@lru_cache(maxsize=4)
def read_lora(file: str) -> LoraFile:
    """Read the layers of a LoRA.

    Raises `WeightsError` for a damaged file, `ConfigError` for one without a tensor that is called as in a LoRA.
    """
    state, settings = read_state(Path(file)), _settings(Path(file))
    found: dict[tuple[str, str], dict[str, Tensor]] = {}
    unread = []
    for name, value in state.items():
        place = _place(name)
        if place is None:
            unread.append(name)
        else:
            found.setdefault(place[:2], {})[place[2]] = value
    parts: dict[str, dict[str, LoraLayer]] = {}
    for (part, layer), tensors in found.items():
        if tensors.keys() & {"down", "up"}:
            parts.setdefault(part, {})[layer] = _layer(file, part, layer, tensors, settings)
        else:
            unread += [f"{layer}.{kind}" for kind in tensors]
    if not parts:
        raise ConfigError(
            f"The LoRA {file} is of a kind that is not known: its tensors are called {next(iter(state))} and the like. "
            "Give one in the names of PEFT, diffusers or kohya's scripts."
        )
    return LoraFile(parts=parts, unread=tuple(unread))


def _place(name: str) -> tuple[str, str, str] | None:
    """The part, the layer and the kind of a tensor of that name; None for one that is not of a LoRA."""
    if match := _MATRIX.search(name):
        half = {"A": "down", "B": "up"}.get(match["half"], match["half"])
        kind = _KINDS.get((half, match["kind"]))
    elif match := _OTHER.search(name):
        kind = match["kind"].removeprefix("lora_").removesuffix("_vector")
    if match is None or kind is None:
        return None
    stem = name[: match.start()]
    if kohya := _KOHYA.fullmatch(stem):
        part, layer = _KOHYA_PARTS.get(kohya["part"], kohya["part"]), kohya["layer"]
    else:
        part, _, layer = stem.partition(".")
        if part in _BARE:
            part, layer = "unet", stem
    attention = match.groupdict().get("attention")
    return part, _with_attention(part, layer, attention) if attention else layer, kind


def _with_attention(part: str, layer: str, kind: str) -> str:
    """The name of a layer of an attention, by that of the attention in the file."""
    if part != "unet":
        return f"{layer}.{kind}_proj"
    return f"{layer.removesuffix('.processor')}.{'to_out.0' if kind == 'out' else f'to_{kind}'}"


def _layer(file: str, part: str, layer: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> LoraLayer:
    down, up = tensors.get("down"), tensors.get("up")
    if down is None or up is None or min(down.ndim, up.ndim) < 2 or down.shape[0] != up.shape[1]:
        raise WeightsError(f"The LoRA {file} is not whole: the two matrices of {part}.{layer} are not of one rank. {_DAMAGED}")
    rank = down.shape[0]
    own = tensors.get("alpha")
    try:
        alpha = _alpha(settings, part, layer, rank) if own is None else float(own)
        scale = alpha / (math.sqrt(rank) if settings.get(f"{part}.use_rslora") else rank)
    except (RuntimeError, TypeError, ValueError, re.error) as error:
        raise WeightsError(f"The LoRA {file} has no number as the scale of {part}.{layer}. {_DAMAGED}") from error
    bias, every = tensors.get("bias"), (down, up, *tensors.values())
    if not math.isfinite(scale) or not all(bool(torch.isfinite(one).all()) for one in every):
        raise WeightsError(f"The LoRA {file} holds values in {part}.{layer} that are no numbers. {_DAMAGED}")
    return LoraLayer(
        down=down.float(),
        up=scale * up.float(),
        bias=None if bias is None else scale * bias.float(),
        magnitude=tensors.get("magnitude"),
    )


def _settings(path: Path) -> dict[str, Any]:
    """PEFT's settings in the header, as `unet.lora_alpha`; empty where there are none."""
    told = file_header(path).get(_HEADER)
    if told is None:
        return {}
    try:
        settings = json.loads(told)
    except ValueError as error:
        raise WeightsError(f"The settings in the header of the LoRA {path} cannot be read: {error}. {_DAMAGED}") from error
    if not isinstance(settings, dict):
        raise WeightsError(f"The header of the LoRA {path} holds no settings. {_DAMAGED}")
    return settings


def _alpha(settings: Mapping[str, Any], part: str, layer: str, rank: int) -> float:
    """PEFT's alpha of a layer: that of the first pattern that the end of its name matches, or that of all, or its rank."""
    for pattern, alpha in dict(settings.get(f"{part}.alpha_pattern") or {}).items():
        if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", layer):
            return float(alpha)
    return float(settings.get(f"{part}.lora_alpha", rank))
