"""The executors: who does independent pieces of work. Nothing here loads torch, for a worker sets its threads before that."""

from .local import LocalExecutor
from .ray import RayExecutor

__all__ = ["LocalExecutor", "RayExecutor"]
