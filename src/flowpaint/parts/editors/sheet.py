"""`sheet`: every look on one picture, with its name."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...types import Edit, Raw, to_raw
from ...warp import resize
from .look import LookEditor
from .looks import LOOKS

_COLUMNS, _GAP, _LINE = 7, 8, 22


def sheet(image: Tensor, *, width: int = 256) -> Raw:
    """All looks on `image` [3, H, W] in [0, 1], the picture itself first: uint8 [H', W', 3], tiles `width` pixels wide."""
    height = max(16, round(width * image.shape[-2] / image.shape[-1]))
    # Looks are made at twice the size of a tile: nearer to what they are on a video than at the size of a stamp.
    large = resize(image[None].cpu(), 2 * height, 2 * width)[0]
    tiles = [("the source", large)]
    for look in LOOKS:
        editor = LookEditor(looks=((look.name, 1.0),))
        tiles.append((look.name, editor(large, Edit(), torch.Generator().manual_seed(0))))
    rows = -(-len(tiles) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * (width + _GAP) + _GAP, rows * (height + _LINE + _GAP) + _GAP), (247, 247, 245))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for place, (name, tile) in enumerate(tiles):
        x = _GAP + place % _COLUMNS * (width + _GAP)
        y = _GAP + place // _COLUMNS * (height + _LINE + _GAP)
        page.paste(Image.fromarray(to_raw(resize(tile[None], height, width)[0])), (x, y))
        pen.text((x + 2, y + height + 3), name, fill=(40, 40, 40), font=font)
    return np.array(page)
