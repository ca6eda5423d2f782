"""Sizes and memory: padding to what networks want, and what to lower when memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ResourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad:
    """Rows added below and columns added to the right, and taken away again."""

    height: int  # of the picture as it came
    width: int
    below: int
    right: int

    @classmethod
    def to_multiple(cls, multiple: int, height: int, width: int) -> "Pad":
        """What makes both sides multiples of `multiple`."""
        return cls(height=height, width=width, below=-height % multiple, right=-width % multiple)

    def pad(self, pictures: Tensor) -> Tensor:
        """`pictures` [T, C, H, W] with their edges repeated."""
        return F.pad(pictures, (0, self.right, 0, self.below), mode="replicate")

    def unpad(self, pictures: Tensor) -> Tensor:
        """`pictures` [T, C, H + below, W + right] at the size that came in."""
        return pictures[..., : self.height, : self.width]


@contextmanager
def enough_memory(doing: str, batch: int, tile: bool, offload: bool) -> Iterator[None]:
    """Inside, running out of memory is a `ResourceError` that says which field of the model to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        # On a CPU torch raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        ways = [f"lower model.batch (now {batch})"] if batch > 1 else []
        ways += [] if tile else ["set model.tile=true"]
        ways += [] if offload else ["set model.offload=true"]
        remedy = ", ".join([*ways, "use model.dtype=float16, a smaller picture or fewer frames in a window"])
        raise ResourceError(f"Memory ran out while {doing}. {remedy[0].upper()}{remedy[1:]}.") from error


_VISITING: WeakSet[nn.Module] = WeakSet()  # networks that live on the CPU and are elsewhere now


def bring(device: torch.device, *networks: nn.Module) -> None:
    """Move `networks` to `device`, and those brought before back to the CPU."""
    for other in [one for one in _VISITING if all(one is not network for network in networks)]:
        other.to("cpu")
        _VISITING.discard(other)
    for network in networks:
        network.to(device)
        _VISITING.add(network)


def affordable(limit: int, height: int, width: int, *, half: bool) -> tuple[int, bool, bool]:
    """Frames in a network call, tiling and offload for pictures of `height` x `width` within `limit` bytes.

    A rough count for networks of Stable Diffusion's size, on the safe side: their weights, and for each frame both rows of
    guidance through the UNet and one picture through the decoder. Raises `ResourceError` where not even one frame fits.
    """
    size = 2 if half else 4
    megapixels = height * width / 1e6
    weights, largest = int(1.1e9) * size, int(0.9e9) * size  # parameters of all networks, and of the UNet
    row = int(1.2e9 * megapixels) * size  # activations of one frame with guidance
    picture = int(1.6e9 * megapixels) * size  # decoder at full size, a quarter of it when tiled
    for tile, offload in ((False, False), (True, False), (True, True)):
        rest = limit - (largest if offload else weights)
        needed = max(row, picture // 4 if tile else picture)
        if rest >= needed:
            return max(1, min(32, rest // needed)), tile, offload
    least = (largest + max(row, picture // 4)) / 2**30
    raise ResourceError(
        f"{limit / 2**30:.1f} GiB are too little for {width}x{height}: about {least:.1f} are needed. "
        "Raise --vram-limit, use model.dtype=float16, or a smaller picture."
    )
