"""Work in threads whose results do not depend on the number of threads.

Two rules give that. Every operation of torch and OpenCV runs in the one thread that calls it (`one_thread_each`), so that no sum
is split by the number of cores. And work is divided into pieces that are the same on every machine (`each`), or a thread of its
own does one piece after another in a fixed order (`WorkQueue`, `ReadAhead`).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Queue
from threading import Condition, Lock, Thread, local
from types import TracebackType
from typing import TypeVar

import cv2
import torch

from .types import Raw

Item = TypeVar("Item")
Made = TypeVar("Made")

_MOST_THREADS = 8  # of `each`
_AHEAD_BYTES = 32 << 20  # of frames that are read ahead
_MOST_AHEAD = 8  # frames
_BEHIND = 12  # frames kept after they were read: a propagator looks some frames ahead, and measurement asks for them later


class _Here(local):
    """What a thread knows of itself."""

    helps = False


_here = _Here()


def is_helper() -> bool:
    """Return whether the calling thread was started here, so that another one waits for what it does."""
    return _here.helps


class _Counts:
    """The thread counts of torch and OpenCV before the first of several `one_thread_each`, and how many of these are open."""

    lock = Lock()
    open = 0
    torch = 1
    cv2 = 1


@contextmanager
def one_thread_each(*, of_torch: bool = True) -> Iterator[None]:
    """Inside, each operation of OpenCV, and `of_torch`, runs in the thread that calls it. Afterwards all is as before.

    OpenCV has one count of threads for the process, so this holds for other threads, too, until the last such block ends.
    """
    with _Counts.lock:
        if _Counts.open == 0:
            _Counts.torch, _Counts.cv2 = torch.get_num_threads(), cv2.getNumThreads()
            cv2.setNumThreads(1)
        _Counts.open += 1
        if of_torch:
            torch.set_num_threads(1)
    try:
        yield
    finally:
        with _Counts.lock:
            _Counts.open -= 1
            if of_torch:
                torch.set_num_threads(_Counts.torch)
            if _Counts.open == 0:
                cv2.setNumThreads(_Counts.cv2)


def num_threads() -> int:
    """Return how many threads work may take: torch's count, which follows the cores and OMP_NUM_THREADS, at most 8."""
    with _Counts.lock:
        return min(_MOST_THREADS, _Counts.torch if _Counts.open else torch.get_num_threads())


# ------------------------------------------------------------------------------------------------------------ equal pieces

_pool: ContextVar[tuple[ThreadPoolExecutor, int] | None] = ContextVar("pool", default=None)


@contextmanager
def threads_for_each(count: int | None = None) -> Iterator[None]:
    """Inside, `each` uses `count` threads, the calling one included; `num_threads()` if None. They end with the block."""
    count = num_threads() if count is None else count
    if count < 2:
        yield
        return
    with ThreadPoolExecutor(count - 1, "flowpaint-each", initializer=_help) as pool:
        token = _pool.set((pool, count - 1))
        try:
            yield
        finally:
            _pool.reset(token)


def _help() -> None:
    _mark()
    torch.set_num_threads(1)


