"""What every propagator must do, whoever wrote it."""

import pickle

import numpy as np
import pytest
import torch

import ebsynth_program
from flowpaint import seams
from flowpaint.errors import InputError
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip, Edit, from_raw, to_raw

NUM_FRAMES = 7


EIGHT_BITS = {"ebsynth"}  # programs that read and write no more
# A program is started for each frame and direction: its turn comes with the slow tests.
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name == "ebsynth")) for name in seams.names("propagator")]


@pytest.fixture(params=NAMES)
def propagate(request, tmp_path, monkeypatch):
    if request.param == "ebsynth":
        ebsynth_program.install(tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return seams.build("propagator", request.param)


def graded(picture):
    matrix = torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.6, 0.2], [0.0, 0.3, 0.5]])
    return torch.einsum("ij,...jhw->...ihw", matrix, picture.clamp(1e-4, 1) ** 0.7)


def pan(height=36, width=48, num_frames=NUM_FRAMES, dtype=np.uint8):
    """Smooth noise that moves (1, 2) px a frame."""
    noise = torch.rand(1, 3, height // 4 + 8, width // 4 + 8, generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.interpolate(noise, scale_factor=4, mode="bilinear")[0]
    frames = [wide[:, 16 - 2 * i : 16 - 2 * i + height, 16 - i : 16 - i + width] for i in range(num_frames)]
    bits = 8 if dtype == np.uint8 else 16
    return Clip.from_array(np.stack([to_raw(one, bits) for one in frames]), fps=25)


def keys_of(clip, *indices):
    return {index: graded(clip.frame(index)) for index in indices}


def all_raw(clip):
    return [clip.raw(index) for index in range(len(clip))]


def same(one, two):
    return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


# ----------------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("indices", [(0,), (3,), (6,), (1, 5), (0, 1, 6)])
def test_key_frames_are_returned_exactly(propagate, indices):
    clip = pan()
    keys = keys_of(clip, *indices)
    edited = propagate(clip, keys, Edit(), Run())
    for index in indices:
        assert np.array_equal(edited.raw(index), to_raw(keys[index]))


@pytest.mark.parametrize("extent", ["auto", "global"])
def test_a_still_clip_stays_still(propagate, still, extent):
    key = graded(still.frame(0))
    edited = propagate(still[:4], {0: key}, Edit(extent=extent), Run())
    assert (edited.frames - from_raw(to_raw(key))).abs().max() < 1.5 / 255


def test_the_clip_s_facts_are_kept(propagate):
    clip = pan()[1:6]
    edited = propagate(clip, keys_of(clip, 2), Edit(), Run())
    assert (len(edited), edited.height, edited.width) == (5, 36, 48)
    assert (edited.times, edited.end, edited.bits, edited.colour) == (clip.times, clip.end, clip.bits, clip.colour)
    assert edited.times[0] == pan().times[1]


def test_nothing_is_read_before_a_frame_is_asked_for(propagate):
    def refuse(index):
        raise AssertionError("decoded")

    clip = pan()
    keys = keys_of(clip, 0)
    propagate(clip.with_frames(refuse), keys, Edit(), Run())


@pytest.mark.parametrize("height, width", [(16, 16), (37, 53), (17, 90)])
def test_any_size(propagate, height, width):
    clip = pan(height, width, num_frames=3)
    edited = propagate(clip, keys_of(clip, 0), Edit(), Run())
    assert edited.frames.shape == (3, 3, height, width) and edited.frames.isfinite().all()


def test_one_frame(propagate):
    clip = pan(num_frames=1)
    keys = keys_of(clip, 0)
    assert np.array_equal(propagate(clip, keys, Edit(), Run()).raw(0), to_raw(keys[0]))


def test_deep_clips_stay_deep(propagate):
    clip = pan(num_frames=3, dtype=np.uint16)
    keys, run = keys_of(clip, 0), Run()
    edited = propagate(clip, keys, Edit(), run)
    assert edited.bits == 16 and all(raw.dtype == np.uint16 for raw in all_raw(edited))
    assert np.array_equal(edited.raw(0), to_raw(keys[0], 16))
    if seams.to_dict(propagate)["part"] in EIGHT_BITS:
        assert "8 bits" in run.notes.warnings[0]
    else:
        assert len(np.unique(edited.raw(2) % 257)) > 100, "no eight bits on the way"


# ------------------------------------------------------------------------------------------------- order, repeats, resuming


def test_the_same_again(propagate):
    first, second = (all_raw(propagate(pan(), keys_of(pan(), 0, 4), Edit(), Run())) for _ in range(2))
    assert same(first, second)


def test_any_order_shows_the_same_frames(propagate):
    clip, keys = pan(), keys_of(pan(), 0, 4)
    in_order = all_raw(propagate(clip, keys, Edit(), Run(chunk=2)))
    edited = propagate(clip, keys, Edit(), Run(chunk=2))
    for index in (5, 2, 6, 0, 3, 3, 1, 4):
        assert np.array_equal(edited.raw(index), in_order[index])


def test_looking_on_leaves_no_trace(propagate):
    clip, keys = pan(), keys_of(pan(), 0)
    edited = propagate(clip, keys, Edit(), Run())
    before = edited.raw(3).copy()
    edited.raw(5)
    assert np.array_equal(edited.raw(3), before)


def test_a_frame_given_out_is_the_caller_s(propagate):
    wanted = all_raw(propagate(pan(), keys_of(pan(), 0), Edit(), Run()))
    edited = propagate(pan(), keys_of(pan(), 0), Edit(), Run())
    for index in range(3):
        raw = edited.raw(index)
        assert np.array_equal(raw, wanted[index])
        if raw.flags.writeable:
            raw[:] = 0


@pytest.mark.slow
@pytest.mark.parametrize("stop, offset", [(1, 0), (2, 0), (3, 5), (4, 0), (4, 5)])
def test_a_killed_run_goes_on_bit_for_bit(propagate, stop, offset):
    """Another process: new objects, the same store, reading on from the segment that was cut off."""
    name = seams.to_dict(propagate)["part"]
    whole = all_raw(propagate(pan(), keys_of(pan(), 0, 5), Edit(), Run(chunk=2, offset=offset)))
    store = MemoryStore()
    edited = propagate(pan(), keys_of(pan(), 0, 5), Edit(), Run(chunk=2, offset=offset, store=store))
    for index in range(stop + 1):
        edited.raw(index)
    again = seams.build("propagator", name)(pan(), keys_of(pan(), 0, 5), Edit(), Run(chunk=2, offset=offset, store=store))
    start = max(0, stop - (stop + offset) % 2)
    assert same([again.raw(index) for index in range(start, NUM_FRAMES)], whole[start:])


# ------------------------------------------------------------------------------------------------------------------ errors


def test_no_key_frame_is_refused(propagate):
    with pytest.raises(InputError, match="No key frame"):
        propagate(pan(), {}, Edit(), Run())


@pytest.mark.parametrize("index", [-1, NUM_FRAMES, 99])
def test_a_key_frame_outside_the_clip_is_refused(propagate, index):
    with pytest.raises(InputError, match=str(index)):
        propagate(pan(), {0: graded(pan().frame(0)), index: graded(pan().frame(0))}, Edit(), Run())


def test_a_key_picture_of_another_size_is_refused(propagate):
    clip = pan()
    with pytest.raises(InputError):
        all_raw(propagate(clip, {0: torch.zeros(3, 36, 44)}, Edit(), Run())[:2])


def test_is_a_recipe(propagate):
    assert isinstance(propagate, seams.Propagator)
    assert seams.from_dict(seams.to_dict(propagate)) == propagate
    assert pickle.loads(pickle.dumps(propagate)) == propagate
    assert len(pickle.dumps(propagate)) < 10_000
