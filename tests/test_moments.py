"""What metrics are shown: in order, once, and never across a cut."""

import pytest
import torch

from flowpaint import seams
from flowpaint.errors import InputError
from flowpaint.moments import Case, Pass
from flowpaint.types import Clip

DIS = seams.build("flow", "dis", preset="ultrafast")


def frames(count, size=(48, 64), seed=0):
    return Clip.from_array(torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)))


class Counted:
    def __init__(self):
        self.calls = 0

    def __call__(self, a, b):
        self.calls += 1
        return DIS(a, b)


def test_moments_come_in_order_with_what_was_before():
    case = Case(source=frames(5), result=frames(5, seed=1), cuts=frozenset({3}))
    moments = list(Pass(flow=DIS)(case))
    assert [one.index for one in moments] == [0, 1, 2, 3, 4]
    assert [one.before.index if one.before else None for one in moments] == [None, 0, 1, None, 3]
    assert all(one.first.index == 0 for one in moments)
    assert torch.equal(moments[2].before.result, moments[1].result)
    assert all(one.before is None or one.before.before is None for one in moments), "a chain would hold every frame"


def test_flow_is_measured_once_and_only_when_asked():
    counted = Counted()
    moments = list(Pass(flow=counted)(Case(source=frames(3), result=frames(3, seed=1))))
    assert counted.calls == 0
    for _ in range(2):
        assert moments[1].flow.reverse is not None
    assert counted.calls == 1
    with pytest.raises(ValueError, match="no frame before"):
        _ = moments[0].flow


def test_the_flow_leads_from_the_frame_before_to_this_one():
    texture = torch.nn.functional.interpolate(torch.rand(1, 3, 20, 26, generator=torch.Generator().manual_seed(1)), (80, 104))[0]
    moved = torch.stack([texture[:, 8:72, 8:88], texture[:, 8:72, 5:85]])  # what was at x is at x + 3
    moment = list(Pass(flow=DIS)(Case(source=Clip.from_array(moved), result=Clip.from_array(moved))))[1]
    assert moment.flow.vectors[0, 0, 10:-10, 10:-10].median() == pytest.approx(3.0, abs=0.3)
    assert moment.flow.reverse[0, 0, 10:-10, 10:-10].median() == pytest.approx(-3.0, abs=0.3)


def test_only_some_frames_may_be_asked_for():
    case = Case(source=frames(6), result=frames(6, seed=1))
    moments = list(Pass(flow=DIS)(case, frames={2, 5}))
    assert [(one.index, one.before.index) for one in moments] == [(2, 1), (5, 4)]


def test_a_smaller_size_is_the_same_shape():
    mask = Clip.from_array(torch.ones(1, 3, 48, 64))
    case = Case(source=frames(2), result=frames(2), mask=mask)
    moment = next(iter(Pass(flow=DIS, side=24)(case)))
    assert moment.source.shape == moment.result.shape == (1, 3, 24, 32) and moment.mask.shape == (1, 1, 24, 32)
    assert Pass(flow=DIS, side=500).size(case) == (48, 64), "nothing is enlarged"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"result": frames(3)}, "source has 4 frames and the result 3"),
        ({"result": frames(4, (48, 60))}, "source is 64x48 and the result 60x48"),
        ({"result": frames(4), "mask": frames(2)}, "source has 4 frames and the mask 2"),
        ({"result": frames(4), "reference": frames(4, (24, 32))}, "source is 64x48 and the reference 32x24"),
    ],
)
def test_what_does_not_fit_is_named_on_both_sides(other, said):
    with pytest.raises(InputError, match=said):
        Case(source=frames(4), **other)
