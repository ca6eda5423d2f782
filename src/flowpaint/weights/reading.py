"""Reading files of weights: nothing in them is ever run, and nothing that they lack is made up."""

import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError
from .files import SAFE, is_pickle
from .policy import check_pickle

if TYPE_CHECKING:
    from torch import Tensor


def tensor_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of one tensor in a `.safetensors` file; the tensor is not read. Raises `WeightsError` where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}. Fetch the file again.") from error


def tensor_names(path: Path) -> frozenset[str]:
    """The names of the tensors in a `.safetensors` file, of which nothing else is read, or in a PyTorch file.

    Raises `WeightsError` where it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if is_pickle(path):
        return frozenset(read_state(path))
    try:
        with safe_open(path, framework="pt") as file:
            return frozenset(file.keys())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}. Fetch the file again.") from error


def file_header(path: Path) -> dict[str, str]:
    """Return the words in the header of a `.safetensors` file: none for a PyTorch file, which has no header.

    Raises `WeightsError` where it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if is_pickle(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}. Fetch the file again.") from error


def read_state(path: Path, *, pinned: bool = False) -> dict[str, "Tensor"]:
    """The named tensors of a `.safetensors` or a PyTorch file, on the CPU. Nothing in the file is executed.

    What is no `.safetensors` counts as a pickle, whatever it is called; a `pinned` one, whose hash was found to be the one that
    flowpaint knows, may always be read. Raises `WeightsError` for a pickle that the policy in force does not let be read or that
    holds anything but tensors and plain values, and for what is neither.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not pinned:
        check_pickle(path, str(path), "Give a .safetensors file")
    loaded: object
    try:
        if path.suffix == SAFE:
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} cannot be read as weights: it is damaged, or holds code, which is never run. "
            "Give a .safetensors file or a PyTorch state dict."
        ) from error
    except (OSError, RuntimeError, EOFError, KeyError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as weights. Give a .safetensors file or a PyTorch state dict.") from error
    state: dict[str, Tensor] = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} is no state dict: names of tensors are missing. Give one that torch.save wrote.")
    return state


# ------------------------------------------------------------------------------------------- networks read by transformers


@contextmanager
def quiet(*, warnings: bool = True) -> Iterator[None]:
    """Inside, transformers draws no bar, which would tear ours; with `warnings` False it says nothing of settings either."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if not warnings:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def check_complete(missing: Collection[str], what: str, remedy: str) -> None:
    """Raises `WeightsError` for tensors that `what` lacks: the libraries would fill them with random numbers."""
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise WeightsError(f"{what} lacks {len(missing)} tensors, such as {some}. {remedy}.")
