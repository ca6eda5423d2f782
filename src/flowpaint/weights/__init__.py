"""Weights of networks: by name, with their licences, from packages, caches, repositories and files; hashed, read, policed."""

from .bundled import BUNDLED, HED, OPTIONAL, Bundled, here, licences, locate, name_of, resolve
from .catalogue import KNOWN, Known, controlnet_for, known
from .fetching import given, is_known, model_file, model_folder, names_file, published
from .files import is_pickle, is_weights, sha256_of
from .inventory import Entry, download, entry, inventory, verify
from .layouts import (
    CHANGES,
    CLIP,
    CONTROLNET,
    DIFFERENCE,
    DIFFERENCE_TABLE,
    LORA,
    MODEL,
    NETWORK,
    SHAPE,
    TEXT_WEIGHTS,
    UNET_WEIGHTS,
    WAN_VACE,
    Layout,
)
from .licences import Licence
from .policy import DEFAULT_POLICY, Ledger, Policy, file_hash, keeping, nothing_fetched, warn
from .reading import check_complete, quiet, read_state, tensor_names, tensor_shape
from .suited import SUITED, suited

__all__ = [
    "BUNDLED",
    "CHANGES",
    "CLIP",
    "CONTROLNET",
    "DEFAULT_POLICY",
    "DIFFERENCE",
    "DIFFERENCE_TABLE",
    "HED",
    "KNOWN",
    "LORA",
    "MODEL",
    "NETWORK",
    "OPTIONAL",
    "SHAPE",
    "SUITED",
    "TEXT_WEIGHTS",
    "UNET_WEIGHTS",
    "WAN_VACE",
    "Bundled",
    "Entry",
    "Known",
    "Layout",
    "Ledger",
    "Licence",
    "Policy",
    "check_complete",
    "controlnet_for",
    "download",
    "entry",
    "file_hash",
    "given",
    "here",
    "inventory",
    "is_known",
    "is_pickle",
    "is_weights",
    "keeping",
    "known",
    "licences",
    "locate",
    "model_file",
    "model_folder",
    "name_of",
    "names_file",
    "nothing_fetched",
    "published",
    "quiet",
    "read_state",
    "resolve",
    "sha256_of",
    "suited",
    "tensor_names",
    "tensor_shape",
    "verify",
    "warn",
]
