"""Networks of the standard classes, from a model's folder or new, and written back."""

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..diffusion.levels import Schedule
from ..networks.pretrained import pretrained
from .family import SCHEDULER, names_of, part_of
from .vocabulary import LENGTH, words, write_tokenizer

_LOCAL = {"local_files_only": True}
_SILU_GAIN = 1.68  # 1 / sqrt(E[silu(x)^2]) for x of variance 1
_LORA = ["to_q", "to_k", "to_v", "to_out.0"]  # as diffusers' own scripts choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of new networks: a UNet of `widths` with `layers` a block, a text encoder; heads of `head` channels in both."""

    widths: tuple[int, ...]
    layers: int
    head: int
    groups: int
    text_width: int
    text_layers: int


def frozen(network: Any) -> Any:
    """`network`, which does not learn."""
    return network.eval().requires_grad_(False)


def autoencoder(base: str) -> Any:
    """The autoencoder of the model in the folder `base`, float32."""
    from diffusers import AutoencoderKL

    cls: Any = AutoencoderKL
    return cls.from_pretrained(part_of(base, "vae"), torch_dtype=torch.float32, **_LOCAL)


def schedule(base: str) -> Schedule:
    """The noise levels of the model in `base`, else those of `mini`."""
    found = part_of(base, "scheduler")
    return Schedule.from_config(SCHEDULER if found is None else json.loads((found / "scheduler_config.json").read_text("utf-8")))


def tokenizer(base: str, looks: Sequence[str]) -> Any:
    """The tokenizer of the model in `base`, else one made of the words of captions about `looks`."""
    from transformers import CLIPTokenizer

    cls: Any = CLIPTokenizer
    found = part_of(base, "tokenizer")
    if found is not None:
        return cls.from_pretrained(found, **_LOCAL)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), words(names_of(look) for look in looks))
        return cls.from_pretrained(folder, **_LOCAL)


def text_encoder(base: str, tokens: Any = None, sizes: Sizes | None = None) -> Any:
    """The text encoder of the model in `base`, else a new one that reads what `tokens` cuts. Float32."""
    from transformers import CLIPTextConfig, CLIPTextModel

    found = part_of(base, "text_encoder")
    if found is not None:
        return pretrained(CLIPTextModel, found, torch.device("cpu"), title="a text encoder").requires_grad_(True).train()
    assert tokens is not None and sizes is not None
    shape = CLIPTextConfig(
        hidden_size=sizes.text_width,
        intermediate_size=4 * sizes.text_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_width // sizes.head,
        projection_dim=sizes.text_width,
        vocab_size=len(tokens),
        max_position_embeddings=LENGTH,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    return CLIPTextModel(shape)


def unet(base: str, channels: int = 0, cross: int = 0, sizes: Sizes | None = None) -> Any:
    """The UNet of the model in `base`, else a new one for latents of `channels` and text of width `cross`. Float32."""
    from diffusers import UNet2DConditionModel

    cls: Any = UNet2DConditionModel
    found = part_of(base, "unet")
    if found is not None:
        return cls.from_pretrained(found, torch_dtype=torch.float32, **_LOCAL)
    assert sizes is not None
    return cls(
        sample_size=32,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * len(sizes.widths),
        up_block_types=("CrossAttnUpBlock2D",) * len(sizes.widths),
        block_out_channels=sizes.widths,
        layers_per_block=sizes.layers,
        cross_attention_dim=cross,
        norm_num_groups=sizes.groups,
        # diffusers reads this name as the number of heads
        attention_head_dim=tuple(width // sizes.head for width in sizes.widths),
    )


def controlnet(base: str, network: Any, embedding: Sequence[int]) -> Any:
    """The ControlNet beside the model in `base`, else a new one of `network`'s weights that reads maps through `embedding`."""
    from diffusers import ControlNetModel

    cls: Any = ControlNetModel
    found = part_of(base, "controlnet")
    if found is not None:
        return cls.from_pretrained(found, torch_dtype=torch.float32, **_LOCAL)
    made = cls.from_unet(network, conditioning_embedding_out_channels=tuple(embedding))
    _let_through(made.controlnet_cond_embedding)
    return made.requires_grad_(True).train()


def _let_through(embedding: nn.Module) -> None:
    """Draw convolutions anew so that a map keeps its size through all of them: by their own first weights, eight layers of SiLU
    leave a ten-thousandth of it, and a short run ends before it is heard."""
    for conv in embedding.modules():
        if isinstance(conv, nn.Conv2d):
            fan_in = conv.weight[0].numel()
            nn.init.normal_(conv.weight, std=_SILU_GAIN * fan_in**-0.5)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


def with_lora(network: Any, rank: int) -> Any:
    """`network` with new LoRA layers in its attentions; only they learn."""
    from peft import LoraConfig

    network.requires_grad_(False)
    network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=_LORA))
    return network


def write_lora(network: Any, folder: Path) -> None:
    """Write the LoRA layers of a UNet as `pytorch_lora_weights.safetensors`."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {f"unet.{name}": one.detach().cpu().contiguous() for name, one in get_peft_model_state_dict(network).items()}
    save_file(state, folder / "pytorch_lora_weights.safetensors")


def write_half(network: nn.Module, folder: Path) -> None:
    """Write a copy of `network` in float16, without the name of the folder that it came from."""
    half: Any = copy.deepcopy(network).cpu().half()
    if hasattr(half, "register_to_config"):
        half.register_to_config(_name_or_path="")  # diffusers would write where it was read
    half.save_pretrained(folder)


def write_plain(folder: Path, tokens: Any, base: str) -> None:
    """Write the tokenizer, and the schedule of `mini` where `base` has none."""
    from diffusers import DDIMScheduler

    cls: Any = DDIMScheduler
    tokens.save_pretrained(folder / "tokenizer")
    if part_of(base, "scheduler") is None:
        cls(**SCHEDULER).save_pretrained(folder / "scheduler")
