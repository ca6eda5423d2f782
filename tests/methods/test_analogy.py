"""`Analogy` and the baselines: edits whose result is known, on clips whose motion is known."""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from flowpaint import seams
from flowpaint.colour import keep_colors, statistics
from flowpaint.errors import InputError
from flowpaint.methods import keys
from flowpaint.methods.analogy import Analogy
from flowpaint.methods.baselines import FrameByFrame, Freeze, Warp
from flowpaint.parts.flow import DisFlow
from flowpaint.scenes import Layer, Scene, edit, edit_mask, render
from flowpaint.scenes.camera import Camera
from flowpaint.scenes.depths import Level
from flowpaint.scenes.motion import Curve, Motion
from flowpaint.scenes.shapes import Blob
from flowpaint.scenes.textures import Noise, Styled
from flowpaint.seams import Method, Run
from flowpaint.types import Clip, Edit, from_raw, to_raw

METHODS = {"analogy": Analogy, "warp": Warp, "freeze": Freeze}
SIZE = (72, 96)
GROUND = Layer(
    name="ground", texture=Noise(seed=1, finest=0.04, colour=(0.35, 0.5, 0.6), contrast=0.1), depth=Level(nearness=0.1)
)
DISC = Layer(
    name="disc",
    texture=Noise(seed=2, finest=0.06, colour=(0.75, 0.35, 0.3), contrast=0.1),
    depth=Level(nearness=0.5),
    shape=Blob(size=0.22, harmonics=((3, 0.15, 0.4),)),
    motion=Motion(x=Curve(powers=(-0.25, 0.05)), y=Curve(powers=(0.1, -0.02)), angle=Curve(powers=(0.0, 0.03))),
)
SCENE = Scene(layers=(GROUND, DISC), camera=Camera(x=Curve(powers=(0.0, 0.03)), log_zoom=Curve(powers=(0.0, 0.004))))
GREEN = ((0.1, 0.2, 0.3), (0.9, 0.3, 0.1), (0.1, 0.4, 0.2))
RECOLOURED = replace(SCENE, layers=(GROUND, replace(DISC, texture=Styled(texture=DISC.texture, matrix=GREEN))))
COSTUMED = replace(
    SCENE, layers=(GROUND, replace(DISC, texture=Noise(seed=9, finest=0.1, colour=(0.2, 0.2, 0.15), contrast=0.12)))
)
RESTYLED = edit(SCENE, "restyle", 3)
NUM_FRAMES = 8


@lru_cache
def filmed(scene):
    """Rendered once, frozen as bytes."""
    return Clip.from_array(np.stack([to_raw(render(scene, float(time), SIZE).rgb) for time in range(NUM_FRAMES)]))


@lru_cache
def carried(name, scene, *indices):
    """The result of a method that is given the frames `indices` of the edited scene."""
    given = Edit(keyframes={index: filmed(scene).frame(index) for index in indices})
    return METHODS[name]()(filmed(SCENE), given, Run()).frames


def psnr(a, b):
    return -10 * math.log10(max(float((a - b).square().mean()), 1e-10))


def all_psnr(name, scene, *indices):
    return [psnr(one, two) for one, two in zip(carried(name, scene, *indices), filmed(scene), strict=True)]


def graded(picture):
    matrix = torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.6, 0.2], [0.0, 0.3, 0.5]])
    return torch.einsum("ij,...jhw->...ihw", matrix, picture.clamp(1e-4, 1) ** 0.7)


@dataclass(frozen=True)
class Grade:
    """An editor that keeps a list of the pictures it was given."""

    asked: list = field(default_factory=list)
    drift: float = 0.0  # by which each answer is brighter than the one before

    def __call__(self, image, edit, generator):
        assert not edit.keyframes, "an editor edits one picture and knows of no other"
        self.asked.append((image.clone(), generator.initial_seed()))
        return (graded(image) + self.drift * (len(self.asked) - 1)).clamp(0, 1)


