"""Networks of transformers, read from a folder: complete, or not at all."""

from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from ..weights import TEXT_WEIGHTS, check_complete, quiet


def pretrained(cls: Any, folder: Path, device: torch.device, *, title: str, warnings: bool = True) -> Any:
    """The network that `cls.save_pretrained` wrote to `folder`: float32, on `device`, for looking only.

    `title` is what people call it; `warnings` False leaves out what transformers has to say of the settings. Raises
    `WeightsError` for a folder that cannot be read, and for one that lacks tensors.
    """
    remedy = f"Give a folder that {cls.__name__}.save_pretrained wrote"
    how = {"use_safetensors": (folder / TEXT_WEIGHTS).is_file()}
    try:
        with quiet(warnings=warnings):  # with its notes it gives a pair, which its types do not say
            model, told = cls.from_pretrained(folder, local_files_only=True, output_loading_info=True, dtype=torch.float32, **how)
    except Exception as error:  # damaged files fail in safetensors, in json and in the checks of the settings alike
        raise WeightsError(f"{folder} cannot be read as {title}: {error}. {remedy}.") from error
    check_complete(told["missing_keys"], f"{title} in {folder}", remedy)
    return model.eval().requires_grad_(False).to(device)
