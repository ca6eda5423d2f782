"""The nouns: shapes that bind letters, pictures that survive the round trip, clips that keep time."""

import pickle
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowpaint.errors import InputError, ShapeError
from flowpaint.types import Clip, ColourTags, Edit, Flow, Origin, check_shape, from_raw, to_raw

VFR = [Fraction(0), Fraction(1, 30), Fraction(1, 10), Fraction(1, 8), Fraction(3, 10)]  # seconds
END = Fraction(1, 2)


def numbered(num_frames, height=4, width=6, dtype=np.uint8):
    """Frames that hold their own number."""
    return np.arange(num_frames, dtype=dtype)[:, None, None, None].repeat(height, 1).repeat(width, 2).repeat(3, 3)


def filmed(times=VFR, end=END, start=Fraction(0), origin=None):
    frames = numbered(len(times))
    times = [start + time for time in times]
    tags = ColourTags(matrix=1, primaries=1, transfer=1, range=1)
    facts = {"aspect": Fraction(4, 3), "codec": "yuv420p", "colour": tags, "origin": origin}
    return Clip(lambda index: frames[index], times=times, end=start + end, height=4, width=6, **facts)


def shown(clip):
    return [int(clip.raw(index)[0, 0, 0]) for index in range(len(clip))]


# ------------------------------------------------------------------------------------------------------------------ shapes


def test_letters_bind_across_tensors():
    check_shape(image=(torch.zeros(2, 3, 4, 5), "N 3 H W"), flow=(torch.zeros(2, 2, 4, 5), "N 2 H W"))
    check_shape(scalar=(torch.tensor(1.0), ""))


@pytest.mark.parametrize(
    "tensors, named",
    [
        ({"image": (torch.zeros(3, 4), "3 H W")}, "image"),
        ({"image": (torch.zeros(4, 4, 5), "3 H W")}, "image"),
        ({"a": (torch.zeros(4, 5), "H W"), "b": (torch.zeros(5, 4), "H W")}, "b"),
        ({"square": (torch.zeros(4, 5), "H H")}, "square"),
        ({"image": (torch.zeros(3, 4, 5, 6), "3 H W")}, "image"),
    ],
)
def test_a_wrong_shape_is_named_with_what_was_expected(tensors, named):
    tensor, letters = tensors[named]
    with pytest.raises(ShapeError, match=rf"^{named} has shape {re.escape(str(tuple(tensor.shape)))}\. Expected \[{letters}\]"):
        check_shape(**tensors)


def test_flow_and_edit_check_themselves():
    Flow(vectors=torch.zeros(1, 2, 4, 5), visibility=torch.ones(1, 1, 4, 5))
    with pytest.raises(ShapeError, match="visibility"):
        Flow(vectors=torch.zeros(1, 2, 4, 5), visibility=torch.ones(1, 1, 5, 4))
    with pytest.raises(ShapeError, match="keyframe"):
        Edit(keyframes={0: torch.zeros(1, 3, 4, 5)})
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="strength"):
            Edit(strength=strength)
    assert Edit(strength=0.0).strength == 0 and Edit(strength=1.0).strength == 1


