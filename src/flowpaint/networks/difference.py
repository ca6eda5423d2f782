"""Only what a video network has beside the image model from which it was made: small files for small changes.

FOLDER/unet, FOLDER/controlnet: `config.json` and `difference.safetensors`, the tensors that the base lacks or has otherwise, in
float16; FOLDER/difference.json: what the base is called, and the SHA-256 of its files.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import WeightsError
from ..weights import CHANGES, DIFFERENCE_TABLE, UNET_WEIGHTS, sha256_of
from .video_unet import VideoUNet

Part = Literal["unet", "controlnet"]

_CLASSES: dict[str, Any] = {"unet": VideoUNet, "controlnet": ControlNetModel}


def differing(state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of `state` the tensors that `base` lacks or has otherwise, compared and given in float16, on the CPU."""
    half = {name: one.detach().cpu().half() for name, one in state.items()}
    return {
        name: one.contiguous()
        for name, one in half.items()
        if name not in base or base[name].shape != one.shape or not torch.equal(base[name].half(), one)
    }


def write_difference(networks: Mapping[str, nn.Module], folder: Path, base: Path, name: str = "") -> None:
    """Write, for each of `networks`, what differs from the model in the folder `base`, which goes by `name` (else its path)."""
    digests = {}
    for part, network in networks.items():
        known = base / part / UNET_WEIGHTS
        digests[part] = _digest(known)
        (folder / part).mkdir(parents=True, exist_ok=True)
        model: Any = network
        model.register_to_config(_name_or_path="")  # diffusers would write where it was read
        model.save_config(folder / part)
        save_file(differing(network.state_dict(), _state(known)), folder / part / CHANGES)
    told = {"base": name or str(base), "sha256": digests}
    (folder / DIFFERENCE_TABLE).write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def read_changed(part: Part, folder: Path, base: Path) -> nn.Module:
    """The network `part`, float32, of what `write_difference` wrote to `folder` and the model in `base`.

    Raises `WeightsError` where a file is missing or damaged, or where `base` is not the model that it was written for.
    """
    try:
        _check_base(part, folder, base)
        network = _CLASSES[part].from_config(json.loads((folder / part / "config.json").read_text("utf-8")))
        network.load_state_dict({**_state(base / part / UNET_WEIGHTS), **load_file(folder / part / CHANGES)}, strict=True)
    except WeightsError:
        raise
    except Exception as error:  # each library below has errors of its own for a damaged file
        raise WeightsError(f"{folder} cannot be read ({error}). Fetch it again, or write it again.") from error
    changed: nn.Module = network.float().eval()
    return changed


def check_base(folder: Path, base: Path) -> None:
    """Nothing, where the model in `base` is the one that the changes in `folder` were written for. Raises `WeightsError`."""
    try:
        for part in _CLASSES:
            _check_base(part, folder, base)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder} cannot be read ({error}). Fetch it again, or write it again.") from error


def _check_base(part: str, folder: Path, base: Path) -> None:
    told = json.loads((folder / DIFFERENCE_TABLE).read_text("utf-8"))
    if told["sha256"][part] != _digest(base / part / UNET_WEIGHTS):
        raise WeightsError(f"{folder} belongs to another {part} than that of {base}. Give the model it was trained from.")


def _state(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.is_file() else {}


def _digest(path: Path) -> str:
    """The SHA-256 of a file, "" where there is none."""
    if not path.is_file():
        return ""
    told = path.stat()
    return _digest_of(path, (told.st_size, told.st_mtime_ns))


@lru_cache(maxsize=8)
def _digest_of(path: Path, _state: tuple[int, int]) -> str:
    return sha256_of(path)  # of some gigabytes: once, while the file stays as it is
