"""Masks carried from frame 0, and found from a box or a click: against procedural scenes whose masks are known."""

import pytest
import torch

from flowpaint.errors import ConfigError, InputError, ShapeError
from flowpaint.parts.flow import DisFlow
from flowpaint.parts.segment import CarriedSegmenter, GrabCutSegmenter, MotionSegmenter
from flowpaint.parts.segment.search import search, shifted
from flowpaint.scenes import Layer, Scene, render, sample_scene
from flowpaint.scenes.depths import Level
from flowpaint.scenes.motion import Curve, Motion
from flowpaint.scenes.shapes import Blob
from flowpaint.scenes.textures import Noise, Stripes
from flowpaint.smoothing import gaussian
from flowpaint.warp import warp

SIZE = (96, 128)
RED = Noise(seed=9, colour=(0.7, 0.35, 0.3), finest=0.08, contrast=0.15)
BLUE = Stripes(first=(0.2, 0.3, 0.7), second=(0.6, 0.7, 0.8), period=0.1, angle=0.4, sharpness=1.0)
GREEN = Noise(seed=3, colour=(0.35, 0.45, 0.3), finest=0.05, contrast=0.15)
GROUND = Layer(name="ground", texture=GREEN, depth=Level(nearness=0.1))


def thing(x, y=None, *, size=0.15, name="thing", texture=RED, nearness=0.5):
    """A blob whose middle is at the curves `x`, `y`, in heights of the picture from its middle."""
    shape = Blob(size=size, harmonics=((2, 0.1, 0.2), (3, 0.08, 0.6)))
    motion = Motion(x=x, y=y or Curve(powers=(0.0,)))
    return Layer(name=name, texture=texture, depth=Level(nearness=nearness), shape=shape, motion=motion)


def line(start, speed=0.0):
    return Curve(powers=(start, speed))


def film(*layers, count, size=SIZE):
    """Frames [T, 3, H, W] and the true masks [T, 1, H, W] of the layer "thing"."""
    scene = Scene(layers=(GROUND, *layers))
    seen = [render(scene, float(index), size) for index in range(count)]
    number = [layer.name for layer in scene.layers].index("thing")
    return torch.stack([one.rgb for one in seen]), torch.stack([one.masks[number] for one in seen])


def overlaps(found, truth):
    """Intersection over union of each frame; both empty is 1."""
    found, truth = found > 0.5, truth > 0.5
    both, either = ((one.sum(dim=(1, 2, 3))).float() for one in (found & truth, found | truth))
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


def warped(frames, first):
    """The mask moved along the flow between neighbours, and nothing else."""
    masks = [first]
    for index in range(1, len(frames)):
        masks.append(warp(masks[-1], DisFlow()(frames[index : index + 1], frames[index - 1 : index]).vectors))
    return torch.cat(masks)


def test_a_moving_object_keeps_its_mask():
    frames, truth = film(thing(line(-0.25, 0.045)), count=10)
    masks = CarriedSegmenter()(frames, truth[:1])
    assert torch.equal(masks[:1], truth[:1]) and overlaps(masks, truth).min() > 0.95
    assert overlaps(warped(frames, truth[:1]), truth)[-1] < 0.8, "what flow alone leaves of it"
    assert ((masks[1:] > 0.02) & (masks[1:] < 0.98)).float().mean() < 3 * (truth.mean() * 12 / SIZE[0]), "soft by a pixel"
    assert not torch.equal(masks[1:], masks[1:].round())


def test_object_and_ground_of_the_same_colours():
    same = Noise(seed=19, colour=(0.35, 0.45, 0.3), finest=0.05, contrast=0.15)
    frames, truth = film(thing(line(-0.2, 0.02), size=0.2, texture=same), count=8)
    found, flow = overlaps(CarriedSegmenter()(frames, truth[:1]), truth), overlaps(warped(frames, truth[:1]), truth)
    assert found.min() > 0.8 and found[-1] > flow[-1] + 0.1, "resemblance and motion alone"


def test_a_still_clip_has_the_same_mask_to_the_bit():
    frames, truth = film(thing(line(0.0)), count=1)
    hint = 0.9 * truth + 0.05  # kept as it is given
    masks = CarriedSegmenter()(frames.expand(4, -1, -1, -1), hint)
    assert torch.equal(masks, hint.expand(4, -1, -1, -1))


def test_an_object_that_leaves_has_no_mask_until_it_returns():
    out_and_back = Curve(powers=(0.3,), waves=((0.6, 32.0, 0.0),))
    frames, truth = film(thing(out_and_back), count=22)
    masks = CarriedSegmenter()(frames, truth[:1])
    gone = truth.sum(dim=(1, 2, 3)) == 0
    assert gone.sum() > 3 and not gone[-4:].any()
    assert masks[gone].max() == 0
    assert overlaps(masks, truth)[-2:].min() > 0.9, "it is found again"
    wrong = (masks > 0.5).float() * (1 - truth)
    assert wrong.sum(dim=(1, 2, 3)).max() < 0.1 * truth[0].sum(), "never on something else"


