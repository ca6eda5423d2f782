"""Frames that lean on the one before, in any order, after any interruption."""

import numpy as np
import pytest

from flowpaint.parts.propagate.chain import Chain
from flowpaint.seams import MemoryStore, Run


class Sums:
    """Frame i is a hash of all numbers up to i; counts what was computed."""

    def __init__(self):
        self.asked = []

    def __call__(self, index, state):
        self.asked.append(index)
        before = int(state["sum"]) if state else 1
        total = np.asarray((31 * before + index) % 65521)
        return np.full((2, 2, 3), total % 251, np.uint8), {"sum": total}


def frames(chain, order):
    return [int(chain.read(index)[0, 0, 0]) for index in order]


def truth(num):
    return frames(Chain(Sums(), Run(chunk=1000), "x"), range(num))


def test_reading_onward_computes_each_frame_once():
    sums = Sums()
    assert frames(Chain(sums, Run(chunk=4), "x"), [0, 0, 1, 2, 2, 5, 9]) == [truth(10)[i] for i in (0, 0, 1, 2, 2, 5, 9)]
    assert sums.asked == list(range(10))


@pytest.mark.parametrize("offset", [0, 1, 3, 6])
@pytest.mark.parametrize("order", [[9, 0, 5], [19, 18, 17, 3], [4, 3, 8, 7, 12, 1], list(range(19, -1, -1))])
def test_any_order_gives_the_same_frames(order, offset):
    wanted = truth(20)
    assert frames(Chain(Sums(), Run(chunk=4, offset=offset), "x"), order) == [wanted[index] for index in order]


def test_reading_back_starts_at_the_last_checkpoint_before():
    sums = Sums()
    chain = Chain(sums, Run(chunk=4), "x")
    chain.read(11)
    sums.asked.clear()
    chain.read(10)
    assert sums.asked == [8, 9, 10]
    sums.asked.clear()
    chain.read(8)
    assert sums.asked == [8], "the checkpoint itself needs nothing before it"
    sums.asked.clear()
    chain.read(7)
    assert sums.asked == [4, 5, 6, 7]


@pytest.mark.parametrize("killed_after", [3, 4, 5, 8, 9, 17])
def test_a_killed_run_goes_on_at_its_checkpoint(killed_after):
    store, wanted = MemoryStore(), truth(20)
    Chain(Sums(), Run(chunk=4, store=store), "x").read(killed_after)
    sums = Sums()
    again = Chain(sums, Run(chunk=4, store=store), "x")
    start = killed_after // 4 * 4  # the writer finished the segments before
    assert frames(again, range(start, 20)) == wanted[start:]
    assert sums.asked == list(range(start, 20))


def test_checkpoints_are_counted_in_frames_of_the_film():
    store, sums = MemoryStore(), Sums()
    Chain(sums, Run(chunk=4, offset=6, store=store), "x").read(9)  # frames 6..15 of the film; 8 and 12 begin segments
    assert store.get("x/2") is not None and store.get("x/6") is not None
    assert all(store.get(f"x/{index}") is None for index in (0, 1, 3, 4, 5, 7, 8))


def test_only_the_last_checkpoints_are_kept():
    store = MemoryStore()
    Chain(Sums(), Run(chunk=4, store=store), "x").read(40)
    assert [index for index in range(41) if store.get(f"x/{index}") is not None] == [32, 36, 40]


def test_two_chains_do_not_meet():
    run = Run(chunk=2)
    one, two = (
        Chain(Sums(), run, "one"),
        Chain(lambda index, state: (np.full((2, 2, 3), 7, np.uint8), {"sum": np.asarray(5)}), run, "two"),
    )
    two.read(8)
    assert frames(one, [5, 3]) == [truth(6)[5], truth(6)[3]]


def test_what_a_frame_hands_on_is_the_same_in_any_order():
    chain = Chain(Sums(), Run(chunk=4), "x")
    forward = [int(chain.state(index)["sum"]) for index in range(12)]
    assert [int(chain.state(index)["sum"]) for index in (11, 3, 7, 0)] == [forward[index] for index in (11, 3, 7, 0)]
    assert chain.read(5)[0, 0, 0] == forward[5] % 251
