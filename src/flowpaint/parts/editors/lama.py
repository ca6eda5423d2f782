"""`LamaEditor`: what a mask covers, taken out and filled by LaMa (Suvorov et al., WACV 2022), from an ONNX file."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from ...carry import finished
from ...errors import WeightsError
from ...types import Edit, Task, check_shape
from ...warp import resize
from ...weights import LAMA, given, model_folder
from . import asked
from .nets import opened

_GROWTH = 7  # pixels that a mask grows by at 480 lines: 15 x 15 used once
_AROUND = 0.5  # of the mask's longer side is shown around it


@dataclass(frozen=True, kw_only=True)
class LamaEditor:
    """The picture without what the edit's mask covers. Nothing is drawn by lot.

    The mask grows by `grow` pixels (None: 7 at 480 lines, StableV2V's 15 x 15), so that no rim or shadow of the object stays.
    The network sees what is around the mask, at its own size if that fits into the size it was made for, and what it fills is
    pasted back. `weights` is a name, a folder or an `.onnx` file with LaMa's inputs: a picture and a mask.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"removal"})

    weights: str = "lama"
    grow: int | None = None
    side: int = 512  # of a network that takes any size

    def __post_init__(self) -> None:
        asked.check_values(1, 0.0, self.grow)
        asked.check_side(self.side, 64)

    def check(self) -> None:
        """Raises what an edit would raise later for want of weights."""
        _file(self.weights)

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] of `image` [3, H, W] without what the mask covers; the rest to the bit.

        Raises `InputError` for other tasks, without a mask, and for one that marks nothing or everything; `WeightsError` without
        weights and for a network of another kind.
        """
        del generator  # nothing here is drawn by lot
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        asked.check_task(edit, self.tasks, "lama")
        mask = asked.region(edit, image, "lama", needed=True)
        network = _network(_file(self.weights))
        grow = asked.reach(image, _GROWTH) if self.grow is None else self.grow
        area = asked.grown(mask, grow)
        asked.check_rest(area)
        seen = (slice(None), *_around(area, network.side or self.side))
        whole = image.clone()
        whole[seen] = _filled(network, image[seen], area[seen], self.side)
        return finished(asked.laid(whole, image, area, grow), image, edit)


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """A session, the names of what it takes, and the side of the square it was made for (0: any)."""

    session: onnxruntime.InferenceSession
    image: str
    mask: str
    side: int


def _file(weights: str) -> Path:
    if Path(weights).suffix == ".onnx":
        return given(weights, network="LaMa", setting="editor.weights", form="onnx")
    folder = model_folder(weights, LAMA, setting="editor.weights")
    return LAMA.weights(folder)[0]


@lru_cache(maxsize=2)
def _network(file: Path) -> _Network:
    remedy = "Give LaMa as an ONNX file that takes a picture and a mask, as Carve/LaMa-ONNX"
    try:
        session = opened(file)
    except Exception as error:  # each kind of damage is an error of its own there
        raise WeightsError(f"{file} cannot be read as a network: {str(error).splitlines()[0]}. {remedy}.") from error
    shapes = {one.name: one.shape for one in session.get_inputs()}
    channels = {one[1]: name for name, one in shapes.items() if len(one) == 4}
    if len(shapes) != 2 or set(channels) != {1, 3} or len(session.get_outputs()) != 1:
        raise WeightsError(f"{file} is no LaMa: its inputs are {shapes}. {remedy}.")
    sides = {length for one in shapes.values() for length in one[2:] if isinstance(length, int)}
    if len(sides) > 1:
        raise WeightsError(f"{file} is made for sides of {sorted(sides)} pixels, not for a square. {remedy}.")
    return _Network(session, image=channels[3], mask=channels[1], side=max(sides, default=0))


def _around(area: Tensor, side: int) -> tuple[slice, slice]:
    """Rows and columns of what is shown: the mask, half its size around it, and as much more as the network has room for."""
    inside = area[0] > 0
    margin = int(_AROUND * max(_extent(inside.any(dim=1)), _extent(inside.any(dim=0))))
    rows, columns = (_span(inside.any(dim=axis), margin, side) for axis in (1, 0))
    return rows, columns


def _extent(marked: Tensor) -> int:
    places = marked.nonzero().flatten()
    return int(places[-1] - places[0]) + 1


def _span(marked: Tensor, margin: int, side: int) -> slice:
    places = marked.nonzero().flatten()
    first, last = int(places[0]) - margin, int(places[-1]) + 1 + margin
    length = min(len(marked), max(last - first, side))
    start = min(max((first + last - length) // 2, 0), len(marked) - length)
    return slice(start, start + length)


def _filled(network: _Network, picture: Tensor, area: Tensor, side: int) -> Tensor:
    """`picture` [3, h, w] in [0, 1] as the network fills it where `area` [1, h, w] is 1."""
    height, width = picture.shape[-2:]
    side = network.side or side
    scale = min(1.0, side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    below, right = (side - size[0], side - size[1]) if network.side else (-size[0] % 8, -size[1] % 8)
    small = F.pad(resize(picture[None], *size), (0, right, 0, below), mode="replicate")
    hole = F.pad(asked.shrunk(area, *size), (0, right, 0, below), mode="replicate")
    feed = {network.image: small.float().cpu().numpy(), network.mask: hole.float().cpu().numpy()}
    out = torch.from_numpy(np.asarray(network.session.run(None, feed)[0], np.float32)).to(picture)
    check_shape(filled=(out, "1 3 h w"))
    made = (out[..., : size[0], : size[1]] / 255).clamp(0.0, 1.0)
    return resize(made, height, width)[0]
