"""`mini`: the looks that it knows, its schedule, and how its parts make one folder."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import WeightsError
from ..parts.editors.looks import find
from ..weights import SUITED

LOOKS = (
    "van gogh", "japanese print", "mosaic", "pop art", "yellow and ink", "ember", "linocut", "frost", "cubist", "colour ink",
    "crimson and gold", "pencil", "neon", "blueprint", "sepia", "night", "cyberpunk", "infrared",
)  # fmt: skip

CONDITIONS = ("softedge", "canny")  # what its ControlNet reads

SCHEDULER: Mapping[str, object] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
    "clip_sample": False,
    "steps_offset": 0,
}

_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
    "controlnet": ("diffusers", "ControlNetModel"),
}


def names_of(look: str) -> tuple[str, ...]:
    """What a built-in look is called: its own name, then all other words for it."""
    found = find(look)
    return (found.name, *found.aliases, *found.phrases)


def complete(folder: Path, base: Path | None, *, suited: bool = True, **classes: tuple[str, str]) -> None:
    """Add to `folder` the parts that it lacks and `base` has, and its `model_index.json`.

    The settings that suit `base` come along with `suited`; `classes` are the (library, class) of parts that are no image model's.
    """
    for part in _CLASSES:
        if base is not None and (base / part).is_dir() and not (folder / part).exists():
            shutil.copytree(base / part, folder / part)
    if suited and base is not None and (base / SUITED).is_file():
        shutil.copy(base / SUITED, folder / SUITED)
    there = {part: list(one) for part, one in {**_CLASSES, **classes}.items() if (folder / part).is_dir()}
    control = "ControlNet" if "controlnet" in there else ""
    absent = {part: [None, None] for part in ("safety_checker", "feature_extractor", "image_encoder")}
    told = {"_class_name": f"StableDiffusion{control}Pipeline", **there, **absent, "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def check_parts(base: str, parts: Iterable[str]) -> None:
    """Raises `WeightsError` where the model in `base` lacks one of `parts`."""
    for part in parts:
        if part_of(base, part) is None:
            raise WeightsError(f"The model {base!r} has no {part}. Name as `base` the folder of a whole model.")


def part_of(base: str, part: str) -> Path | None:
    """The folder of a part of the model in `base`, None where it has none. Raises `WeightsError` where there is no such model."""
    if not base:
        return None
    if not Path(base).is_dir():
        raise WeightsError(f"There is no folder {base} to start from. Give the folder of a diffusers model.")
    found = Path(base) / part
    return found if found.is_dir() else None
