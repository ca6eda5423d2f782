"""Forms of a network that run faster: compiled, as CUDA graphs, or in part. They share its layers and leave it as it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..errors import ConfigError
from .shortcuts import Shallow, Whole, copied

Compiled: TypeAlias = Literal["none", "compile", "graphs"]
Part: TypeAlias = Literal["network", "whole", "shallow"]

COMPILED: tuple[Compiled, ...] = ("none", "compile", "graphs")

_PARTS: dict[Part, Callable[[nn.Module], nn.Module]] = {"network": copied, "whole": Whole, "shallow": Shallow}
_FORMS: WeakKeyDictionary[nn.Module, dict[tuple[Part, Compiled], Any]] = WeakKeyDictionary()  # none holds the network itself


def form(network: nn.Module, part: Part = "network", compiled: Compiled = "none") -> Any:
    """`network`, or `part` of it (see `flowpaint.diffusion.shortcuts`), compiled as asked for: by `torch.compile`, with "graphs"
    as CUDA graphs. It is made once; each shape of its inputs is compiled when it is first met, and that takes minutes.
    """
    if part == "network" and compiled == "none":
        return network
    known = _FORMS.setdefault(network, {})
    if (part, compiled) not in known:
        made: Any = _PARTS[part](network)
        if compiled != "none":
            made = torch.compile(made, mode="reduce-overhead" if compiled == "graphs" else "default", dynamic=False)
        known[part, compiled] = made
    return known[part, compiled]


def check_compiled(compiled: Compiled, device: torch.device) -> None:
    """Raises `ConfigError` where `device` cannot do what `compiled` asks for."""
    if compiled == "graphs" and device.type != "cuda":
        raise ConfigError(f"CUDA graphs do not run on {device.type}. Set model.compiled to compile or none.")


@contextmanager
def compiling(compiled: Compiled) -> Iterator[None]:
    """Inside, a step of compiled networks: what CUDA graphs gave in the last one may be written over. Raises `ConfigError` where
    compiling fails, as without a compiler."""
    if compiled == "none":
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # slow to load

    if compiled == "graphs":
        torch.compiler.cudagraph_mark_step_begin()
    try:
        yield
    except TorchDynamoException as error:
        told = " ".join(str(error).split("\n")[:2]).strip()  # the first line may only name the backend
        raise ConfigError(
            f"Compiling the network failed: {told}. Install what torch.compile needs (a C++ compiler, on a GPU Triton), or set "
            "model.compiled=none."
        ) from error
