"""Pictures between two along motion: shifts and a square whose motion is known; frames between key frames by the clip's times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
import torch

from conftest import Moving, shifts, smooth_texture
from flowpaint.api.prepare import check_parts
from flowpaint.errors import WeightsError
from flowpaint.parts.interpolate import FlowBlend, Rife
from flowpaint.parts.interpolate.blend import splat
from flowpaint.parts.interpolate.times import at_times
from flowpaint.parts.propagate import Interpolated, between
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit, Flow, to_raw

INNER = (..., slice(10, -10), slice(10, -10))


def psnr(found, truth):
    return -10 * math.log10((found - truth).square().mean().clamp(min=1e-12).item())


@dataclass(frozen=True)
class Known:
    """The true flow between two frames of a scene, with or without the way back."""

    scene: Moving
    a: int
    b: int
    one_way: bool = False
    asked: list = field(default_factory=list)

    def __call__(self, a, b):
        ahead = torch.equal(a[0], self.scene.clip.frame(self.a))
        self.asked.append(ahead)
        there, again = self.scene.flow(self.a, self.b), self.scene.flow(self.b, self.a)
        first, second = (there, again) if ahead else (again, there)
        return Flow(vectors=first.vectors, visibility=first.visibility, reverse=None if self.one_way else second.vectors)


def between_frames(scene, a, b, part=None):
    """The frames a+1..b-1 as they are made from a and b, and as they are."""
    part = part or FlowBlend(flow=Known(scene, a, b))
    made = part(scene.clip.frame(a), scene.clip.frame(b), [(one - a) / (b - a) for one in range(a + 1, b)])
    return made, scene.clip[a + 1 : b].frames


# -------------------------------------------------------------------------------------------------------- a constant shift


def test_a_known_shift_is_met_exactly(textured_pan):
    made, truth = between_frames(textured_pan, 0, 4)
    assert (made - truth)[INNER].abs().max() < 1e-4
    assert psnr(made, truth) > 45, "and what only one of both pictures shows is taken from that one"


@pytest.mark.parametrize("dx, dy", [(2, 2), (4, -2), (8, 4)])
def test_a_measured_shift_is_met_at_half_way(dx, dy):
    wide = smooth_texture(96, 128, seed=4, waves=10)
    first, middle, last = (wide[:, 16 - dy * i // 2 :, 16 - dx * i // 2 :][:, :64, :96] for i in range(3))
    made = FlowBlend()(first, last, [0.5])[0]
    assert psnr(made[INNER], middle[INNER]) > 60
    assert psnr(made, middle) > 40
    assert psnr((first + last)[INNER] / 2, middle[INNER]) < 35


def test_equal_pictures_stay_what_they_are(textured):
    found = FlowBlend()(textured[0], textured[0].clone(), [0.1, 0.5, 0.9])
    assert (found - textured).abs().max() < 1e-3


def test_flow_that_fails_in_a_band_is_filled_in_from_around_it():
    """What it says there leads out of the picture, so nothing lands where the band should be."""
    wide = smooth_texture(64, 128, seed=4, waves=10)

    def failing(a, b):
        ahead = 8.0 if torch.equal(a[0], wide[..., 16:112]) else -8.0
        vectors, seen = shifts(64, 96, ahead, 0.0)
        band = (slice(None), slice(None), slice(None), slice(40, 46) if ahead > 0 else slice(48, 54))
        vectors[band], seen[band] = 500.0, 0.0
        return Flow(vectors=vectors, visibility=seen)

    made = FlowBlend(flow=failing)(wide[..., 16:112], wide[..., 8:104], [0.5])[0]
    assert (made - wide[..., 12:108])[INNER].abs().max() < 0.01


def test_what_differs_otherwise_than_by_motion_fades_evenly():
    flat = torch.ones(3, 40, 48)
    found = FlowBlend()(0.2 * flat, 0.6 * flat, [0.25, 0.5, 0.9])
    for picture, level in zip(found, (0.3, 0.4, 0.56), strict=True):
        assert (picture - level).abs().max() < 1e-5


def test_rounding_leads_nowhere_outside_the_range():
    white = torch.ones(3, 8, 8)
    found = at_times(white, white, [0.5, 0.25], lambda time: white[None] * 2 if time == 0.5 else -white[None])
    assert found[0].max() == 1 and found[1].min() == 0


# ------------------------------------------------------------------------------------------------- a square over a texture


@pytest.mark.parametrize("a, b, least", [(2, 4, 55), (0, 4, 50), (0, 8, 40)])
def test_a_square_is_where_it_was(moving_square, a, b, least):
    """In the last pair it moves farther than its side: half way, ground that both pictures show lands on it too."""
    made, truth = between_frames(moving_square, a, b)
    assert min(psnr(one, true) for one, true in zip(made, truth, strict=True)) > least


def test_what_one_picture_hides_comes_from_the_other(moving_square):
    made, truth = between_frames(moving_square, 1, 5)
    middle = moving_square.mask(3)
    for hidden_in in (1, 5):
        bared = (moving_square.mask(hidden_in) * (1 - middle))[0].bool()
        bared[:, :, 1:-1] &= bared[:, :, :-2] & bared[:, :, 2:]  # not the seam
        assert bared.sum() > 100
        assert (made[1] - truth[1]).abs().amax(0, keepdim=True)[bared].quantile(0.9) < 0.02


def test_measured_motion_of_a_square(moving_square):
    made, truth = between_frames(moving_square, 2, 4, FlowBlend())
    plain = (moving_square.clip.frame(2) + moving_square.clip.frame(4)) / 2
    assert psnr(made[0], truth[0]) > 35 > psnr(plain, truth[0]) + 5


def test_it_moves_evenly(moving_square):
    times = [0.125 * step for step in range(9)]
    made = FlowBlend(flow=Known(moving_square, 0, 4))(moving_square.clip.frame(0), moving_square.clip.frame(4), times)
    clip, covered = moving_square.clip, torch.maximum(moving_square.mask(0), moving_square.mask(4))[0]
    ground = torch.where(covered > 0, clip.frame(11), clip.frame(0))  # where the square is elsewhere
    moved = ((made - ground).abs().sum(1) > 0.05).float()
    x = torch.arange(96.0)
    centres = torch.stack([(one.sum(0) * x).sum() / one.sum() for one in moved])
    assert (centres - torch.linspace(21.5, 33.5, 9)).abs().max() < 0.2, "rises by an eighth of 12 pixels each time"


def test_an_estimator_of_one_way_is_asked_twice(moving_square):
    both, one = Known(moving_square, 0, 4), Known(moving_square, 0, 4, one_way=True)
    pictures = moving_square.clip.frame(0), moving_square.clip.frame(4)
    made = FlowBlend(flow=one)(*pictures, [0.3, 0.6])
    assert one.asked == [True, False], "once for all times, in both directions"
    FlowBlend(flow=both)(*pictures, [0.3, 0.6])
    assert both.asked == [True]
    assert psnr(made, FlowBlend(flow=both)(*pictures, [0.3, 0.6])) > 45
    FlowBlend(flow=both)(*pictures, [0.0, 1.0])
    assert both.asked == [True, True], "nothing is measured for the pictures themselves"


def test_a_splat_is_the_direct_sum():
    draw = torch.Generator().manual_seed(2)
    values, way = torch.randn(1, 2, 5, 7, generator=draw), 3 * torch.randn(1, 2, 5, 7, generator=draw)
    way[..., 0, 0], way[..., 4, 6] = 0.0, -2.0
    wanted = torch.zeros_like(values)
    for y in range(5):
        for x in range(7):
            to_x, to_y = x + way[0, 0, y, x].item(), y + way[0, 1, y, x].item()
            for v in range(5):
                for u in range(7):
                    wanted[0, :, v, u] += values[0, :, y, x] * max(0.0, 1 - abs(u - to_x)) * max(0.0, 1 - abs(v - to_y))
    assert torch.allclose(splat(values, way), wanted, atol=1e-5)
    assert torch.equal(splat(values, shifts(5, 7, 2, -1)[0])[..., :4, 2:], splat(values, torch.zeros_like(way))[..., 1:, :5])


# -------------------------------------------------------------------------------------------------------- between key frames


@dataclass(frozen=True)
class Crossfade:
    """Remembers what it was asked for."""

    asked: list = field(default_factory=list)

    def __call__(self, a, b, times):
        self.asked.append((a.mean().item(), b.mean().item(), list(times)))
        return torch.stack([(1 - time) * a + time * b for time in times])


def blank(times, end, bits=8):
    raw = np.zeros((16, 16, 3), np.uint8 if bits == 8 else np.uint16)
    marks = [Fraction(one, 25) for one in times]
    return Clip(lambda index: raw, times=marks, end=Fraction(end, 25), height=16, width=16, bits=bits)


def level(value):
    return torch.full((3, 16, 16), value)


def test_a_variable_rate_is_followed():
    clip, made = blank([0, 1, 2, 7, 8, 10], 11, bits=16), Crossfade()
    edited = Interpolated(interpolator=made)(clip, {0: level(0.0), 5: level(1.0)}, Edit(), Run())
    assert [round(edited.frame(one).mean().item(), 4) for one in range(6)] == [0, 0.1, 0.2, 0.7, 0.8, 1]
    assert made.asked == [(0, 1, [0.1, 0.2, 0.7, 0.8])], "at once"


class Counting(Mapping):
    def __init__(self, pictures):
        self.pictures, self.seen = pictures, []

    def __getitem__(self, index):
        self.seen.append(index)
        return self.pictures[index]

    def __iter__(self):
        return iter(self.pictures)

    def __len__(self):
        return len(self.pictures)


def test_only_the_key_frames_on_both_sides_are_looked_at():
    keys = Counting({0: level(0.0), 4: level(0.5), 9: level(1.0), 15: level(0.0)})
    edited = Interpolated(interpolator=Crossfade())(blank(range(16), 16), keys, Edit(), Run())
    assert keys.seen == []
    assert edited.frame(6).mean().item() == pytest.approx(0.7, abs=0.003)
    assert keys.seen == [4, 9]
    edited.raw(9)
    assert keys.seen == [4, 9, 9]


@pytest.mark.parametrize("pixels, calls", [(2**23, [8, 8, 3]), (256 * 5, [5, 5, 5, 4]), (1, [1] * 19)])
def test_a_few_frames_are_made_together(monkeypatch, pixels, calls):
    monkeypatch.setattr(between, "_PIXELS", pixels)
    clip, keys, made = blank(range(21), 21), {0: level(0.0), 20: level(1.0)}, Crossfade()
    edited = Interpolated(interpolator=made)(clip, keys, Edit(), Run())
    levels = [edited.frame(one).mean().item() for one in range(21)]
    assert levels == pytest.approx([one / 20 for one in range(21)], abs=0.003)
    assert [len(times) for *_, times in made.asked] == calls
    for one in (19, 3, 8, 9, 9, 1, 16, 17, 0, 0):
        assert edited.frame(one).mean().item() == levels[one]
        edited.raw(one)[:] = 77  # the caller's


def test_outside_the_key_frames_the_nearest_is_held_and_that_is_said():
    run = Run(offset=100)
    edited = Interpolated(interpolator=Crossfade())(blank(range(9), 9), {2: level(0.2), 6: level(0.6)}, Edit(), run)
    assert [round(edited.frame(one).mean().item(), 1) for one in range(9)] == [0.2, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6]
    (said,) = run.notes.warnings
    assert "before frame 102 and after frame 106" in said
    for keys, words in (((0, 8), None), ((0,), "Frames after frame 100 "), ((8,), "Frames before frame 108 ")):
        run = Run(offset=100)
        Interpolated()(blank(range(9), 9), dict.fromkeys(keys, level(0.5)), Edit(), run)
        assert (words is None and run.notes.warnings == []) or words in run.notes.warnings[0]


def test_edited_frames_of_a_pan(textured_pan):
    clip, colder = textured_pan.clip, torch.tensor([0.6, 0.8, 1.0])[:, None, None]
    keys = {one: clip.frame(one) * colder for one in (0, 3, 6, 9)}
    edited, run = Interpolated(), Run()
    frames = edited(clip, keys, Edit(), run).frames
    assert psnr(frames, clip.frames * colder) > 40 and run.notes.warnings == []
    assert np.array_equal(edited(clip, keys, Edit(), run).raw(3), to_raw(keys[3]))


def test_missing_weights_are_said_before_any_work(tmp_path):
    with pytest.raises(WeightsError, match=r"RIFE has no weights.*propagate\.interpolator\.weights"):
        check_parts(Interpolated(interpolator=Rife()))
    with pytest.raises(WeightsError, match="no file"):
        check_parts(Interpolated(interpolator=Rife(weights=str(tmp_path / "none.safetensors"))))
    with pytest.raises(WeightsError, match="allow-pickle"):
        Rife(weights="flownet.pkl")(level(0.0), level(1.0), [0.5])
