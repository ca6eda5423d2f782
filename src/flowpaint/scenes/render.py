"""Pictures of a scene, with what is seen in them.

A layer's edge is one pixel wide and soft; which layer a pixel *belongs* to is decided at its centre. With motion blur, depth and
layers are those of the frame's moment.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ..types import Clip, Raw, check_shape, to_raw
from .placement import Size, View, pixel_centres, to_units, view
from .scene import Scene
from .textures import Colours


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """A picture [3, H, W] in [0, 1] and its truth.

    `layers` int64 [1, H, W]: the number of the layer seen. `masks` [L, 1, H, W]: 1 where layer L is seen; they add up to 1.
    `depth` [1, H, W]: nearness, 1 = near.
    """

    rgb: Tensor
    depth: Tensor
    layers: Tensor
    masks: Tensor

    def __post_init__(self) -> None:
        check_shape(
            rgb=(self.rgb, "3 H W"), depth=(self.depth, "1 H W"), layers=(self.layers, "1 H W"), masks=(self.masks, "L 1 H W")
        )


def render(scene: Scene, time: float, size: Size) -> Frame:
    """The frame of `scene` at `time` (in frames), `size` = (height, width) pixels."""
    return frame(scene, view(scene, time, to_units(pixel_centres(size), size), size=size), size)


def frame(scene: Scene, seen: View, size: Size) -> Frame:
    """The frame that shows the view `seen` of all pixel centres."""
    depth, layers = _relief(seen, size)
    return Frame(rgb=_exposed(scene, seen, size), depth=depth, layers=layers, masks=masks(layers, len(scene.layers)))


def relief(scene: Scene, time: float, size: Size) -> tuple[Tensor, Tensor]:
    """`depth` and `layers` of `render`, each [1, H, W], without its picture: several times as fast."""
    return _relief(view(scene, time, to_units(pixel_centres(size), size), size=size), size)


def _relief(seen: View, size: Size) -> tuple[Tensor, Tensor]:
    front, depth = seen.front, np.zeros(seen.front.shape, np.float32)
    for number, patch in enumerate(seen.patches):
        shown = front[patch.where] == number
        depth[patch.where[shown]] = patch.placed.nearness(patch.plane[:, shown])
    return torch.from_numpy(depth).view(1, *size), torch.from_numpy(front).view(1, *size)


def masks(layers: Tensor, count: int) -> Tensor:
    """Layer numbers [1, H, W] as one mask for each of `count` layers: float32 [count, 1, H, W]."""
    check_shape(layers=(layers, "1 H W"))
    return (layers == torch.arange(count)[:, None, None]).float()[:, None]


def clip(scene: Scene, num_frames: int, size: Size, fps: float | Fraction = 24) -> Clip:
    """A clip of `num_frames` frames, rendered when read: frame i shows time i. `fps` only stamps them."""
    step = 1 / Fraction(fps).limit_denominator(100_000)

    def read(index: int) -> Raw:
        return to_raw(render(scene, float(index), size).rgb)

    times = [index * step for index in range(num_frames)]
    return Clip(read, times=times, end=num_frames * step, height=size[0], width=size[1])


def _exposed(scene: Scene, seen: View, size: Size) -> Tensor:
    """The picture that the open shutter gathers, developed: [3, H, W]."""
    moments = scene.light.moments(seen.time)
    if len(moments) == 1:
        gathered = _lit(scene, seen)
    else:
        lit = [_lit(scene, view(scene, moment, seen.screen, size=size)) for moment in moments]
        gathered = np.stack(lit).mean(axis=0, dtype=np.float64).astype(np.float32)
    return scene.light.develop(torch.from_numpy(gathered).view(3, *size), seen.time)


def _lit(scene: Scene, seen: View) -> Colours:
    """Layers laid over each other, far to near, under the light of the moment: [3, N]."""
    background, *objects = seen.patches
    picture = background.placed.layer.texture(background.plane, background.placed.step)
    for patch in objects:
        cover = np.clip(patch.inside + 0.5, 0.0, 1.0).astype(np.float32)
        touched = np.flatnonzero(cover)
        where, cover = patch.where[touched], cover[touched]
        colours = patch.placed.layer.texture(patch.plane[:, touched], patch.placed.step)
        # In this form a full cover hides exactly: no trace of what is behind it is left by rounding.
        picture[:, where] = (1 - cover) * picture[:, where] + cover * colours
    return scene.light.shade(picture, seen.screen, seen.time)
