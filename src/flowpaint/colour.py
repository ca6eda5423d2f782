"""Colour spaces, colour transfer, affine colour maps: pure functions on pictures [..., 3, H, W] in [0, 1], sRGB."""

import torch
from torch import Tensor

from .types import check_shape

# Linear sRGB to CIE XYZ, D65 (IEC 61966-2-1).
_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_DELTA = 6.0 / 29.0  # where CIELAB's cube root turns into a line


def to_linear(picture: Tensor) -> Tensor:
    """Light [..., 3, H, W], linear, of an sRGB picture of the same shape (IEC 61966-2-1)."""
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def from_linear(light: Tensor) -> Tensor:
    """The sRGB picture [..., 3, H, W] of linear light of the same shape. The inverse of `to_linear`; nothing is clipped."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def luma(picture: Tensor) -> Tensor:
    """Rec. 709 luma [..., 1, H, W] of an sRGB picture [..., 3, H, W]."""
    red, green, blue = picture.unbind(dim=-3)
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue).unsqueeze(-3)


def to_lab(picture: Tensor) -> Tensor:
    """CIELAB (D65) [..., 3, H, W] of an sRGB picture: L in 0..100, a and b about -128..128, greys exactly at a = b = 0."""
    matrix = picture.new_tensor(_XYZ)
    ratio = _mix(matrix / matrix.sum(dim=1, keepdim=True), to_linear(picture))
    root = torch.where(ratio > _DELTA**3, ratio.clamp_min(_DELTA**3) ** (1 / 3), ratio / (3 * _DELTA**2) + 4 / 29)
    x, y, z = root.unbind(dim=-3)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-3)


def from_lab(lab: Tensor) -> Tensor:
    """The sRGB picture [..., 3, H, W] of CIELAB (D65) values. Colours that no screen shows come out below 0 or above 1."""
    lightness, a, b = lab.unbind(dim=-3)
    y = (lightness + 16) / 116
    root = torch.stack((y + a / 500, y, y - b / 200), dim=-3)
    ratio = torch.where(root > _DELTA, root**3, 3 * _DELTA**2 * (root - 4 / 29))
    matrix = lab.new_tensor(_XYZ)
    return from_linear(_mix(torch.linalg.inv(matrix / matrix.sum(dim=1, keepdim=True)), ratio))


def into_gamut(lab: Tensor) -> Tensor:
    """The sRGB picture [..., 3, H, W], in [0, 1], nearest to CIELAB values in chroma: lightness and hue stay.

    Clipping the channels would turn a bright orange yellow. Here a and b shrink together, just far enough (bisection to
    1/4096 of the chroma; the grey of the same lightness is always inside).
    """
    lightness, chroma = lab.narrow(-3, 0, 1).clamp(0.0, 100.0), lab.narrow(-3, 1, 2)
    picture = from_lab(torch.cat((lightness, chroma), dim=-3))
    outside = ((picture < -1e-4) | (picture > 1 + 1e-4)).any(dim=-3)
    if outside.any():  # mostly a small share of the pixels: the search runs on them alone, as a strip [3, n, 1]
        strip = torch.cat((lightness, chroma), dim=-3).movedim(-3, 0)[:, outside][..., None]
        moved = picture.movedim(-3, 0).clone()
        moved[:, outside] = _shrink_chroma(strip)[..., 0]
        picture = moved.movedim(0, -3)
    return picture.clamp(0.0, 1.0)


def _shrink_chroma(strip: Tensor) -> Tensor:
    low, high = torch.zeros_like(strip[:1]), torch.ones_like(strip[:1])
    for _ in range(12):
        middle = (low + high) / 2
        tried = from_lab(torch.cat((strip[:1], strip[1:] * middle)))
        fits = ((tried >= 0) & (tried <= 1)).all(dim=0, keepdim=True)
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return from_lab(torch.cat((strip[:1], strip[1:] * low)))


def keep_colors(edited: Tensor, source: Tensor) -> Tensor:
    """A picture [..., 3, H, W] with the lightness of `edited` and the hue and chroma of `source`, both of the same shape.

    Where the pair is no colour a screen shows, chroma is reduced; hue is never clipped.
    """
    return with_chroma(edited, to_lab(source).narrow(-3, 1, 2))


def with_chroma(picture: Tensor, chroma: Tensor) -> Tensor:
    """A picture [..., 3, H, W] with the lightness of `picture` and `chroma` [..., 2, H, W], CIELAB's a and b.

    Where the pair is no colour a screen shows, chroma is reduced at constant lightness and hue.
    """
    return into_gamut(torch.cat((to_lab(picture).narrow(-3, 0, 1), chroma), dim=-3))


def statistics(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [3] and standard deviation [3] of the CIELAB values over all pixels of [..., 3, H, W]."""
    flat = to_lab(picture).movedim(-3, 0).flatten(1)
    return flat.mean(dim=1), flat.std(dim=1, correction=0)


