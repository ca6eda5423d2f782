"""From names of weights to files: given by a person, known by a short name, or in a public repository."""

import importlib.util
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..errors import WeightsError, nearest
from .bundled import bundled, find, resolve
from .catalogue import KNOWN, Known, alternatives, known
from .files import ONNX, SAFE, is_pickle, sha256_of
from .layouts import LORA, MODEL, Layout
from .licences import OWN, UNKNOWN, Licence
from .policy import Used, admit, check_pickle, in_force, note

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_log = logging.getLogger(__name__)


def names_file(name: str) -> bool:
    """Whether `name` is that of one file of weights, not of a folder or a repository."""
    path = Path(name)
    return path.suffix == SAFE or is_pickle(path)


def is_known(name: str) -> bool:
    """Whether `name` is that of weights of the catalogue, bundled or public: it goes before a folder called the same."""
    return name in bundled() or known(name) is not None


def given(path: str, *, network: str, setting: str, form: Literal["tensors", "script", "hdf5", "onnx"] = "tensors") -> Path:
    """The file that a person gave as the weights of `network`, by such a setting as `setting` ("fid.extractor.weights").

    Raises `WeightsError` where none was given, it is not there, or it is a pickle that may not be read: what has the `form` of
    named tensors and is no `.safetensors` counts as one.
    """
    if not path:
        raise WeightsError(f"{network} has no weights: none come with flowpaint. Give a file, as in `--set {setting}=/path`.")
    found = Path(path).expanduser()
    if form == "tensors":
        check_pickle(found, path, f"Give a .safetensors file, as in `--set {setting}=/path`")
    if not found.is_file():
        raise WeightsError(f"There is no file {path} with the weights of {network}. Give one, as in `--set {setting}=/path`.")
    admit(path, OWN)
    note(Used(name=path, licence=OWN.name, folder=found.parent, files=(found,)))
    return found


def model_folder(name: str, layout: Layout = MODEL, *, setting: str = "model.weights") -> Path:
    """The folder of a network laid out as `layout` says: known by its short name, a local one, or that of a public repository.

    A repository "owner/name" of Hugging Face is fetched once, into its usual cache. Raises `WeightsError` where the network is
    neither here nor to be had, or lacks a part, which is named, and for pickles that may not be read; `LicenceError` where the
    policy in force forbids its use.
    """
    if name in bundled():
        folder = resolve(name)
        if not folder.is_dir():
            raise WeightsError(f"The weights {name!r} are one file, not a model. Give a folder, as in `--set {setting}=/path`.")
        _check_whole(folder, name, layout, setting)
        return folder
    record, own = known(name), Path(name).expanduser()
    if record is None and own.is_dir():
        folder, revision = own, ""
        name, source, licence = _owned(name, own)
        admit(name, licence)
    else:
        source = record.source if record else name
        if not _HUB_NAME.fullmatch(source):
            raise WeightsError(_unknown(name, setting))
        licence = record.licence if record else UNKNOWN
        admit(name, licence, alternatives(record.role, record.family) if record else ())
        folder = _here_or_fetched(name, source, record, layout, setting)
        revision = folder.name if folder.parent.name == "snapshots" else ""
    _check_whole(folder, name, layout, setting)
    note(Used(name=name, licence=licence.name, source=source, revision=revision, folder=folder, files=layout.weights(folder)))
    return folder


def _owned(name: str, folder: Path) -> tuple[str, str, Licence]:
    """What a local folder is called, where it comes from, and its licence: a part of a bundled model has that model's."""
    place = folder.resolve()
    for one in bundled().values():
        whole = find(one)
        if whole is not None and whole.is_dir() and place.is_relative_to(whole.resolve()):
            return (Path(one.name) / place.relative_to(whole.resolve())).as_posix(), one.install, one.licence
    return name, "", OWN


def model_file(name: str, layout: Layout = LORA, *, network: str, setting: str) -> Path:
    """The one file of weights of `network`: a local file, or that of a network that `model_folder` finds. Raises as that does."""
    if names_file(name):
        return given(name, network=network, setting=setting)
    return layout.weights(model_folder(name, layout, setting=setting))[0]


