"""What there is of the known weights: where each set is, its size, and whether its files are what they should be."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ConfigError, WeightsError, nearest
from .bundled import BUNDLED, Bundled, bundled, find, locate, resolve
from .catalogue import KNOWN, Known, known
from .fetching import model_folder, published, torch_cache
from .files import digest
from .licences import Licence
from .policy import Policy, blob_of, keeping

State = Literal["ok", "wrong", "unchecked"]
_SETTINGS = {  # by which weights of one's own take the place of known ones: by role, or by name
    "model": "model.weights",
    "controlnet": "model.controlnets",
    "lora": "model.lora",
    "depth": "control.weights",
    "segmenter": "saliency.weights",
    "flow": "flow.weights",
    "editor": "editor.weights",
    "clip-vit-b32": "clip.extractor.weights",
    "vgg16": "spat-con.extractor.weights",
    "alexnet": "lpips.extractor.weights",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One set of weights that flowpaint knows: `path` is its file or folder, None where it is not here, `size` in bytes."""

    name: str
    role: str
    family: str
    licence: Licence
    source: str
    says: str
    path: Path | None
    size: int


def inventory() -> tuple[Entry, ...]:
    """All known weights: bundled, in optional packages, and public ones. Nothing is fetched or read."""
    return (*(_packed(one) for one in bundled().values()), *(_public(one) for one in KNOWN))


def entry(name: str) -> Entry:
    """The known weights called `name`, a short name or a repository. Raises `ConfigError` for an unknown name."""
    every = {one.name: one for one in inventory()}
    record = known(name)
    if name not in every and record is None:
        raise ConfigError(
            f"There are no weights called {name!r} in the list. Nearest: {nearest(name, every)}; "
            "other public names are fetched by the command that uses them."
        )
    return every[record.name if record else name]


def download(name: str) -> Path:
    """The file or folder of the known weights called `name`, fetched if need be; before that their licence is logged.

    Raises `ConfigError` for an unknown name, `WeightsError` where they are not to be had, `LicenceError` as the policy in force
    says.
    """
    found = entry(name)
    record = known(found.name)
    if record is None:
        return resolve(found.name)
    setting = _SETTINGS.get(record.role) or _SETTINGS[record.name]
    if record.url:
        return published(record.url, network=record.name, setting=setting, asked=True)
    return model_folder(record.name, record.layout, setting=setting)


def verify(found: Entry) -> dict[str, State]:
    """The state of each file of weights that are here, by its path in their folder.

    Bundled files are compared with their records, fetched ones with the hash that their name says; a file without either is
    "unchecked". Raises `WeightsError` where the weights are not here.
    """
    if found.path is None:
        raise WeightsError(f"The weights {found.name!r} are not here. Fetch them with `flowpaint models download {found.name}`.")
    packed = bundled().get(found.name)
    if packed is not None:
        return {packed.file: _state_of(packed)}
    if found.path.is_file():  # in PyTorch's cache
        start = found.path.stem.rpartition("-")[2]
        return {found.path.name: "ok" if digest(found.path).startswith(start) else "wrong"}
    files = sorted(one for one in found.path.rglob("*") if one.is_file())
    return {one.relative_to(found.path).as_posix(): _blob_state(one) for one in files}


def _state_of(packed: Bundled) -> State:
    try:
        locate(packed)
    except WeightsError:
        return "wrong"
    return "ok"


def _blob_state(path: Path) -> State:
    """Whether the content of a file of the hub's cache has the hash that its blob is named by."""
    named = blob_of(path)
    if not named:
        return "unchecked"
    if len(named) == 64:
        return "ok" if digest(path) == named else "wrong"
    content = path.read_bytes()  # a small file: its blob is named as Git names it
    found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return "ok" if found == named else "wrong"


def _packed(one: Bundled) -> Entry:
    path = find(one)
    return Entry(
        name=one.name,
        role="bundled" if one in BUNDLED else "optional",
        family="",
        licence=one.licence,
        source=one.install,
        says=one.source,
        path=path,
        size=0 if path is None else _bytes(path),
    )


def _public(one: Known) -> Entry:
    path = _kept(one)
    return Entry(
        name=one.name,
        role=one.role,
        family=one.family,
        licence=one.licence,
        source=one.source,
        says=one.says,
        path=path,
        size=one.size,
    )


def _kept(one: Known) -> Path | None:
    """Where public weights are, if they are here and whole."""
    if one.url:
        path = torch_cache(one.url)
        return path if path.is_file() else None
    try:
        with keeping(Policy(offline=True, allow_pickle=True)):
            return model_folder(one.name, one.layout)
    except WeightsError:
        return None


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)