def match_statistics(picture: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """`picture` [..., 3, H, W] moved to a CIELAB `mean` [3] and `std` [3], in gamut (after Reinhard et al., CG&A 2001).

    A channel that is nearly flat is moved, not stretched: its deviation counts as at least 0.5, below what an eye sees.
    """
    check_shape(mean=(mean, "3"), std=(std, "3"))
    own_mean, own_std = statistics(picture)
    gain = (std / own_std.clamp_min(0.5))[:, None, None]
    return into_gamut((to_lab(picture) - own_mean[:, None, None]) * gain + mean[:, None, None])


# ------------------------------------------------------------------------------------------------------------ calibration


def moments(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [3] and standard deviation [3] of the sRGB values over all pixels of [..., 3, H, W]."""
    flat = picture.float().movedim(-3, 0).flatten(1)
    return flat.mean(dim=1), flat.std(dim=1, correction=0)


def calibrated(picture: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """`picture` [..., 3, H, W] moved to a `mean` [3] and `std` [3] of its sRGB channels, clipped to [0, 1] (FlowVid, Eq. 5).

    A channel that is nearly flat is moved, not stretched: its deviation counts as at least a level of 8 bits.
    """
    check_shape(mean=(mean, "3"), std=(std, "3"))
    own_mean, own_std = moments(picture)
    gain = torch.where(own_std < 1 / 255, 1.0, std / own_std.clamp_min(1 / 255))
    return ((picture - own_mean[:, None, None]) * gain[:, None, None] + mean[:, None, None]).clamp(0.0, 1.0)


def foretold(edited: Tensor, before: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [3] and deviation [3] that an edit of the source frame `now` should have, if `before` became `edited`, all [3, H, W].

    Where the source's colours have changed between both, the edit's change as an edit of those colours does: by the linear map
    that explains most of `edited` by `before` (least squares; where nothing does, no change is expected). Deviations change by
    at most eightfold, for a source that was flat.
    """
    slopes, offset = _response(before, edited)

    def told(frame: Tensor) -> tuple[Tensor, Tensor]:
        return moments((_mix(slopes, frame) + offset[:, None, None]).clamp(0.0, 1.0))

    (mean, std), (old_mean, old_std), (new_mean, new_std) = moments(edited), told(before), told(now)
    factor = (new_std.clamp_min(1 / 255) / old_std.clamp_min(1 / 255)).clamp(1 / 8, 8.0)
    return mean + (new_mean - old_mean), std * factor


def _response(before: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes [3, 3] and offset [3] of the regression of `edited` on `before`, both [3, H, W]."""
    x, y = (one.float().flatten(1).double() for one in (before, edited))
    mean_x, mean_y = x.mean(dim=1, keepdim=True), y.mean(dim=1, keepdim=True)
    x, y = x - mean_x, y - mean_y
    spread = x @ x.T / x.shape[1] + 1e-6 * torch.eye(3, dtype=x.dtype, device=x.device)  # grey pictures have no second colour
    slopes = torch.linalg.solve(spread, x @ y.T / x.shape[1]).T
    offset = (mean_y - slopes @ mean_x)[:, 0]
    return slopes.to(before), offset.to(before)


# ------------------------------------------------------------------------------------------------------------ affine maps


def fit_affine(source: Tensor, edited: Tensor, weights: Tensor | None = None, *, ridge: float = 1e-4) -> Tensor:
    """The affine colour map [3, 4] that takes most of `source` to `edited`, both [..., 3, H, W]: `apply_affine` applies it.

    `weights` [..., 1, H, W] >= 0 say how much each pixel counts. `ridge` pulls towards the identity, as a share of the
    pixels: colours that the picture does not hold stay as they are. A local edit does not pull the map: iteratively
    re-weighted least squares, Cauchy weights first, which converge from anywhere, then Tukey's biweight, which forgets
    outliers altogether (Holland & Welsch, 1977); the scale is 1.4826 times the median residual.
    """
    x, y = (one.movedim(-3, -1).reshape(-1, 3).double() for one in (source, edited))
    given = torch.ones_like(x[:, :1]) if weights is None else weights.movedim(-3, -1).reshape(-1, 1).double()
    step = max(1, len(x) // 65_536)  # twelve numbers need no more pixels than this
    x, y, given = x[::step], y[::step], given[::step]
    design = torch.cat((x, torch.ones_like(x[:, :1])), dim=1)
    solved = _least_squares(design, y, given, ridge)
    for turn in range(24):
        miss = (y - design @ solved).norm(dim=1, keepdim=True)
        scale = (1.4826 * _weighted_median(miss, given)).clamp_min(0.5 / 255)
        trust = _cauchy(miss / scale) if turn < 12 else _tukey(miss / scale)
        solved = _least_squares(design, y, given * trust, ridge)
    return solved.T.to(source.dtype)


def apply_affine(picture: Tensor, matrix: Tensor) -> Tensor:
    """`picture` [..., 3, H, W] through the affine colour map `matrix` [3, 4]. Nothing is clipped."""
    check_shape(matrix=(matrix, "3 4"))
    return _mix(matrix[:, :3], picture) + matrix[:, 3, None, None]


def _mix(matrix: Tensor, picture: Tensor) -> Tensor:
    return torch.einsum("ij,...jhw->...ihw", matrix, picture)


def _least_squares(design: Tensor, y: Tensor, weights: Tensor, ridge: float) -> Tensor:
    pull = ridge * weights.sum().clamp_min(1e-12)
    identity = torch.eye(4, 3, dtype=design.dtype, device=design.device)
    normal = design.T @ (weights * design) + pull * torch.eye(4, dtype=design.dtype, device=design.device)
    solved: Tensor = torch.linalg.solve(normal, design.T @ (weights * y) + pull * identity)
    return solved


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    order = values[:, 0].argsort()
    reached = weights[order, 0].cumsum(0)
    middle = torch.searchsorted(reached, reached[-1:] / 2).clamp_max(len(order) - 1)
    return values[order[middle], 0]


def _cauchy(ratio: Tensor) -> Tensor:
    return torch.reciprocal(1 + (ratio / 2.385).square())


def _tukey(ratio: Tensor) -> Tensor:
    return (1 - (ratio / 4.685).square()).clamp_min(0.0).square()
