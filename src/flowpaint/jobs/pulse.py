"""`Pulse`: beside a job at work, it tells the store how far that is, and takes the worker off it once it is no longer wanted."""

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import WorkError
from .queue import Queue
from .records import Record

_LOOK = 0.2  # seconds between two looks whether the job is still wanted
_BEAT = 1.0  # between two words on how far it is
_PREVIEW = 2.0  # between two preview pictures
_SIDE = 480  # longer side of those, pixels
_PATIENCE = 3.0  # for the worker to leave a job; then its process ends
GONE = 75  # exit code of a worker that could not leave a job otherwise


class Abandoned(BaseException):
    """The job is not this worker's any more: it was cancelled, or given to another."""


class Pulse:
    """A thread beside the job that the main thread does inside.

    Where the store says that the job is not this worker's any more, `Abandoned` is raised in the main thread; where that is
    stuck, the process ends. After `seconds` it is `WorkError` that is raised.
    """

    def __init__(self, queue: Queue, job: Record, *, show: Callable[[], None], seconds: float | None = None) -> None:
        self._queue, self._job, self._show, self._seconds = queue, job, show, seconds
        self._far: tuple[str, int, int] = ("", 0, 0)
        self._picture: npt.NDArray[np.generic] | None = None
        self._over = threading.Event()
        self._leaving = threading.Lock()
        self._why: BaseException = Abandoned()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def told(self, stage: str, done: int, total: int) -> None:
        """Note how far the job is."""
        self._far = (stage, done, total)

    def seen(self, index: int, picture: npt.NDArray[np.generic]) -> None:
        """Note a finished frame, raw [H, W, 3]."""
        del index
        self._picture = picture

    def __enter__(self) -> "Pulse":
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._leaving:  # no interruption is on its way once this is held
            self._over.set()
        self._thread.join()
        signal.signal(signal.SIGINT, self._before)
        self._queue.store.database.close()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        raise self._why

    def _beat(self) -> None:
        begun = beaten = pictured = time.monotonic()
        told: tuple[str, int, int] | None = None
        while not self._over.wait(_LOOK):
            now = time.monotonic()
            self._show()
            try:
                if now - beaten >= _BEAT and told != self._far:
                    told, beaten = self._far, now
                    wanted = self._queue.beat(self._job, *told)
                else:
                    wanted = self._queue.owns(self._job)
                if now - pictured >= _PREVIEW and self._picture is not None:
                    pictured = now
                    self._preview()
            except (WorkError, OSError):  # a full disk: the work itself will meet it
                continue
            if not wanted:
                self._leave(Abandoned())
                return
            if self._seconds is not None and now - begun > self._seconds:
                limit = f"{self._seconds:.0f} s"
                self._leave(
                    WorkError(f"The job took longer than {limit}, the limit here. Cut the video, or ask for less quality.")
                )
                return

    def _preview(self) -> None:
        picture, self._picture = self._picture, None
        if picture is None:
            return
        shown = picture if picture.dtype == np.uint8 else (picture.astype(np.uint16) >> 8).astype(np.uint8)
        image = Image.fromarray(shown)
        image.thumbnail((_SIDE, _SIDE))
        path = self._job.folder / "preview.jpg"
        part = path.with_suffix(".part")
        image.save(part, "JPEG", quality=85)
        part.replace(path)
        self._queue.say(self._job, "preview", {"artifact": "preview", "width": image.width, "height": image.height})

    def _leave(self, why: BaseException) -> None:
        with self._leaving:
            if self._over.is_set():
                return
            self._why = why
            _thread.interrupt_main()
        if not self._over.wait(_PATIENCE):
            os._exit(GONE)
