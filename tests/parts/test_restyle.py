"""`Restyle`: closed forms on still clips, known motion, what is newly seen, and the tracks behind it."""

import numpy as np
import pytest
import torch

from flowpaint import seams
from flowpaint.parts.flow import DisFlow
from flowpaint.parts.propagate import Restyle
from flowpaint.parts.propagate.restyle import stops_between
from flowpaint.parts.propagate.tracks import Step, measure_step, tracks_to_first, tracks_to_last
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit, from_raw, to_raw

SIZE = (64, 96)


def noise(seed, size=SIZE, cell=4):
    """Smooth noise, [3, H, W] in [0, 1]."""
    small = torch.rand(1, 3, size[0] // cell + 2, size[1] // cell + 2, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(small, scale_factor=cell, mode="bicubic")[0]
    return wide[:, : size[0], : size[1]].clamp(0.05, 0.95)


def clip_of(pictures):
    return Clip.from_array(np.stack([to_raw(one) for one in pictures]), fps=25)


def still(count=9):
    return clip_of([noise(1)] * count)


def pan(count=9, step=2):
    wide = noise(1, (SIZE[0], SIZE[1] + step * count))
    return clip_of([wide[:, :, step * i : step * i + SIZE[1]] for i in range(count)])


def repainted(clip, paintings, exact=(0,), run=None, **fields):
    return Restyle(**fields).repaint(clip, paintings, exact, Edit(extent="global"), run or Run()).frames


def inverted(clip, *indices):
    return {index: 1 - clip.frame(index) for index in indices}


# ------------------------------------------------------------------------------------------------------- the recursion


def test_on_a_still_clip_paintings_are_averaged_by_the_share_of_new_paint():
    paintings = {index: noise(10 + index) for index in (0, 4, 8)}
    frames = repainted(still(), paintings, refresh=0.05, contrast=0.0)
    kept = 0.95**4
    fourth = kept * paintings[0] + (1 - kept) * paintings[4]
    eighth = kept * fourth + (1 - kept) * paintings[8]
    for index, wanted in ((0, paintings[0]), (4, fourth), (8, eighth)):
        assert (frames[index] - wanted).abs().max() < 2.5 / 255
    for index in (5, 6, 7):
        wanted = torch.lerp(fourth, eighth, (index - 4) / 4)
        assert (frames[index] - wanted).abs().max() < 3.5 / 255, "new paint comes in equal steps"


def test_nothing_new_is_let_in_at_refresh_0():
    paintings = {0: noise(3), 4: noise(4), 8: noise(5)}
    frames = repainted(still(), paintings, refresh=0.0, contrast=0.0)
    assert (frames - paintings[0]).abs().max() < 2.5 / 255


def test_exact_pictures_are_shown_as_they_are_and_approached_without_a_jump():
    paintings = {0: noise(3), 4: noise(4), 8: noise(5)}
    frames = repainted(still(), paintings, exact=(0, 8), contrast=0.0)
    assert torch.equal(frames[8], from_raw(to_raw(paintings[8])))
    steps = [(frames[i + 1] - frames[i]).abs().mean() for i in range(4, 8)]
    assert max(steps) < 1.2 * min(steps)


def test_a_moving_surface_keeps_its_paint():
    clip = pan()
    frames = repainted(clip, inverted(clip, 0, 4, 8))
    for index in range(len(clip)):
        error = (frames[index] - (1 - clip.frame(index)))[:, 4:-4, 4:-20].abs().mean()
        assert error < 0.012, index


def test_what_no_painting_before_shows_is_taken_from_the_new_one():
    clip = pan(count=5, step=4)
    paintings = {0: torch.zeros(3, *SIZE), 4: torch.ones(3, *SIZE)}
    last = repainted(clip, paintings, contrast=0.0)[4]
    assert last[:, :, -12:].min() > 0.95, "newly seen: all new"
    assert last[:, 8:-8, 8:64].mean() < 0.3, "seen before: mostly old"


@pytest.mark.parametrize("contrast, least, most", [(0.0, 0.5, 0.76), (1.0, 0.79, 1.1)])
def test_contrast_that_averaging_loses_is_restored(contrast, least, most):
    paintings = {index: noise(20 + index, cell=2) for index in (0, 4)}
    frames = repainted(still(5), paintings, refresh=0.16, contrast=contrast)
    kept = frames[4].std() / paintings[4].std()
    assert least < kept < most


def test_deep_pictures_stay_deep():
    fine = Clip.from_array(np.stack([to_raw(noise(1), 16)] * 5), fps=25)
    frames = Restyle().repaint(fine, {0: noise(2), 4: noise(3)}, (0,), Edit(), Run())
    assert frames.raw(2).dtype == np.uint16 and len(np.unique(frames.raw(2) % 257)) > 200


def test_confidence_tells_how_much_of_a_frame_a_painting_shows():
    run, clip = Run(), pan(count=5, step=8)
    repainted(clip, inverted(clip, 0, 4), run=run)
    assert all(0.5 < run.notes.frames[index]["confidence"] <= 1.0 for index in range(1, 5))


def test_between_distant_key_frames_the_base_paints():
    clip = pan()
    frames = Restyle()(clip, inverted(clip, 0), Edit(extent="global"), Run()).frames
    assert (frames[8] - (1 - clip.frame(8)))[:, 4:-4, 4:-24].abs().mean() < 0.02


@pytest.mark.parametrize(
    "keys, count, stops",
    [([0], 1, [0]), ([0], 5, [0, 4]), ([2], 6, [0, 2, 5]), ([0, 9], 10, [0, 3, 6, 9]), ([0, 1, 2], 3, [0, 1, 2])],
)
def test_stops(keys, count, stops):
    assert stops_between(keys, count, 4) == stops


def test_is_a_repainter():
    assert isinstance(Restyle(), seams.Repainter)


# ----------------------------------------------------------------------------------------------------------- the tracks


def constant_steps(count, x, y, size=(40, 60)):
    one = np.zeros((*size, 2), np.float32)
    one[..., 0], one[..., 1] = x, y
    return [Step(back=-one, ahead=one)] * count


def test_displacements_are_composed():
    frames = [np.full((40, 60, 3), 90, np.float32)] * 5
    steps = constant_steps(4, 1.5, -0.5)
    for place, track in enumerate(tracks_to_first(frames, steps)):
        assert np.allclose(track.displacement, [-1.5 * place, 0.5 * place], atol=1e-4)
    for place, track in enumerate(tracks_to_last(frames, steps)):
        assert np.allclose(track.displacement, [1.5 * (4 - place), -0.5 * (4 - place)], atol=1e-4)


def test_what_leaves_the_frame_is_not_visible():
    frames = [np.full((40, 60, 3), 90, np.float32)] * 3
    last = tracks_to_first(frames, constant_steps(2, 5.0, 0.0))[-1]
    assert last.visibility[:, :10].max() == 0 and last.visibility[:, 12:].min() > 0.99


def test_another_colour_is_not_the_same_surface():
    before, after = np.full((40, 60, 3), 60, np.float32), np.full((40, 60, 3), 60, np.float32)
    after[10:20, 10:20] = 160
    track = tracks_to_first([before, after], constant_steps(1, 0.0, 0.0))[-1]
    assert track.visibility[12:18, 12:18].max() < 1e-3 and track.visibility[30:, 30:].min() > 0.99


def test_motion_is_measured_both_ways():
    clip = pan(count=2, step=3)
    step = measure_step(*(clip.raw(index).astype(np.float32) for index in (0, 1)), DisFlow(preset="fine"))
    assert np.median(step.back[..., 0]) == pytest.approx(3, abs=0.2)
    assert np.median(step.ahead[..., 0]) == pytest.approx(-3, abs=0.2)
