"""Key frames where they are due, and nowhere else."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowpaint.errors import ConfigError
from flowpaint.plan import by_difference, by_tracking, difference, in_windows
from flowpaint.types import Flow

SIZE = (8, 12)


def flow(dx=0.0, visible=1.0):
    """To the frame before: everything moves by dx; the left `visible` of the picture is seen there."""
    seen = torch.zeros(1, 1, *SIZE)
    seen[..., : round(visible * SIZE[1])] = 1
    return Flow(vectors=torch.tensor([dx, 0.0])[None, :, None, None].expand(1, 2, *SIZE), visibility=seen)


def indices(keys):
    return [key.index for key in keys]


# ---------------------------------------------------------------------------------------------------------------- tracking


def test_a_still_needs_one_key_frame():
    keys = by_tracking(flow() for _ in range(50))
    assert indices(keys) == [0] and keys[0].reason == "first frame"
    assert indices(by_tracking([])) == [0], "a single frame"


def test_what_is_lost_altogether_makes_a_key_frame_at_once():
    keys = by_tracking([flow(), flow(), flow(visible=0.0), flow(), flow()])
    assert indices(keys) == [0, 3] and "100%" in keys[1].reason and "frame 0" in keys[1].reason


def test_losses_add_up_until_too_much_is_gone():
    # Each step uncovers another sixth at the left: what is seen moves right and out.
    step = Flow(vectors=flow(-2.0).vectors, visibility=1 - flow(visible=1 / 6).visibility)
    # After k steps k / 6 are lost: more than 0.4 of it at the third; then it starts anew.
    assert indices(by_tracking([step] * 10, lost=0.4)) == [0, 3, 6, 9]
    assert indices(by_tracking([step] * 10, lost=0.7)) == [0, 5, 10]


def test_what_was_lost_stays_lost():
    """The same half hidden twice is one half; the other half hidden next makes the whole."""
    left, right = flow(visible=0.5), Flow(vectors=flow().vectors, visibility=1 - flow(visible=0.5).visibility)
    assert [key.reason for key in by_tracking([left, left, left, flow()], lost=0.6)] == ["first frame", "last frame"]
    keys = by_tracking([left, flow(), right, flow()], lost=0.6)
    assert indices(keys) == [0, 3] and "100%" in keys[1].reason


def test_exactly_the_share_is_not_too_much():
    half = flow(visible=0.5)
    assert by_tracking([half, flow()], lost=0.5)[-1].reason == "last frame"
    assert "50%" in by_tracking([half, flow()], lost=0.49)[-1].reason


def test_the_last_frame_is_a_key_where_half_the_share_is_gone_by_then():
    third = flow(visible=8 / 12)
    assert indices(by_tracking([third, flow(), flow()], lost=0.6)) == [0, 3]
    assert indices(by_tracking([third, flow(), flow()], lost=0.7)) == [0]
    assert indices(by_tracking([flow(visible=0.0)], lost=0.5)) == [0, 1], "once"
    assert indices(by_tracking([flow(), third, flow()], longest=3, lost=0.6)) == [0, 3], "once"


def test_no_key_frame_serves_longer_than_allowed():
    keys = by_tracking([flow() for _ in range(20)], longest=6)
    assert indices(keys) == [0, 6, 12, 18] and "6 frames" in keys[1].reason


# -------------------------------------------------------------------------------------------------------------- difference


@given(
    st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=120),
    st.integers(1, 8),
    st.integers(0, 20),
)
def test_key_frames_by_difference(differences, shortest, more):
    longest = 2 * shortest + more
    keys = by_difference(differences, shortest=shortest, longest=longest)
    found = indices(keys)
    last = len(differences) - 1
    assert found[0] == 0 and found[-1] == last and found == sorted(set(found))
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap <= longest for gap in gaps)
    assert all(gap >= shortest for gap in gaps) or gaps == [last], "only a clip that is shorter itself has a shorter gap"
    assert len(found) <= 2 + last // shortest


def test_the_largest_differences_win():
    differences = [0.0] * 61
    for index, value in ((20, 0.5), (21, 0.9), (40, 0.7)):
        differences[index] = value
    assert indices(by_difference(differences, shortest=5, longest=25)) == [0, 21, 40, 60]


def test_a_short_clip_has_its_ends():
    assert indices(by_difference([0.0])) == [0]
    assert indices(by_difference([0.0, 0.3, 0.9, 0.1])) == [0, 3]
    assert by_difference([0.0, 1.0, 0.0])[-1].reason == "last frame"


def test_difference_of_frames():
    a = torch.full((2, 3, 12, 15), 0.5)
    b = a + torch.tensor([0.0, 0.1])[:, None, None, None]
    assert difference(a, b).tolist() == pytest.approx([0.0, 0.04])
    one, two = torch.rand(2, 1, 3, 20, 24, generator=torch.Generator().manual_seed(4))
    pictures = [(2 * x[0]).permute(1, 2, 0).numpy() for x in (one, two)]
    blurred = [cv2.GaussianBlur(x, (9, 9), 1.7, borderType=cv2.BORDER_REPLICATE) for x in pictures]
    assert difference(one, two).item() == pytest.approx(np.square(blurred[0] - blurred[1]).mean(), rel=1e-4)


def test_the_reason_tells_the_difference():
    keys = by_difference([0.0] * 10 + [0.125] + [0.0] * 15)
    assert indices(keys) == [0, 10, 25] and "0.1250" in keys[1].reason


@pytest.mark.parametrize("shortest, longest", [(0, 10), (-1, 10), (6, 11), (1, 1), (5, 5)])
def test_gaps_that_cannot_be_met_are_refused(shortest, longest):
    with pytest.raises(ConfigError, match="cannot be placed"):
        by_difference([0.0] * 30, shortest=shortest, longest=longest)


def released(differences, shortest, longest):
    """FRESCO's choice as its code makes it, by its description: suppressed places are marked, the largest anywhere is next."""
    last = len(differences) - 1
    marked = [-1.0 if i < shortest or i > last - shortest else value for i, value in enumerate(differences)]
    keys = [0, last]
    while max(b - a for a, b in pairwise(sorted(keys))) > longest and max(marked) > -1:
        chosen = max(range(last + 1), key=lambda i: (marked[i], -i))
        keys.append(chosen)
        marked[max(0, chosen - shortest) : chosen + shortest] = [-1.0] * (chosen + shortest - max(0, chosen - shortest))
        marked = marked[: last + 1]
    return sorted(set(keys))