# ---------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("dtype, bits", [(np.uint8, 8), (np.uint16, 16)])
def test_every_level_survives_the_round_trip(dtype, bits):
    levels = np.arange(2**bits, dtype=dtype).reshape(2 ** (bits // 2), -1)
    raw = np.stack([levels, levels[::-1], levels.T], axis=-1)
    picture = from_raw(raw)
    assert picture.shape == (3, *levels.shape) and picture.dtype == torch.float32
    assert picture.min() == 0 and picture.max() == 1
    back = to_raw(picture, bits)
    assert back.dtype == dtype and np.array_equal(back, raw)


def test_pictures_are_scaled_channel_by_channel_and_clipped():
    raw = np.array([[[0, 51, 255]]], np.uint8)
    assert from_raw(raw)[:, 0, 0].tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert to_raw(torch.tensor([-1.0, 0.5, 7.0])[:, None, None]).tolist() == [[[0, 128, 255]]]
    assert to_raw(torch.tensor([-1.0, 0.5, 7.0])[:, None, None], 16).tolist() == [[[0, 32768, 65535]]]
    with pytest.raises(ShapeError, match="picture"):
        to_raw(torch.zeros(1, 3, 4, 4))


def test_reading_takes_no_part_in_the_caller_s_array():
    raw = np.full((4, 4, 3), 100, np.uint8)[:, ::-1]  # strides that torch refuses
    from_raw(raw).zero_()
    assert (raw == 100).all()


# ------------------------------------------------------------------------------------------------------------------- clips


@pytest.mark.parametrize("dtype, bits", [(np.uint8, 8), (np.uint16, 16)])
def test_a_clip_of_an_array(dtype, bits):
    clip = Clip.from_array(numbered(5, dtype=dtype), fps=30)
    assert (len(clip), clip.height, clip.width, clip.bits) == (5, 4, 6, bits)
    assert clip.times == tuple(Fraction(index, 30) for index in range(5)) and clip.end == Fraction(5, 30)
    assert clip.rate == 30 and clip.raw(3).dtype == dtype
    assert clip.frames.shape == (5, 3, 4, 6)
    assert torch.equal(clip.frames[2], torch.full((3, 4, 6), 2 / (2**bits - 1)))
    assert [float(frame.mean()) for frame in clip] == [float(clip.frame(index).mean()) for index in range(5)]
    assert "5 frames, 6x4, 30.000 fps" in repr(clip)


def test_a_clip_of_pictures():
    pictures = torch.linspace(0, 1, 2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    clip = Clip.from_array(pictures, fps=Fraction(30000, 1001))
    assert clip.rate == Fraction(30000, 1001) and clip.bits == 8
    assert (clip.frames - pictures).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    "array", [np.zeros((4, 6, 3), np.uint8), np.zeros((2, 4, 6, 4), np.uint8), np.zeros((2, 4, 6, 3), np.float32)]
)
def test_other_arrays_are_no_clips(array):
    with pytest.raises(InputError, match="is no clip"):
        Clip.from_array(array)
    with pytest.raises(ShapeError):
        Clip.from_array(torch.zeros(2, 1, 4, 6))
    with pytest.raises(InputError, match="at least one frame"):
        Clip.from_array(np.zeros((0, 4, 6, 3), np.uint8))


def test_slices_keep_their_instants_and_decode_nothing():
    def refuse(index):
        raise AssertionError("decoded")

    clip = Clip(refuse, times=VFR, end=END, height=4, width=6)
    part = clip[1:4]
    assert part.times == tuple(VFR[1:4]) and part.end == VFR[4]
    assert clip[2:].end == END and clip[-2:].times == tuple(VFR[3:])
    assert clip[[0, 2, 3]].end == VFR[4] and clip[[1, 4]].end == END


def test_slices_of_slices_show_the_right_frames():
    clip = filmed()
    assert shown(clip[1:]) == [1, 2, 3, 4] and shown(clip[1:][1:3]) == [2, 3]
    assert shown(clip[[0, 2, 4]]) == [0, 2, 4] and shown(clip[[0, 2, 4]][1:]) == [2, 4]
    assert shown(clip[::2]) == [0, 2, 4] and shown(clip[[-2, -1]]) == [3, 4]
    assert clip[[0, 2, 4]].times == (VFR[0], VFR[2], VFR[4])


@given(st.lists(st.integers(0, 19), min_size=1, max_size=8, unique=True).map(sorted), st.data())
def test_a_list_of_a_list_is_the_list_of_the_list(chosen, data):
    inner = data.draw(st.lists(st.integers(0, len(chosen) - 1), min_size=1, unique=True).map(sorted))
    clip = Clip.from_array(numbered(20))
    one, two = clip[chosen][inner], clip[[chosen[index] for index in inner]]
    assert shown(one) == shown(two) == [chosen[index] for index in inner]
    assert one.times == two.times


def test_slices_keep_the_facts():
    part = filmed()[1:3]
    assert (part.aspect, part.codec, part.bits) == (Fraction(4, 3), "yuv420p", 8)
    assert part.colour == ColourTags(matrix=1, primaries=1, transfer=1, range=1)


@pytest.mark.parametrize("empty", [slice(5, 9), slice(3, 3), []])
def test_an_empty_range_is_refused(empty):
    with pytest.raises(InputError, match="holds none of the 5 frames"):
        filmed()[empty]


def test_time_stamps_must_rise():
    frames = numbered(3)
    for times, end in (([0, 0, 1], 2), ([0, 2, 1], 3), ([0, 1, 2], 2)):
        with pytest.raises(InputError, match="must rise"):
            Clip(lambda index: frames[index], times=[Fraction(one) for one in times], end=Fraction(end), height=4, width=6)
    with pytest.raises(InputError, match="must rise"):
        filmed()[[3, 1]]
    with pytest.raises(InputError, match="one time stamp a frame"):
        Clip(lambda index: frames[index], times=VFR, end=END, height=4, width=6, indices=[0, 1])


def test_the_whole_file_is_told_from_a_part_of_it():
    clip = filmed(origin=Origin(path=Path("film.mkv")))
    assert clip[:].origin == clip.origin and clip[:].origin.whole
    part = clip[1:4].origin
    assert part.path == Path("film.mkv") and not part.whole
    assert not clip[1:4][:].origin.whole, "all of a part is no whole"
    assert clip[[0, 2]].origin is None, "sound cannot follow frames with gaps"
    assert clip[[1, 2, 3]].origin == part


@pytest.mark.parametrize("start", [Fraction(0), Fraction(7, 5)])
def test_the_frame_on_screen_at_a_time(start):
    clip = filmed(start=start)
    on_screen = {
        Fraction(0): 0,
        Fraction(1, 31): 0,
        Fraction(1, 30): 1,
        Fraction(1, 9): 2,
        Fraction(3, 10): 4,
        Fraction(49, 100): 4,
    }
    assert {time: clip.index_at(time) for time in on_screen} == on_screen
    for time in (Fraction(-1, 100), END):
        with pytest.raises(InputError, match=r"0\.500 s long"):
            clip.index_at(time)
    assert clip.rate == 10


def test_other_frames_in_the_same_time():
    clip = filmed(origin=Origin(path=Path("film.mkv")))[1:4]
    asked = []

    def inverted(index):
        asked.append(index)
        return 255 - clip.raw(index)

    edited = clip.with_frames(inverted)
    assert asked == []
    assert shown(edited) == [254, 253, 252] and asked == [0, 1, 2]
    assert (edited.times, edited.end, edited.aspect, edited.colour) == (clip.times, clip.end, clip.aspect, clip.colour)
    assert (edited.origin, edited.codec, edited.bits) == (clip.origin, clip.codec, clip.bits)


def test_flow_travels():
    flow = Flow(vectors=torch.rand(1, 2, 4, 5), visibility=torch.ones(1, 1, 4, 5))
    again = pickle.loads(pickle.dumps(flow))
    assert torch.equal(again.vectors, flow.vectors) and again.reverse is None


def test_words_hold_from_their_frame_on():
    edit = Edit(prompt="stone", prompts={3: "bronze", -2: "clay", 7: "glass"})
    assert [edit.words(frame) for frame in (-3, -2, 0, 2, 3, 6, 7, 90)] == [
        *("stone", "clay", "clay", "clay", "bronze", "bronze", "glass", "glass"),
    ]
    assert edit.at(3).prompt == "bronze" and not edit.at(3).prompts and Edit(prompt="stone").words(5) == "stone"
