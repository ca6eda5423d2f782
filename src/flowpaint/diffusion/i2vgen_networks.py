"""I2VGen-XL's networks from a folder that diffusers saved, and a Ctrl-Adapter from its file."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..weights import TEXT_WEIGHTS, UNET_WEIGHTS, check_complete, given, names_file, quiet
from .loading import Place, Source, finished, readable
from .saved import saved

if TYPE_CHECKING:
    from ..networks.ctrl_adapter import CtrlAdapter


def adapter_file(name: str) -> Path:
    """The file of a Ctrl-Adapter: itself, or that in a folder of its own. Raises `WeightsError` where there is none."""
    folder = Path(name).expanduser()
    inside = name and not names_file(name) and folder.is_dir()
    return given(str(folder / UNET_WEIGHTS) if inside else name, network="the Ctrl-Adapter", setting="adapter")


@lru_cache(maxsize=2)
def unet(found: Source, place: Place) -> nn.Module:
    """The network that denoises, read-only."""
    from diffusers import I2VGenXLUNet

    return saved(I2VGenXLUNet, found.path, "unet", place)


@lru_cache(maxsize=2)
def image_encoder(found: Source, place: Place) -> nn.Module:
    """CLIP's network that sees, read-only."""
    from transformers import CLIPVisionModelWithProjection

    cls: Any = CLIPVisionModelWithProjection
    folder = found.path / "image_encoder"
    with readable(f"the image_encoder of {found.path}"), quiet():
        how = {"use_safetensors": (folder / TEXT_WEIGHTS).is_file(), "output_loading_info": True, "dtype": place.dtype}
        network, told = cls.from_pretrained(folder, local_files_only=True, **how)
    check_complete(told["missing_keys"], f"The image_encoder in {found.path}", "Fetch it again")
    return finished(network, place)


@lru_cache(maxsize=2)
def adapter(file: Path, place: Place) -> "CtrlAdapter":
    """The Ctrl-Adapter in a file, read-only."""
    from ..networks.ctrl_adapter import CtrlAdapter

    read: Any = finished(CtrlAdapter.read(file).to(place.dtype), place)
    made: CtrlAdapter = read
    return made


KEPT = (unet, image_encoder, adapter)
