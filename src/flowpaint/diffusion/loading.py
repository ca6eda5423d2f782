"""Networks from names: a diffusers folder, a public repository, or one `.safetensors` file. Each is loaded once a process."""

import importlib.util
import json
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ..errors import ConfigError, WeightsError
from ..weights import (
    CONTROLNET,
    DIFFERENCE,
    DIFFERENCE_TABLE,
    MODEL,
    SHAPE,
    TEXT_WEIGHTS,
    UNET_WEIGHTS,
    check_complete,
    controlnet_for,
    given,
    here,
    is_pickle,
    model_folder,
    names_file,
    quiet,
    read_state,
    tensor_names,
    tensor_shape,
)
from .freeu import FreeU, lay_freeu
from .levels import Schedule
from .lora import Loras, add_loras

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import CLIPTextModel, CLIPTokenizer

_IN_FILE = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
_SHAPES = {"1": "sd15", "2": "sd21"}  # of which a single file needs the configs and the tokenizer alone: that of its family


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model's weights are (a folder or a file), the folder of its configs and its tokenizer, and that of what is changed
    in it, if anything is (`flowpaint.networks.difference`)."""

    path: Path
    shape: Path
    changes: Path | None = None

    def folder(self, part: str) -> Path:
        """The folder of the config of `part`."""
        own = self.changes / part if self.changes is not None else None
        return own if own is not None and own.is_dir() else self.shape / part

    @property
    def is_file(self) -> bool:
        """All networks are in one file."""
        return self.path.is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and how a network works: `home` keeps it on the CPU until it is needed, `channels_last` lays out its convolutions'
    weights with the channels of a pixel side by side."""

    device: torch.device
    dtype: torch.dtype
    home: bool = False
    channels_last: bool = False

    @property
    def start(self) -> torch.device:
        """The device it is loaded to."""
        return torch.device("cpu") if self.home else self.device


def source(weights: str, shape: str) -> Source:
    """Where the model called `weights` is. Raises `WeightsError` when it is missing, damaged or not whole, `LicenceError` where
    the policy in force forbids its use."""
    if not weights:
        raise WeightsError("No diffusion model was chosen. Give a name, a folder or a .safetensors file, as in `--model NAME`.")
    if not names_file(weights):
        changed = here(weights)
        if changed is not None and (changed / DIFFERENCE_TABLE).is_file():
            return _of_changes(model_folder(weights, DIFFERENCE, setting="model.weights"))
        folder = model_folder(weights, MODEL, setting="model.weights")
        for file in MODEL.weights(folder):
            _names(file)  # a damaged file is found before any long work
        return Source(path=folder, shape=folder)
    path = given(weights, network="the model", setting="model.weights")
    names = _names(path)
    for part, prefix in _IN_FILE.items():
        if not any(name.startswith(prefix) for name in names):
            raise WeightsError(f"{weights} has no {part}: no tensor is called {prefix}... Give a whole Stable Diffusion file.")
    beside = path.with_suffix("")
    family = "2" if any(name.startswith("cond_stage_model.model.") for name in names) else "1"
    chosen = shape or (str(beside) if beside.is_dir() else _SHAPES[family])
    return Source(path=path, shape=model_folder(chosen, SHAPE, setting="model.shape"))


def _of_changes(folder: Path) -> Source:
    """The base model that `folder` changes, and the changes."""
    told = read_config(folder / DIFFERENCE_TABLE)
    if not isinstance(told.get("base"), str) or here(told["base"]) is None:
        lost = f"{folder} changes the model {told.get('base')!r}, which is not here."
        raise WeightsError(f"{lost} Put that folder there, or write its place into {DIFFERENCE_TABLE}.")
    return replace(source(told["base"], ""), changes=folder)


_names = lru_cache(maxsize=32)(tensor_names)


_TEXT_WIDTHS = {768: "1", 1024: "2"}  # of the words that a family's networks read


def own_controlnet(found: Source) -> str:
    """The ControlNet in the model's own folder, or ""."""
    folder = found.folder("controlnet")
    return str(folder) if (folder / "config.json").is_file() else ""


def public_controlnet(found: Source, kind: str) -> str | None:
    """The short name of the published ControlNet for a kind of condition and the model's family; None where none is known."""
    family = _TEXT_WIDTHS.get(config(found, "unet").get("cross_attention_dim", 0), "")
    return controlnet_for(kind, family)


@lru_cache(maxsize=16)
def schedule(found: Source) -> Schedule:
    """The noise levels that the model was trained with."""
    return Schedule.from_config(read_config(found.folder("scheduler") / "scheduler_config.json"))


@lru_cache(maxsize=16)
def config(found: Source, part: str) -> dict[str, Any]:
    """The values in the config of one part."""
    return read_config(found.folder(part) / "config.json")