def each(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Return what `work` makes of each of `items`, in their order. Inside `threads_for_each` several are made at a time.

    Each item is worked on by one thread, so the results do not depend on how many there are. The error of the first item that
    failed is raised after all threads have stopped. `work` that calls `each` itself does so one item at a time.
    """
    found = _pool.get()
    if found is None or len(items) < 2:
        return [work(one) for one in items]
    pool, others = found
    made: dict[int, Made] = {}
    failed: dict[int, BaseException] = {}
    places, lock = iter(range(len(items))), Lock()

    def run() -> None:
        while not failed:
            with lock:
                place = next(places, None)
            if place is None:
                return
            try:
                made[place] = work(items[place])
            except BaseException as error:
                failed[place] = error

    running = [pool.submit(run) for _ in range(min(others, len(items) - 1))]
    token = _pool.set(None)
    try:
        run()
    finally:
        _pool.reset(token)
        for one in running:
            one.result()
    if failed:
        raise failed[min(failed)]
    return [made[place] for place in range(len(items))]


# ------------------------------------------------------------------------------------------------------------ one by one


def background(name: str) -> ThreadPoolExecutor:
    """Return a pool of one thread, whose results another thread will wait for. The thread ends with the last use of the pool."""
    return ThreadPoolExecutor(1, f"flowpaint-{name}", initializer=_mark)


def _mark() -> None:
    _here.helps = True


class WorkQueue:
    """A thread that does pieces of work one by one in the order in which they are given; at most `ahead` of them wait.

    What a piece raises, the next call of `do` or `finish` raises; pieces after it are dropped. Leaving the block drops what waits
    and ends the thread once the piece it is at is done; `finish` first does all.
    """

    def __init__(self, name: str, ahead: int) -> None:
        self._pieces: Queue[Callable[[], None] | None] = Queue(ahead)
        self._error: BaseException | None = None
        self._closing = False
        self._thread = Thread(target=self._work, name=f"flowpaint-{name}", daemon=True)

    def __enter__(self) -> "WorkQueue":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing = True
        self._pieces.put(None)
        self._thread.join()

    def do(self, piece: Callable[[], None]) -> None:
        """Have `piece` done after all others; return at once where fewer than `ahead` wait. Raise what an earlier one raised."""
        self._check()
        self._pieces.put(piece)

    def finish(self) -> None:
        """Return when all pieces are done. Raise what one of them raised."""
        self._pieces.join()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        _here.helps = True
        while (piece := self._pieces.get()) is not None:
            if self._error is None and not self._closing:
                try:
                    piece()
                except BaseException as error:
                    self._error = error
            del piece  # with the pictures that it holds
            self._pieces.task_done()


class ReadAhead:
    """Frames by index from `read`, the next ones read by another thread while frames are asked for one after another.

    `size` is the bytes of a frame: at most 32 MiB of frames are read ahead, and a few are kept behind. Frames that are kept are
    given out again; any number of threads may ask. Where reading ahead fails nothing is said: the error comes when that frame is
    asked for. The thread lives inside `ahead()` alone.
    """

    def __init__(self, read: Callable[[int], Raw], length: int, size: int) -> None:
        self._read, self._length = read, length
        self._reach = max(1, min(_MOST_AHEAD, _AHEAD_BYTES // max(size, 1)))
        self._kept: OrderedDict[int, Raw] = OrderedDict()
        self._changed = Condition()
        self._busy: set[int] = set()
        self._failed: set[int] = set()
        self._last = -1  # the frame that was asked for last
        self._in_order = 0  # frames asked for one after another
        self._open = False

    def __call__(self, index: int) -> Raw:
        """Return frame `index`."""
        with self._changed:
            self._follow(index)
            while index in self._busy:
                self._changed.wait()
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            self._busy.add(index)
        return self._fetch(index)

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Inside, a thread reads ahead."""
        if self._open:
            yield
            return
        self._open = True
        thread = Thread(target=self._work, name="flowpaint-read", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._open = False
                self._changed.notify_all()
            thread.join()

    def _follow(self, index: int) -> None:
        """Note that `index` is asked for: what comes next is foreseen after two steps of one frame."""
        if index != self._last:
            self._in_order = self._in_order + 1 if index == self._last + 1 else 0
            self._last = index
            if not self._in_order:
                self._failed.clear()
            self._changed.notify_all()

    def _fetch(self, index: int) -> Raw:
        """Read a frame that is marked as busy, and keep it."""
        try:
            frame = self._read(index)
            with self._changed:
                self._kept[index] = frame
                while len(self._kept) > self._reach + _BEHIND:
                    self._kept.popitem(last=False)
            return frame
        finally:
            with self._changed:
                self._busy.discard(index)
                self._changed.notify_all()

    def _next(self) -> int | None:
        """Return the frame to read next, None where enough is there."""
        if self._in_order < 2:
            return None
        coming = range(self._last + 1, min(self._last + 1 + self._reach, self._length))
        return next((one for one in coming if one not in self._kept and one not in self._busy | self._failed), None)

    def _work(self) -> None:
        _here.helps = True
        while True:
            with self._changed:
                while self._open and (index := self._next()) is None:
                    self._changed.wait()
                if not self._open:
                    return
                assert index is not None
                self._busy.add(index)
            try:
                self._fetch(index)
            except Exception:
                with self._changed:
                    self._failed.add(index)
