"""Optical flow: DIS for neighbouring frames, RAFT for distant ones, and a part that chooses between two."""

from .dis import DisFlow
from .distance import ByDistance
from .raft import RaftFlow

__all__ = ["ByDistance", "DisFlow", "RaftFlow"]
