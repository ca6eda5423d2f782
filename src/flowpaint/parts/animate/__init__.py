"""From the first edited frame to the others: by moving its pixels, or by networks led by depth."""

from .flow_warp import FlowWarp

__all__ = ["FlowWarp"]
