"""Editors that do not flicker are applied to every frame: what is asked of them, and what is not done any more."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from conftest import smooth_texture
from flowpaint.errors import ConfigError
from flowpaint.methods.analogy import Analogy
from flowpaint.methods.baselines import FrameByFrame
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit, to_raw


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """Inverts colours, as steadily as it says."""

    steadiness: Any = "pixelwise"
    asked: list[Edit] = field(default_factory=list, compare=False)

    def __call__(self, image, edit, generator):
        self.asked.append(edit)
        return 1 - image


@dataclass(frozen=True, kw_only=True)
class RawInverted(Inverted):
    """The same on raw pictures; by way of tensors it fails."""

    def __call__(self, image, edit, generator):
        raise AssertionError("it edits raw pictures")

    def edit_raw(self, picture, edit, generator):
        self.asked.append(edit)
        return ~picture


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A flow that must not be asked."""

    def __call__(self, *_):
        raise AssertionError("nothing is to be measured or propagated")


@pytest.fixture
def moving():
    texture = smooth_texture(48, 64, seed=3)
    return Clip.from_array(torch.stack([texture.roll((3 * index, index), dims=(-1, -2)) for index in range(6)]))


def applied(editor, **more):
    return Analogy(editor=editor, flow=Refused(), **more)


@pytest.mark.parametrize("editor", [Inverted(), Inverted(steadiness="steady"), RawInverted()])
def test_every_frame_is_edited_as_it_is(moving, editor):
    run = Run()
    result = applied(editor)(moving, Edit(prompt="x"), run)
    assert editor.asked == [], "nothing is edited before a frame is asked for"
    for index in (5, 0, 3):
        assert np.array_equal(result.raw(index), ~moving.raw(index))
    assert len(editor.asked) == 3 and run.notes.facts["steadiness"] == editor.steadiness
    editor.asked.clear()


def test_a_painted_editor_is_propagated(moving):
    with pytest.raises(AssertionError, match="nothing is to be measured"):
        applied(Inverted(steadiness="painted"))(moving, Edit(), Run()).raw(0)


def test_a_word_that_is_no_steadiness_is_refused(moving):
    with pytest.raises(ConfigError, match="states the steadiness 'calm'"):
        applied(Inverted(steadiness="calm"))(moving, Edit(), Run())


def test_an_approved_frame_is_shown_as_it_is_and_the_others_are_edited(moving):
    approved = torch.full((3, 48, 64), 0.25)
    editor = Inverted()
    result = applied(editor)(moving, Edit(keyframes={2: approved}, finished=frozenset({2})), Run())
    assert np.array_equal(result.raw(2), to_raw(approved)) and editor.asked == []
    assert np.array_equal(result.raw(1), ~moving.raw(1)) and editor.asked[0].keyframes == {}


def test_a_picture_made_by_hand_is_propagated(moving):
    with pytest.raises(AssertionError, match="nothing is to be measured"):
        applied(Inverted())(moving, Edit(keyframes={2: torch.zeros(3, 48, 64)}), Run()).raw(0)


def test_words_and_masks_are_those_of_the_frame(moving):
    editor = Inverted()
    mask = Clip.from_array(np.stack([np.full((48, 64, 3), 10 * index, np.uint8) for index in range(6)]))
    result = applied(editor)(moving, Edit(prompt="first", prompts={3: "second"}, mask=mask), Run())
    for index in (2, 4):
        result.raw(index)
    assert [one.prompt for one in editor.asked] == ["first", "second"]
    assert [int(one.mask.raw(0).max()) for one in editor.asked] == [20, 40]


def test_shots_keep_the_colours_of_the_one_function(moving):
    anchor = (moving.frame(0), torch.zeros(3, 48, 64))
    result = applied(Inverted())(moving, Edit(anchor=anchor), Run())
    assert np.array_equal(result.raw(1), ~moving.raw(1))
    assert not Analogy(editor=Inverted()).takes_anchor and Analogy(editor=Inverted(steadiness="painted")).takes_anchor


@pytest.mark.parametrize("editor", [Inverted(), RawInverted()])
def test_frame_by_frame_is_the_same(moving, editor):
    every, alone = (method(moving, Edit(), Run()) for method in (applied(editor), FrameByFrame(editor=editor)))
    assert all(np.array_equal(every.raw(index), alone.raw(index)) for index in range(6))


def test_deep_frames_stay_deep(moving):
    deep = Clip.from_array(np.stack([moving.raw(index).astype(np.uint16) * 257 for index in range(2)]))
    for editor in (Inverted(), RawInverted()):
        result = applied(editor)(deep, Edit(), Run())
        assert result.bits == 16 and np.array_equal(result.raw(1), ~deep.raw(1))
