"""The networks of FlowVid, begun from an image model: its UNet inflated, its ControlNet widened, its noise levels changed."""

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..diffusion.levels import Schedule
from ..errors import ConfigError, WeightsError
from ..networks.temporal import Position
from ..weights import UNET_WEIGHTS, read_state
from . import standard
from .family import SCHEDULER, part_of

Levels = Literal["paper", "base"]

_THEIR_BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squared_cosine": "squaredcos_cap_v2"}


def is_video(base: str) -> bool:
    """Whether the UNet of the model in `base` is inflated already."""
    folder = part_of(base, "unet")
    return folder is not None and json.loads((folder / "config.json").read_text("utf-8")).get("_class_name") == "VideoUNet"


def networks(base: str, embedding: Sequence[int], position: Position) -> nn.ModuleDict:
    """The video network of the model in `base`, as "unet", and its ControlNet, as "controlnet", which reads all that it reads.

    An inflated UNet goes on, `position` is its own; an image UNet is inflated. A ControlNet that is missing is made of the image
    UNet, and reads maps through `embedding`. Raises `WeightsError` where it is missing and the UNet inflated, `ConfigError`
    where the two do not fit.
    """
    from ..networks.video_unet import VideoUNet, widened

    if is_video(base):
        cls: Any = VideoUNet
        if part_of(base, "controlnet") is None:
            raise WeightsError(f"The video model {base!r} has no controlnet. Name a folder that has both.")
        unet = cls.from_pretrained(part_of(base, "unet"), torch_dtype=torch.float32, local_files_only=True)
        control = standard.controlnet(base, None, embedding)
    else:
        image = standard.unet(base)
        unet = VideoUNet.inflated(image, position=position)
        control = standard.controlnet(base, image, embedding)
    channels, own = int(unet.config.in_channels), int(unet.config.image_channels)
    if control.config.in_channels not in (own, channels):
        raise ConfigError(
            f"The ControlNet of {base} reads {control.config.in_channels} channels, its UNet {own} and {channels - own} more. "
            "Choose one that was made for the model."
        )
    return nn.ModuleDict({"unet": unet, "controlnet": split(widened(control, channels), own)})


_MOTION = {
    "norm.weight": "norm1.weight",
    "norm.bias": "norm1.bias",
    **{f"to_{one}.weight": f"attn1.to_{one}.weight" for one in "qkv"},
}


def take_motion(unet: Any, motion: str) -> int:
    """The number of attentions along time of the video network `unet` that took their norm, queries, keys and values from the
    first attention of AnimateDiff's module at the same place (Guo et al., ICLR 2024): where to look in time is learnt already.

    What they give stays zero before training: the network is still the image model. `motion` is a folder that diffusers'
    MotionAdapter saved, or a `.safetensors` file with its names. Modules without a counterpart are left out. Raises
    `WeightsError` for another file, `ConfigError` for weights of another width.
    """
    path = Path(motion).expanduser()
    state = read_state(path / UNET_WEIGHTS if path.is_dir() else path)
    taken = 0
    for name, layer in unet.named_modules():
        place = re.fullmatch(r"(.+)\.attentions\.(\d+)\.transformer_blocks\.0\.temporal", name)
        there = f"{place[1]}.motion_modules.{place[2]}.transformer_blocks.0." if place else ""
        if not there or f"{there}norm1.weight" not in state:
            continue
        for mine, theirs in _MOTION.items():
            weight, found = layer.get_parameter(mine), state.get(there + theirs)
            if found is None or found.shape != weight.shape:
                raise ConfigError(
                    f"{motion} has no {there + theirs} of shape {tuple(weight.shape)}. Take motion weights of its family."
                )
            with torch.no_grad():
                weight.copy_(found)
        taken += 1
    if not taken:
        raise WeightsError(
            f"{motion} has no motion modules that this network has a place for. Give a MotionAdapter of diffusers."
        )
    return taken


def split(controlnet: Any, channels: int) -> Any:
    """`controlnet`, its first convolution one of the first `channels` and one of the others, which may learn alone."""
    from ..networks.video_unet import WidenedConv

    whole = controlnet.conv_in
    parts: Any = WidenedConv(channels, whole.in_channels - channels, whole.out_channels, whole.kernel_size[0])
    with torch.no_grad():
        parts.weight.copy_(whole.weight[:, :channels])
        parts.bias.copy_(whole.bias)
        parts.more.weight.copy_(whole.weight[:, channels:])
    controlnet.conv_in = parts
    return controlnet


def folded(controlnet: Any) -> Any:
    """A copy of a ControlNet that was `split`, as a stock one."""
    stock: Any = copy.deepcopy(controlnet)
    parts = stock.conv_in
    weight = torch.cat((parts.weight, parts.more.weight), dim=1).detach()
    whole: Any = nn.Conv2d(weight.shape[1], weight.shape[0], parts.kernel_size, padding=parts.padding).to(weight)
    with torch.no_grad():
        whole.weight.copy_(weight)
        whole.bias.copy_(parts.bias)
    stock.conv_in = whole
    return stock


def only_new_learn(found: nn.ModuleDict) -> None:
    """Let of `networks` only those tensors learn that an image model does not have."""
    unet: Any = found["unet"]
    found.requires_grad_(False)
    new = {f"unet.{name}" for name in unet.new_names} | {"controlnet.conv_in.more.weight"}
    for name, weight in found.named_parameters():
        weight.requires_grad_(name in new)


def schedule(base: str, levels: Levels) -> Schedule:
    """The noise levels of the model in `base`; "paper": with v-prediction and zero terminal SNR (FlowVid, section 4.3)."""
    own = standard.schedule(base)
    if levels == "base":
        return own
    return replace(own, prediction="v", zero_terminal_snr=True, spacing="trailing", set_alpha_to_one=True)


def write_schedule(found: Schedule, folder: Path) -> None:
    """Write what `schedule` gave with "paper" as diffusers' DDIM scheduler."""
    from diffusers import DDIMScheduler

    cls: Any = DDIMScheduler
    betas = {"beta_start": found.beta_start, "beta_end": found.beta_end, "beta_schedule": _THEIR_BETAS[found.betas]}
    cls(**{**SCHEDULER, **betas, "num_train_timesteps": found.num_train}).save_pretrained(folder / "scheduler")
