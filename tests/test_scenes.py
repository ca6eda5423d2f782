"""Scenes: closed forms for every motion, and what must hold between pictures, flow, visibility, depth, masks and edits."""

import math
import pickle
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from flowpaint.scenes import (
    Layer,
    Scene,
    boundary_distance,
    clip,
    correspond,
    edit,
    edit_mask,
    render,
    render_with_flow,
    sample_scene,
    track,
)
from flowpaint.scenes.camera import Camera
from flowpaint.scenes.depths import Level, Relief, Slope
from flowpaint.scenes.edits import Kind
from flowpaint.scenes.light import Light
from flowpaint.scenes.motion import Curve, Motion, Ripple, Swell
from flowpaint.scenes.placement import pixel_centres, placed, to_units
from flowpaint.scenes.shapes import Polygon
from flowpaint.scenes.textures import Flat, Noise
from flowpaint.warp import inside, pixel_grid, warp

SIZE = (64, 80)
HARDEST = [sample_scene(seed, 1.0) for seed in range(4)]
WAVY = Ripple(
    swells=(Swell(vector=(0.03, 0.02), frequency=(1.0, 0.7)), Swell(vector=(-0.01, 0.02), frequency=(0.5, -1.0))), rise=6
)
SQUARE = Polygon(corners=((-0.15, -0.15), (0.15, -0.15), (0.15, 0.15), (-0.15, 0.15)))


def rate(speed: float) -> Curve:
    return Curve(powers=(0.0, speed))


def ground(**changes: object) -> Layer:
    return replace(Layer(name="ground", texture=Noise(seed=1, finest=0.4), depth=Level(nearness=0.1)), **changes)


def thing(name: str = "thing", nearness: float = 0.5, **changes: object) -> Layer:
    texture = Noise(seed=2, finest=0.4, colour=(0.6, 0.4, 0.5))
    return replace(Layer(name=name, texture=texture, depth=Level(nearness=nearness), shape=SQUARE), **changes)


def plain(scene: Scene) -> Scene:
    """The scene under constant light, painted smoothly enough for bilinear warping."""
    layers = (replace(one, texture=Noise(seed=k, finest=0.3, contrast=0.12)) for k, one in enumerate(scene.layers))
    return replace(scene, layers=tuple(layers), light=Light())


def from_centre(size: tuple[int, int]) -> Tensor:
    height, width = size
    return pixel_grid(height, width) - torch.tensor([(width - 1) / 2, (height - 1) / 2])[None, :, None, None]


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float((a - b).square().mean()))


# ------------------------------------------------------------------------------------------------------------ closed forms


def test_a_moving_square_has_exactly_its_flow_and_visibility():
    step, (dx, dy) = 1 / 64, (3, 1)
    # 20 pixels wide, its sides between pixel centres
    half = 10 * step
    square = Polygon(corners=((-half, -half), (half, -half), (half, half), (-half, half)))
    scene = Scene(layers=(ground(), thing(shape=square, motion=Motion(x=rate(dx * step), y=rate(dy * step)))))

    def mask(time: int) -> Tensor:
        shown = torch.zeros(1, 1, *SIZE)
        x, y = SIZE[1] // 2 - 10 + dx * time, SIZE[0] // 2 - 10 + dy * time
        shown[..., y : y + 20, x : x + 20] = 1
        return shown

    for t, s in ((0, 1), (-2, 3), (4, -4)):
        assert torch.equal(render(scene, t, SIZE).masks[1:], mask(t))
        flow = correspond(scene, t, s, SIZE)
        expected = (s - t) * mask(t) * torch.tensor([dx, dy])[None, :, None, None]
        assert torch.allclose(flow.vectors, expected, atol=1e-5)
        assert torch.equal(flow.visibility, torch.maximum(mask(t), 1 - mask(s)))


def test_zoom_is_radial():
    flow = correspond(Scene(layers=(ground(),), camera=Camera(log_zoom=rate(0.05))), 1, 3, SIZE)
    assert torch.allclose(flow.vectors, (math.exp(0.1) - 1) * from_centre(SIZE), atol=1e-4)


