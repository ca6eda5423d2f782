"""The command line: it builds a job, hands it to `flowpaint.api` and says what came of it."""

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, and leave with its exit code."""
    # OpenMP reads this when torch starts its threads: waiting ones must sleep, or they starve the other libraries' threads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .app import app

    given = sys.argv[1:] if arguments is None else list(arguments)
    app(args=given, prog_name="flowpaint", obj=tuple(given))  # a command may have to say how it was called
