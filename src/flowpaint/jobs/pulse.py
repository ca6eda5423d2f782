"""`Pulse`: beside a job at work, it tells the store how far that is, and ends the worker once the job is no longer wanted."""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import WorkError
from .queue import Queue
from .records import Record

GONE = 75  # exit code of a worker whose job was taken from it

_LOOK = 0.2  # seconds between two looks whether the job is still wanted
_BEAT = 1.0  # between two words on how far it is
_PREVIEW = 2.0  # between two preview pictures
_SIDE = 480  # longer side of those, pixels


class Pulse:
    """A thread beside the job that is done inside. Where the store says that the job is not this worker's any more, or after
    `seconds`, the process ends: work cannot be interrupted anywhere without leaving something broken for the next job.
    """

    def __init__(self, queue: Queue, job: Record, *, show: Callable[[], None], seconds: float | None = None) -> None:
        self._queue, self._job, self._show, self._seconds = queue, job, show, seconds
        self._far: tuple[str, int, int] = ("", 0, 0)
        self._picture: npt.NDArray[np.generic] | None = None
        self._over = threading.Event()
        self._leaving = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def told(self, stage: str, done: int, total: int) -> None:
        """Note how far the job is."""
        self._far = (stage, done, total)

    def seen(self, index: int, picture: npt.NDArray[np.generic]) -> None:
        """Note a finished frame, raw [H, W, 3]."""
        del index
        self._picture = picture

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._leaving:
            self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        begun = beaten = pictured = time.monotonic()
        while not self._over.wait(_LOOK):
            now = time.monotonic()
            self._show()
            try:
                if now - beaten >= _BEAT:
                    beaten = now
                    wanted = self._queue.beat(self._job, *self._far)
                else:
                    wanted = self._queue.owns(self._job)
                if wanted and self._seconds is not None and now - begun > self._seconds:
                    limit = f"The job took longer than {self._seconds:.0f} s, the limit here."
                    self._queue.fail(self._job, 1, f"{limit} Cut the video, or ask for less quality.")
                    wanted = False
                elif now - pictured >= _PREVIEW and self._picture is not None:
                    pictured = now
                    self._preview()
            except (WorkError, OSError, ValueError):  # a full disk: the work itself will meet it; a picture that is none
                continue
            if not wanted:
                self._leave()

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

    def _leave(self) -> None:
        with self._leaving:  # not in the moment in which the worker has just ended the job itself
            if not self._over.is_set():
                os._exit(GONE)