@pytest.mark.parametrize("by", ["layer", "camera"])
def test_rotation_turns_x_towards_y(by):
    if by == "layer":
        scene = Scene(layers=(ground(motion=Motion(angle=rate(0.1))),))
    else:
        scene = Scene(layers=(ground(),), camera=Camera(roll=rate(0.1)))
    x, y = from_centre(SIZE)[0]
    c, s = math.cos(0.2), math.sin(0.2)
    expected = torch.stack((c * x - s * y - x, s * x + c * y - y))[None]
    assert torch.allclose(correspond(scene, 0, 2, SIZE).vectors, expected, atol=1e-4)


def test_scale_and_shear_of_a_layer():
    motion = Motion(log_scale=rate(0.1), shear=rate(0.2), x=Curve(powers=(0.1,)))
    x, y = from_centre(SIZE)[0]
    grown = math.exp(0.1)
    shift = 0.1 * 64  # everything scales and shears about the layer's own origin
    expected = torch.stack((grown * (x - shift + 0.2 * y) + shift - x, grown * y - y))[None]
    assert torch.allclose(correspond(Scene(layers=(ground(motion=motion),)), 0, 1, SIZE).vectors, expected, atol=1e-4)


def test_parallax_goes_with_nearness():
    layers = (ground(depth=Level(nearness=0.2)), thing(nearness=0.6))
    scene = Scene(layers=layers, camera=Camera(x=rate(0.1), y=rate(-0.05)))
    flow, masks = correspond(scene, 0, 1, SIZE).vectors, render(scene, 0, SIZE).masks
    for mask, nearness in zip(masks, (0.2, 0.6), strict=True):
        found = flow[0][:, mask[0] > 0].mean(dim=1)
        assert torch.allclose(found, torch.tensor([-0.1, 0.05]) * nearness * 64, atol=1e-4)


def test_moving_forward_opens_the_picture_by_nearness():
    scene = Scene(layers=(ground(depth=Level(nearness=0.5)),), camera=Camera(z=rate(0.2)))
    assert torch.allclose(correspond(scene, 0, 1, SIZE).vectors, (1 / 0.9 - 1) * from_centre(SIZE), atol=1e-4)
    assert render(scene, 1, SIZE).depth.unique().tolist() == pytest.approx([0.5 / 0.9])


def test_turning_the_camera_is_a_homography():
    from scipy.spatial.transform import Rotation

    flow = correspond(Scene(layers=(ground(),), camera=Camera(yaw=rate(0.1), pitch=rate(-0.05), focal=1.3)), 0, 1, SIZE)
    x, y = from_centre(SIZE)[0].double()
    rays = torch.stack((x, y, torch.full_like(x, 1.3 * 64))).flatten(1).numpy()
    turned = (Rotation.from_rotvec([-0.05, 0, 0]) * Rotation.from_rotvec([0, 0.1, 0])).apply(rays.T).T
    expected = torch.from_numpy(turned[:2] / turned[2] * 1.3 * 64).view(2, *SIZE) - torch.stack((x, y))
    assert torch.allclose(flow.vectors[0].double(), expected, atol=1e-4)


def test_relief_is_inverted_and_shifts_by_its_nearness():
    depth = Relief(nearness=0.3, span=0.1, hills=((1.0, 0.3, 0.1), (-0.4, 0.8, 0.6)))
    scene = Scene(layers=(ground(depth=depth),), camera=Camera(x=rate(0.2)))
    flow, here = correspond(scene, 0, 1, SIZE), render(scene, 0, SIZE).depth
    assert torch.allclose(flow.vectors[:, :1], -0.2 * 64 * here[None], atol=1e-4)
    assert flow.vectors[:, 1].abs().max() < 1e-4


@pytest.mark.parametrize("size", [(64, 80), (512, 512)])
def test_ripples_are_inverted_to_a_ten_thousandth_of_a_pixel(size):
    motion = Motion(ripple=WAVY, angle=rate(0.03), log_scale=rate(-0.02), shear=rate(0.02))
    depth = Relief(nearness=0.3, span=0.1, hills=((1.0, 0.3, 0.1),))
    camera = Camera(x=rate(0.02), z=rate(0.01), yaw=rate(0.01))
    layer = placed(Scene(layers=(ground(motion=motion, depth=depth),), camera=camera), 9, size)[0]
    screen = to_units(pixel_centres(size), size)
    assert np.abs(layer.to_screen(layer.to_plane(screen)) - screen).max() * min(size) < 1e-4


