"""The new object's shape, told from what the edit uncovered."""

import pytest
import torch

from flowpaint.align.shape import new_shape, shares
from flowpaint.errors import InputError
from flowpaint.warp import pixel_grid
from moving_discs import Discs, texture

SIZE = (120, 160)


def ground():
    x, y = pixel_grid(*SIZE)[0]
    return torch.stack([0.25 + 0.1 * torch.sin(x / 9), 0.45 + 0.1 * torch.sin(y / 7), 0.3 + 0 * x])


def ellipse(cx, cy, rx, ry):
    x, y = pixel_grid(*SIZE)[0]
    return ((((x - cx) / rx).square() + ((y - cy) / ry).square()) <= 1).float()[None, None]


def painted(mask, colour):
    return torch.where(
        mask[0] > 0.5, torch.tensor(colour)[:, None, None] + 0.04 * (texture(pixel_grid(*SIZE), 5) - 0.5), ground()
    )


def iou(a, b):
    return float(torch.minimum(a, b).sum() / torch.maximum(a, b).sum())


OLD = ellipse(80, 60, 22, 34)


@pytest.mark.parametrize("new", [ellipse(80, 72, 40, 18), ellipse(78, 62, 14, 20), ellipse(84, 58, 34, 44)])
def test_a_new_shape_is_found_whether_it_covers_or_uncovers(new):
    source, edited = painted(OLD, (0.8, 0.7, 0.7)), painted(new, (0.85, 0.5, 0.1))
    found = new_shape(source, edited, [OLD])
    assert iou(found, new) > 0.9
    assert set(found.unique().tolist()) <= {0.0, 1.0}


def test_an_editor_that_shifts_all_tones_is_not_taken_for_an_edit_everywhere():
    new = ellipse(80, 66, 30, 24)
    edited = 0.75 * painted(new, (0.85, 0.5, 0.1)) + 0.18
    assert iou(new_shape(painted(OLD, (0.8, 0.7, 0.7)), edited, [OLD]), new) > 0.85


def test_another_edit_apart_from_the_object_is_left_out():
    new, other = ellipse(80, 66, 30, 24), ellipse(145, 15, 10, 10)
    edited = torch.where(other[0] > 0.5, torch.tensor([0.1, 0.1, 0.9])[:, None, None], painted(new, (0.85, 0.5, 0.1)))
    found = new_shape(painted(OLD, (0.8, 0.7, 0.7)), edited, [OLD])
    assert iou(found, new) > 0.85 and (found * other).sum() == 0


def test_a_removed_object_leaves_hardly_any_shape():
    found = new_shape(painted(OLD, (0.8, 0.7, 0.7)), ground(), [OLD])
    assert found.sum() < 0.1 * OLD.sum()


def test_an_edit_that_changes_nothing_is_refused():
    source = painted(OLD, (0.8, 0.7, 0.7))
    with pytest.raises(InputError, match="nothing changed"):
        new_shape(source, source.clone(), [OLD])


def test_shapes_are_shared_among_several_objects():
    left, right = ellipse(40, 60, 15, 20), ellipse(120, 60, 15, 20)
    shape = torch.maximum(ellipse(44, 60, 20, 10), ellipse(118, 60, 24, 12))
    parts = shares(shape, [left, right])
    assert torch.equal(sum(parts), shape)
    assert torch.equal(parts[0], shape * (pixel_grid(*SIZE)[:, :1] < 80)) and parts[1].sum() > 0
    assert shares(shape, [left])[0] is shape


def test_discs_are_discs():
    discs = Discs(count=2)
    assert float(discs.masks[0].sum()) == pytest.approx(3.1416 * 14**2, rel=0.02)