def read_config(path: Path) -> dict[str, Any]:
    """The values in a file of settings. Raises `WeightsError` for a damaged one."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. Fetch the model again.") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path} holds no settings. Fetch the model again.")
    return values


@lru_cache(maxsize=4)
def unet(found: Source, place: Place, loras: Loras, freeu: FreeU | None) -> nn.Module:
    """The network that denoises, read-only, with LoRAs (file, scale) and FreeU (b1, b2, s1, s2) in it."""
    from diffusers import UNet2DConditionModel

    from ..networks.video_unet import VideoUNet

    cls = VideoUNet if is_video(found) else UNet2DConditionModel
    changed = _changed("unet", found, place)
    network = _diffusers(cls, found, "unet", place) if changed is None else changed
    add_loras(network, "unet", loras)
    if freeu is not None:
        lay_freeu(network, freeu)
    return finished(network, place)


def is_video(found: Source) -> bool:
    """Whether the network that denoises is one of clips, FlowVid's."""
    return str(config(found, "unet").get("_class_name")) == "VideoUNet"


def check_changes(found: Source) -> None:
    """Nothing, where the model is not written as what differs from another, or that other one is here. Raises `WeightsError`."""
    from ..networks.difference import check_base

    if found.changes is not None:
        check_base(found.changes, found.path)


def _changed(part: Literal["unet", "controlnet"], found: Source, place: Place) -> Any:
    """The network `part` of a model that is written as what differs from another, None where it is not."""
    from ..networks.difference import read_changed

    if found.changes is None:
        return None
    return nn.Module.to(read_changed(part, found.changes, found.path), dtype=place.dtype)  # diffusers' own warns of nothing


@lru_cache(maxsize=4)
def vae(found: Source, place: Place) -> nn.Module:
    """The autoencoder, read-only."""
    from diffusers import AutoencoderKL

    return finished(_diffusers(AutoencoderKL, found, "vae", place), place)


def text_encoder(found: Source, place: Place, loras: Loras) -> "CLIPTextModel":
    """The text encoder, not kept: what it said is."""
    from transformers import CLIPTextModel

    cls: Any = CLIPTextModel
    network: Any
    with readable(f"the text_encoder of {found.path}"):
        if found.is_file:
            from diffusers.loaders import single_file_utils

            convert: Callable[..., Any] = single_file_utils.create_diffusers_clip_model_from_ldm
            state = {name: one for name, one in read_state(found.path).items() if name.startswith(_IN_FILE["text_encoder"])}
            shape = str(found.shape)
            network = convert(cls, state, subfolder="text_encoder", config=shape, torch_dtype=place.dtype, local_files_only=True)
        else:
            plain = (found.path / "text_encoder" / TEXT_WEIGHTS).is_file()
            how = {"local_files_only": True, "use_safetensors": plain, "dtype": place.dtype, "output_loading_info": True}
            with quiet():
                network, told = cls.from_pretrained(found.path / "text_encoder", **how)
            _complete(told, "text_encoder", found.path)
    add_loras(network, "text_encoder", loras)
    encoder: CLIPTextModel = finished(network, place)  # type: ignore[assignment]
    return encoder


@lru_cache(maxsize=4)
def tokenizer(found: Source) -> "CLIPTokenizer":
    """What cuts words into tokens."""
    from transformers import CLIPTokenizer

    with readable(f"the tokenizer of {found.shape}"):
        read: CLIPTokenizer = CLIPTokenizer.from_pretrained(found.shape / "tokenizer", local_files_only=True)
    return read


def controlnet(name: str, found: Source, place: Place) -> nn.Module:
    """The ControlNet called `name`, read-only. Raises `ConfigError` where it belongs to another family than the model."""
    return _controlnet(_control_path(name, found), name, found, place)


def _control_path(name: str, found: Source) -> Path:
    """The file or the folder of a ControlNet."""
    if found.changes is not None and Path(name) == found.folder("controlnet"):
        return Path(name)  # it has no weights of its own
    if names_file(name):
        return given(name, network="the ControlNet", setting="model.controlnets")
    return model_folder(name, CONTROLNET, setting="model.controlnets")


@lru_cache(maxsize=8)
def _controlnet(path: Path, name: str, found: Source, place: Place) -> nn.Module:
    from diffusers import ControlNetModel

    cls: Any = ControlNetModel
    if found.changes is not None and path == found.folder("controlnet"):
        network = _changed("controlnet", found, place)
    elif path.is_file():
        network = _control_file(path, name, found, place)
    else:
        _same_family(name, read_config(path / "config.json"), config(found, "unet"))
        with readable(f"the ControlNet {name}"):
            network, told = cls.from_pretrained(path, **_how(place, path))
        _complete(told, "ControlNet", path)
    return finished(network, place)


