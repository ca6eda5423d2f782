"""Only what a video network has beside the image model from which it was made: small files for small changes.

FOLDER/unet, FOLDER/controlnet: `config.json` and `difference.safetensors`, the tensors that the base lacks or has otherwise, in
float16; FOLDER/difference.json: the SHA-256 of the base's files.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import WeightsError
from ..weights import UNET_WEIGHTS, sha256_of
from .video_unet import VideoUNet

_CHANGES = "difference.safetensors"
_TOLD = "difference.json"


def differing(state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of `state` the tensors that `base` lacks or has otherwise, compared and given in float16, on the CPU."""
    half = {name: one.detach().cpu().half() for name, one in state.items()}
    return {
        name: one.contiguous()
        for name, one in half.items()
        if name not in base or base[name].shape != one.shape or not torch.equal(base[name].half(), one)
    }


def write_difference(networks: Mapping[str, nn.Module], folder: Path, base: Path) -> None:
    """Write, for each of `networks` by the name of its folder, what differs from the model in the folder `base`."""
    told = {}
    for part, network in networks.items():
        known = base / part / UNET_WEIGHTS
        told[part] = _digest(known)
        (folder / part).mkdir(parents=True, exist_ok=True)
        model: Any = network
        model.register_to_config(_name_or_path="")  # diffusers would write where it was read
        model.save_config(folder / part)
        save_file(differing(network.state_dict(), _state(known)), folder / part / _CHANGES)
    (folder / _TOLD).write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def read_difference(folder: Path, base: Path) -> tuple[VideoUNet, ControlNetModel]:
    """The video network and its ControlNet, float32, of what `write_difference` wrote to `folder` and the model in `base`.

    Raises `WeightsError` where a file is missing or damaged, or where `base` is not the model that it was written for.
    """
    try:
        told = json.loads((folder / _TOLD).read_text("utf-8"))
        for part in ("unet", "controlnet"):
            if told[part] != _digest(base / part / UNET_WEIGHTS):
                raise WeightsError(f"{folder} belongs to another {part} than that of {base}. Give the model it was trained from.")
        unet: VideoUNet = _changed(VideoUNet, folder / "unet", base / "unet")
        control: ControlNetModel = _changed(ControlNetModel, folder / "controlnet", base / "controlnet")
    except WeightsError:
        raise
    except Exception as error:  # each library below has errors of its own for a damaged file
        raise WeightsError(f"{folder} cannot be read ({error}). Fetch it again, or write it again.") from error
    return unet, control


def _changed(cls: Any, folder: Path, base: Path) -> Any:
    network = cls.from_config(json.loads((folder / "config.json").read_text("utf-8")))
    network.load_state_dict({**_state(base / UNET_WEIGHTS), **load_file(folder / _CHANGES)}, strict=True)
    return network.float().eval()


def _state(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.is_file() else {}


def _digest(path: Path) -> str:
    """The SHA-256 of a file, "" where there is none."""
    return sha256_of(path) if path.is_file() else ""
