"""flowpaint: give it a video and say what you want; get the whole video back, edited and steady.

    import flowpaint
    result = flowpaint.edit("walk.mp4", "van gogh")
    result.save("painted.mp4")

Names are loaded when they are first used, so importing the package costs nothing.
"""

import importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from .telemetry import switch_off as _switch_off

if TYPE_CHECKING:
    from .api import Job, Result, Verdict, colorize, compare, deflicker, edit, evaluate, propagate
    from .errors import FlowpaintError
    from .seams import Run
    from .types import Clip, Edit

_switch_off()  # before any library that would send something is imported

_ROOMS = {
    "Clip": "types",
    "Edit": "types",
    "FlowpaintError": "errors",
    "Job": "api",
    "Result": "api",
    "Run": "seams",
    "Verdict": "api",
    "colorize": "api",
    "compare": "api",
    "deflicker": "api",
    "edit": "api",
    "evaluate": "api",
    "propagate": "api",
}

__all__ = [
    "Clip",
    "Edit",
    "FlowpaintError",
    "Job",
    "Result",
    "Run",
    "Verdict",
    "colorize",
    "compare",
    "deflicker",
    "edit",
    "evaluate",
    "propagate",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version("flowpaint")
    if name not in _ROOMS:
        raise AttributeError(f"module 'flowpaint' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
