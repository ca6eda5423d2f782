"""Sizes and memory: padding to what networks want, and what to lower when memory runs out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, ResourceError

# Parameters of Stable Diffusion 1.5's networks, and the values that they hold for a pixel: scripts/bench_memory.py counts them.
_UNET, _CONTROLNET, _VAE, _TEXT = 860e6, 361e6, 84e6, 123e6
_FRAME = 262  # a frame with guidance through the UNet
_BOUND = 160  # more where the frames of a window are bound together, in float32
_PICTURE = 770  # a picture through the decoder; a quarter of it in tiles
_SPARE = 1.33
_LARGEST_BATCH = 32


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

    def check(self, height: int, width: int) -> None:
        """Nothing, where latents that show `height` x `width` pixels are those of the padded picture; else `ConfigError`."""
        if (self.height + self.below, self.width + self.right) != (height, width):
            size = self.height, self.width
            raise ConfigError(f"Latents of {width}x{height} are no picture of {size}. Give the size of the frames encoded.")

    def pad(self, pictures: Tensor) -> Tensor:
        """`pictures` [T, C, H, W] with their edges repeated."""
        return F.pad(pictures, (0, self.right, 0, self.below), mode="replicate")

    def unpad(self, pictures: Tensor) -> Tensor:
        """`pictures` [T, C, H + below, W + right] at the size that came in."""
        return pictures[..., : self.height, : self.width]


@contextmanager
def enough_memory(doing: str, batch: int, tile: bool, offload: bool, *, together: bool = False) -> Iterator[None]:
    """Inside, running out of memory is a `ResourceError` that says what to lower: of frames that look at each other, their
    number, else fields of the model."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        # On a CPU torch raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        ways = [f"take a smaller window (now {batch})" if together else f"lower model.batch (now {batch})"] if batch > 1 else []
        ways += [] if tile else ["set model.tile=true"]
        ways += [] if offload else ["set model.offload=true"]
        remedy = ", ".join([*ways, "use model.dtype=float16 or a smaller picture"])
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


def num_bytes(size: str) -> int:
    """The bytes in such words as "8GB", "6000MB" or "8": gibibytes unless said otherwise. Raises `ConfigError` for others."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([GM]?)(i?B)?", size.strip(), re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"{size!r} is no amount of memory. Write it as 8GB or 6000MB.")
    return int(float(found[1]) * 2 ** (20 if found[2] in ("M", "m") else 30))


@dataclass(frozen=True, slots=True)
class Size:
    """What a run asks of networks of Stable Diffusion's size: pictures of `height` x `width`, ControlNets, half precision, and
    whether the frames of a batch are bound `together` by a strategy that keeps and optimises their features."""

    height: int
    width: int
    num_controlnets: int = 0
    half: bool = False
    together: bool = False


def affordable(limit: int, size: Size) -> tuple[int, bool, bool]:
    """Frames in a network call, tiling and offload for `size` within `limit` bytes.

    Counted from the parameters of Stable Diffusion 1.5 and from the values that its networks hold for each pixel, a third more
    for work space. Raises `ResourceError` where not even one frame fits.
    """
    bytes_each, pixels = 2 if size.half else 4, size.height * size.width
    largest = int((_UNET + _CONTROLNET * size.num_controlnets) * bytes_each)
    weights = largest + int((_VAE + _TEXT) * bytes_each)
    frame = pixels * (_FRAME * bytes_each + (_BOUND * 4 if size.together else 0))  # features are optimised in float32
    picture = pixels * _PICTURE * bytes_each
    for tile, offload in ((False, False), (True, False), (True, True)):
        rest = limit - (largest if offload else weights)
        if rest >= _SPARE * max(frame, picture / 4 if tile else picture):
            return max(1, min(_LARGEST_BATCH, int(rest / (_SPARE * frame)))), tile, offload
    least = (largest + _SPARE * max(frame, picture / 4)) / 2**30
    raise ResourceError(
        f"{limit / 2**30:.1f} GiB are too little for {size.width}x{size.height}: about {least:.1f} are needed. "
        "Raise --vram-limit, use model.dtype=float16, or a smaller picture."
    )
