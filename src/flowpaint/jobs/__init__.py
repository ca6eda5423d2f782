"""Jobs that outlive whoever asked for them: a store on disk, and workers that take from it.

`JobStore` is what those who ask see, `Queue` what workers see, `Crew` starts workers and keeps them alive. Whatever is killed,
and whenever: no job is lost, and none is run to its end twice.
"""

from .crew import Crew
from .queue import Queue
from .records import STATES, Asset, Event, Record, State, Unknown
from .store import JobStore

__all__ = ["STATES", "Asset", "Crew", "Event", "JobStore", "Queue", "Record", "State", "Unknown"]
