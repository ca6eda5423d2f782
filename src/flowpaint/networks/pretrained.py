"""Networks of transformers, read from a folder: complete, or not at all."""

from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError


def pretrained(
    cls: Any, folder: Path, device: torch.device, *, title: str, safetensors_only: bool = True, warnings: bool = True
) -> Any:
    """The network that `cls.save_pretrained` wrote to `folder`: float32, on `device`, for looking only.

    `title` is what people call it; `warnings` False leaves out what transformers has to say of the settings. Raises
    `WeightsError` for a folder that cannot be read, and for one that lacks tensors.
    """
    from transformers.utils import logging

    remedy = f"Give a folder that {cls.__name__}.save_pretrained wrote"
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    # A bar of its own for each network would tear ours.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if not warnings:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    more = {"use_safetensors": True} if safetensors_only else {}
    try:
        # With its notes it gives a pair, which its types do not say.
        model, told = cls.from_pretrained(folder, local_files_only=True, output_loading_info=True, dtype=torch.float32, **more)
    except Exception as error:  # damaged files fail in safetensors, in json and in the checks of the settings alike
        raise WeightsError(f"{folder} cannot be read as {title}: {error}. {remedy}.") from error
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    if told["missing_keys"]:  # transformers would fill them with random numbers
        some = ", ".join(sorted(told["missing_keys"])[:3])
        raise WeightsError(f"{folder} lacks {len(told['missing_keys'])} tensors of {title}, such as {some}. {remedy}.")
    return model.eval().requires_grad_(False).to(device)
