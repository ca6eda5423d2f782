"""Which files make up a network, by its role."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import is_pickle, is_weights

UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "model.safetensors"
CHANGES = "difference.safetensors"
DIFFERENCE_TABLE = "difference.json"
_UNET = f"{UNET_WEIGHTS}|diffusion_pytorch_model.bin"
_TEXT = f"{TEXT_WEIGHTS}|pytorch_model.bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The files that a folder must have, paths in it; alternatives are written "a|b", the best first.

    `beside` are patterns of what belongs to them.
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
        return [*wanted, *self.beside]

    @property
    def has_pickles(self) -> bool:
        """Whether some of the files may be pickles."""
        return any(is_pickle(Path(one)) for group in self.files for one in group.split("|"))

    @property
    def has_weights(self) -> bool:
        """Whether some of the files hold weights: settings alone are small."""
        return any(is_weights(Path(one)) for group in self.files for one in group.split("|"))

    def missing(self, folder: Path) -> str:
        """The first thing of which `folder` has no file, as it is written above, or ""."""
        return next((group for group in self.files if not any((folder / one).is_file() for one in group.split("|"))), "")

    def weights(self, folder: Path) -> tuple[Path, ...]:
        """The files of weights in `folder` that are used."""
        return tuple(self._weights(folder))

    def _weights(self, folder: Path) -> Iterator[Path]:
        for group in self.files:
            there = [path for one in group.split("|") if (path := folder / one).is_file() and is_weights(path)]
            yield from there[:1]


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
