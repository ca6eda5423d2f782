"""Ready pipelines of diffusers: assembled from networks that are whole and safe to read, kept, placed, run.

Of a model's folder only weights and settings are read, by classes named here: a folder cannot bring code of its own.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ...diffusion.loading import Place, Source, config, finished, read_config, readable, sparing
from ...errors import ConfigError, MissingExtraError, ResourceError, WeightsError
from ...types import to_raw
from ...weights import Layout, check_complete, is_pickle, model_folder, quiet, tensor_names
from .asked import Canvas

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Build: TypeAlias = Callable[[Source, Place, str], Any]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def place(device: torch.device, dtype: Precision, offload: bool) -> Place:
    """Where networks work: on `device`; with `offload` they wait on the CPU, where the two differ."""
    return Place(device=device, dtype=_DTYPES[dtype], home=offload and device.type != "cpu")


def check_precision(dtype: str) -> None:
    """Raises `ConfigError` for a type of numbers that is none of three."""
    if dtype not in _DTYPES:
        raise ConfigError(f"dtype cannot be {dtype!r}. Choose one of {', '.join(_DTYPES)}.")


def folder(weights: str, layout: Layout, pipeline: tuple[str, ...]) -> Source:
    """Where the model called `weights`, laid out as `layout` says, is; its files of weights are whole as far as their heads say.

    Raises `WeightsError` where it is missing, damaged or not whole, `LicenceError` where the policy in force forbids its use,
    `ConfigError` where it was not saved by one of the classes `pipeline`.
    """
    if not weights:
        raise WeightsError("No model was chosen. Give a name or a folder, as in `--set editor.weights=NAME`.")
    path = model_folder(weights, layout, setting="editor.weights")
    told = read_config(path / "model_index.json").get("_class_name")
    if told not in pipeline:
        raise ConfigError(f"{weights} is a model for {told}. Choose one that was saved by {' or '.join(pipeline)}.")
    for file in layout.weights(path):
        if not is_pickle(file):
            _names(file)
    return Source(path=path, shape=path)


_names = lru_cache(maxsize=64)(tensor_names)


def canvas(found: Source) -> Canvas:
    """The sizes at which a model of Stable Diffusion's kind paints."""
    cell = 2 ** (len(config(found, "vae").get("block_out_channels", (0,) * 4)) - 1)
    return Canvas(side=int(config(found, "unet").get("sample_size", 64)) * cell, cell=max(cell, 8))


def network(cls: Any, found: Source, part: str, where: Place) -> Any:
    """The network `part` of a folder, read-only, read by `cls` of diffusers or transformers. Raises `WeightsError`."""
    path = found.path / part
    safe = any(path.glob("*.safetensors*"))  # whether a pickle may be read instead, `folder` has asked
    how: dict[str, Any] = {"local_files_only": True, "use_safetensors": safe, "output_loading_info": True}
    if cls.__module__.startswith("diffusers.models"):
        how |= {"torch_dtype": where.dtype, "low_cpu_mem_usage": sparing()}
    else:
        how |= {"dtype": where.dtype}
    with readable(f"the {part} of {found.path}"):
        made, told = cls.from_pretrained(path, **how)
    check_complete(told["missing_keys"], f"The {part} in {found.path}", "Fetch it again")
    return finished(made, where)


def scheduler(cls: Any, found: Source) -> Any:
    """A scheduler of `cls` with the model's noise levels."""
    settings = read_config(found.folder("scheduler") / "scheduler_config.json")
    with readable(f"the scheduler of {found.shape}"):
        return cls.from_config(settings)


def tokenizer(cls: Any, path: Path) -> Any:
    """What cuts words into tokens, as `cls` reads it from a folder."""
    with readable(f"the tokenizer in {path}"):
        return cls.from_pretrained(path, local_files_only=True)


@lru_cache(maxsize=2)
def kept(build: Build, found: Source, where: Place, control: str = "") -> Any:
    """The pipeline that `build` assembles, made once a process. With a place whose `home` is set, it is moved part by part."""
    if where.home and importlib.util.find_spec("accelerate") is None:
        raise MissingExtraError("Offload needs accelerate, which is not installed. Run `pip install 'flowpaint[diffusion]'`.")
    with _still():
        made = build(found, where, control)
        made.set_progress_bar_config(disable=True)
        if where.home:
            made.enable_model_cpu_offload(device=where.device)
    return made


def release() -> None:
    """Forget every pipeline that is kept. Networks that `flowpaint.diffusion.loading` keeps are forgotten there."""
    kept.cache_clear()


@torch.no_grad()
def run(pipeline: Any, **call: Any) -> Tensor:
    """The picture [3, h, w] in [0, 1], float32, that a call of `pipeline` makes. Raises `ResourceError` without memory."""
    with _enough_memory(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # how diffusers' schedulers use numpy is not the user's concern
        pictures = pipeline(**call, output_type="pt").images
    made: Tensor = pictures[0].float()
    return made.clamp(0.0, 1.0)


def pil(picture: Tensor) -> Any:
    """`picture` [3, h, w] in [0, 1] in 8 bits, as pipelines want it that take their sizes from pictures."""
    from PIL import Image

    return Image.fromarray(to_raw(picture))


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        # On a CPU torch raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ResourceError(
            "Memory ran out while a picture was edited. Set editor.offload=true, editor.dtype=bfloat16 or a smaller editor.side."
        ) from error


@contextmanager
def _still() -> Iterator[None]:
    """Inside, diffusers and transformers draw no bars, which would tear ours, and say nothing of pipelines that they keep alive
    but no longer grow, of settings, and of packages that would be faster."""
    from diffusers.utils import logging

    said: Any = logging
    shown, level = said.is_progress_bar_enabled(), said.get_verbosity()
    said.disable_progress_bar()
    said.set_verbosity_error()
    try:
        with quiet(warnings=False), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        said.set_verbosity(level)
        if shown:
            said.enable_progress_bar()


@contextmanager
def own_settings(controlnet: str = "controlnet") -> Iterator[None]:
    """Inside, errors about weights name the settings of an editor, not those of a model that is a part of its own."""
    try:
        yield
    except (WeightsError, ConfigError) as error:
        message = str(error).replace("model.controlnets", f"editor.{controlnet}").replace("--model ", "--set editor.weights=")
        raise type(error)(message.replace("--set model.", "--set editor.")) from error