@dataclass(frozen=True)
class QuickGrade(Grade):
    """The same, and it may be run again and again."""

    repeats_after: int = 4


def was_asked_for(editor, clip):
    return [next(i for i in range(len(clip)) if torch.equal(clip.frame(i), image)) for image, _ in editor.asked]


# ------------------------------------------------------------------------------------------------------------ known results


@pytest.mark.slow
@pytest.mark.parametrize("look", [graded, lambda picture: picture**1.8, lambda picture: 1 - picture])
def test_a_map_of_colours_is_met_everywhere(textured_pan, look):
    clip = textured_pan.clip
    given = Edit(keyframes={0: look(clip.frame(0))})
    scores = {
        name: [psnr(one, look(clip.frame(index))) for index, one in enumerate(method()(clip, given, Run()).frames)][1:]
        for name, method in METHODS.items()
    }
    assert min(scores["analogy"]) > 35
    for baseline in ("warp", "freeze"):
        assert all(ours > theirs + 3 for ours, theirs in zip(scores["analogy"], scores[baseline], strict=True))


def test_a_restyled_scene_is_met_better_than_by_the_baselines():
    ours, warped, frozen = (np.mean(all_psnr(name, RESTYLED, 0)[1:]) for name in METHODS)
    assert ours > 30
    assert ours > warped + 2 and ours > frozen + 5


def test_a_second_key_frame_helps_in_between():
    one, two = all_psnr("analogy", RESTYLED, 0), all_psnr("analogy", RESTYLED, 0, NUM_FRAMES - 1)
    assert two[0] > 90 and two[-1] > 90, "exact at both"
    assert np.mean(two[4:-1]) > np.mean(one[4:-1]) + 0.5
    assert np.mean(two[1:-1]) > np.mean(one[1:-1])


def test_the_nearer_key_frame_has_more_to_say(still):
    """Between two unlike pictures of a still, each frame is nearer to the one that is nearer in time."""
    dark, bright = 0.5 * still.frame(0), 0.5 * still.frame(0) + 0.5
    result = Analogy()(still[:5], Edit(keyframes={0: dark, 4: bright}), Run()).frames
    shares = [((one - dark).mean() / 0.5).item() for one in result]
    assert shares[0] < 0.01 and shares[4] > 0.99 and shares == sorted(shares)
    assert shares[1] < 0.25 < 0.4 < shares[2] < 0.6 < 0.75 < shares[3]


def test_frames_before_the_key_frame_are_met_too():
    scores = all_psnr("analogy", RESTYLED, NUM_FRAMES - 1)
    assert scores[-1] > 90 and min(scores[:-1]) > 24
    assert np.mean(scores[:-1]) > np.mean(all_psnr("freeze", RESTYLED, NUM_FRAMES - 1)[:-1]) + 4