def test_a_ripple_grows():
    scene = Scene(layers=(ground(motion=Motion(ripple=WAVY)),))
    grown = [correspond(scene, 0, time, SIZE).vectors.norm(dim=1).mean().item() for time in (0, 2, 6, 20)]
    assert grown[0] == 0 and grown == sorted(grown)
    assert grown[2] * 20 / 26 == pytest.approx(grown[3] * 6 / 12, rel=1e-3)


def test_a_deformed_silhouette_does_not_move_what_is_painted_on_it():
    beating = Ripple(swells=(Swell(vector=(0.05, 0.0), frequency=(0.5, 1.0), beat=0.1),))
    scene = Scene(layers=(ground(), thing(deform=beating)))
    a, b, flow = render(scene, 0, SIZE), render(scene, 4, SIZE), correspond(scene, 0, 4, SIZE)
    assert flow.vectors.abs().max() < 1e-5
    assert torch.equal(flow.visibility[0, 0], (a.layers == b.layers)[0].float())
    assert 20 < (a.layers != b.layers).sum() < 500


# -------------------------------------------------------------------------------------------------- pictures and their truth


@pytest.mark.parametrize("scene", [plain(scene) for scene in HARDEST], ids=range(len(HARDEST)))
def test_flow_lays_one_frame_onto_the_other(scene):
    size = (128, 160)
    for t, s in ((3, 4), (9, 5)):
        (a, flow), b = render_with_flow(scene, t, s, size), render(scene, s, size)
        # Edges are mixtures of two layers: two pixels away from them, on both sides.
        clear = (boundary_distance(a.layers) > 2) & (warp(boundary_distance(b.layers)[None], flow.vectors)[0] > 2)
        counted = (clear & (flow.visibility[0] > 0)).expand(3, -1, -1)
        assert counted.float().mean() > 0.4
        assert psnr(warp(b.rgb[None], flow.vectors)[0][counted], a.rgb[counted]) > 40


@pytest.mark.parametrize("scene", HARDEST, ids=range(len(HARDEST)))
def test_there_and_back_ends_at_the_start(scene):
    pixels = pixel_centres(SIZE)
    there = track(scene, 2, 7, pixels=pixels, size=SIZE)
    back = track(scene, 7, 2, pixels=there.positions, size=SIZE)
    both = there.visible & back.visible
    assert both.mean() > 0.3
    assert np.abs(back.positions - pixels)[:, both].max() < 1e-3
    assert (there.layers == back.layers)[there.visible].all()


def test_there_and_back_through_the_flow_fields_of_an_affine_scene():
    spun = thing(motion=Motion(x=rate(0.02), angle=rate(0.05), log_scale=rate(0.02)))
    scene = Scene(layers=(ground(motion=Motion(angle=rate(-0.02), y=rate(0.01))), spun))
    there, back = correspond(scene, 1, 4, SIZE), correspond(scene, 4, 1, SIZE)
    far = boundary_distance(render(scene, 4, SIZE).layers)[None] > 1
    kept = (there.visibility > 0) & (warp(far.float(), there.vectors) == 1)
    assert kept.float().mean() > 0.5
    assert (there.vectors + warp(back.vectors, there.vectors)).abs().masked_select(kept).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("scene", HARDEST, ids=range(len(HARDEST)))
def test_visibility_agrees_with_layers_and_depth_of_the_other_frame(scene):
    fine = (4 * SIZE[0], 4 * SIZE[1])  # gaps narrower than a pixel are seen by the truth, but only by a finer picture
    a, b, flow = render(scene, 2, SIZE), render(scene, 8, fine), correspond(scene, 2, 8, SIZE)
    end = (4 * (pixel_grid(*SIZE) + flow.vectors)[0] + 1.5).round().long()
    x, y = end[0].clamp(0, fine[1] - 1), end[1].clamp(0, fine[0] - 1)
    lands = inside(flow.vectors)[0, 0]
    assert not flow.visibility[0, 0][~lands].any()
    sure = lands & (boundary_distance(b.layers)[0, y, x] > 1)
    there, visible = b.layers[0, y, x], flow.visibility[0, 0] > 0
    assert torch.equal((there == a.layers[0])[sure], visible[sure])
    hidden = sure & ~visible
    assert hidden.sum() > 0
    # What hides a point is nearer than any point of its layer can be, unless its own silhouette drew back from it.
    nearest = torch.tensor([layer.depth.band[1] for layer in scene.layers])
    nearest /= 1 - nearest * scene.camera.at(8).forward
    rigid = torch.tensor([layer.deform is None for layer in scene.layers])
    behind = b.depth[0, y, x] > nearest[a.layers[0]]
    assert (behind | ~rigid[a.layers[0]])[hidden].all() and (hidden & behind).any()


