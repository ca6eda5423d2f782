"""What the drawn looks are made of: smoothing that keeps edges, coherent lines, strokes, paper, dots.

Pictures are numpy float32 [H, W, 3] in [0, 1], planes [H, W]. Lengths are given in *units* of 1/512 of the short side, so
that a look is the same on a small and on a large frame.
"""

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch

Picture: TypeAlias = npt.NDArray[np.float32]  # [H, W, 3]
Plane: TypeAlias = npt.NDArray[np.float32]  # [H, W]


def unit(image: Picture | Plane) -> float:
    """Pixels in one unit of length: 1 at a short side of 512."""
    return float(min(image.shape[:2])) / 512


def blur(image: Picture, length: float) -> Picture:
    """`image` under a Gaussian with a deviation of `length` units; edges mirrored."""
    sigma = length * unit(image)
    if sigma < 0.2:  # narrower than a pixel: no kernel left
        return image
    border = cv2.BORDER_REFLECT_101 if min(image.shape[:2]) > 1 else cv2.BORDER_REPLICATE
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=border), np.float32)


def grey(image: Picture) -> Plane:
    """Rec. 709 luma, a plane."""
    return np.asarray(image @ np.array([0.2126, 0.7152, 0.0722], np.float32), np.float32)


def step(values: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, a smooth ramp between (low > high turns it round)."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _coloured(light: Plane, chroma: Picture, factor: float) -> Picture:
    """`light` + `factor` times `chroma`, the factor held where a channel would leave [0, 1] so that no hue is clipped."""
    tone = np.clip(light, 0, 1)[..., None]
    room = np.where(chroma > 0, 1 - tone, tone) / np.maximum(np.abs(chroma), 1e-6)
    return np.asarray(tone + chroma * np.clip(room.min(axis=-1, keepdims=True), 0, factor), np.float32)


def saturated(image: Picture, factor: float) -> Picture:
    """`image` with its chroma times `factor`, luma kept."""
    light = grey(image)
    return _coloured(light, image - light[..., None], factor)


def with_grey(image: Picture, light: Plane) -> Picture:
    """`image` with its luma replaced by the plane `light`, chroma kept where it fits."""
    return _coloured(light, image - grey(image)[..., None], 1.0)


def flattened(image: Picture, length: float = 5, contrast: float = 0.08) -> Picture:
    """Surfaces smoothed over `length` units, edges of more than `contrast` kept (guided filter, He et al., 2013)."""
    size = 2 * max(1, round(length * unit(image))) + 1

    def mean(x: Picture) -> Picture:
        return np.asarray(cv2.blur(x, (size, size), borderType=cv2.BORDER_REPLICATE), np.float32)

    guide = grey(image)
    centre, average = mean(guide), mean(image)
    variance = mean(guide * guide) - centre * centre
    covariance = mean(image * guide[..., None]) - average * centre[..., None]
    gain = np.asarray(covariance / (variance + contrast**2)[..., None], np.float32)
    offset = average - gain * centre[..., None]
    return np.asarray(np.clip(mean(gain) * guide[..., None] + mean(offset), 0, 1), np.float32)


def levels(light: Plane, count: int, softness: float = 0.35) -> Plane:
    """`light` drawn towards `count` tones by a smooth staircase: no tone flips, so that nothing flickers."""
    x = light * (count - 1)
    floor = np.floor(x)
    return np.asarray((floor + step(x - floor, 0.5 - softness, 0.5 + softness)) / (count - 1), np.float32)


# ------------------------------------------------------------------------------------------------------------- direction


def tangents(image: Picture, length: float = 2.5) -> tuple[Plane, Plane]:
    """Unit vectors (x, y) along the edges of `image`: minor axis of its structure tensor, smoothed over `length` units."""
    light = blur(grey(image), 0.8)
    dx, dy = (cv2.Sobel(light, cv2.CV_32F, *order, borderType=cv2.BORDER_REPLICATE) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (blur(np.asarray(one, np.float32), length) for one in (dx * dx, dy * dy, dx * dy))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def along(plane: Plane, field: tuple[Plane, Plane], length: float) -> Plane:
    """`plane` averaged along the lines of `field` over `length` units each way (Cabral & Leedom, 1993)."""
    pixels = length * unit(plane)
    count = int(np.clip(round(pixels), 1, 8))
    stride = np.float32(pixels / count)
    y0, x0 = (axis.astype(np.float32) for axis in np.mgrid[: plane.shape[0], : plane.shape[1]])
    total = plane.copy()
    for sign in (1, -1):
        x, y, dx, dy = x0, y0, sign * field[0], sign * field[1]
        for _ in range(count):
            x, y = x + stride * dx, y + stride * dy
            total += cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            # Tangents have no sign of their own: go on in the direction walked so far.
            tx, ty = (cv2.remap(one, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) for one in field)
            turn = np.where(tx * dx + ty * dy < 0, np.float32(-1), np.float32(1))
            dx, dy = np.asarray(turn * tx, np.float32), np.asarray(turn * ty, np.float32)
    return np.asarray(total / (2 * count + 1), np.float32)


def lines(image: Picture, *, width: float = 1.2, threshold: float = 0.012, softness: float = 0.02) -> Plane:
    """Ink lines on the dark side of edges, 1 = paper and 0 = ink: [H, W].

    Difference of Gaussians, averaged along the edges so that lines are long and clean, then a soft threshold (after
    Winnemoeller et al., XDoG, Computers & Graphics 2012). `width` in units; the others are differences of luma.
    """
    light = np.sqrt(grey(image))  # dark pictures have lines too
    ridge = blur(light, 1.6 * width) - blur(light, width)
    ridge = along(np.asarray(ridge, np.float32), tangents(image), 4 * width)
    return 1 - step(ridge, threshold, threshold + softness)


def painted(image: Picture, radius: float) -> Picture:
    """`image` in dabs of `radius` units with crisp borders: Kuwahara filter with eight soft sectors (Papari et al., TIP 2007)."""
    reach = max(2, round(radius * unit(image)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    bell = np.exp(-(x * x + y * y) / (2 * (0.5 * reach) ** 2))
    light = grey(image)
    stacked = np.dstack((image, light * light))
    total, weight = np.zeros_like(image), np.zeros_like(light)
    for turn in range(8):
        apart = np.arctan2(y, x) - turn * np.pi / 4
        apart = np.abs((apart + np.pi) % (2 * np.pi) - np.pi)
        kernel = bell * np.clip(1.4 - apart / (np.pi / 4), 0, 1)
        kernel = (kernel / kernel.sum()).astype(np.float32)
        mean = np.asarray(cv2.filter2D(stacked, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.float32)
        deviation = np.maximum(mean[..., 3] - grey(mean[..., :3]) ** 2, 0)
        share = 1 / (1e-4 + deviation) ** 4  # the calmest sector wins, smoothly
        total += share[..., None] * mean[..., :3]
        weight += share
    return np.asarray(np.clip(total / weight[..., None], 0, 1), np.float32)  # the filter's Fourier path rounds below 0


# --------------------------------------------------------------------------------------------------------------- surface


def noise(image: Picture, grain: float, generator: torch.Generator) -> Plane:
    """Smooth noise of mean 0 and deviation 1 with grains of `grain` units: [H, W], the same pattern at any size."""
    height, width = image.shape[:2]
    scale = max(unit(image) * grain, 1e-6)
    drawn = torch.randn(max(4, round(height / scale)), max(4, round(width / scale)), generator=generator).numpy()
    large = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_AREA)
    return np.asarray((large - large.mean()) / max(float(large.std()), 1e-6), np.float32)


def paper(image: Picture, generator: torch.Generator) -> Plane:
    """The tooth of drawing paper, mean 0 and deviation about 1: [H, W]."""
    coarse, fine = (noise(image, grain, generator) for grain in (2.6, 1.3))
    return np.asarray(0.7 * coarse + 0.7 * fine, np.float32)


def hatching(image: Picture, generator: torch.Generator, angle: float = -0.9) -> Plane:
    """Pencil strokes in one direction, mean 0 and deviation 1: [H, W]. `angle` in radians from the x axis."""
    flat = np.ones(image.shape[:2], np.float32)
    strokes = along(noise(image, 1.6, generator), (flat * np.float32(np.cos(angle)), flat * np.float32(np.sin(angle))), 14)
    return np.asarray((strokes - strokes.mean()) / max(float(strokes.std()), 1e-6), np.float32)


def dots(image: Picture, light: Plane, spacing: float = 5) -> Plane:
    """A halftone of `light`, 1 = paper and 0 = ink: a screen of dots at 45 degrees, `spacing` units apart, soft borders."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    turn = 2 * np.pi / (spacing * max(unit(image), 0.6) * np.sqrt(2))
    screen = 0.5 + 0.25 * (np.cos((x + y) * turn) + np.cos((x - y) * turn))
    return step(np.asarray(light - screen, np.float32), -0.18, 0.18)
