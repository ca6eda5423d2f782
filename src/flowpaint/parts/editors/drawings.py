"""The looks drawn by our own hand: pencil, charcoal, ink, cartoon, comic, watercolour, oil, pastel, poster, neon, blueprint.

Each takes a picture, numpy float32 [H, W, 3] in [0, 1], and a generator that keys its paper and strokes, and returns a
picture of the same size. What is drawn depends on the neighbourhood alone, so a small change of the frame stays small.
"""

import cv2
import numpy as np
import torch

from .brushes import (
    Picture,
    Plane,
    along,
    blur,
    dots,
    flattened,
    grey,
    hatching,
    levels,
    lines,
    noise,
    painted,
    paper,
    saturated,
    step,
    tangents,
    unit,
    with_grey,
)


def _tinted(light: Plane, dark: tuple[float, float, float], bright: tuple[float, float, float]) -> Picture:
    """A plane as a picture that runs from the colour `dark` to the colour `bright`."""
    low, high = (np.array(colour, np.float32) for colour in (dark, bright))
    return np.asarray(low + np.clip(light, 0, 1)[..., None] * (high - low), np.float32)


def _dodged(light: Plane, length: float) -> Plane:
    """Bright paper wherever nothing changes, strokes at edges and folds: light over its own blur ("colour dodge")."""
    return np.asarray(np.clip((light + 0.02) / (blur(light, length) + 0.02), 0, 1), np.float32)


def pencil(image: Picture, generator: torch.Generator) -> Picture:
    """Graphite on paper: outlines, and shadows hatched in one direction."""
    calm = flattened(image, 2, 0.05)
    light = grey(calm)
    shade = (1 - light) ** 1.6 * (0.62 + 0.22 * hatching(image, generator))
    drawn = _dodged(light, 5) ** 1.8 * lines(calm, width=1.0) ** 0.8 * (1 - np.clip(shade, 0, 0.9))
    return _tinted(drawn * (1 + 0.025 * paper(image, generator)), (0.13, 0.13, 0.14), (0.985, 0.98, 0.965))


def colour_pencil(image: Picture, generator: torch.Generator) -> Picture:
    """Coloured pencils: hatched colour that lets the paper through, dark outlines."""
    calm = saturated(flattened(image, 3, 0.06), 1.5)
    cover = np.clip(0.30 + 0.75 * (1 - grey(calm)) + 0.13 * hatching(image, generator) + 0.05 * paper(image, generator), 0, 1)
    pigment = with_grey(calm, 0.12 + 0.80 * grey(calm) ** 0.8)
    laid = 1 - (1 - pigment) * (0.35 + 0.65 * cover)[..., None]
    ink = _dodged(grey(calm), 4) ** 1.2 * lines(calm, width=0.9) ** 0.6
    return np.asarray(laid * (0.2 + 0.8 * ink)[..., None] * np.array([0.99, 0.985, 0.97], np.float32), np.float32)


def charcoal(image: Picture, generator: torch.Generator) -> Picture:
    """Charcoal rubbed over rough paper: deep blacks, grain in the half tones."""
    calm = flattened(image, 4, 0.06)
    light = grey(calm)
    tone = _dodged(light, 14) ** 1.4 * (0.12 + 0.88 * step(light, -0.05, 0.75))
    grain = paper(image, generator) + 0.5 * hatching(image, generator, angle=-0.6)
    rough = np.clip(tone + 0.11 * grain * np.clip(4 * tone * (1 - tone), 0, 1), 0, 1)
    return _tinted(rough * lines(calm, width=1.8) ** 0.9, (0.08, 0.075, 0.07), (0.94, 0.925, 0.895))


def ink(image: Picture, _: torch.Generator) -> Picture:
    """Brush and ink: clean lines, solid blacks, one grey wash."""
    light = grey(painted(image, 4))
    wash = 1 - 0.26 * (1 - step(light, 0.28, 0.34))
    solid = step(light, 0.09, 0.13)
    drawn = lines(flattened(image, 2, 0.05), width=1.3, threshold=0.010, softness=0.012)
    return _tinted(wash * solid * drawn, (0.04, 0.04, 0.06), (0.985, 0.98, 0.965))


def cartoon(image: Picture, _: torch.Generator) -> Picture:
    """Flat colours in a few tones with dark outlines."""
    calm = painted(image, 4.5)
    flat = with_grey(calm, 0.05 + 0.95 * levels(np.sqrt(grey(calm)), 8) ** 1.85)
    outline = lines(flattened(image, 2, 0.05), width=1.5, threshold=0.012, softness=0.018)
    return np.asarray(saturated(flat, 1.45) * (0.08 + 0.92 * outline)[..., None], np.float32)