def test_an_object_that_is_no_longer_there_is_not_found_elsewhere():
    """Another of its colours, painted otherwise, stands beside the way it left by."""
    other = Noise(seed=5, colour=(0.7, 0.35, 0.3), finest=0.08, contrast=0.15)
    decoy = thing(line(0.5), line(0.33), size=0.14, name="decoy", texture=other)
    frames, truth = film(decoy, thing(line(0.3, 0.08), line(-0.1), nearness=0.8), count=12)
    masks = CarriedSegmenter()(frames, truth[:1])
    gone = truth.sum(dim=(1, 2, 3)) == 0
    assert gone.sum() > 2 and masks[gone].max() == 0


PINK = Noise(seed=5, colour=(0.8, 0.35, 0.7), finest=0.1, contrast=0.1)


@pytest.mark.parametrize("texture", [BLUE, pytest.param(PINK, marks=pytest.mark.slow)])
def test_what_passes_in_front_is_not_the_object(texture):
    front = thing(line(0.6, -0.09), size=0.2, name="front", texture=texture, nearness=0.8)
    frames, truth = film(thing(line(-0.3, 0.012)), front, count=16)
    masks = CarriedSegmenter()(frames, truth[:1])
    hidden = truth.sum(dim=(1, 2, 3)) < 0.2 * truth[0].sum()
    assert hidden.any() and not hidden[-3:].any()
    wrong = (masks > 0.5).float() * (1 - truth)
    assert wrong.sum(dim=(1, 2, 3)).max() < 0.1 * truth[0].sum()
    assert overlaps(masks, truth)[-1] > 0.9


def test_a_piece_is_found_where_it_was_moved_to():
    piece = (0.5 + 6 * (gaussian(torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(0)), 3.0) - 0.5)).clamp(0, 1)
    mask = torch.zeros(1, 1, 60, 80)
    mask[..., 20:40, 30:50] = 1
    frame = torch.full((1, 3, 60, 80), 0.5)
    for x, y in ((9, -6), (-15, 12)):  # it is seen twice, equally well
        frame[..., 20 + y : 40 + y, 30 + x : 50 + x] = piece[..., 20:40, 30:50]
    for shift in ((9.0, -6.0), (-15.0, 12.0)):
        found = search(piece, mask, frame, expected=(shift[0] + 2, shift[1] - 1), reach=40)
        assert found.shift == shift and found.cost < 1e-5
    assert search(piece, mask, frame, expected=(30.0, 0.0), reach=5).cost > 0.01, "not within reach"
    gone = shifted(piece * mask, (-40, 0))
    found = search(piece, mask, gone, expected=(-38.0, 0.0), reach=6)
    assert found.shift == (-40.0, 0.0) and found.cost < 1e-5, "what lies beyond the border does not count"
    assert search(piece, mask, frame, expected=(200.0, 0.0), reach=20) is None


@pytest.mark.parametrize("size, least", [(0.035, 0.8), pytest.param(0.62, 0.97, marks=pytest.mark.slow)])
def test_very_small_and_very_large(size, least):
    frames, truth = film(thing(line(-0.1, 0.02), size=size), count=6)
    assert truth[0].mean() < 0.005 or truth[0].mean() > 0.7
    assert overlaps(CarriedSegmenter()(frames, truth[:1]), truth).min() > least


def test_a_chunk_goes_on_from_the_last_frame_of_the_one_before():
    frames, truth = film(thing(line(-0.25, 0.04)), count=9)
    carried = CarriedSegmenter()
    first = carried(frames[:5], truth[:1])
    second = carried(frames[4:], first[4:])
    assert torch.equal(second[0], first[4]) and overlaps(second, truth[4:]).min() > 0.93


def test_edges_are_those_of_the_full_frames():
    frames, truth = film(thing(line(-0.1, 0.02)), count=3, size=(192, 256))
    coarse = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(truth, 2), size=(192, 256), mode="nearest")
    blocks = overlaps((coarse > 0.5).float(), truth)
    assert overlaps(CarriedSegmenter(side=96)(frames, truth[:1]), truth)[1:].min() > blocks[1:].max()


