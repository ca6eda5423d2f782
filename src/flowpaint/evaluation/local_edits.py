"""Known local edits: one part of a clip is edited and nothing else, so that the true edited clip is known everywhere.

Procedural scenes have exact masks. For a real clip a mask of each frame has to be given, that of an object which was followed;
the truth is then as good as the mask. Scored apart are the inside of the part, its rim, and what lies outside, where nothing
but the source's own pixels will do.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from ..parts.metrics.known_filters import FILTERS, Picture
from ..scenes import Layer, Scene, clip, render
from ..scenes.depths import Level
from ..scenes.light import Light
from ..scenes.motion import Curve, Motion
from ..scenes.shapes import Blob
from ..scenes.textures import Colour, Flat, Photo, Stripes, Texture
from ..types import Clip

Size = tuple[int, int]
Cover = Callable[[int], npt.NDArray[np.float32]]  # how much of the edit shows in a frame, [H, W] in [0, 1]

_RIM = 3  # pixels on either side of a part's edge
_ORANGE, _GREEN, _GREY, _SKIN, _BLUE = (0.75, 0.4, 0.25), (0.3, 0.45, 0.3), (0.5, 0.5, 0.52), (0.7, 0.55, 0.45), (0.25, 0.35, 0.6)


def _blurred(picture: Picture) -> Picture:
    return cv2.GaussianBlur(picture, (0, 0), 3.0).astype(np.uint8, copy=False)


# What is done to a part by a function of the frame: its colours, a drawn texture, its sharpness.
CHANGES: Mapping[str, Callable[[Picture], Picture]] = MappingProxyType(
    {"recolour": FILTERS["hue"], "tint": FILTERS["colour"], "paint": FILTERS["style"], "blur": _blurred}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalEdit:
    """A clip before and after, both 8 bit, and where they differ: `cover(frame)` is 0 wherever both are equal."""

    name: str
    kind: str
    source: Clip
    edited: Clip
    cover: Cover


@dataclass(frozen=True, kw_only=True)
class LocalScore:
    """How a result does in one frame: PSNR in dB `inside` the part and at its `rim`, and the share of the pixels `outside`
    that are not the source's, with the largest difference there in levels of 255. NaN where there are no such pixels.
    """

    inside: float
    rim: float
    outside: float
    largest: int


def score(edit: LocalEdit, result: Picture, frame: int) -> LocalScore:
    """Score frame `frame` of an edit's `result`, uint8 [H, W, 3]."""
    shown = (edit.cover(frame) > 0.5).astype(np.uint8)
    touched = (edit.cover(frame) > 0).astype(np.uint8)
    kernel = np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)
    inside = cv2.erode(shown, kernel, borderValue=1) > 0
    near = cv2.dilate(touched, kernel) > 0
    truth, source = edit.edited.raw(frame).astype(float), edit.source.raw(frame).astype(int)
    error = (result.astype(float) - truth) ** 2
    strays = np.abs(result.astype(int) - source).max(axis=2)[~near]
    return LocalScore(
        inside=_psnr(error[inside]),
        rim=_psnr(error[near & ~inside]) if shown.any() else math.nan,
        outside=float((strays > 0).mean()) if strays.size else math.nan,
        largest=int(strays.max()) if strays.size else 0,
    )


def _psnr(squares: npt.NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / max(1e-2, squares.mean()))) if squares.size else math.nan


# ----------------------------------------------------------------------------------------------------------- real clips


def clip_edits(
    name: str, source: Clip, cover: Cover, kinds: Sequence[str] = tuple(CHANGES), *, other: Cover | None = None
) -> Iterator[LocalEdit]:
    """Yield an edit of the part under `cover` of `source`, 8 bit, for each of `kinds`.

    With the cover of an `other` part, that one is changed, too, by the next kind in the list.
    """
    order = list(CHANGES)
    for kind in kinds:
        changes = [(cover, CHANGES[kind])]
        if other is not None:
            changes.append((other, CHANGES[order[(order.index(kind) + 1) % len(order)]]))
        yield LocalEdit(name=name, kind=kind, source=source, edited=_changed(source, changes), cover=_joined(changes))


def _changed(source: Clip, changes: Sequence[tuple[Cover, Callable[[Picture], Picture]]]) -> Clip:
    def read(index: int) -> Picture:
        frame = source.raw(index).astype(np.uint8, copy=False)
        result = frame.astype(np.float64)
        for cover, change in changes:
            share = cover(index)[..., None].astype(np.float64)
            result += share * (change(frame) - result)
        made: Picture = result.round().clip(0, 255).astype(np.uint8)
        return made

    return source.with_frames(read)


def _joined(changes: Sequence[tuple[Cover, object]]) -> Cover:
    return lambda index: np.maximum.reduce([cover(index) for cover, _ in changes])


# --------------------------------------------------------------------------------------------------------------- scenes