def comic(image: Picture, _: torch.Generator) -> Picture:
    """A printed comic: strong outlines, few tones, dots in the shades, warm paper."""
    calm = painted(image, 4.5)
    light = grey(calm)
    flat = saturated(with_grey(calm, 0.16 + 0.84 * levels(np.sqrt(light), 6, 0.25) ** 1.5), 1.8)
    screen = dots(image, np.asarray(np.clip(0.1 + 1.6 * light, 0, 1), np.float32), 4)
    shade = 1 - 0.30 * (1 - screen) * (1 - step(light, 0.25, 0.50))
    outline = lines(flattened(image, 2, 0.05), width=1.8, threshold=0.010, softness=0.015)
    solid = step(light, 0.02, 0.06) * outline
    printed = flat * shade[..., None] * (0.05 + 0.95 * solid)[..., None]
    return np.asarray(printed * np.array([1.0, 0.975, 0.92], np.float32), np.float32)


def watercolour(image: Picture, generator: torch.Generator) -> Picture:
    """Washes on paper: the paper for white, darker where a wash ends, pigment settled unevenly."""
    calm = painted(image, 5)
    light = grey(calm)
    pale = saturated(with_grey(calm, 1 - 0.86 * (1 - light) ** 1.35), 1.7)
    settled = blur(noise(image, 14, generator), 4)
    ends = np.clip(np.abs(light - blur(light, 2.5)) * 5, 0, 0.6)
    density = 0.86 + ends + 0.11 * settled + 0.04 * paper(image, generator)
    washed = np.clip(pale, 0.02, 1) ** density[..., None]
    drawn = 0.62 + 0.38 * lines(flattened(image, 2, 0.05), width=0.9)
    return np.asarray(washed * drawn[..., None] * np.array([0.995, 0.99, 0.975], np.float32), np.float32)


def oil(image: Picture, generator: torch.Generator) -> Picture:
    """Oil on canvas: dabs along the forms, the ridges of the brush catching light."""
    dabs = painted(image, 6)
    bristle = along(noise(image, 1.8, generator), tangents(dabs, 12), 9)
    bristle /= max(float(bristle.std()), 1e-6)
    aside = np.array([[1, 0, 0.67 * unit(image)], [0, 1, 0.67 * unit(image)]], np.float32)  # lit from the upper left
    shifted = cv2.warpAffine(bristle, aside, bristle.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    relief = 0.020 * (bristle - shifted) + 0.006 * bristle
    light = grey(dabs)
    deep = with_grey(dabs, np.asarray(light + 0.5 * light * (1 - light) * (2 * light - 1), np.float32))
    return np.asarray(saturated(deep, 1.3) + relief[..., None] * (0.35 + light[..., None]), np.float32)


def pastel(image: Picture, generator: torch.Generator) -> Picture:
    """Soft pastel chalks on toned paper."""
    calm = painted(image, 4)
    chalk = 0.75 * paper(image, generator) + 0.45 * hatching(image, generator, angle=-1.1)
    soft = saturated(with_grey(calm, 0.26 + 0.74 * grey(calm) ** 0.85), 1.3)
    bare = (0.20 * (1 - step(np.asarray(chalk, np.float32), -1.6, 0.4)))[..., None]  # the sheet shows between the chalk
    return np.asarray(soft * (1 - bare) + np.array([0.72, 0.69, 0.66], np.float32) * bare, np.float32)


def poster(image: Picture, _: torch.Generator) -> Picture:
    """A screen print: six flat tones, loud colours."""
    calm = painted(image, 6)
    return saturated(with_grey(calm, 0.05 + 0.90 * levels(np.sqrt(grey(calm)), 6, 0.2) ** 1.7), 2.0)


def neon(image: Picture, _: torch.Generator) -> Picture:
    """Glowing tubes along the edges, in the colours of the scene, on a dark ground."""
    calm = np.sqrt(flattened(image, 2, 0.05))
    fine, wide = blur(calm, 1.2), blur(calm, 2.6)
    edge = np.abs(fine - wide).max(axis=-1)
    edge = along(np.asarray(edge, np.float32), tangents(image), 5)
    tube = step(edge, 0.010, 0.045)
    hue = saturated(with_grey(blur(image, 2), np.full(tube.shape, 0.5, np.float32)), 5.0)
    glow = blur(hue * tube[..., None], 3) * 0.8 + blur(hue * tube[..., None], 12) * 0.9
    core = (hue * 0.8 + 0.2) * tube[..., None]
    ground = _tinted(grey(calm) ** 2, (0.02, 0.015, 0.05), (0.13, 0.10, 0.22))
    return np.asarray(1 - (1 - ground) * (1 - np.clip(glow, 0, 1)) * (1 - core), np.float32)


def blueprint(image: Picture, generator: torch.Generator) -> Picture:
    """White lines on blue paper."""
    calm = flattened(image, 3, 0.06)
    chalk = 1 - lines(calm, width=1.1) * _dodged(grey(calm), 3) ** 1.5
    ground = 0.10 * grey(calm) + 0.02 * paper(image, generator)
    return _tinted(np.asarray(0.9 * chalk + ground, np.float32), (0.05, 0.20, 0.47), (0.93, 0.97, 1.0))