@pytest.mark.parametrize("size", [(64, 80), (61, 47), (16, 97), (1, 5)])
def test_masks_are_a_partition_at_any_size(size):
    for scene in HARDEST:
        frame = render(scene, 5, size)
        assert frame.rgb.shape == (3, *size) and frame.rgb.min() >= 0 and frame.rgb.max() <= 1
        assert torch.equal(frame.masks.sum(dim=0), torch.ones(1, *size))
        assert torch.equal(frame.masks.argmax(dim=0), frame.layers)
        assert correspond(scene, 5, 5, size).visibility.all()


def test_depth_orders_the_layers():
    for scene in HARDEST:
        frame = render(scene, 3, SIZE)
        ranges = [frame.depth[mask > 0] for mask in frame.masks]
        shown = [(one.min(), one.max()) for one in ranges if len(one)]
        assert len(shown) > 1 and all(far[1] < near[0] for far, near in pairwise(shown))


def test_size_does_not_change_the_scene():
    scene = plain(HARDEST[3])
    small, large = render(scene, 4, (64, 80)), render(scene, 4, (128, 160))
    assert psnr(torch.nn.functional.avg_pool2d(large.rgb, 2), small.rgb) > 32
    pixels = pixel_centres((64, 80))
    one = track(scene, 4, 6, pixels=pixels, size=(64, 80))
    two = track(scene, 4, 6, pixels=2 * pixels + 0.5, size=(128, 160))
    assert np.abs(2 * one.positions + 0.5 - two.positions).max() < 1e-3
    assert (one.layers == two.layers).all()


def test_a_wider_picture_shows_more_of_the_same():
    narrow, wide = render(plain(HARDEST[0]), 4, (48, 49)), render(plain(HARDEST[0]), 4, (48, 75))
    assert torch.allclose(wide.rgb[..., 13:-13], narrow.rgb, atol=1e-4)


