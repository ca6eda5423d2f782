"""The editor that removes without a network: where it fills, what it refuses."""

import pytest
import torch

from flowpaint import seams
from flowpaint.errors import ConfigError, InputError
from flowpaint.parts.editors import FillEditor
from flowpaint.types import Clip, Edit


def scene(height=64, width=80):
    """A red square over a ground of stripes, the ground alone, and the square's mask as a clip of two frames."""
    ground = (0.4 + 0.2 * (torch.arange(width) % 8 < 4)).float().expand(3, height, width).clone()
    picture, mask = ground.clone(), torch.zeros(2, 3, height, width)
    picture[:, 24:40, 32:48] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    mask[0, 0, 24:40, 32:48] = 1  # of its first frame the first channel counts, and nothing else
    mask[1] = 1
    return picture, ground, Clip.from_array(mask)


def test_an_object_is_gone_and_its_ground_goes_on():
    picture, ground, mask = scene()
    made = FillEditor()(picture, Edit(mask=mask, remove=True), torch.Generator().manual_seed(3))
    assert (made - ground).abs().max() < 0.02 < (picture - ground).abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("grow", [1, 5, 15])
def test_the_mask_grows_by_a_square(grow):
    picture, _, mask = scene()
    picture = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(1))
    made = FillEditor(grow=grow)(picture, Edit(mask=mask, remove=True), torch.Generator())
    changed = (made != picture).any(dim=0)
    reach = grow // 2
    assert changed[24 - reach : 40 + reach, 32 - reach : 48 + reach].all()
    assert changed.sum() == (16 + 2 * reach) ** 2


def test_half_the_strength_is_half_the_way():
    picture, ground, mask = scene()
    made = FillEditor()(picture, Edit(mask=mask, remove=True, strength=0.5), torch.Generator())
    assert (made - 0.5 * (picture + ground)).abs().max() < 0.02


def test_what_it_refuses():
    picture, _, _ = scene()
    nothing, all_of_it = (Clip.from_array(torch.full((1, 3, 64, 80), value)) for value in (0.0, 1.0))
    for mask, words in ((None, "Give a mask"), (nothing, "is empty"), (all_of_it, "whole picture")):
        with pytest.raises(InputError, match=words):
            FillEditor()(picture, Edit(mask=mask, remove=True), torch.Generator())
    for grow in (0, 4):
        with pytest.raises(ConfigError, match="odd"):
            FillEditor(grow=grow)


def test_it_says_what_it_is_for():
    assert seams.build("editor", "fill").tasks == {"removal"} and Edit(remove=True).task in FillEditor.tasks
