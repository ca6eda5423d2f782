"""What an edit asks of an editor that paints: whether it can, where, and how what was painted is laid back."""

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...carry import finished
from ...enlarge import enlarge
from ...errors import ConfigError, InputError
from ...types import Edit, Task, check_shape
from ...warp import resize

_LINES = 480  # short side of the pictures (DAVIS) at which StableV2V's masks are grown by so many pixels
_SEAM = 8  # pixels over which what was painted runs out into the source, within what the mask was grown by
_ASPECT_SLACK = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The sizes a model paints at: its short side in training, and the multiple that sides must be of."""

    side: int
    cell: int


def of_area(height: int, width: int, side: int, cell: int) -> tuple[int, int]:
    """Height and width, multiples of `cell`, of at most `side` times `side` pixels in the shape of `height` x `width`.

    Pictures more than eight times as long as wide are stretched to eight times, of which models know nothing beyond.
    """
    ratio = min(max(width / height, 1 / 8), 8.0)
    high, wide = side / ratio**0.5, side * ratio**0.5
    rows, columns = (max(1, int(length / cell + 1e-6)) for length in (high, wide))
    return min(rows, 8 * columns) * cell, min(columns, 8 * rows) * cell


def told(edit: Edit, name: str) -> str:
    """What a model that follows instructions is told: an instruction as it is, words and references put as one."""
    if edit.task == "reference":
        put = "Replace the main object of picture 1 by the object of picture 2, in its place and its pose. Keep everything else."
        return f"{put} The result shows {edit.prompt.strip()}." if edit.prompt.strip() else put
    said = words(edit, name)
    if edit.task == "instruction":
        return said
    return f"Change the picture so that it shows {said.strip()}. Keep the viewpoint and all that need not change."


def check_values(num_steps: int, guidance: float, grow: int | None = 0) -> None:
    """Raises `ConfigError` for numbers of steps, guidance and pixels of growth that cannot be."""
    if num_steps < 1:
        raise ConfigError(f"{num_steps} steps paint nothing. Give 1 or more.")
    if not 0.0 <= guidance < float("inf"):
        raise ConfigError(f"A guidance of {guidance} cannot be. Give 0 or more.")
    if grow is not None and grow < 0:
        raise ConfigError(f"A mask cannot grow by {grow} pixels. Give 0 or more.")


def check_side(side: int, least: int) -> None:
    """Raises `ConfigError` for a side of fewer than `least` pixels."""
    if side < least:
        raise ConfigError(f"The network cannot work at a side of {side} pixels. Give {least} or more.")


def check_rest(area: Tensor) -> None:
    """Raises `InputError` where `area` [1, H, W] leaves nothing of the picture from which it could be filled."""
    if (area > 0).all():
        raise InputError("The mask covers the whole picture, so that nothing is left to fill it from. Give a smaller one.")


def check_task(edit: Edit, tasks: Collection[Task], name: str) -> None:
    """Raises `InputError` for a kind of edit that the editor called `name` does not take."""
    if edit.task not in tasks:
        raise InputError(
            f"The editor {name} takes {' or '.join(sorted(tasks))}, and the edit asks for {edit.task}. "
            "Choose another editor, or ask for something else."
        )


def words(edit: Edit, name: str) -> str:
    """The words of `edit`. Raises `InputError` where there are none."""
    if not edit.prompt.strip():
        what = "an instruction, such as 'make it snow'" if edit.instruct else "words that say what the picture should show"
        raise InputError(f"The editor {name} needs {what}. Give a prompt.")
    return edit.prompt


def reference(edit: Edit, device: torch.device) -> Tensor:
    """The picture [3, h, w] in [0, 1] that shows what the object shall look like. Raises `InputError` where it is none."""
    if edit.reference is None:
        raise InputError("The edit has no reference. Give a picture of what the object shall look like.")
    check_shape(reference=(edit.reference, "3 h w"))
    return edit.reference.to(device).float().clamp(0.0, 1.0)


def drawing(edit: Edit, image: Tensor) -> Tensor:
    """The sketch as ControlNets of scribbles want it, white lines on black: [3, h, w] in [0, 1].

    Which tone is the paper is told by what most of the drawing shows. Raises `InputError` where its shape differs from that of
    `image` by more than 3 %, and where it is all of one tone.
    """
    if edit.sketch is None:
        raise InputError("The edit has no sketch. Give a drawing.")
    check_shape(sketch=(edit.sketch, "3 h w"))
    drawn = edit.sketch.to(image.device).float().clamp(0.0, 1.0)
    (height, width), (rows, columns) = image.shape[-2:], drawn.shape[-2:]
    if abs(columns * height / (rows * width) - 1) > _ASPECT_SLACK:
        raise InputError(
            f"The sketch is {columns} x {rows}, the picture {width} x {height}: their shapes differ by more than 3 %. "
            "Draw it on the frame, or crop it to the frame's shape."
        )
    if drawn.amax() - drawn.amin() < 0.1:
        raise InputError("The sketch shows no lines: it is all of one tone. Draw dark lines on light.")
    return 1.0 - drawn if drawn.mean(dim=0).median() > 0.5 else drawn


# ------------------------------------------------------------------------------------------------------------------- where


def region(edit: Edit, image: Tensor, name: str, *, needed: bool = False) -> Tensor:
    """Where `edit` may show in `image` [3, H, W]: [1, H, W], 0 or 1, the mask's first frame; everywhere without a mask.

    Raises `InputError` where a mask is `needed` and none was given, and for one that marks nothing.
    """
    if edit.mask is None:
        if needed:
            raise InputError(f"The editor {name} must be told where to paint. Give a mask, white where the picture may change.")
        return torch.ones_like(image[:1])
    mask = resize(edit.mask.frame(0)[None, :1].to(image.device), *image.shape[-2:])[0]
    if not (mask > 0.5).any():
        raise InputError("The mask marks nothing in its first frame. Give one that is white where the picture may change.")
    return (mask > 0.5).to(image.dtype)


def reach(image: Tensor, pixels: int) -> int:
    """`pixels` at a short side of 480 as pixels of `image` [3, H, W]."""
    return max(1, round(pixels * min(image.shape[-2:]) / _LINES))


def grown(mask: Tensor, pixels: int) -> Tensor:
    """`mask` [1, H, W] dilated by a square that reaches `pixels` to every side: one of 9 pixels used 9 times reaches 36."""
    if pixels == 0:
        return mask
    rows = F.max_pool2d(mask[None], (2 * pixels + 1, 1), stride=1, padding=(pixels, 0))
    return F.max_pool2d(rows, (1, 2 * pixels + 1), stride=1, padding=(0, pixels))[0]


def shrunk(mask: Tensor, height: int, width: int) -> Tensor:
    """`mask` [1, H, W] at another size, 1 wherever any of it is: [1, 1, height, width]."""
    return (resize(mask[None], height, width) > 0).to(mask.dtype)


def laid(painted: Tensor, image: Tensor, area: Tensor, grow: int) -> Tensor:
    """`painted` [3, H, W] inside `area` [1, H, W], `image` outside to the bit; the two run into each other in what was grown."""
    inside = np.pad((area[0] > 0).byte().cpu().numpy(), 1, mode="edge")  # the picture's rim is no rim of the mask
    if inside.all():
        return painted
    far = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    share = torch.from_numpy(far).to(image) / (min(grow, _SEAM) + 1)
    return torch.where(area > 0, torch.lerp(image, painted, share.clamp(0.0, 1.0)[None]), image)


def completed(made: Tensor, small: Tensor, image: Tensor, edit: Edit) -> Tensor:
    """The whole edit of `image` [3, H, W] of which a model made `made` [3, h, w] from `small` [3, h, w]."""
    return finished(enlarge(small, made, image), image, edit)
