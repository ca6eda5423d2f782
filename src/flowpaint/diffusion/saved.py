"""Networks from a folder in which diffusers saved a pipeline."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ..weights import check_complete
from .loading import Place, finished, readable, sparing


def saved(cls: Any, folder: Path, part: str, place: Place) -> nn.Module:
    """The network of diffusers' class `cls` in the sub-folder `part`, read-only. Raises `WeightsError` where it is not whole."""
    how = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True, "low_cpu_mem_usage": sparing()}
    with readable(f"the {part} of {folder}"), _no_bars():
        network, told = cls.from_pretrained(folder, subfolder=part, torch_dtype=place.dtype, **how)
    check_complete(told["missing_keys"], f"The {part} in {folder}", "Fetch it again")
    return finished(network, place)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Inside, diffusers draws no bar for weights in several files, which would tear ours."""
    from diffusers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
