"""Who does the work: this process, several of this machine, or a Ray cluster."""

from typing import Any

from .. import seams
from ..errors import InputError, nearest


def executor(
    name: str = "local", *, workers: int | None = None, address: str | None = None, gpus: float = 0.0, ahead: int = 2
) -> seams.Executor:
    """The executor `name` with `workers` workers. `address` is that of a Ray cluster, `gpus` each worker's share of GPUs there,
    `ahead` how many items for each worker may be done before they are asked for.

    Raises `InputError` for an unknown name, and for an address or GPUs without Ray.
    """
    if name not in seams.names("executor"):
        raise InputError(f"There is no executor {name!r}. Nearest: {nearest(name, seams.names('executor'))}.")
    values: dict[str, Any] = {"ahead": ahead} if workers is None else {"ahead": ahead, "workers": workers}
    if name == "ray":
        values |= {"address": address, "gpus_per_worker": gpus}
    elif address is not None or gpus:
        raise InputError("Only Ray has an address and shares of GPUs. Use --executor ray, or leave these options out.")
    found: seams.Executor = seams.build("executor", name, **values)
    return found
