"""One piece of work done, and what became of it: something made, or an error that names the item."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ...errors import FlowpaintError, ResourceError, WorkError, verdict

Item = TypeVar("Item")
Made = TypeVar("Made")


def attempt(work: Callable[[Item], Made], item: Item, name: str) -> Made | FlowpaintError:
    """What `work` makes of `item`, or the error that it raised: one of ours as it is, any other as a `WorkError`."""
    try:
        return work(item)
    except FlowpaintError as error:
        return error
    except Exception as error:  # whatever a foreign library raises
        code, said = verdict(error)
        failed: FlowpaintError = WorkError(f"The work on {name} failed: {type(error).__name__}: {error}. Look at that item.")
        if code == ResourceError.exit_code:
            failed = ResourceError(f"The work on {name} failed. {said}")
        failed.__cause__ = error
        return failed


def sent(outcome: Made | FlowpaintError) -> Made | FlowpaintError:
    """The same outcome, in a form that another process can read: an error that does not pickle becomes a `WorkError`."""
    if isinstance(outcome, FlowpaintError):
        try:
            pickle.loads(pickle.dumps(outcome))
        except Exception:  # an error class with a constructor of its own
            return WorkError(str(outcome))
    return outcome


def raising(outcomes: Iterable[Made | FlowpaintError]) -> Iterator[Made]:
    """What was made, up to the first error, which is raised."""
    for outcome in outcomes:
        if isinstance(outcome, FlowpaintError):
            raise outcome
        yield outcome


def died(name: str, times: int) -> WorkError:
    """The error that says that workers died on the item `name`."""
    often = "once" if times == 1 else f"{times} times"
    return WorkError(f"The worker died {often} on {name}. Look at that item, or give the worker more memory.")
