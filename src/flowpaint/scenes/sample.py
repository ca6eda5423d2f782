"""Random scenes. Difficulty 0 is a still, 1 has all there is: 40 pixels a frame at 512, parallax, ripples, changing light."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .camera import Camera
from .depths import Depth, Level, Relief, Slope
from .light import Light, Shadow
from .motion import STEEPEST, Curve, Motion, Ripple, Swell
from .scene import Layer, Scene
from .shapes import Blob, Glyph, Polygon, Shape
from .textures import Checks, Colour, Gradient, Noise, Photo, Stripes, Texture

Random = np.random.Generator
Pictures = Sequence[npt.NDArray[np.uint8]]  # photographs [H, W, 3]

FASTEST = 40 / 512  # units a frame at difficulty 1
_LETTERS = "ABCDEGHKMNPRSTVXYZ2345689&"

# How the speed is shared out. The sum is 1.5, for the fastest moments of slow motions hardly ever meet: sampled scenes stay
# below the limit and come close to it.
_OBJECT, _SPIN, _RIPPLE, _PAN, _TURN, _ROLL, _ZOOM, _SHAKE = 0.9, 0.12, 0.06, 0.18, 0.06, 0.06, 0.06, 0.06
_CORNER = 0.9  # units from the middle of a 16:9 picture to its corner


def sample_scene(seed: int, difficulty: float = 0.5, photos: Pictures = ()) -> Scene:
    """A random scene, the same for the same arguments; `photos`, uint8 [H, W, 3], are used as textures among others.

    Raises `InputError` for a difficulty outside 0..1.
    """
    if not 0.0 <= difficulty <= 1.0:
        raise InputError(f"The difficulty {difficulty} is outside 0..1. Give 0 for a still, 1 for all there is.")
    rng = np.random.default_rng([103, seed])
    speed = FASTEST * difficulty
    num_objects = 1 + int(rng.integers(0, 1 + round(4 * difficulty)))
    room = 0.6 / num_objects  # of nearness, for each object: a third of it is used, so that others fit between
    background = Layer(name="background", texture=random_texture(rng, photos), depth=_depth(rng, 0.1, 0.08 * difficulty))
    objects = [
        Layer(
            name=f"object {number + 1}",
            texture=random_texture(rng, photos),
            depth=_depth(rng, 0.25 + room * (number + 0.5), room / 6 * difficulty),
            shape=random_shape(rng, rng.uniform(0.1, 0.22)),
            motion=random_motion(rng, speed, ripples=bool(rng.random() < difficulty)),
            deform=_deform(rng) if rng.random() < 0.5 * difficulty else None,
        )
        for number in range(num_objects)
    ]
    return Scene(layers=(background, *objects), camera=_camera(rng, speed), light=_light(rng, difficulty))


def random_texture(rng: Random, photos: Pictures = ()) -> Texture:
    """A texture of random kind and colours; half of them photographs where there are any."""
    if photos and rng.random() < 0.5:
        return Photo(pixels=photos[int(rng.integers(len(photos)))], width=rng.uniform(1.0, 2.0))
    first, second, angle = _colour(rng), _colour(rng), rng.uniform(0, math.pi)
    kind = rng.choice(["noise", "noise", "stripes", "checks", "gradient"])
    if kind == "stripes":
        return Stripes(first=first, second=second, period=rng.uniform(0.06, 0.3), angle=angle, sharpness=rng.uniform(0.5, 2))
    if kind == "checks":
        return Checks(first=first, second=second, period=rng.uniform(0.12, 0.4), angle=angle, sharpness=rng.uniform(0.5, 2))
    if kind == "gradient":
        return Gradient(first=first, second=second, length=rng.uniform(0.4, 1.5), angle=angle)
    return Noise(seed=int(rng.integers(2**31)), colour=first, finest=rng.uniform(0.04, 0.2), contrast=rng.uniform(0.1, 0.2))


def random_shape(rng: Random, size: float) -> Shape:
    """A blob, a star, a ragged polygon or a letter of about radius `size`."""
    kind = rng.choice(["blob", "blob", "star", "polygon", "glyph"])
    if kind == "glyph":
        return Glyph(text=str(rng.choice(list(_LETTERS))), size=2 * size)
    if kind == "blob":
        orders = range(2, 7)
        return Blob(size=size, harmonics=tuple((k, rng.uniform(0, 0.35) / k, rng.uniform(0, math.tau)) for k in orders))
    if kind == "star":
        count = 2 * int(rng.integers(4, 8))
        lengths = np.where(np.arange(count) % 2, rng.uniform(0.45, 0.7), 1.0)
    else:
        count = int(rng.integers(3, 9))
        lengths = rng.uniform(0.6, 1.0, count)
    angles = math.tau * np.arange(count) / count + rng.uniform(0, math.tau)
    corners = size * lengths * np.stack((np.cos(angles), np.sin(angles)))
    return Polygon(corners=tuple((float(x), float(y)) for x, y in corners.T))


def random_motion(rng: Random, speed: float, *, ripples: bool) -> Motion:
    """The motion of an object that strays around its place and keeps to its share of `speed`."""
    spin = _SPIN * speed / 0.3  # no object is larger
    turn, grow = rng.uniform(-0.5, 0.5) * spin, 0.3 * spin
    return Motion(
        x=_wander(rng, 0.7 * _OBJECT * speed, start=rng.uniform(-0.35, 0.35), longest=80),
        y=_wander(rng, 0.7 * _OBJECT * speed, start=rng.uniform(-0.35, 0.35), longest=80),
        angle=Curve(powers=(rng.uniform(-0.5, 0.5), turn)),
        log_scale=_wander(rng, grow, longest=60),
        shear=_wander(rng, 0.2 * spin, longest=60),
        ripple=_ripple(rng, _RIPPLE * speed) if ripples else None,
    )


def _colour(rng: Random) -> Colour:
    red, green, blue = rng.uniform(0.15, 0.85, 3)
    return float(red), float(green), float(blue)


def _wander(rng: Random, speed: float, *, start: float = 0.0, longest: float = 120.0) -> Curve:
    """Two slow waves that together never change faster than `speed` a frame."""
    share = rng.uniform(0.6, 0.9)
    waves = []
    for part in (share, 1 - share):
        period = rng.uniform(0.4, 1.0) * longest
        waves.append((part * speed * period / math.tau, period, rng.random()))
    return Curve(powers=(start,), waves=tuple(waves))


def _shake(rng: Random, speed: float) -> tuple[tuple[float, float, float], ...]:
    """The waves of an unsteady hand: fast and small."""
    return tuple((speed / 3 * period / math.tau, period, rng.random()) for period in rng.uniform(5, 14, 3))


def _swells(rng: Random, steepness: float, beat: float) -> tuple[Swell, ...]:
    swells = []
    for _ in range(2):
        heading, lean, cycles = rng.uniform(0, math.tau), rng.uniform(0, math.tau), rng.uniform(0.7, 1.6)
        length = steepness / 2 / (math.tau * cycles)
        swells.append(
            Swell(
                vector=(length * math.cos(lean), length * math.sin(lean)),
                frequency=(cycles * math.cos(heading), cycles * math.sin(heading)),
                phase=rng.random(),
                beat=beat * rng.uniform(0.5, 1.0),
            )
        )
    return tuple(swells)


def _ripple(rng: Random, speed: float) -> Ripple:
    swells = _swells(rng, rng.uniform(0.3, 0.8) * STEEPEST, beat=0.0)
    # It grows fastest at the start: by reach / rise a frame.
    return Ripple(swells=swells, rise=sum(math.hypot(*one.vector) for one in swells) / max(speed, 1e-9))


def _deform(rng: Random) -> Ripple:
    return Ripple(swells=_swells(rng, rng.uniform(0.3, 0.8) * STEEPEST, beat=1 / 30))


def _depth(rng: Random, nearness: float, span: float) -> Depth:
    kind = rng.choice(["level", "slope", "relief"])
    if kind == "level" or span == 0:
        return Level(nearness=nearness)
    heading = rng.uniform(0, math.tau)
    if kind == "slope":
        return Slope(nearness=nearness, tilt=(2 * span * math.cos(heading), 2 * span * math.sin(heading)), span=span)
    cycles = rng.uniform(0.5, 1.5, 3)
    hills = tuple((c * math.cos(heading + k), c * math.sin(heading + k), rng.random()) for k, c in enumerate(cycles))
    return Relief(nearness=nearness, span=span, hills=hills)


def _camera(rng: Random, speed: float) -> Camera:
    focal = rng.uniform(1.0, 1.8)
    sideways = _wander(rng, 0.7 * _PAN * speed), _wander(rng, 0.7 * _PAN * speed)
    yaw, pitch = (_wander(rng, 0.5 * _TURN * speed / focal) for _ in range(2))
    shaken = _SHAKE * speed / 3
    roll = _wander(rng, _ROLL * speed / _CORNER)
    return Camera(
        x=sideways[0],
        y=sideways[1],
        yaw=Curve(powers=yaw.powers, waves=yaw.waves + _shake(rng, shaken / focal)),
        pitch=Curve(powers=pitch.powers, waves=pitch.waves + _shake(rng, shaken / focal)),
        roll=Curve(powers=roll.powers, waves=roll.waves + _shake(rng, shaken / _CORNER)),
        z=_wander(rng, 0.5 * _ZOOM * speed / _CORNER, longest=60),
        log_zoom=_wander(rng, 0.5 * _ZOOM * speed / _CORNER, longest=60),
        focal=focal,
    )


def _light(rng: Random, difficulty: float) -> Light:
    def around_one(depth: float) -> Curve:
        return Curve(powers=(1.0,), waves=((depth * difficulty * rng.random(), rng.uniform(30, 120), rng.random()),))

    gain, tint = around_one(0.15), (around_one(0.06), around_one(0.06), around_one(0.06))
    shadow = Shadow(
        x=_wander(rng, 0.01, start=rng.uniform(-0.4, 0.4)),
        y=_wander(rng, 0.01, start=rng.uniform(-0.4, 0.4)),
        size=rng.uniform(0.15, 0.4),
        darkness=0.5 * difficulty,
    )
    has_shadow, is_blurred = rng.random(2) < 0.5 * difficulty
    return Light(
        gain=gain,
        tint=tint,
        shadow=shadow if has_shadow else None,
        shutter=0.5 if is_blurred else 0.0,
        blur=rng.uniform(0, 0.002) * difficulty,
        noise=rng.uniform(0, 0.02) * difficulty,
        seed=int(rng.integers(2**31)),
    )
