"""Colour grades: smooth functions of each pixel, described by a handful of numbers, steady over time by construction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...colour import from_linear, luma, to_linear
from .brushes import blur

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """A colour grade. The fields act in this order; each default does nothing."""

    mix: tuple[Rgb, Rgb, Rgb] | None = None  # rows: how red, green and blue come out of red, green and blue
    exposure: float = 0.0  # stops; whites hold when it rises
    warmth: float = 0.0  # -1 blue .. 1 orange light
    magenta: float = 0.0  # -1 green .. 1 magenta light
    contrast: float = 0.0  # 0 .. 1: a smooth S about `pivot`
    pivot: float = 0.45
    saturation: float = 1.0
    shadows: Rgb = (0.0, 0.0, 0.0)  # added where it is dark, so that its sum keeps the tone
    highlights: Rgb = (0.0, 0.0, 0.0)
    black: Rgb = (0.0, 0.0, 0.0)  # what black becomes
    white: Rgb = (1.0, 1.0, 1.0)
    glow: float = 0.0  # light that spills from bright parts
    vignette: float = 0.0  # share of light lost in the corners


def graded(picture: Tensor, grade: Grade) -> Tensor:
    """`picture` [3, H, W] in [0, 1] under `grade`, same shape and range."""
    if grade.mix is not None:
        picture = torch.einsum("ij,jhw->ihw", picture.new_tensor(grade.mix), picture).clamp(0, 1)
    picture = _lit(picture, grade)
    if grade.contrast:
        picture = _s_curve(picture, grade.contrast, grade.pivot)
    picture = _saturated(picture, grade.saturation)
    light = luma(picture)
    shadows, highlights = (picture.new_tensor(tint)[:, None, None] for tint in (grade.shadows, grade.highlights))
    # Both tints fade out before pure black and white, so that nothing clips and no letterbox turns blue.
    picture = picture + shadows * 4 * light * (1 - light) ** 2 + highlights * 4 * light**2 * (1 - light)
    black, white = (picture.new_tensor(end)[:, None, None] for end in (grade.black, grade.white))
    picture = (black + (white - black) * picture).clamp(0, 1)
    return _spilled(picture, grade.glow) if grade.glow else picture


def _lit(picture: Tensor, grade: Grade) -> Tensor:
    """Exposure, colour of the light and vignette, where they belong: in linear light."""
    if not (grade.exposure or grade.warmth or grade.magenta or grade.vignette):
        return picture
    light = to_linear(picture)
    warm, magenta = grade.warmth, grade.magenta
    gains = picture.new_tensor([1 + 0.35 * warm + 0.1 * magenta, 1 - 0.15 * magenta, 1 - 0.45 * warm + 0.1 * magenta])
    light = light * (gains / gains.max())[:, None, None]
    gain = 2.0**grade.exposure
    light = light * gain / (1 + light * max(gain - 1, 0))  # a shoulder: 1 stays 1 when the rest is lifted
    if grade.vignette:
        height, width = picture.shape[-2:]
        y = torch.linspace(-1, 1, height, device=picture.device)[:, None]
        x = torch.linspace(-1, 1, width, device=picture.device)[None]
        light = light * (1 - grade.vignette * ((x * x + y * y) / 2) ** 1.5)
    return from_linear(light)


def _s_curve(picture: Tensor, amount: float, pivot: float) -> Tensor:
    """A logistic curve through (0, 0) and (1, 1), steepest at `pivot`, laid on luma and half on the channels.

    On the channels alone it burns skin, on luma alone it looks grey.
    """
    steep = 8 * amount

    def curve(x: Tensor) -> Tensor:
        low, high = (torch.sigmoid(x.new_tensor(steep * (end - pivot))) for end in (0.0, 1.0))
        return (torch.sigmoid(steep * (x - pivot)) - low) / (high - low)

    light = luma(picture)
    by_luma = _coloured(curve(light), picture - light, curve(light) / light.clamp_min(1e-4))
    return 0.5 * (by_luma + curve(picture))


def _saturated(picture: Tensor, factor: float) -> Tensor:
    light = luma(picture)
    return picture if factor == 1.0 else _coloured(light, picture - light, torch.full_like(light, factor))


def _coloured(light: Tensor, chroma: Tensor, factor: Tensor) -> Tensor:
    """`light` + `factor` times `chroma`, the factor held where a channel would leave [0, 1] so that no hue is clipped."""
    room = torch.where(chroma > 0, 1 - light, light) / chroma.abs().clamp_min(1e-6)
    return light + chroma * torch.minimum(room.amin(dim=-3, keepdim=True).clamp_min(0.0), factor)


def _spilled(picture: Tensor, amount: float) -> Tensor:
    """Bright parts blurred over 1/40 of the short side and laid on like a second exposure."""
    bright = picture * luma(picture) ** 2
    spilled = torch.from_numpy(blur(bright.permute(1, 2, 0).contiguous().cpu().numpy(), 12)).permute(2, 0, 1)
    return 1 - (1 - picture) * (1 - amount * spilled.to(picture.device))