def test_hints_of_other_sizes_and_none():
    frames, truth = film(thing(line(-0.1, 0.03)), count=4)
    carried = CarriedSegmenter()
    halved = torch.nn.functional.avg_pool2d(truth, 2)
    assert overlaps(carried(frames, halved), truth).min() > 0.9, "the first of several is followed"
    assert torch.equal(carried(frames), carried(frames, MotionSegmenter()(frames)[:1]))
    assert carried(frames, torch.zeros(1, 1, *SIZE)).max() == 0
    assert carried(frames, torch.ones(1, 1, *SIZE)).mean() > 0.9
    with pytest.raises(ShapeError):
        carried(frames, torch.zeros(1, 3, *SIZE))
    with pytest.raises(ConfigError, match="32 or more"):
        CarriedSegmenter(side=8)


@pytest.mark.slow
def test_procedural_scenes():
    """Twelve scenes of difficulty 0.3 to 0.6, 20 frames each: against flow alone, and the segmenter by motion with the hint."""
    scores = {"carried": [], "flow": [], "motion": []}
    for seed in range(12):
        scene = sample_scene(seed, (0.3, 0.45, 0.6)[seed % 3])
        seen = [render(scene, float(index), (240, 320)) for index in range(20)]
        number = int(seen[0].masks[1:].mean(dim=(1, 2, 3)).argmax()) + 1
        frames, truth = torch.stack([one.rgb for one in seen]), torch.stack([one.masks[number] for one in seen])
        hint = truth[:1]
        scores["carried"].append(overlaps(CarriedSegmenter()(frames, hint), truth)[1:])
        scores["flow"].append(overlaps(warped(frames, hint), truth)[1:])
        scores["motion"].append(overlaps(MotionSegmenter()(frames, hint), truth)[1:])
    found = {name: torch.cat(rows) for name, rows in scores.items()}
    assert found["carried"].median() > 0.98 and found["carried"].min() > 0.9
    assert found["flow"].median() < 0.92 and found["motion"].median() < 0.85


def around(truth, margin=4):
    """The box about a mask, `margin` pixels wider, (x0, y0, x1, y1)."""
    rows, columns = ((truth[0, 0] > 0.5).any(dim=axis).nonzero().flatten() for axis in (1, 0))
    return tuple(float(one) for one in (columns[0] - margin, rows[0] - margin, columns[-1] + 1 + margin, rows[-1] + 1 + margin))


def test_what_is_in_a_box():
    frames, truth = film(thing(line(-0.1, 0.04)), count=4)
    masks = GrabCutSegmenter(box=around(truth[:1]))(frames)
    assert masks.shape == truth.shape and overlaps(masks, truth).min() > 0.93


@pytest.mark.parametrize("texture", [RED, BLUE])
def test_what_is_under_a_click(texture):
    frames, truth = film(thing(line(-0.1, 0.04), size=0.2, texture=texture), count=3)
    assert overlaps(GrabCutSegmenter(click=(51.0, 48.0))(frames), truth).min() > 0.85


def test_places_are_pixels_of_the_full_picture():
    frames, truth = film(thing(line(-0.1)), count=1, size=(192, 256))
    for part in (GrabCutSegmenter(box=around(truth, 8), side=64), GrabCutSegmenter(click=(102.0, 96.0), side=64)):
        assert overlaps(part(frames), truth).min() > 0.85


def test_a_hint_takes_the_place_of_a_box():
    frames, truth = film(thing(line(-0.1, 0.03)), count=3)
    assert torch.equal(GrabCutSegmenter(box=(0.0, 0.0, 9.0, 9.0))(frames, truth[:1]), CarriedSegmenter()(frames, truth[:1]))


@pytest.mark.parametrize(
    "place, words",
    [
        ({"box": (10.0, 10.0, 140.0, 50.0)}, "not inside the picture of 128x96"),
        ({"box": (30.0, 10.0, 30.0, 50.0)}, "is empty"),
        ({"box": (0.0, 0.0, 128.0, 96.0)}, "whole picture"),
        ({"click": (128.0, 5.0)}, "outside the picture of 128x96"),
        ({"click": (-1.0, 5.0)}, "outside the picture"),
        ({}, "Give a box, a click, or a mask"),
    ],
)
def test_places_that_are_none(place, words):
    with pytest.raises(InputError, match=words):
        GrabCutSegmenter(**place)(torch.rand(2, 3, *SIZE))


@pytest.mark.parametrize("place", [{"box": (20.0, 20.0, 60.0, 60.0)}, {"click": (40.0, 40.0)}])
def test_where_nothing_is_found_a_mask_is_asked_for(place):
    with pytest.raises(InputError, match="Give a mask"):
        GrabCutSegmenter(**place)(torch.full((1, 3, *SIZE), 0.5))


@pytest.mark.parametrize(
    "place", [{"box": (1.0, 2.0)}, {"click": (1.0,)}, {"box": (1.0, 2.0, 3.0, 4.0), "click": (1.0, 2.0)}, {"side": 8}]
)
def test_fields_that_do_not_fit(place):
    with pytest.raises(ConfigError):
        GrabCutSegmenter(**place)
