"""A pool of Ray's actors: each has one item at a time, so that it is known on which one a worker died."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from threading import Condition, Thread
from time import monotonic
from typing import Any

from ...errors import FlowpaintError, WorkError
from .outcome import Item, Made, died

_LOOK = 0.1  # seconds after which the consumer's wishes are looked at again
_PATIENCE = 30.0  # seconds without any worker after which the user is told

_log = logging.getLogger("flowpaint")


class Board:
    """What is still to be done and what has been: between the thread that hands out items and whoever takes the outcomes."""

    def __init__(self, names: Sequence[str], *, ahead: int, retries: int) -> None:
        self.names, self.stopped = names, False
        self._ahead, self._retries = ahead, retries
        self._left = deque(range(len(names)))
        self._open = len(names)
        self._taken = 0
        self._deaths: dict[int, int] = {}
        self._outcomes: dict[int, Any] = {}
        self._broken: FlowpaintError | None = None
        self._news = Condition()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to hand out or to wait for."""
        return self.stopped or self._open == 0

    @property
    def num_open(self) -> int:
        """How many items are not finished."""
        return self._open

    def next(self) -> int | None:
        """The place of the item to be done next, None where there is none or too much is waiting to be taken."""
        with self._news:
            if self._left and self._left[0] < self._taken + self._ahead:
                return self._left.popleft()
            return None

    def post(self, place: int, outcome: Any) -> None:
        """The outcome of an item is there."""
        with self._news:
            self._outcomes[place] = outcome
            self._open -= 1
            self._news.notify_all()

    def lost(self, place: int, why: str) -> None:
        """The worker of an item died: it is to be done again, unless that happened too often."""
        times = self._deaths[place] = self._deaths.get(place, 0) + 1
        name = self.names[place]
        if times > self._retries:
            self.post(place, died(name, times))
            return
        _log.warning("The worker of %s died (%s). Another one does it again.", name, why)
        with self._news:
            self._left.appendleft(place)

    def fail(self, error: FlowpaintError) -> None:
        """Nothing more can be done at all."""
        with self._news:
            self._broken, self.stopped = error, True
            self._news.notify_all()

    def stop(self) -> None:
        """Nobody takes any more."""
        with self._news:
            self.stopped = True
            self._news.notify_all()

    def take(self, place: int) -> Any:
        """The outcome of an item, once it is there. Raises the error of a pool that cannot work."""
        with self._news:
            self._taken = place
            self._news.notify_all()
            self._news.wait_for(lambda: place in self._outcomes or self._broken is not None)
            if place in self._outcomes:
                return self._outcomes.pop(place)
            assert self._broken is not None
            raise self._broken

    def wait(self) -> None:
        """Return when there may be something to hand out, after a moment in any case."""
        with self._news:
            self._news.wait(_LOOK)


class Pool:
    """Up to `workers` actors, made by `hire` when there is work, and kept between calls of `tried`."""

    def __init__(self, hire: Callable[[], Any], *, workers: int, ahead: int, retries: int) -> None:
        self._hire, self._workers, self._ahead, self._retries = hire, workers, ahead * workers, retries
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}  # what tells that it is ready -> actor
        self._busy: dict[Any, tuple[Any, int]] = {}  # what will be its outcome -> actor, place
        self._failures = 0  # workers in a row that did not start

    def tried(self, work: Any, items: Sequence[Item], names: Sequence[str]) -> Generator[Made | FlowpaintError, None, None]:
        """The outcomes of `work`, which Ray holds, on `items`, in their order. Raises `WorkError` where no worker starts."""
        board = Board(names, ahead=self._ahead, retries=self._retries)
        thread = Thread(target=self._work_off, args=(board, work, items), name="flowpaint-ray", daemon=True)
        thread.start()
        try:
            for place in range(len(items)):
                yield board.take(place)
        finally:
            board.stop()
            thread.join()

    def close(self) -> None:
        """Let all workers go."""
        import ray

        for actor in [*self._idle, *self._starting.values(), *(actor for actor, _ in self._busy.values())]:
            ray.kill(actor)
        self._idle.clear()
        self._starting.clear()
        self._busy.clear()

    def _work_off(self, board: Board, work: Any, items: Sequence[Any]) -> None:
        """Hand out items until all are done or nobody wants them."""
        import ray

        try:
            since = monotonic()
            while not board.is_done:
                self._fill(board)
                self._hand_out(board, work, items)
                waiting = [*self._busy, *self._starting]
                if self._idle or self._busy:
                    since = monotonic()
                elif monotonic() - since > _PATIENCE:
                    since = monotonic()
                    _log.warning("No worker has started so far: the cluster has no room. It is waited for.")
                if not waiting:
                    board.wait()
                    continue
                ready, _ = ray.wait(waiting, num_returns=1, timeout=_LOOK)
                for one in ready:
                    self._heard(one, board)
        except Exception as error:  # Ray itself: the cluster is gone
            board.fail(WorkError(f"Ray failed: {type(error).__name__}: {error}. Start the cluster again, then this command."))
        finally:
            self._rest()

    def _fill(self, board: Board) -> None:
        """Have as many workers as there is work for."""
        wanted = min(self._workers, board.num_open)
        while len(self._idle) + len(self._starting) + len(self._busy) < wanted:
            actor = self._hire()
            self._starting[actor.ready.remote()] = actor

    def _hand_out(self, board: Board, work: Any, items: Sequence[Any]) -> None:
        while self._idle and (place := board.next()) is not None:
            actor = self._idle.pop()
            self._busy[actor.do.remote(work, items[place], board.names[place])] = actor, place

    def _heard(self, told: Any, board: Board) -> None:
        """Take in what an actor says: that it is ready, what it made, or its last sigh."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        starting = self._starting.pop(told, None)
        actor, place = (starting, -1) if starting is not None else self._busy.pop(told)
        try:
            outcome = ray.get(told)
        except RayTaskError as error:  # Ray could not hand over the work, the item or what was made of it
            cause = error.cause if getattr(error, "cause", None) is not None else error
            name = board.names[place]
            board.post(place, WorkError(f"The work on {name} failed: {type(cause).__name__}: {cause}. Look at that item."))
        except RayError as error:
            ray.kill(actor)  # one out of reach may come back, and would then do what another does
            self._lost(place, type(error).__name__, board, error)
            return
        else:
            self._failures = 0
            if place >= 0:
                board.post(place, outcome)
        self._idle.append(actor)

    def _lost(self, place: int, why: str, board: Board, error: Exception) -> None:
        if place >= 0:
            board.lost(place, why)
            return
        self._failures += 1
        if self._failures > self._retries:
            last = (str(error).strip().splitlines() or [why])[-1]
            board.fail(WorkError(f"No worker of Ray starts: {last} Install flowpaint on every machine of the cluster."))

    def _rest(self) -> None:
        """Keep the workers that are free; one in the middle of something that nobody wants any more is let go."""
        import ray

        for actor, _ in self._busy.values():
            ray.kill(actor)
        self._busy.clear()
