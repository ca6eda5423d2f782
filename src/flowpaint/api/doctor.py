"""What this installation can do."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, WeightsError
from ..report import versions
from ..video.encoding import ENCODERS, formats_of
from ..weights import licences, locate

_EXTRAS = {"demo": ("skvideo",), "diffusion": ("accelerate", "peft"), "ray": ("ray",), "serve": ("fastapi", "uvicorn")}


def doctor() -> dict[str, Any]:
    """Versions, devices, codecs, weights, extras and free disk, as plain values; `ok` says whether an edit would run."""
    weights = {one.name: _weights_state(one.name) for one in licences()}
    codecs = {codec: _has(encoder) for codec, encoder in ENCODERS.items()}
    return {
        "ok": all(state == "ok" for state in weights.values()) and codecs["h264"],
        "versions": versions(),
        "devices": _devices(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "codecs": codecs,
        "weights": weights,
        "extras": {name: all(importlib.util.find_spec(one) for one in needs) for name, needs in _EXTRAS.items()},
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
    }


def _devices() -> list[str]:
    cuda = [f"cuda:{number} ({torch.cuda.get_device_name(number)})" for number in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _has(encoder: str) -> bool:
    try:
        return bool(formats_of(encoder))
    except ConfigError:
        return False


def _weights_state(name: str) -> str:
    known = {one.name: one for one in licences()}
    try:
        locate(known[name])
    except WeightsError as error:
        return str(error)
    return "ok"