def test_boundary_distance_is_exact():
    layers = render(HARDEST[3], 0, SIZE).layers
    numbers = layers[0].numpy()
    low, high = (
        f(numbers, footprint=ndimage.generate_binary_structure(2, 1)) for f in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    expected = np.minimum(ndimage.distance_transform_edt(low == high), 9)
    assert np.allclose(boundary_distance(layers, limit=9)[0], expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------------- recipes


def test_scenes_are_values():
    scene = sample_scene(7, 0.8)
    assert scene == sample_scene(7, 0.8) != sample_scene(8, 0.8)
    copy = pickle.loads(pickle.dumps(scene))
    assert copy == scene
    assert torch.equal(render(copy, 2.5, SIZE).rgb, render(scene, 2.5, SIZE).rgb)


def test_frames_do_not_depend_on_what_was_rendered_before():
    noisy = Scene(layers=(ground(), thing()), light=Light(noise=0.1))  # at rest: only the noise tells frames apart
    first = render(noisy, 3, SIZE).rgb
    other = render(noisy, 4, SIZE).rgb
    assert torch.equal(render(noisy, 3, SIZE).rgb, first) and (other - first).std() > 0.1


def test_a_sampled_scene_is_the_same_on_every_machine():
    frame, flow = render_with_flow(sample_scene(3, 0.9), 6, 7, SIZE)
    found = [*frame.rgb.mean(dim=(1, 2)).tolist(), *flow.vectors.mean(dim=(0, 2, 3)).tolist(), flow.visibility.mean().item()]
    assert found == pytest.approx([0.58317, 0.39279, 0.41656, 0.08855, 0.15651, 0.91348], abs=1e-3)


def test_difficulty_is_a_speed_limit():
    fastest = []
    for seed in range(12):
        scene = sample_scene(seed, 1.0)
        steps = [correspond(scene, t, t + 1, (36, 64)).vectors.norm(dim=1).max() for t in range(0, 60, 6)]
        fastest.append(float(max(steps)) * 512 / 36)
    assert max(fastest) <= 40 and max(fastest) > 20 and min(fastest) > 4
    still = sample_scene(1, 0.0)
    assert correspond(still, 0, 9, SIZE).vectors.abs().max() < 1e-4
    assert torch.equal(render(still, 0, SIZE).rgb, render(still, 9, SIZE).rgb)


def test_clip_renders_when_read():
    scene = sample_scene(2, 0.5)
    shown = clip(scene, 1000, (33, 47), fps=Fraction(30000, 1001))
    assert (len(shown), shown.height, shown.width, shown.rate) == (1000, 33, 47, Fraction(30000, 1001))
    assert (shown.frame(700) - render(scene, 700, (33, 47)).rgb).abs().max() <= 0.5 / 255 + 1e-6


# --------------------------------------------------------------------------------------------------------------------- edits


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("scene", HARDEST[2:], ids=(2, 3))
def test_edits_change_what_they_should_and_nothing_else(scene, kind):
    scene = replace(scene, light=replace(scene.light, shutter=0.5, shutter_samples=3, blur=0.01, noise=0.01))
    edited = edit(scene, kind, 5)
    assert edited == edit(scene, kind, 5) != scene
    before, after, mask = render(scene, 4, SIZE), render(edited, 4, SIZE), edit_mask(scene, edited, 4, SIZE)
    differs = (before.rgb != after.rgb).any(dim=0, keepdim=True)
    assert not (differs & (mask == 0)).any()
    assert mask.mean() == 1 if kind == "restyle" else 0 < mask.mean() < 0.6
    assert (differs & (mask > 0)).sum() > 0.9 * mask.sum()  # light clipped to 0 or 1 may look the same


def test_an_edit_behind_something_does_not_shine_through():
    front = thing("front", 0.7, texture=Flat(colour=(0.3, 0.7, 0.9)))
    scenes = [Scene(layers=(ground(), thing(texture=Noise(seed=seed, finest=0.1)), front)) for seed in (3, 4)]
    assert edit_mask(*scenes, 0, SIZE).sum() <= 80  # soft edges of the same shape let its outline through
    first, second = (render(scene, 0, SIZE) for scene in scenes)
    differs = (first.rgb != second.rgb).any(dim=0, keepdim=True)
    assert not (differs & (edit_mask(*scenes, 0, SIZE) == 0)).any()


def test_recolouring_keeps_flow_and_depth():
    scene = HARDEST[3]
    for kind in ("recolour", "restyle"):
        edited = edit(scene, kind, 1)
        assert torch.equal(correspond(scene, 1, 4, SIZE).vectors, correspond(edited, 1, 4, SIZE).vectors)
        assert torch.equal(render(scene, 1, SIZE).depth, render(edited, 1, SIZE).depth)


def test_a_swapped_shape_keeps_motion_and_depth():
    mover = thing(motion=Motion(x=rate(4 / 64)), depth=Slope(nearness=0.5, tilt=(0.1, 0.0), span=0.05))
    scene = Scene(layers=(ground(), mover))
    edited = edit(scene, "swap", 3)
    before, after = render(scene, 0, SIZE), render(edited, 0, SIZE)
    assert not torch.equal(before.layers, after.layers)
    on_both = ((before.layers == 1) & (after.layers == 1))[0]
    assert torch.equal(before.depth[0][on_both], after.depth[0][on_both])
    flow = correspond(edited, 0, 1, SIZE).vectors[0]
    assert torch.allclose(flow, torch.tensor([4.0, 0.0])[:, None, None] * (after.layers == 1), atol=1e-5)


def test_removal_and_insertion_change_one_layer():
    scene = HARDEST[3]
    removed, inserted = edit(scene, "remove", 2), edit(scene, "insert", 2)
    assert len(removed.layers) == len(scene.layers) - 1 and set(removed.layers) < set(scene.layers)
    assert len(inserted.layers) == len(scene.layers) + 1 and set(inserted.layers) > set(scene.layers)
    again = edit(inserted, "insert", 2)
    assert len({layer.name for layer in again.layers}) == len(scene.layers) + 2
