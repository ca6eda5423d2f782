"""Which files make up a network, by its role."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from .files import SAFE, is_pickle, is_weights

UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "model.safetensors"
CHANGES = "difference.safetensors"
DIFFERENCE_TABLE = "difference.json"
_UNET = f"{UNET_WEIGHTS}|diffusion_pytorch_model.bin"
_TEXT = f"{TEXT_WEIGHTS}|pytorch_model.bin"
_INDEX = f"{SAFE}.index.json"  # beside weights in several files: the file of each tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The files that a folder must have, paths in it; alternatives are written "a|b", the best first.

    Of an index of weights in several files, these are meant, too. `beside` are patterns of what belongs to them.
    """

    files: tuple[str, ...]
    beside: tuple[str, ...] = ()

    def patterns(self, *, pickles: bool) -> list[str]:
        """What is asked of a repository: pickles or safetensors, never both of one thing."""
        wanted = []
        for group in self.files:
            options = group.split("|")
            plain = [one for one in options if not is_pickle(Path(one))]
            wanted += [one for one in options if is_pickle(Path(one))] if pickles and len(plain) < len(options) else plain
        shards = [f"{one.removesuffix(_INDEX)}-*{SAFE}" for one in wanted if one.endswith(_INDEX)]
        return [*wanted, *shards, *self.beside]

    @property
    def has_pickles(self) -> bool:
        """Whether some of the files may be pickles."""
        return any(is_pickle(Path(one)) for group in self.files for one in group.split("|"))

    @property
    def has_weights(self) -> bool:
        """Whether some of the files hold weights: settings alone are small."""
        return any(is_weights(Path(one)) for group in self.files for one in group.split("|"))

    def missing(self, folder: Path) -> str:
        """The first thing of which `folder` has no file, as it is written above, or ""; of several files, the one that lacks.

        Raises `WeightsError` for an index that cannot be read.
        """
        for group in self.files:
            first = next((one for one in group.split("|") if (folder / one).is_file()), "")
            if not first:
                return group
            for shard in _shards(folder / first):
                if not shard.is_file():
                    return shard.relative_to(folder).as_posix()
        return ""

    def weights(self, folder: Path) -> tuple[Path, ...]:
        """The files of weights in `folder` that are used."""
        return tuple(self._weights(folder))

    def _weights(self, folder: Path) -> Iterator[Path]:
        for group in self.files:
            there = [path for one in group.split("|") if (path := folder / one).is_file() and _leads_to_weights(path)]
            for path in there[:1]:
                yield from _shards(path) or (path,)


def _leads_to_weights(path: Path) -> bool:
    return is_weights(path) or path.name.endswith(_INDEX)


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names, beside it; none where `index` is another file."""
    if not index.name.endswith(_INDEX):
        return ()
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not names:
            raise ValueError("it names no file")
        return tuple(index.with_name(name) for name in names)  # refuses a name with a folder in it
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{index} is no index of weights: {error!r}. Fetch the model again.") from error


_PLANS = (
    "tokenizer/tokenizer.json|tokenizer/vocab.json",
    "tokenizer/tokenizer.json|tokenizer/merges.txt",
    "scheduler/scheduler_config.json",
)
_CONFIGS = ("unet/config.json", "vae/config.json", "text_encoder/config.json")
_TOKENS = ("tokenizer/*.json",)


def _in(part: str, group: str) -> str:
    return "|".join(f"{part}/{one}" for one in group.split("|"))


MODEL = Layout(  # as diffusers saves it
    files=("model_index.json", *_CONFIGS, *_PLANS, _in("unet", _UNET), _in("vae", _UNET), _in("text_encoder", _TEXT)),
    beside=_TOKENS,
)
SHAPE = Layout(files=("model_index.json", *_CONFIGS, *_PLANS), beside=_TOKENS)  # what a single file leaves out
CONTROLNET = Layout(files=(_UNET, "config.json"))
DIFFERENCE = Layout(  # what `flowpaint.networks.difference` writes
    files=(DIFFERENCE_TABLE, *(f"{part}/{file}" for part in ("unet", "controlnet") for file in ("config.json", CHANGES))),
)
LORA = Layout(files=("pytorch_lora_weights.safetensors|pytorch_lora_weights.bin",))
NETWORK = Layout(files=(_TEXT,), beside=("config.json",))  # as transformers saves it
CLIP = Layout(
    files=(_TEXT,),
    beside=("config.json", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
)


def _whole_or_split(part: str, name: str) -> str:
    return _in(part, f"{name}|{name}{_INDEX.removeprefix(SAFE)}")


WAN_VACE = Layout(  # as diffusers saves it, which splits what is larger than 10 GB
    files=(
        "model_index.json",
        "transformer/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
        _whole_or_split("transformer", UNET_WEIGHTS),
        _whole_or_split("vae", UNET_WEIGHTS),
        _whole_or_split("text_encoder", TEXT_WEIGHTS),
    ),
    beside=_TOKENS,
)

PAINT_BY_EXAMPLE = Layout(  # as diffusers saves it: a picture is read in place of words
    files=(
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "image_encoder/config.json",
        "scheduler/scheduler_config.json",
        _in("unet", _UNET),
        _in("vae", _UNET),
        _in("image_encoder", _TEXT),
    ),
)


def _large_editor(*more: str) -> Layout:
    return Layout(
        files=(
            "model_index.json",
            "transformer/config.json",
            "vae/config.json",
            "text_encoder/config.json",
            "scheduler/scheduler_config.json",
            *more,
            _whole_or_split("transformer", UNET_WEIGHTS),
            _whole_or_split("vae", UNET_WEIGHTS),
            _whole_or_split("text_encoder", TEXT_WEIGHTS),
        ),
        beside=("tokenizer/*", "text_encoder/generation_config.json"),
    )


QWEN_EDIT = _large_editor("tokenizer/tokenizer_config.json", "processor/preprocessor_config.json")
FLUX2_KLEIN = _large_editor("tokenizer/tokenizer_config.json")
LAMA = Layout(files=("lama_fp32.onnx",))
I2VGEN_XL = Layout(  # as diffusers saves it
    files=(*MODEL.files, "image_encoder/config.json", "feature_extractor/preprocessor_config.json", _in("image_encoder", _TEXT)),
    beside=_TOKENS,
)