@pytest.mark.slow
@pytest.mark.parametrize("time", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("scene, rim", [(RECOLOURED, 0.06), (COSTUMED, 0.15)], ids=["recoloured", "costumed"])
def test_a_local_edit_is_carried_and_nothing_else_changes(scene, rim, time):
    """Apart from a `rim` around the object (a share of the picture; the costume is widened to hide what is under it)."""
    source, truth, result = filmed(SCENE).frame(time), filmed(scene).frame(time), carried("analogy", scene, 0)[time]
    mask = edit_mask(SCENE, scene, time, SIZE)[None]
    near = torch.nn.functional.max_pool2d(mask, 17, 1, 8)[0, 0] > 0  # eight pixels around the object
    changed = (result - source).abs().amax(dim=0)
    assert (changed[~near] > 1.5 / 255).float().mean() < 0.05 and changed[~near].max() < 0.1
    assert (changed[mask[0, 0] == 0] > 1.5 / 255).float().mean() < rim
    inside = mask[0, 0] > 0
    ours, untouched = (psnr(one[:, inside], truth[:, inside]) for one in (result, source))
    assert ours > 24 and ours > untouched + 15


@pytest.mark.parametrize("time", [1, 4, 6, 7])
def test_a_moving_object_keeps_its_colour(time):
    """Most of its pixels are the truth's within eight levels, in the last frame as in the first."""
    within = render(SCENE, time, SIZE).masks[1, 0] > 0
    miss = (carried("analogy", RECOLOURED, 0)[time] - filmed(RECOLOURED).frame(time)).abs().amax(dim=0)
    assert (miss[within] < 8 / 255).float().mean() > 0.8


def test_the_user_s_word_on_the_extent_counts():
    """The same local edit, called global, is transferred everywhere."""
    given = Edit(keyframes={0: filmed(RECOLOURED).frame(0)}, extent="global")
    result = Analogy()(filmed(SCENE)[:3], given, Run()).frame(2)
    far = torch.nn.functional.max_pool2d(edit_mask(SCENE, RECOLOURED, 2, SIZE)[None], 17, 1, 8)[0, 0] == 0
    changed = (result - filmed(SCENE).frame(2)).abs().amax(dim=0)
    assert changed[far].max() > 1.5 / 255


def test_confidence_is_noted_for_each_frame_of_the_film():
    run = Run(offset=100)
    clip = filmed(SCENE)[:4]
    list(Analogy()(clip, Edit(keyframes={0: filmed(RESTYLED).frame(0)}), run))
    assert sorted(run.notes.frames) == [100, 101, 102, 103]
    rows = [run.notes.frames[index]["confidence"] for index in (100, 101, 102, 103)]
    assert rows[0] == 1 and all(0 < one <= 1 for one in rows) and rows[1] > 0.5


@pytest.mark.parametrize("quality", ["draft", "best"])
def test_quality_trades_and_still_works(quality):
    given = Edit(keyframes={0: filmed(RESTYLED).frame(0)})
    result = Analogy()(filmed(SCENE)[:3], given, Run(quality=quality))
    assert psnr(result.frame(2), filmed(RESTYLED).frame(2)) > 26


# --------------------------------------------------------------------------------------------------------- given key frames


@pytest.mark.parametrize("method", METHODS.values())
def test_strength_mixes_given_pictures_with_their_source(method):
    source, picture = filmed(SCENE)[:2], filmed(RESTYLED).frame(0)
    for strength in (0.0, 0.25, 1.0):
        result = method()(source, Edit(keyframes={0: picture}, strength=strength), Run()).frame(0)
        assert (result - ((1 - strength) * source.frame(0) + strength * picture)).abs().max() < 0.6 / 255
    untouched = method()(source, Edit(keyframes={0: picture}, strength=0.0), Run())
    assert np.array_equal(untouched.raw(0), source.raw(0))


@pytest.mark.parametrize("method", METHODS.values())
def test_colours_of_the_source_can_be_kept(method):
    source, picture = filmed(SCENE)[:1], filmed(RESTYLED).frame(0)
    result = method()(source, Edit(keyframes={0: picture}, keep_colors=True), Run()).frame(0)
    assert (result - keep_colors(picture, source.frame(0))).abs().max() < 0.6 / 255


# ----------------------------------------------------------------------------------------------------------------- editors


def hidden_behind():
    """A board that falls over the whole picture between frames 2 and 4."""
    board = Layer(
        name="board",
        texture=Noise(seed=7, finest=0.05, colour=(0.4, 0.4, 0.2), contrast=0.15),
        depth=Level(nearness=0.8),
        shape=Blob(size=1.5),
        motion=Motion(x=Curve(powers=(-3.1, 0.775))),
    )
    return Scene(layers=(GROUND, board))


def test_the_editor_is_called_at_planned_frames_alone(textured_pan):
    editor, clip = Grade(), textured_pan.clip
    edited = Analogy(editor=editor, longest=4)(clip, Edit(), Run())
    assert editor.asked == [], "nothing is edited before a frame is asked for"
    planned = [key.index for key in keys.place(clip, DisFlow(), lost=0.25, longest=4, run=Run())]
    assert planned[:2] == [0, 4]
    assert len(edited.frames) == 10
    assert was_asked_for(editor, clip) == planned
    assert len({seed for _, seed in editor.asked}) == 1, "the same paper for all of them"


def test_a_still_is_edited_once(still):
    editor = Grade()
    list(Analogy(editor=editor)(still, Edit(), Run()))
    assert was_asked_for(editor, still[:1]) == [0]


def test_what_is_hidden_altogether_makes_a_second_key_frame():
    clip = filmed(hidden_behind())
    placed = keys.place(clip, DisFlow(), lost=0.25, longest=120, run=Run())
    assert placed[0].index == 0 and len(placed) >= 2 and "no longer that of frame" in placed[1].reason
    editor = Grade()
    result = Analogy(editor=editor)(clip, Edit(), Run()).frames
    assert len(editor.asked) == len(placed)
    assert all(torch.equal(image, clip.frame(key.index)) for (image, _), key in zip(editor.asked, placed, strict=True))
    assert psnr(result[-1], graded(clip.frame(len(clip) - 1))) > 35


def test_key_frames_are_due_for_what_comes_into_view_not_for_what_leaves():
    smooth = replace(GROUND, texture=Noise(seed=1, finest=0.15, contrast=0.2))
    nearer, further = (Scene(layers=(smooth,), camera=Camera(log_zoom=Curve(powers=(0.0, speed)))) for speed in (0.06, -0.06))
    planned = [keys.place(filmed(scene), DisFlow(), lost=0.25, longest=120, run=Run()) for scene in (nearer, further)]
    assert [key.index for key in planned[0]] == [0]
    assert len(planned[1]) >= 2


@pytest.mark.parametrize("method", [Warp, Freeze])
def test_baselines_edit_the_first_frame(method, textured_pan):
    editor, clip = Grade(), textured_pan.clip
    result = method(editor=editor)(clip, Edit(), Run())
    assert len(list(result)) == 10 and was_asked_for(editor, clip) == [0]
    assert np.array_equal(result.raw(0), to_raw(graded(clip.frame(0))))


def test_freezing_shows_the_first_picture_throughout(textured_pan):
    result = Freeze(editor=Grade())(textured_pan.clip, Edit(), Run())
    assert all(np.array_equal(result.raw(index), result.raw(0)) for index in range(10))


def test_warping_follows_the_flow(textured_pan):
    result, clip = Warp(editor=Grade())(textured_pan.clip, Edit(), Run()).frames, textured_pan.clip
    for index in (1, 4):
        inner = (..., slice(12, -12), slice(12, -12))
        assert psnr(result[index][inner], graded(clip.frame(index))[inner]) > 30


def test_frame_by_frame_edits_every_frame_once(textured_pan):
    editor, clip = Grade(), textured_pan.clip
    result = FrameByFrame(editor=editor)(clip, Edit(keyframes={0: torch.zeros(3, 64, 96)}), Run())
    for index in range(10):
        assert np.array_equal(result.raw(index), to_raw(graded(clip.frame(index))))
    assert was_asked_for(editor, clip) == list(range(10))


def test_given_pictures_go_before_the_editor_s(textured_pan):
    editor, clip = Grade(), textured_pan.clip
    picture = 1 - clip.frame(0)
    result = Analogy(editor=editor, longest=5)(clip, Edit(keyframes={0: picture}), Run())
    assert np.array_equal(result.raw(0), to_raw(picture))
    list(result)
    assert 0 not in was_asked_for(editor, clip) and 5 in was_asked_for(editor, clip)


def test_an_edited_picture_is_kept_for_the_next_run(textured_pan):
    clip, run = textured_pan.clip[:3], Run()
    first = [raw.copy() for raw in map(Analogy(editor=Grade())(clip, Edit(), run).raw, range(3))]
    editor = Grade(drift=0.5)
    editor.asked.append("another answer than the first time")
    again = Analogy(editor=editor)(clip, Edit(), Run(store=run.store))
    assert all(np.array_equal(again.raw(index), first[index]) for index in range(3))
    assert len(editor.asked) == 1


def test_shots_edited_apart_take_their_colours_from_the_anchor(textured_pan):
    """An editor that answers too brightly is drawn half way to what the anchor's edit foretells."""
    clip = textured_pan.clip[:1]
    before = textured_pan.clip.frame(9)
    editor = Grade(drift=0.15)
    editor.asked.append(None)
    plain = Freeze(editor=Grade())(clip, Edit(), Run()).frame(0)
    editor_bright = Freeze(editor=editor)(clip, Edit(), Run()).frame(0)
    editor.asked[1:] = []
    anchored = Freeze(editor=editor)(clip, Edit(anchor=(before, graded(before))), Run()).frame(0)
    light = [statistics(one)[0][0].item() for one in (plain, anchored, editor_bright)]
    assert light[2] - light[0] > 5
    assert light[1] == pytest.approx((light[0] + light[2]) / 2, abs=1.5)


# ------------------------------------------------------------------------------------------------------------ every method


@pytest.mark.parametrize("name", [*METHODS, "frame-by-frame"])
def test_neither_editor_nor_key_frame_is_an_error(name):
    method = seams.build("method", name)
    assert isinstance(method, Method)
    with pytest.raises(InputError):
        method(filmed(SCENE), Edit(), Run())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("given", [{99: torch.zeros(3, *SIZE)}, {0: torch.zeros(3, 10, 10)}], ids=["index", "size"])
def test_key_frames_that_do_not_fit_are_refused(name, given):
    with pytest.raises(InputError):
        METHODS[name]()(filmed(SCENE), Edit(keyframes=given), Run())


@pytest.mark.parametrize("name", [*METHODS, "frame-by-frame"])
def test_methods_are_recipes(name):
    method = seams.build("method", name, editor="looks")
    assert seams.from_dict(seams.to_dict(method)) == method
    assert seams.from_dict(seams.to_dict(seams.build("method", name))) == seams.build("method", name)


@pytest.mark.parametrize("name", [*METHODS, "frame-by-frame"])
def test_deep_clips_stay_deep(name):
    frames = (filmed(SCENE).frames[:2].mul(65535).round().permute(0, 2, 3, 1).numpy()).astype(np.uint16)
    frames[..., 0] += 77
    clip = Clip.from_array(frames)
    result = replace(seams.build("method", name), editor=Grade())(clip, Edit(), Run())
    assert result.bits == 16 and result.raw(1).dtype == np.uint16
    assert psnr(from_raw(result.raw(0)), graded(clip.frame(0))) > 80


# ------------------------------------------------------------------------------------------------- editors that run again


def test_a_quick_editor_paints_every_few_frames_and_its_paint_is_carried_on():
    clip, editor = filmed(SCENE), QuickGrade()
    frames = Analogy(editor=editor)(clip, Edit(), Run()).frames
    asked = was_asked_for(editor, clip)
    assert asked[0] == 0 and len(asked) > 1 and max(b - a for a, b in pairwise(asked)) <= 4
    assert min(psnr(one, graded(clip.frame(index))) for index, one in enumerate(frames)) > 30


def test_a_named_propagator_is_taken_for_a_quick_editor_too():
    clip = filmed(SCENE)
    few, many = QuickGrade(), QuickGrade()
    list(Analogy(editor=few, propagate=seams.build("propagator", "analogy"), lost=0.9, longest=120)(clip, Edit(), Run()))
    list(Analogy(editor=many, lost=0.9, longest=2)(clip, Edit(), Run()))
    assert was_asked_for(few, clip) == [0]
    assert max(b - a for a, b in pairwise(was_asked_for(many, clip))) <= 2


def test_a_given_picture_is_shown_exactly_where_an_editor_repaints():
    clip = filmed(SCENE)
    picture = graded(clip.frame(3)).flip(0)
    result = Analogy(editor=QuickGrade())(clip, Edit(keyframes={3: picture}), Run())
    assert np.array_equal(result.raw(3), to_raw(picture))
    assert not np.array_equal(result.raw(4), to_raw(graded(clip.frame(4))))