def scene_edits(size: Size, num_frames: int) -> Iterator[LocalEdit]:
    """Yield edits of procedural scenes of `size` (height, width): each scene recoloured, given another texture, and blurred.

    `one`: a thing turns and grows before a ground that moves; its colours are also the ground's. `plain`: a thing of
    colours of its own. `two`: two things, each edited in its own way. `returns`: a thing leaves the frame and comes back.
    `crossed`: something that is not edited passes in front.
    """
    for name, (scene, edited) in _stages(num_frames).items():
        source = clip(scene, num_frames, size)
        covers = [_cover_of(scene, layer, size) for layer in edited]
        others = covers[1] if len(covers) > 1 else None
        yield from clip_edits(f"scene {name}", source, covers[0], ("recolour", "blur"), other=others)
        swapped = replace(scene, layers=tuple(_textured(one) if one.name in edited else one for one in scene.layers))
        cover = _joined([(one, None) for one in covers])
        yield LocalEdit(name=f"scene {name}", kind="texture", source=source, edited=clip(swapped, num_frames, size), cover=cover)


def _cover_of(scene: Scene, name: str, size: Size) -> Cover:
    """Return how much of a layer shows: it is painted white, all others black, and seen by the same lens."""
    white, black = Flat(colour=(1.0, 1.0, 1.0)), Flat(colour=(0.0, 0.0, 0.0))
    lens = Light(shutter=scene.light.shutter, shutter_samples=scene.light.shutter_samples, blur=scene.light.blur)
    layers = tuple(replace(one, texture=white if one.name == name else black) for one in scene.layers)
    shown = replace(scene, layers=layers, light=lens)

    def cover(index: int) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = render(shown, float(index), size).rgb[0].numpy()
        return found

    return cover


def _surface(seed: int, colour: Colour, contrast: float = 0.12) -> Photo:
    """Return a texture with the spectrum of natural pictures, 1 over frequency, about a `colour`; half of it is one of light."""
    side = 256
    rng = np.random.default_rng([107, seed])
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = np.inf
    waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(4, side, side))) / frequency).real
    waves /= waves.std(axis=(1, 2), keepdims=True)
    picture = np.array(colour)[:, None, None] + contrast * (waves[:1] + 0.7 * waves[1:])
    pixels: Picture = np.rint(255 * picture.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    return Photo(pixels=np.ascontiguousarray(pixels), width=1.0)


def _textured(layer: Layer) -> Layer:
    """Return a layer with another surface."""
    return replace(layer, texture=_surface(sum(map(ord, layer.name)), _BLUE))


def _thing(name: str, texture: Texture, near: float, size: float, motion: Motion) -> Layer:
    shape = Blob(size=size, harmonics=((2, 0.15, 0.4), (3, 0.08, 2.0)))
    return Layer(name=name, texture=texture, depth=Level(nearness=near), shape=shape, motion=motion)


def _stages(num_frames: int) -> dict[str, tuple[Scene, tuple[str, ...]]]:
    """Return the scenes, each with the names of the layers that are edited; motions fit into `num_frames`."""
    pan = Motion(x=Curve(powers=(0.0, 0.15 / num_frames)), y=Curve(waves=((0.02, 40.0, 0.0),)))
    ground = Layer(
        name="ground",
        texture=_surface(11, _GREEN),
        depth=Level(nearness=0.1),
        motion=pan,
    )
    grey = replace(ground, texture=_surface(12, _GREY))
    across = Curve(powers=(-0.25, 0.45 / num_frames))
    turning = Motion(x=across, y=Curve(waves=((0.06, 25.0, 0.2),)), angle=Curve(powers=(0.0, 0.5 / num_frames)))
    growing = replace(turning, log_scale=Curve(powers=(0.0, 0.25 / num_frames)))
    leafy = _surface(15, _GREEN)
    striped = Stripes(first=_ORANGE, second=_SKIN, period=0.08, angle=0.8, sharpness=1.0)
    cloth = _surface(13, _ORANGE)
    still = Motion(x=Curve(powers=(0.35,)), y=Curve(waves=((0.05, 30.0, 0.5),)))
    swing = Motion(x=Curve(waves=((0.85, float(num_frames), 0.0),)))
    passing = Motion(x=Curve(powers=(0.6, -1.2 / num_frames)), y=Curve(powers=(0.05,)))
    pole = _thing("passer", _surface(14, _GREY), 0.8, 0.1, passing)
    return {
        "one": (Scene(layers=(ground, _thing("thing", leafy, 0.5, 0.2, growing))), ("thing",)),
        "plain": (Scene(layers=(grey, _thing("thing", cloth, 0.5, 0.18, turning))), ("thing",)),
        "two": (
            Scene(layers=(ground, _thing("thing", leafy, 0.4, 0.16, turning), _thing("other", striped, 0.6, 0.12, still))),
            ("thing", "other"),
        ),
        "returns": (Scene(layers=(grey, _thing("thing", striped, 0.5, 0.2, swing))), ("thing",)),
        "crossed": (
            Scene(layers=(ground, _thing("thing", striped, 0.5, 0.2, replace(turning, x=Curve(powers=(0.0,)))), pole)),
            ("thing",),
        ),
    }
