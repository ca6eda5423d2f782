"""What was worked out on the way, as pictures for people to look at."""

from pathlib import Path

from torch import Tensor

from ..types import Aligned, to_raw
from ..video import write_picture


def dump(told: Aligned, folder: str) -> None:
    """Write masks, backgrounds and depth of the frames of `told` into `folder`, as `mask_000012.png` and so on.

    Depth is white where it is near, 16 bit deep. Files that are there are replaced. Raises `WorkError` where the disk is full.
    """
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    for row, frame in enumerate(told.frames):
        for name, picture, bits in (
            ("mask", _grey(told.mask[row]), 8),
            ("background", told.background[row], 8),
            ("depth", _grey(told.depth[row]), 16),
        ):
            write_picture(place / f"{name}_{frame:06d}.png", to_raw(picture, 16 if bits == 16 else 8))


def _grey(values: Tensor) -> Tensor:
    return values.expand(3, -1, -1)
