"""What is known of edited frames before a network paints them, and small painted frames at their full size."""

import torch
from torch import Tensor

from ...carry import laid_over
from ...enlarge import enlarge
from ...types import Aligned, check_shape
from ...warp import resize


def rendered(told: Aligned) -> Tensor:
    """The frames as the edited picture, moved, shows them over the background: [T, 3, H, W] in [0, 1], frame 0 the given one."""
    return torch.cat((told.first[None], laid_over(told)[1:]))


def at_full_size(told: Aligned, coarse: Tensor, painted: Tensor) -> Tensor:
    """`painted` [T, 3, h, w] at the size of `coarse` [T, 3, H, W], as `rendered` gave it: [T, 3, H, W], frame 0 the given one.

    Detail comes from `coarse`, which shows the new object at its full size, where the small picture followed it.
    """
    check_shape(coarse=(coarse, "T 3 H W"), painted=(painted, "T 3 h w"))
    small = resize(coarse, *painted.shape[-2:])
    rows = [enlarge(small[row], painted[row], coarse[row]) for row in range(1, len(painted))]
    return torch.stack((told.first, *rows))


def carried_noise(base: Tensor, told: Aligned) -> Tensor:
    """Noise for each frame, [T, C, h, w], that moves with the new object and rests elsewhere; `base` [C, h, w] is the anchor's.

    Cells are taken whole, so that each stays Gaussian with the variance it had; several may be the same.
    """
    rows, columns = base.shape[-2:]
    height, width = told.mask.shape[-2:]
    y, x = (((torch.arange(cells) + 0.5) * side / cells).long() for cells, side in ((rows, height), (columns, width)))
    place, mask = (one[:, :, y][..., x].to(base.device) for one in (told.place, told.mask))
    per_pixel = place.new_tensor([columns / width, rows / height])[None, :, None, None]
    across, down = ((place + 0.5) * per_pixel).floor().long().unbind(dim=1)
    moved = base[:, down.clamp(0, rows - 1), across.clamp(0, columns - 1)].transpose(0, 1)
    return torch.where(mask > 0.5, moved, base)
