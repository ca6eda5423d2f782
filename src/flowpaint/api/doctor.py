"""What this installation can do."""

import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, MissingExtraError, WeightsError
from ..parts.conditions.hed import HedEdges
from ..report import versions
from ..video.encoding import ENCODERS, formats_of
from ..weights import BUNDLED, OPTIONAL, Bundled, locate

_OPTIONAL = re.compile(r"([\w.-]+).*;.*\bextra == ['\"]([\w.-]+)['\"]")  # a requirement that belongs to an extra


def doctor() -> dict[str, Any]:
    """Versions, devices, codecs, weights, extras and free disk, as plain values; `ok` says whether an edit would run.

    Optional weights that cannot be used come with what has to be installed.
    """
    weights = {one.name: _weights_state(one) for one in BUNDLED}
    codecs = {codec: _has(encoder) for codec, encoder in ENCODERS.items()}
    return {
        "ok": all(state == "ok" for state in weights.values()) and codecs["h264"],
        "versions": versions(),
        "devices": _devices(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "codecs": codecs,
        "weights": weights,
        "optional_weights": {one.name: _hed_state() if one.name == "hed" else _weights_state(one) for one in OPTIONAL},
        "extras": _extras(),
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
    }


def _devices() -> list[str]:
    cuda = [f"cuda:{number} ({torch.cuda.get_device_name(number)})" for number in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _extras() -> dict[str, bool]:
    """The extras that this installation's metadata names, and whether all packages of each are here."""
    try:
        about = metadata.distribution("flowpaint")
    except metadata.PackageNotFoundError:  # used from a source tree that was never installed
        return {}
    here = dict.fromkeys(about.metadata.get_all("Provides-Extra") or (), True)
    for line in about.requires or ():
        if found := _OPTIONAL.match(line):
            here[found[2]] = here[found[2]] and _is_installed(found[1])
    return here


def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _has(encoder: str) -> bool:
    try:
        return bool(formats_of(encoder))
    except ConfigError:
        return False


def _hed_state() -> str:
    try:
        HedEdges().check()
    except (MissingExtraError, WeightsError) as error:
        return str(error)
    return "ok"


def _weights_state(weights: Bundled) -> str:
    try:
        locate(weights)
    except WeightsError as error:
        return str(error)
    return "ok"
