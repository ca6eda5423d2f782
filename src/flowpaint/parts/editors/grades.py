"""Colour grades: smooth functions of each pixel, described by a handful of numbers; some let light spill (`glow`)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...colour import from_linear, luma, to_linear
from .brushes import blur

Rgb = tuple[float, float, float]

DARKEST = 1e-4  # luma by which chroma is scaled at least
SPILL = 12  # units over which bright parts spill: 1/40 of the short side


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

    @property
    def changes_light(self) -> bool:
        """Whether anything is done in linear light: exposure, colour of the light, vignette."""
        return bool(self.exposure or self.warmth or self.magenta or self.vignette)

    @property
    def is_pixelwise(self) -> bool:
        """Whether the grade is a function of each pixel's colour and place alone."""
        return self.glow == 0.0


def graded(picture: Tensor, grade: Grade) -> Tensor:
    """`picture` [3, H, W] in [0, 1] under `grade`, same shape and range."""
    if grade.mix is not None:
        picture = torch.einsum("ij,jhw->ihw", picture.new_tensor(grade.mix), picture).clamp(0, 1)
    if grade.changes_light:
        light = in_light(to_linear(picture), grade)
        if grade.vignette:
            light = light * kept_light(grade, *picture.shape[-2:]).to(picture.device)
        picture = from_linear(light)
    picture = toned(picture, grade)
    return _spilled(picture, grade.glow) if grade.glow else picture


def toned(picture: Tensor, grade: Grade) -> Tensor:
    """Return `picture` [3, H, W] in [0, 1] under those steps of `grade` that come after its light and before its glow."""
    if grade.contrast:
        picture = _s_curve(picture, grade.contrast, grade.pivot)
    picture = _saturated(picture, grade.saturation)
    light = luma(picture)
    black, white = (picture.new_tensor(end)[:, None, None] for end in (grade.black, grade.white))
    return (black + (white - black) * tinted(picture, light, grade)).clamp(0, 1)


def tinted(picture: Tensor, light: Tensor, grade: Grade) -> Tensor:
    """Return `picture` [3, H, W], whose luma is `light` [1, H, W], with the tints of `grade` added."""
    shadows, highlights = (light.new_tensor(tint)[:, None, None] for tint in (grade.shadows, grade.highlights))
    # Both tints fade out before pure black and white, so that nothing clips and no letterbox turns blue.
    return picture + shadows * 4 * light * (1 - light) ** 2 + highlights * 4 * light**2 * (1 - light)


def in_light(light: Tensor, grade: Grade) -> Tensor:
    """Return linear `light` [3, H, W] under the exposure and the coloured light of `grade`."""
    warm, magenta = grade.warmth, grade.magenta
    gains = light.new_tensor([1 + 0.35 * warm + 0.1 * magenta, 1 - 0.15 * magenta, 1 - 0.45 * warm + 0.1 * magenta])
    light = light * (gains / gains.max())[:, None, None]
    gain = 2.0**grade.exposure
    exposed: Tensor = light * gain / (1 + light * max(gain - 1, 0))  # a shoulder: 1 stays 1 when the rest is lifted
    return exposed


def kept_light(grade: Grade, height: int, width: int) -> Tensor:
    """Return the share of linear light [H, W] that the vignette of `grade` keeps: 1 in the middle."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    kept: Tensor = 1 - grade.vignette * ((x * x + y * y) / 2) ** 1.5
    return kept


def _s_curve(picture: Tensor, amount: float, pivot: float) -> Tensor:
    """`s_curve` laid on luma and half on the channels: on these alone it burns skin, on luma alone it looks grey."""
    light = luma(picture)
    raised = s_curve(light, amount, pivot)
    by_luma = _coloured(raised, picture - light, raised / light.clamp_min(DARKEST))
    return 0.5 * (by_luma + s_curve(picture, amount, pivot))


def s_curve(x: Tensor, amount: float, pivot: float) -> Tensor:
    """Return the logistic curve through (0, 0) and (1, 1), steepest at `pivot`, of each value of `x` in [0, 1]."""
    steep = 8 * amount
    low, high = (torch.sigmoid(x.new_tensor(steep * (end - pivot))) for end in (0.0, 1.0))
    return (torch.sigmoid(steep * (x - pivot)) - low) / (high - low)


def _saturated(picture: Tensor, factor: float) -> Tensor:
    light = luma(picture)
    return picture if factor == 1.0 else _coloured(light, picture - light, torch.full_like(light, factor))


def _coloured(light: Tensor, chroma: Tensor, factor: Tensor) -> Tensor:
    """`light` + `factor` times `chroma`, the factor held where a channel would leave [0, 1] so that no hue is clipped."""
    room = torch.where(chroma > 0, 1 - light, light) / chroma.abs().clamp_min(1e-6)
    return light + chroma * torch.minimum(room.amin(dim=-3, keepdim=True).clamp_min(0.0), factor)


def _spilled(picture: Tensor, amount: float) -> Tensor:
    """Bright parts blurred over `SPILL` units and laid on like a second exposure."""
    bright = picture * luma(picture) ** 2
    spilled = torch.from_numpy(blur(bright.permute(1, 2, 0).contiguous().cpu().numpy(), SPILL)).permute(2, 0, 1)
    return 1 - (1 - picture) * (1 - amount * spilled.to(picture.device))
