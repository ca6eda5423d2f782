"""What scenes are made of: light, shapes, textures, and what is refused."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from flowpaint.errors import ConfigError, InputError, ShapeError
from flowpaint.scenes import Layer, Scene, clip, correspond, edit, render, sample_scene, track
from flowpaint.scenes.camera import Camera
from flowpaint.scenes.depths import Level, Relief
from flowpaint.scenes.distance import distance_to
from flowpaint.scenes.light import Light, Shadow
from flowpaint.scenes.motion import Curve, Motion, Ripple, Swell
from flowpaint.scenes.shapes import Blob, Cutout, Glyph, Polygon, Shape
from flowpaint.scenes.textures import Checks, Flat, Gradient, Noise, Photo, Stripes, Styled

SIZE = (64, 80)
HARDEST = [sample_scene(seed, 1.0) for seed in range(4)]
SQUARE = Polygon(corners=((-0.15, -0.15), (0.15, -0.15), (0.15, 0.15), (-0.15, 0.15)))


def rate(speed: float) -> Curve:
    return Curve(powers=(0.0, speed))


def ground(**changes: object) -> Layer:
    return replace(Layer(name="ground", texture=Noise(seed=1, finest=0.4), depth=Level(nearness=0.1)), **changes)


def thing(name: str = "thing", nearness: float = 0.5, **changes: object) -> Layer:
    texture = Noise(seed=2, finest=0.4, colour=(0.6, 0.4, 0.5))
    return replace(Layer(name=name, texture=texture, depth=Level(nearness=nearness), shape=SQUARE), **changes)


# ------------------------------------------------------------------------------------------------------------------- light


def test_light_changes_colours_and_no_flow():
    dark = Light(gain=Curve(powers=(1.0, -0.1)), tint=(Curve(powers=(0.5,)), Curve(powers=(1.0,)), Curve(powers=(1.0,))))
    scene = Scene(layers=(ground(),))
    lit = replace(scene, light=dark)
    expected = render(scene, 2, SIZE).rgb * torch.tensor([0.4, 0.8, 0.8])[:, None, None]
    assert torch.allclose(render(lit, 2, SIZE).rgb, expected, atol=1e-6)
    spotted = replace(scene, light=Light(shadow=Shadow(x=rate(0.1), size=0.1, darkness=0.5)))
    assert correspond(spotted, 0, 3, SIZE).vectors.abs().max() == 0
    share = render(spotted, 3, (65, 81)).rgb / render(scene, 3, (65, 81)).rgb
    assert share.min() == pytest.approx(0.5, abs=1e-2) and abs(share[0, 32].argmin() - (40 + 0.3 * 65)) <= 1


def test_noise_has_its_strength_and_blur_its_width():
    grey = Scene(layers=(ground(texture=Flat(colour=(0.5, 0.5, 0.5))),))
    assert render(replace(grey, light=Light(noise=0.05)), 1, (128, 128)).rgb.std().item() == pytest.approx(0.05, rel=0.03)
    assert torch.allclose(render(replace(grey, light=Light(blur=0.05)), 1, SIZE).rgb, torch.tensor(0.5))
    lines = Scene(layers=(ground(texture=Stripes(first=(0.0,) * 3, second=(1.0,) * 3, period=0.25, sharpness=0.5)),))
    blurred = render(replace(lines, light=Light(blur=0.03)), 0, (128, 128)).rgb[:, 32:96, 32:96] - 0.5
    fade = math.exp(-0.5 * (math.tau * 0.03 / 0.25) ** 2)  # the transfer function of a Gaussian
    assert blurred.max().item() == pytest.approx(0.5 * fade, rel=0.02)


def test_an_open_shutter_blurs_what_moves():
    stripes = Stripes(first=(0.0,) * 3, second=(1.0,) * 3, period=0.25, sharpness=0.5)
    scene = Scene(layers=(ground(texture=stripes, motion=Motion(x=rate(0.1))),), light=Light(shutter=0.5, shutter_samples=64))
    fade = np.sinc(0.5 * 0.1 / 0.25)  # the transfer function of a box
    sharp = render(replace(scene, light=Light()), 3, SIZE).rgb
    assert torch.allclose(render(scene, 3, SIZE).rgb - 0.5, fade * (sharp - 0.5), atol=1e-3)


# ------------------------------------------------------------------------------------------------------ shapes and textures


def spread(count: int = 4000, reach: float = 0.5) -> np.ndarray:
    return np.random.default_rng(9).uniform(-reach, reach, (2, count))


def test_distances_to_simple_shapes():
    x, y = points = spread()
    assert np.allclose(Blob(size=0.3)(points), 0.3 - np.hypot(x, y))
    outside = np.hypot(np.maximum(abs(x) - 0.15, 0), np.maximum(abs(y) - 0.15, 0))
    assert np.allclose(SQUARE(points), np.where(outside > 0, -outside, 0.15 - np.maximum(abs(x), abs(y))))
    v, u = np.mgrid[:200, :200] / 200 - 0.4975
    disk = Cutout(mask=np.hypot(u, v) < 0.3, width=1.0)
    assert np.abs(disk(points) - (0.3 - np.hypot(x, y))).max() < 0.006


@pytest.mark.parametrize("shape", [*(layer.shape for scene in HARDEST for layer in scene.layers[1:]), Glyph(text="Rg", size=0.4)])
def test_shapes_stay_within_their_radius(shape: Shape):
    points = spread(reach=1.0)
    within = shape(points) >= 0
    assert within.any() and np.hypot(*points[:, within]).max() <= shape.radius


def test_glyphs_are_upright():
    scene = Scene(layers=(ground(), thing(shape=Glyph(text="L", size=0.8))))
    mask = render(scene, 0, (64, 64)).masks[1, 0]
    assert mask[:, :32].sum() > 1.5 * mask[:, 32:].sum() and mask[32:].sum() > 1.3 * mask[:32].sum()


def test_distance_equals_scipy():
    targets = np.random.default_rng(3).random((37, 52)) < 0.01
    assert np.allclose(distance_to(targets, 60), ndimage.distance_transform_edt(~targets))


def test_a_photograph_is_shown_as_it_is():
    pixels = np.random.default_rng(1).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    scene = Scene(layers=(ground(texture=Photo(pixels=pixels, width=80 / 64)),))
    shown = clip(scene, 1, (64, 80)).raw(0)
    assert np.array_equal(shown, pixels)
    half = render(scene, 0, (32, 40)).rgb.numpy() * 255
    assert np.allclose(half, pixels.reshape(32, 2, 40, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1), atol=1e-2)


def test_a_cut_out_shows_its_photograph_in_its_mask():
    pixels = np.random.default_rng(2).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    mask = np.zeros((30, 40), bool)
    mask[5:25, 8:20] = True
    cut_out = thing(texture=Photo(pixels=pixels, width=0.625), shape=Cutout(mask=mask, width=0.625))
    scene = Scene(layers=(ground(), cut_out))
    copy = pickle.loads(pickle.dumps(scene))
    assert copy == scene and hash(copy) == hash(scene) != hash(edit(scene, "recolour", 0))
    frame = render(scene, 0, (64, 80))
    assert np.array_equal(frame.masks[1, 0].numpy() > 0, np.pad(mask, ((17, 17), (20, 20))))
    inner = ndimage.binary_erosion(mask)
    assert np.allclose(frame.rgb.numpy()[:, 17:47, 20:60][:, inner] * 255, pixels[inner].T, atol=1e-3)


def test_patterns():
    points = np.array([[0.0, 0.1, 0.2, 0.3], [0.0, 0.0, 0.0, 0.0]])
    black, white = (0.0,) * 3, (1.0,) * 3
    assert Stripes(first=black, second=white, period=0.4)(points, 0.01)[0] == pytest.approx([0.5, 1.0, 0.5, 0.0], abs=1e-6)
    assert Gradient(first=black, second=white, length=0.4)(points, 0.01)[1] == pytest.approx([0.5, 0.75, 1.0, 1.0])
    crossed = np.array([[0.1, 0.1, 0.3], [0.1, 0.3, 0.3]])
    assert Checks(first=black, second=white, period=0.4)(crossed, 0.01)[2] == pytest.approx([1.0, 0.0, 1.0], abs=1e-6)
    noise = Noise(seed=4, contrast=0.1)(spread(50_000, reach=5.0), 0.01)
    assert noise.mean(axis=1) == pytest.approx(0.5, abs=0.02) and noise.std(axis=1) == pytest.approx(0.1, rel=0.1)
    grey = Styled(texture=Noise(seed=4), matrix=((0.3, 0.6, 0.1),) * 3, levels=3, hatching=0.5)(spread(), 0.01)
    assert np.allclose(grey[0], grey[2], atol=1e-6) and grey.min() >= 0 and grey.max() <= 1


# --------------------------------------------------------------------------------------------------------------------- errors


REFUSED = {
    "no layer": lambda: Scene(layers=()),
    "two backgrounds": lambda: Scene(layers=(ground(), ground(name="b", depth=Level(nearness=0.3)))),
    "background with a shape": lambda: Scene(layers=(thing(),)),
    "name twice": lambda: Scene(layers=(ground(), thing(), thing(nearness=0.7))),
    "near before far": lambda: Scene(layers=(ground(), thing("a", 0.6), thing("b", 0.5))),
    "behind infinity": lambda: Scene(layers=(ground(depth=Level(nearness=-0.1)),)),
    "steep ripple": lambda: Ripple(swells=(Swell(vector=(0.2, 0.0), frequency=(1.0, 0.0)),)),
    "cut blob": lambda: Blob(size=0.1, harmonics=((2, 0.6, 0.0), (3, 0.5, 0.0))),
    "empty text": lambda: Glyph(text=" ", size=0.1),
    "empty mask": lambda: Cutout(mask=np.zeros((4, 4), bool), width=1.0),
    "negative noise": lambda: Light(noise=-0.1),
    "difficulty": lambda: sample_scene(0, 1.1),
    "nothing to remove": lambda: edit(Scene(layers=(ground(),)), "remove", 0),
    "folded relief": lambda: correspond(
        Scene(layers=(ground(depth=Relief(nearness=0.5, span=0.4, hills=((3.0, 0.0, 0.0),))),), camera=Camera(x=rate(1.0))),
        3,
        4,
        SIZE,
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_two_sentences(case):
    with pytest.raises(InputError, match=r"\. .*\.$"):
        case()


def test_wrong_names_and_arrays_are_refused():
    with pytest.raises(ConfigError, match="recolour"):
        edit(HARDEST[0], "recolor", 0)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="pixels"):
        track(HARDEST[0], 0, 1, pixels=np.zeros((5, 2)), size=SIZE)
    with pytest.raises(ShapeError, match="pixels"):
        Photo(pixels=np.zeros((4, 4), np.uint8))
    with pytest.raises(ShapeError, match="mask"):
        Cutout(mask=np.zeros((4, 4)), width=1.0)
