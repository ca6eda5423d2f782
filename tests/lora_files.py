"""LoRA files with known content, written in every naming that is in use, and the layers that they change by definition."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

UNET_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One layer's change: `down` [r, in, ...], `up` [out, r, ...], `alpha` (None: the rank)."""

    down: Tensor
    up: Tensor
    alpha: float | None = None

    @property
    def delta(self) -> Tensor:
        """What is added to the weight: alpha / rank * up @ down (Hu et al., ICLR 2022, section 4.1)."""
        rank = self.down.shape[0]
        product = (self.up.flatten(1) @ self.down.flatten(1)).reshape(self.up.shape[0], *self.down.shape[1:])
        return (rank if self.alpha is None else self.alpha) / rank * product


Half = dict[str, Change]  # by the layer's name in the network


def half_of(network: nn.Module, endings: tuple[str, ...], *, rank: int = 2, alpha: float | None = None, seed: int = 5) -> Half:
    """Random changes of every linear layer of `network` whose name ends in one of `endings`; no level `text_model`."""
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(endings):
            down = torch.randn(rank, module.in_features, generator=generator)
            up = torch.randn(module.out_features, rank, generator=generator)
            changes[name.removeprefix("text_model.")] = Change(down=down, up=0.3 * up, alpha=alpha)
    return changes


def merge(network: nn.Module, half: Half, scale: float = 1.0) -> nn.Module:
    """Add the changes to the weights of `network`, which is returned."""
    layers = {name.removeprefix("text_model."): module for name, module in network.named_modules()}
    for name, change in half.items():
        layers[name].weight.data += scale * change.delta.to(layers[name].weight.dtype)
    return network


# ------------------------------------------------------------------------------------------------------------------- namings


def kohya(unet: Half, text: Half, start: str = "lora_te") -> dict[str, Tensor]:
    """The names that kohya's scripts write: layers with underscores, each alpha a tensor of its own."""
    state = {}
    named = {f"lora_unet_{name}": one for name, one in unet.items()}
    named |= {f"{start}_text_model_{name}": one for name, one in text.items()}
    for name, change in named.items():
        name = name.replace(".", "_")
        state |= {f"{name}.lora_down.weight": change.down, f"{name}.lora_up.weight": change.up}
        if change.alpha is not None:
            state[f"{name}.alpha"] = torch.tensor(change.alpha)
    return state


def peft(unet: Half, text: Half) -> dict[str, Tensor]:
    """The names that diffusers and PEFT write today; the alphas are beside them (`metadata`)."""
    state = {}
    named = {f"unet.{name}": one for name, one in unet.items()} | {
        f"text_encoder.text_model.{name}": one for name, one in text.items()
    }
    for name, change in named.items():
        state |= {f"{name}.lora_A.weight": change.down, f"{name}.lora_B.weight": change.up}
    return state


def flat(unet: Half, text: Half) -> dict[str, Tensor]:
    """`peft` without the text_model level, as transformers 5 has it."""
    return {name.replace(".text_model.", "."): value for name, value in peft(unet, text).items()}


def metadata(rank: int, unet_alpha: float, text_alpha: float) -> dict[str, str]:
    """The header that diffusers writes beside `peft` names."""
    both = {"unet": unet_alpha, "text_encoder": text_alpha}
    told = {f"{part}.{key}": value for part, alpha in both.items() for key, value in (("r", rank), ("lora_alpha", alpha))}
    told |= {"unet.target_modules": list(UNET_ATTENTION), "text_encoder.target_modules": list(TEXT_LAYERS)}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(told)}


def old_diffusers(unet: Half, text: Half) -> dict[str, Tensor]:
    """The names of diffusers before it used PEFT: attention processors, and `lora_linear_layer` in the MLPs."""
    state = {}
    for name, change in unet.items():
        layer, _, end = name.rpartition(".attn")
        number, _, kind = end.partition(".")
        stem = f"unet.{layer}.attn{number}.processor.{kind.removesuffix('.0')}_lora"
        state |= {f"{stem}.down.weight": change.down, f"{stem}.up.weight": change.up}
    for name, change in text.items():
        layer, _, kind = name.rpartition(".")
        stem = f"text_encoder.text_model.{layer}."
        stem += f"to_{kind.removesuffix('_proj')}_lora" if kind.endswith("_proj") else f"{kind}.lora_linear_layer"
        state |= {f"{stem}.down.weight": change.down, f"{stem}.up.weight": change.up}
    return state


def diffusers_021(unet: Half, text: Half) -> dict[str, Tensor]:
    """The names of diffusers 0.21: `lora.down` in the UNet, `lora_linear_layer` in the text encoder."""
    state = {}
    for name, change in unet.items():
        state |= {f"unet.{name}.lora.down.weight": change.down, f"unet.{name}.lora.up.weight": change.up}
    for name, change in text.items():
        stem = f"text_encoder.text_model.{name}.lora_linear_layer"
        state |= {f"{stem}.down.weight": change.down, f"{stem}.up.weight": change.up}
    return state


def write(file: Path, state: dict[str, Tensor], told: dict[str, str] | None = None) -> Path:
    """Write a `.safetensors` file."""
    save_file({name: value.clone() for name, value in state.items()}, file, metadata=told)
    return file