@pytest.mark.parametrize("seed", range(30))
def test_the_released_placing(seed):
    rng = np.random.default_rng(seed)
    differences, shortest = rng.random(int(rng.integers(30, 120))).tolist(), int(rng.integers(1, 9))
    longest = 2 * shortest + int(rng.integers(0, 12))
    found = indices(by_difference(differences, shortest=shortest, longest=longest, placing="official"))
    assert found == released(differences, shortest, longest)


def test_placings_differ_where_they_should():
    differences = [0.0] * 61
    differences[10], differences[5], differences[40] = 0.9, 0.8, 0.1
    places = {one: indices(by_difference(differences, longest=40, placing=one)) for one in ("gaps", "paper", "official")}
    assert places["gaps"] == [0, 10, 40, 60], "the gap before 10 is narrow enough"
    assert places["paper"] == [0, 5, 10, 40, 60]
    assert places["official"] == [0, 10, 40, 60], "5 is less than shortest + 1 before 10"
    with pytest.raises(ConfigError, match="placed by"):
        by_difference(differences, placing="anywhere")


# ------------------------------------------------------------------------------------------------------ windows of FlowVid


@pytest.mark.parametrize("count", [2, 3, 15, 16, 17, 31, 32])
def test_windows_begin_with_the_last_frame_of_the_one_before(count):
    keys = list(range(0, 4 * count, 4))
    windows = in_windows(keys, 16)
    assert [one for place, window in enumerate(windows) for one in window[min(place, 1) :]] == keys
    assert all(len(window) == 16 for window in windows[:-1]) and 2 <= len(windows[-1]) <= 16
    assert all(before[-1] == after[0] for before, after in pairwise(windows))


def test_one_frame_makes_no_window_and_a_window_of_one_nothing_new():
    assert in_windows([7], 16) == [] == in_windows([], 4)
    with pytest.raises(ConfigError, match="hold nothing new"):
        in_windows([1, 2], 1)


def test_no_key_frame_comes_before_the_shortest_distance():
    away = Flow(vectors=torch.zeros(1, 2, 8, 8), visibility=torch.zeros(1, 1, 8, 8))  # nothing is ever seen again
    for shortest in (1, 3):
        found = [one.index for one in by_tracking([away] * 12, lost=0.1, shortest=shortest)]
        assert found == list(range(0, 13, shortest))


def test_a_small_part_that_is_lost_asks_for_a_key_frame():
    """A hand moves while all else stands still."""
    seen = torch.ones(1, 1, 64, 96)
    seen[..., 16:32, 32:48] = 0
    flows = [
        Flow(vectors=torch.zeros(1, 2, 64, 96), visibility=one) for one in (torch.ones_like(seen), seen, torch.ones_like(seen))
    ]
    assert [key.index for key in by_tracking(flows, lost=0.25)] == [0]
    assert [key.index for key in by_tracking(flows, lost=0.25, lost_locally=0.85)] == [0, 2]
    assert "part" in by_tracking(flows, lost_locally=0.85)[1].reason
