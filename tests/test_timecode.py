"""Times as people write them, against instants worked out by hand."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpaint import timecode
from flowpaint.errors import InputError
from flowpaint.types import Clip

TENTHS = Clip.from_array(np.zeros((25, 16, 16, 3), np.uint8), fps=10)
UNEVEN = Clip(
    lambda index: np.zeros((16, 16, 3), np.uint8),
    times=[Fraction(one) for one in ("0.5", "0.6", "1.5", "1.6")],
    end=Fraction(2),
    height=16,
    width=16,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("48", 48),
        (48, 48),
        (" 0 ", 0),
        ("3.5s", Fraction(7, 2)),
        (".25s", Fraction(1, 4)),
        ("00:01:02.500", Fraction(125, 2)),
        ("1:02", 62),
        ("10:00:00", 36000),
    ],
)
def test_reads_what_people_write(text, meant):
    assert timecode.parse(text) == meant
    assert isinstance(timecode.parse(text), int) == str(text).strip().isdigit()


@pytest.mark.parametrize("text", ["", "-1", "1.5", "s", "3,5s", "00:60:00", "0:0:60", "1:2:3:4", "٣", "1e3s", "nan", "3 s", "½s"])
def test_refuses_what_is_no_time(text):
    with pytest.raises(InputError, match="is not a time"):
        timecode.parse(text)


@pytest.mark.parametrize(("time", "frame"), [("0", 0), ("24", 24), ("0s", 0), ("1s", 10), ("1.05s", 10), ("00:00:02.4", 24)])
def test_finds_the_frame_on_screen(time, frame):
    assert timecode.frame_at(time, TENTHS) == frame


def test_seconds_count_from_the_first_frame_of_uneven_ones():
    assert [timecode.frame_at(f"{one}s", UNEVEN) for one in ("0", "0.05", "0.1", "0.9", "1", "1.1", "1.49")] == [
        0,
        0,
        1,
        1,
        2,
        3,
        3,
    ]


@pytest.mark.parametrize("time", ["25", "2.5s", "99:00"])
def test_refuses_times_outside(time):
    with pytest.raises(InputError):
        timecode.frame_at(time, TENTHS)


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (None, None, range(25)),
        ("5", "7", range(5, 7)),
        ("0.5s", "0.71s", range(5, 8)),
        (None, "2.5s", range(25)),
        (None, 25, range(25)),
        ("2.4s", None, range(24, 25)),
    ],
)
def test_spans(start, end, frames):
    assert timecode.span(TENTHS, start, end) == frames


@pytest.mark.parametrize(("start", "end"), [("5", "5"), ("7", "5"), (None, "0"), (None, "26"), (None, "2.51s"), ("25", None)])
def test_refuses_spans_that_hold_nothing_or_reach_beyond(start, end):
    with pytest.raises(InputError):
        timecode.span(TENTHS, start, end)


@given(st.integers(0, 10**9))
def test_a_clock_reads_back(milliseconds):
    seconds = Fraction(milliseconds, 1000)
    assert timecode.parse(timecode.clock(seconds)) == seconds


@given(st.integers(0, 24), st.integers(0, 24))
def test_two_spans_that_meet_share_no_frame(first, second):
    cut, end = sorted((first, second))
    if 0 < cut < end:
        before, after = timecode.span(TENTHS, None, f"{cut / 10}s"), timecode.span(TENTHS, f"{cut / 10}s", end)
        assert before.stop == after.start == cut


@pytest.mark.parametrize("text", ["48", "0s", "x"])
def test_a_length_of_time_is_seconds_above_zero(text):
    with pytest.raises(InputError):
        timecode.duration(text)
    assert timecode.duration("2s") == 2
