"""Masks of a whole clip from one: chunk by chunk, kept, and checked before any work."""

import pytest
import torch

from flowpaint.align.masks import Masks, check_marked
from flowpaint.errors import InputError
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip

COUNT, SIZE = 60, (8, 12)


class Stepping:
    """Moves the mask by a pixel a frame, round and round; notes what it is shown."""

    def __init__(self):
        self.seen = []

    def __call__(self, frames, hint=None):
        self.seen.append([round(float(one.mean()) * 100) for one in frames])
        return torch.cat([torch.roll(hint, step, dims=-1) for step in range(len(frames))])


def numbered():
    """A clip whose frame k is grey, k hundredths bright."""
    return Clip.from_array((torch.arange(COUNT)[:, None, None, None] / 100).expand(-1, 3, *SIZE))


def marked():
    mask = torch.zeros(1, 3, *SIZE)
    mask[..., 2:6, 1:4] = 1
    return Clip.from_array(mask)


def masks(segmenter, store):
    return Masks(clip=numbered(), marked=marked(), segmenter=segmenter, size=SIZE, name="object 0", run=Run(store=store))


def test_a_mask_is_carried_in_chunks_each_begun_with_the_last_frame_of_the_one_before():
    segmenter = Stepping()
    found = masks(segmenter, MemoryStore()).of(55)
    expected = torch.roll(marked().frame(0)[None, :1], 55, dims=-1)
    assert torch.equal(found, expected)
    assert [(one[0], one[-1]) for one in segmenter.seen] == [(0, 23), (23, 46), (46, 59)]


def test_finished_masks_are_not_made_again():
    store = MemoryStore()
    masks(Stepping(), store).of(30)
    segmenter = Stepping()
    again = masks(segmenter, store)
    assert torch.equal(again.of(12), torch.roll(marked().frame(0)[None, :1], 12, dims=-1)) and not segmenter.seen
    again.of(50)
    assert [one[0] for one in segmenter.seen] == [46]


def test_masks_of_all_frames_are_taken_as_they_are():
    every = torch.rand(COUNT, 3, *SIZE).round()
    whole = Masks(
        clip=numbered(), marked=Clip.from_array(every), segmenter=Stepping(), size=SIZE, name="x", run=Run(store=MemoryStore())
    )
    assert torch.equal(whole.of(41)[0], every[41, :1])


@pytest.mark.parametrize("count, at, words", [(3, 0, "3 masks where the shot has 60"), (1, 0, None), (COUNT, 7, None)])
def test_marks_are_checked(count, at, words):
    given = Clip.from_array(marked().frames.expand(count, -1, -1, -1))
    if words is None:
        check_marked((given,), numbered(), at=at)
        return
    with pytest.raises(InputError, match=words):
        check_marked((given,), numbered(), at=at)


def test_of_several_objects_the_one_that_is_missing_is_named():
    empty = Clip.from_array(torch.zeros(1, 3, *SIZE))
    with pytest.raises(InputError, match="Object 2 is nowhere to be seen"):
        check_marked((marked(), empty), numbered(), at=0)