def release() -> None:
    """Forget every network that is kept. What someone still holds stays alive until it is let go."""
    from . import i2vgen_networks, wan

    for kept in (unet, vae, _controlnet, wan.transformer, wan.vae, *i2vgen_networks.KEPT):
        kept.cache_clear()


def check_controlnets(names: tuple[str, ...], found: Source) -> None:
    """Raises for ControlNets that are missing or of another family; their weights are not read."""
    for name in names:
        path = _control_path(name, found)
        if path.is_dir():
            _same_family(name, read_config(path / "config.json"), config(found, "unet"))
        elif not is_pickle(path):
            widths = (tensor_shape(path, one)[1] for one in _names(path) if one.endswith("attn2.to_k.weight"))
            _same_family(name, {"cross_attention_dim": next(widths, None)}, config(found, "unet"), ("cross_attention_dim",))


def empty(cls: Any, found: Source, part: str) -> Any:
    """Return the network of a part without numbers in it."""
    with torch.device("meta"):
        return cls.from_config(config(found, part))


def _control_file(path: Path, name: str, found: Source, place: Place) -> Any:
    from diffusers import ControlNetModel, UNet2DConditionModel

    _names(path)
    shape = empty(UNet2DConditionModel, found, "unet")
    with torch.device("meta"):
        template: Any = ControlNetModel.from_unet(shape, load_weights_from_unet=False)
    with tempfile.TemporaryDirectory() as folder:
        template.save_config(folder)
        try:
            return ControlNetModel.from_single_file(
                _single(path), config=folder, local_files_only=True, torch_dtype=place.dtype, low_cpu_mem_usage=sparing()
            )
        except (ValueError, RuntimeError, KeyError) as error:
            raise ConfigError(f"The ControlNet {name} does not fit the model. Choose one of the model's family.") from error


_SHARED = ("cross_attention_dim", "block_out_channels", "layers_per_block")


def _same_family(name: str, control: dict[str, Any], model: dict[str, Any], keys: tuple[str, ...] = _SHARED) -> None:
    for key in keys:
        if control.get(key) != model.get(key):
            raise ConfigError(
                f"The ControlNet {name} is of another family: its {key} is {control.get(key)}, the model's {model.get(key)}. "
                "Choose one that was made for the model's family."
            )


# ------------------------------------------------------------------------------------------------------------------- reading


def sparing() -> bool:
    """Whether networks can be loaded without a second copy of their numbers."""
    return importlib.util.find_spec("accelerate") is not None  # diffusers' sparing way of loading needs it


def _single(path: Path) -> Any:
    """What diffusers reads a single file from: its name, or its tensors where it is a pickle, which is read here alone."""
    return read_state(path) if is_pickle(path) else str(path)


def _how(place: Place, folder: Path) -> dict[str, Any]:
    return {
        "torch_dtype": place.dtype,
        "local_files_only": True,
        "use_safetensors": (folder / UNET_WEIGHTS).is_file(),
        "output_loading_info": True,
        "low_cpu_mem_usage": sparing(),
    }


def _diffusers(cls: Any, found: Source, part: str, place: Place) -> Any:
    if found.is_file:  # the reader does not say what a file lacks; its names and the network's are one to one
        there = sum(name.startswith(_IN_FILE[part]) for name in _names(found.path))
        _complete({"missing_keys": list(empty(cls, found, part).state_dict())[there:]}, part, found.path)
    with readable(f"the {part} of {found.path}"):
        if found.is_file:
            return cls.from_single_file(
                _single(found.path),
                config=str(found.shape),
                subfolder=part,
                local_files_only=True,
                torch_dtype=place.dtype,
                low_cpu_mem_usage=sparing(),
            )
        network, told = cls.from_pretrained(found.path, subfolder=part, **_how(place, found.path / part))
    _complete(told, part, found.path)
    return network


def _complete(told: dict[str, Any], part: str, path: Path) -> None:
    check_complete(told["missing_keys"], f"The {part} in {path}", "Fetch it again")


@contextmanager
def readable(what: str) -> "Iterator[None]":
    """Inside, whatever a library raises because it cannot read `what` is a `WeightsError`."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # each library below has errors of its own for a damaged file
        told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"Reading {what} failed: {told}. Fetch the model again, or give another.") from error


def finished(network: Any, place: Place) -> nn.Module:
    """The network, read-only, where it waits or works."""
    moved = network.to(place.start)
    done: nn.Module = moved.to(memory_format=torch.channels_last) if place.channels_last else moved
    return done.eval().requires_grad_(False)
