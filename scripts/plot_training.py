"""Draw the loss curves of training runs.

    python scripts/plot_training.py RUN... -o curves.svg [--number loss]

Each run's curve is the mean of five logged steps.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

from flowpaint.evaluation.plot import STYLE, Curve, line_plot

_TOGETHER = 5  # logged steps that make a point


def curve(run: Path, number: str) -> Curve:
    """The smoothed curve of one number in the log of `run`."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    parts = [rows[start : start + _TOGETHER] for start in range(0, len(rows), _TOGETHER)]
    return Curve(label=run.name, values={int(part[-1]["step"]): fmean(row[number] for row in part) for part in parts})


def main() -> None:
    """Write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--number", default="loss")
    told = parser.parse_args()
    drawn = line_plot([curve(run, told.number) for run in told.runs], title=told.number, unit=told.number)
    told.output.write_text(drawn.replace(">", f"><style>{STYLE}</style>", 1).replace("frame</text>", "step</text>"), "utf-8")


if __name__ == "__main__":
    main()
