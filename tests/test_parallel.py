"""Threads: order, bounds, errors, and ends."""

import threading
import time

import cv2
import numpy as np
import pytest
import torch

from flowpaint.parallel import ReadAhead, WorkQueue, each, is_helper, num_threads, one_thread_each, threads_for_each

PATIENCE = 10.0  # seconds: only a test that fails waits so long


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = {*threading.enumerate()}
    yield
    assert {one.name for one in threading.enumerate() if one not in before} == set()


def reached(condition):
    """Wait until `condition()` holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


# --------------------------------------------------------------------------------------------------------------- one by one


def test_pieces_are_done_in_order_by_another_thread():
    done, threads = [], set()
    with WorkQueue("test", 2) as queue:
        for number in range(50):
            queue.do(lambda number=number: (done.append(number), threads.add(threading.current_thread()), time.sleep(0.0001)))
        queue.finish()
        assert done == list(range(50))
    assert len(threads) == 1 and threading.current_thread() not in threads


def test_no_more_pieces_wait_than_allowed():
    gate, given = threading.Event(), []
    with WorkQueue("test", 3) as queue:

        def give():
            for number in range(10):
                queue.do(lambda: gate.wait(PATIENCE))
                given.append(number)

        giver = threading.Thread(target=give)
        giver.start()
        reached(lambda: len(given) == 4)  # one is at work, three wait
        time.sleep(0.02)
        assert len(given) == 4
        gate.set()
        giver.join()
        queue.finish()
    assert len(given) == 10


def test_an_error_comes_out_and_what_follows_is_dropped():
    done = []

    def fail():
        raise KeyError("lost")

    with WorkQueue("test", 8) as queue:
        queue.do(fail)
        queue.do(lambda: done.append(1))
        with pytest.raises(KeyError, match="lost"):
            queue.finish()
        with pytest.raises(KeyError, match="lost"):
            queue.do(lambda: done.append(2))
    assert done == []


def test_an_error_of_a_full_queue_does_not_block():
    gate = threading.Event()

    def fail():
        gate.wait(PATIENCE)
        raise MemoryError

    with WorkQueue("test", 1) as queue:
        queue.do(fail)
        queue.do(lambda: None)
        threading.Timer(0.01, gate.set).start()
        with pytest.raises(MemoryError):
            for _ in range(3):
                queue.do(lambda: None)
        reached(lambda: threading.active_count() <= 3)


def test_leaving_drops_what_waits_and_ends_what_runs():
    gate, done = threading.Event(), []

    with pytest.raises(KeyboardInterrupt), WorkQueue("test", 5) as queue:
        queue.do(lambda: (gate.wait(PATIENCE), done.append(0)))
        reached(lambda: queue._pieces.empty())
        for number in range(1, 4):
            queue.do(lambda number=number: done.append(number))
        threading.Timer(0.01, gate.set).start()
        raise KeyboardInterrupt
    assert done == [0]


def test_a_piece_lets_go_of_what_it_holds():
    class Picture:
        alive = 0

        def __init__(self):
            Picture.alive += 1

        def __del__(self):
            Picture.alive -= 1

    with WorkQueue("test", 2) as queue:
        for _ in range(5):
            held = Picture()
            queue.do(lambda held=held: None)
            del held
        queue.finish()
        reached(lambda: Picture.alive == 0)


def test_queues_may_feed_one_another_and_errors_come_through():
    made = []

    def fail_at(number):
        if number == 7:
            raise OSError("disk")
        made.append(number)

    with pytest.raises(OSError, match="disk"), WorkQueue("late", 1) as late, WorkQueue("early", 1) as early:
        for number in range(100):
            early.do(lambda number=number: late.do(lambda: fail_at(number)))
    assert made == list(range(7))


# -------------------------------------------------------------------------------------------------------------- equal pieces


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_keeps_the_order_whatever_the_threads(count):
    with threads_for_each(count):
        made = each(lambda number: (time.sleep(0.001 * (number % 3)), number * number)[1], range(20))
    assert made == [number * number for number in range(20)]


def test_each_uses_several_threads_and_the_calling_one():
    meet = threading.Barrier(3)
    with threads_for_each(3):
        names = each(lambda _: (meet.wait(PATIENCE), threading.current_thread())[1], range(3))
    assert len({*names}) == 3 and threading.current_thread() in names


def test_without_threads_each_is_a_loop():
    assert {*each(lambda _: threading.current_thread(), range(5))} == {threading.current_thread()}


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_error_of_each_is_raised(count):
    def work(number):
        if number in (3, 5):
            raise ValueError(f"no {number}")
        return number

    with threads_for_each(count), pytest.raises(ValueError, match="no 3"):
        each(work, range(8))


def test_each_within_each_does_not_lock():
    with threads_for_each(2):
        assert each(lambda a: sum(each(lambda b: a * b, range(4))), range(6)) == [6 * a for a in range(6)]


# ------------------------------------------------------------------------------------------------------------- thread counts


def test_counts_of_threads_are_one_inside_and_as_before_afterwards():
    cv2.setNumThreads(3)
    torch.set_num_threads(2)
    with one_thread_each():
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
        assert num_threads() == 2
        with one_thread_each(), WorkQueue("test", 1) as queue:
            seen = []
            queue.do(lambda: seen.append((torch.get_num_threads(), cv2.getNumThreads(), is_helper())))
            queue.finish()
        assert seen == [(1, 1, True)]
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 1)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 3)
    with one_thread_each(of_torch=False):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 1)
    assert not is_helper()


# --------------------------------------------------------------------------------------------------------------- read ahead


class Frames:
    """Frames that say which they are; reading is slow enough to be overtaken."""

    def __init__(self, length=40, fails=()):
        self.length, self.fails, self.asked, self.threads = length, fails, [], set()

    def __call__(self, index):
        self.asked.append(index)
        self.threads.add(threading.current_thread().name)
        if index in self.fails:
            raise ValueError(f"frame {index}")
        return np.full((2, 2, 3), index, np.uint8)


def test_frames_are_read_ahead_once_and_in_order():
    frames = Frames()
    read = ReadAhead(frames, 40, size=12)
    with read.ahead():
        for index in range(40):
            assert (read(index) == index).all()
            if index == 20:
                reached(lambda: len(frames.asked) >= 29)
                time.sleep(0.01)
                assert max(frames.asked) == 28, "eight frames ahead, no more"
    assert sorted(frames.asked) == list(range(40)) and "flowpaint-read" in frames.threads


def test_nothing_is_read_ahead_outside():
    frames = Frames()
    read = ReadAhead(frames, 40, size=12)
    for index in range(6):
        read(index)
    assert frames.asked == list(range(6)) and frames.threads == {threading.current_thread().name}


def test_large_frames_are_read_ahead_one_at_a_time():
    frames = Frames()
    read = ReadAhead(frames, 40, size=30 << 20)
    with read.ahead():
        for index in range(4):
            read(index)
        reached(lambda: 4 in frames.asked)
        time.sleep(0.01)
    assert max(frames.asked) == 4


def test_the_last_frames_are_kept_and_no_more():
    frames = Frames()
    read = ReadAhead(frames, 40, size=12)
    for index in range(20):
        read(index)
    for index in (19, 18, 17, 16):
        read(index)
    assert len(frames.asked) == 20
    read(2)
    assert frames.asked[-1] == 2


def test_jumps_are_not_foreseen():
    frames = Frames()
    read = ReadAhead(frames, 40, size=12)
    with read.ahead():
        for index in (30, 10, 20, 0, 38):
            assert (read(index) == index).all()
        time.sleep(0.01)
    assert frames.asked == [30, 10, 20, 0, 38]


def test_an_error_comes_when_its_frame_is_asked_for():
    frames = Frames(fails={5})
    read = ReadAhead(frames, 40, size=12)
    with read.ahead():
        for index in range(5):
            read(index)
        reached(lambda: 5 in frames.asked)
        with pytest.raises(ValueError, match="frame 5"):
            read(5)
        assert (read(6) == 6).all()


def test_several_threads_may_read():
    frames = Frames(200)
    read = ReadAhead(frames, 200, size=12)
    wrong = []

    def walk(begin):
        for index in range(begin, 200):
            if (read(index) != index).any():
                wrong.append(index)

    with read.ahead():
        walkers = [threading.Thread(target=walk, args=(begin,)) for begin in (0, 3, 50)]
        for one in walkers:
            one.start()
        for one in walkers:
            one.join()
    assert wrong == []


def test_reading_ahead_twice_at_a_time_is_one_thread():
    read = ReadAhead(Frames(), 40, size=12)
    with read.ahead(), read.ahead():
        assert sum(one.name == "flowpaint-read" for one in threading.enumerate()) == 1


def test_a_reader_behind_another_one_does_not_stop_reading_ahead():
    frames = Frames(60)
    read = ReadAhead(frames, 60, size=12)
    with read.ahead():
        for index in range(6, 40):
            read(index)
            read(index - 4)
        reached(lambda: 40 + 7 in frames.asked)
    assert len(frames.asked) == len(set(frames.asked))