def published(url: str, *, network: str, setting: str, asked: bool = False) -> Path:
    """The file at `url` from PyTorch's cache, fetched by torch where torchvision, whose weights they are, is installed.

    With `asked`, for by its name, it is fetched without torchvision, too. The end of its name is the start of its hash, which is
    checked. Raises `WeightsError` where it is not to be had, `LicenceError` where the policy in force forbids its use.
    """
    import torch.hub

    record = known(url)
    licence, name = record.licence if record else UNKNOWN, record.name if record else url
    admit(name, licence, alternatives(record.role, record.family) if record else ())
    path = torch_cache(url)
    remedy = f"Fetch {url} and give it, as in `--set {setting}=/path`"
    if record is not None and not asked:
        remedy = f"Fetch them with `flowpaint models download {name}`, or give a file, as in `--set {setting}=/path`"
    start = path.stem.rpartition("-")[2]
    if not path.is_file():
        if in_force().offline or not (asked or importlib.util.find_spec("torchvision")):
            raise WeightsError(f"The weights of {network} are not here. {remedy}.")
        _log.warning(notice(record, record.layout) if record else f"Fetching {url}, whose licence is not known here.")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=start, progress=False)
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"The weights of {network} cannot be fetched ({error}). {remedy}.") from error
    if not sha256_of(path).startswith(start):
        raise WeightsError(f"The weights of {network} in {path} do not have the hash {start}. {remedy}.")
    note(Used(name=name, licence=licence.name, source=url, folder=path.parent, files=(path,)))
    return path


def torch_cache(url: str) -> Path:
    """Where PyTorch keeps the file at `url`, whether it is there or not."""
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def notice(record: Known, layout: Layout) -> str:
    """What is said before the files of `layout` are fetched: what and how much it is, and the licence."""
    licence = record.licence
    more = f" ({licence.text})" if licence.text else ""
    size = f"up to {record.size / 1e9:.1f} GB" if record.size >= 1e9 else f"up to {record.size / 1e6:.0f} MB"
    what, size = (record.name, size) if layout.has_weights else (f"the settings and the tokenizer of {record.name}", "a few MB")
    return f"Fetching {what} from {record.source}, {size}. Licence: {licence}{more}; commercial use: {licence.allows}."


# ------------------------------------------------------------------------------------------------------------------ the hub


def _here_or_fetched(name: str, repository: str, record: Known | None, layout: Layout, setting: str) -> Path:
    """The snapshot of a repository: the one that is here if it is whole, else a fetched one, which may lack something."""
    revision = record.revision if record else ""
    policy = in_force()
    kinds = (False, True) if policy.allow_pickle and layout.has_pickles else (False,)  # safetensors first
    reason: Exception | None = None
    found: Path | None = None
    for local in (True, False) if not policy.offline else (True,):  # what was fetched once is used without asking
        if not local:
            _log.warning(notice(record, layout) if record else f"Fetching {name}, whose licence is not known here.")
        for pickles in kinds:
            try:
                found = _snapshot(repository, revision, layout, pickles, local)
            except Exception as error:  # errors of the client below come through, and which client it is changes
                reason = error
                break
            reason = None
            if not layout.missing(found):
                return found
    if found is not None and reason is None and not policy.offline:
        return found
    remedy = f"Give a folder by `--set {setting}=/path`, or go online once"
    raise WeightsError(
        f"The weights {name!r} are not here and cannot be fetched: {_told(reason, repository)}. {remedy}."
    ) from reason


@lru_cache(maxsize=32)
def _snapshot(repository: str, revision: str, layout: Layout, pickles: bool, local: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = layout.patterns(pickles=pickles)
    return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns, local_files_only=local))


def _told(error: Exception | None, repository: str) -> str:
    """The reason for which nothing came, in words."""
    from huggingface_hub import errors

    if in_force().offline or isinstance(error, errors.OfflineModeIsEnabled):
        return "downloads are switched off"
    if isinstance(error, errors.GatedRepoError):
        return f"its terms must be accepted first, at https://huggingface.co/{repository}, and HF_TOKEN set"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it is not public and HF_TOKEN is not set"
    if isinstance(error, (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)):
        return "the hub cannot be reached"
    return type(error).__name__


def _check_whole(folder: Path, name: str, layout: Layout, setting: str) -> None:
    """Raises `WeightsError` for a folder without a part of `layout`, or with pickles that may not be read."""
    group = layout.missing(folder)
    if group:
        part = group.partition("/")[0] if "/" in group else ""
        files = " or ".join(one.rpartition("/")[2] for one in group.split("|"))
        lacks = f"no {part}: {files} is missing" if part else f"no {files}"
        hint = " It may hold pickles, which --allow-pickle reads." if _HUB_NAME.fullmatch(name) and "|" in group else ""
        raise WeightsError(f"The model {name} has {lacks}.{hint} Give a folder that is whole by `--set {setting}=/path`.")
    for file in layout.weights(folder):
        if file.suffix == ONNX:  # ONNX Runtime alone reads it, as what it is
            continue
        check_pickle(file, f"{file.name} in {name}", f"Give a folder with safetensors by `--set {setting}=/path`")


def _unknown(name: str, setting: str) -> str:
    names = [*(one.name for one in KNOWN), *(one.name for one in bundled().values())]
    return (
        f"There is no folder {name}, and no model is known by that name. Nearest: {nearest(name, names)}. "
        f"Give one of them, a folder by `--set {setting}=/path`, or a public name such as owner/name."
    )
