"""Files of weights: what they are by their names, and their hashes."""

import hashlib
from functools import cache
from pathlib import Path

SAFE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")  # suffixes of files that torch.save wrote
ONNX = ".onnx"
_WEIGHTS = (SAFE, ONNX, ".h5", *PICKLES)


def is_weights(path: Path) -> bool:
    """Whether a file holds weights, by its name."""
    return path.suffix.lower() in _WEIGHTS


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, by its name."""
    return path.suffix.lower() in PICKLES


def digest(path: Path) -> str:
    """The SHA-256 of a file, in 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, found once per process."""
    return digest(path)
