"""The whole way from file to file in several threads: equal frames for any number of them, errors, ends, times."""

import json
import threading
import time
from contextlib import contextmanager
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

import flowpaint
from conftest import smooth_texture
from flowpaint import api, video
from flowpaint.api import watch
from flowpaint.errors import WorkError
from flowpaint.types import Clip, to_raw
from flowpaint.video import encode

NUM_FRAMES = 10


@pytest.fixture(autouse=True)
def no_thread_stays():
    before, counts = {*threading.enumerate()}, (torch.get_num_threads(), cv2.getNumThreads())
    yield
    assert {one.name for one in threading.enumerate() if one not in before} == set()
    assert (torch.get_num_threads(), cv2.getNumThreads()) == counts


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A moving texture, large enough for torch and OpenCV to share out among threads."""
    texture = smooth_texture(144, 224, seed=4, waves=9)
    clip = Clip.from_array(np.stack([to_raw(texture.roll((2 * index, index), dims=(-1, -2))) for index in range(NUM_FRAMES)]))
    path = tmp_path_factory.mktemp("film") / "in.mp4"
    video.write(clip, path)
    return path


@contextmanager
def threads(count):
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def frames_of(path):
    clip = video.read(path)
    return np.stack([clip.raw(index) for index in range(len(clip))])


@pytest.mark.parametrize("look", ["sepia", "teal and orange", "pencil", "van gogh", "hand"])
def test_frames_and_numbers_are_equal_for_any_number_of_threads(film, tmp_path, look):
    found = {}
    for count in (1, 2, 4):
        out = tmp_path / f"{count}.mkv"
        with threads(count):
            if look == "hand":
                picture = 1 - video.read(film).frame(0).flip(0) ** 2
                result = flowpaint.propagate(film, {0: picture})
            else:
                result = flowpaint.edit(film, look)
            result.save(out)
        found[count] = frames_of(out), out.read_bytes(), result.report["frames"]
    for count in (2, 4):
        assert np.array_equal(found[count][0], found[1][0])
        assert found[count][1:] == found[1][1:], "the encoder and the measurements, too"


def test_stages_are_timed_where_they_run_and_the_total_is_what_passed(film, tmp_path):
    started = time.perf_counter()
    result = flowpaint.edit(film, "sepia")
    result.save(tmp_path / "out.mp4")
    passed = time.perf_counter() - started
    seconds = result.report["seconds"]
    assert {"read", "decode", "shots", "edit", "measure", "convert", "encode", "write", "report", "total"} == {*seconds}
    assert 0 < seconds["total"] <= passed
    assert seconds["total"] == pytest.approx(passed, rel=0.5)
    assert result.report["frames_per_second"] == pytest.approx(NUM_FRAMES / seconds["total"], rel=0.01)


def test_progress_counts_every_frame_once_in_order(film, tmp_path):
    told = []
    flowpaint.edit(film, "sepia").save(tmp_path / "out.mp4", progress=lambda *one: told.append(one))
    writes = [done for stage, done, _ in told if stage == "write"]
    assert writes == [*range(1, NUM_FRAMES + 1), NUM_FRAMES]  # the last one again when its segment is closed
    assert {total for _, _, total in told} == {NUM_FRAMES}


def test_progress_and_shown_come_in_the_calling_thread(film, tmp_path):
    here, seen = threading.current_thread(), []
    flowpaint.edit(film, "sepia").save(
        tmp_path / "out.mp4",
        progress=lambda *_: seen.append(threading.current_thread() is here),
        shown=lambda *_: seen.append(threading.current_thread() is here),
    )
    assert len(seen) > 2 * NUM_FRAMES and all(seen)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), WorkError("The light went out. Wait.")])
@pytest.mark.parametrize("stage", ["measure", "convert", "encode", "progress"])
def test_an_error_in_any_thread_comes_out_and_the_run_goes_on(film, tmp_path, monkeypatch, stage, error):
    """In the middle of the second of three segments: the first stays, and the result is the undisturbed one."""
    monkeypatch.setattr(api.result, "CHUNK", 4)
    calls = iter(range(1000))

    def failing(work):
        def run(*given, **named):
            if next(calls) == 6:
                raise error
            return work(*given, **named)

        return run

    with monkeypatch.context() as patch:
        if stage == "measure":
            patch.setattr(watch.Measurements, "see", failing(watch.Measurements.see))
        elif stage == "convert":
            patch.setattr(encode, "from_rgb", failing(encode.from_rgb))
        elif stage == "encode":
            patch.setattr(encode._Segment, "add", failing(encode._Segment.add))
        progress = failing(lambda *_: None) if stage == "progress" else None
        with pytest.raises(type(error)):
            flowpaint.edit(film, "sepia").save(tmp_path / "a.mkv", progress=progress)
    assert len(list((tmp_path / "a.mkv.run" / "segments").glob("*.mkv"))) == 1
    assert not list((tmp_path / "a.mkv.run" / "segments").glob("*.part"))
    again, saving = api.resume(tmp_path / "a.mkv.run")
    again.save(**saving)
    whole = flowpaint.edit(film, "sepia")
    whole.save(tmp_path / "b.mkv")
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert again.report["frames"] == whole.report["frames"]


def test_a_full_disk_in_the_encoder_is_said(film, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encode, "_mux", full)
    with pytest.raises(WorkError, match="disk is full"):
        flowpaint.edit(film, "sepia").save(tmp_path / "out.mp4")


def test_only_a_few_frames_are_in_flight(tmp_path, monkeypatch):
    """However slow the encoder is, what was pulled and is not encoded yet does not grow."""
    clip = Clip.from_array(np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8))
    pulled, most = 0, 0
    add = encode._Segment.add

    def slow(segment, frame):
        time.sleep(0.002)
        add(segment, frame)

    monkeypatch.setattr(encode._Segment, "add", slow)
    done = 0

    def read(index):
        nonlocal pulled, most
        pulled += 1
        most = max(most, pulled - done)
        return clip.raw(index)

    def progress(stage, count, total):
        nonlocal done
        done = count

    video.write(clip.with_frames(read), tmp_path / "out.mp4", progress=progress)
    assert pulled == 40 and most <= 2 * (encode._MOST_AHEAD + 1) + 2


def test_side_by_side_and_masks_and_cuts_are_the_same_as_one_by_one(film, tmp_path):
    """Frames that are asked for one by one are those of the file."""
    mask = np.zeros((144, 224, 3), np.uint8)
    mask[30:90, 40:200] = 255
    video.write_picture(tmp_path / "mask.png", mask)
    options = {"mask": tmp_path / "mask.png", "side_by_side": True, "encoding": {"codec": "ffv1"}}
    result = flowpaint.edit(film, "noir", **options)
    alone = np.stack([result.frames.raw(index) for index in range(NUM_FRAMES)])
    result.save(tmp_path / "out.mkv")
    assert np.array_equal(frames_of(tmp_path / "out.mkv"), alone)


def test_a_folder_of_pictures_is_written_in_order(film, tmp_path):
    told = []
    flowpaint.edit(film, "sepia").save(tmp_path / "out", progress=lambda stage, done, _: told.append(done))
    assert told == list(range(1, NUM_FRAMES + 1))
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [f"{index:06d}.png" for index in range(NUM_FRAMES)]
    assert json.loads((tmp_path / "out.json").read_text())["metrics"]["flicker"]["result"] is not None


def test_the_source_is_decoded_once_for_the_result(film, tmp_path, monkeypatch):
    """After the shots were looked for: method, measurement and encoder share what was decoded."""
    result = flowpaint.edit(film, "sepia")
    asked = []
    decoded = result.prepared.clip.origin.decoded
    decode = type(decoded.source)._decode
    monkeypatch.setattr(type(decoded.source), "_decode", lambda self, number: (asked.append(number), decode(self, number))[1])
    result.save(tmp_path / "out.mp4", provenance=False)
    assert len(asked) == len(set(asked)), "no frame is decoded again"


def test_times_stay(film, tmp_path):
    flowpaint.edit(film, "sepia", start=2).save(tmp_path / "out.mkv")
    assert video.read(tmp_path / "out.mkv").times == tuple(Fraction(index, 24) for index in range(NUM_FRAMES - 2))
