"""Pictures side by side in one file."""

from pathlib import Path

import torch
from torch import Tensor

from .pictures import to_bytes


def sheet(pictures: Tensor, columns: int = 8) -> Tensor:
    """`pictures` [N, 3, H, W] in [0, 1] in rows of `columns`: [3, R H, C W]; places left over are white."""
    columns = min(columns, len(pictures))
    missing = -len(pictures) % columns
    whole = torch.cat((pictures, torch.ones(missing, *pictures.shape[1:])))
    grid: Tensor = whole.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)
    return grid.flatten(3, 4).flatten(1, 2)


def write_sheet(path: Path, pictures: Tensor, columns: int = 8) -> None:
    """Write `sheet(pictures)` as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_bytes(sheet(pictures, columns), "PNG"))
