"""What a training run leaves in its folder: its recipe, checkpoints, numbers and samples.

RUN/
  recipe.json      the trainer, as plain values
  checkpoint.pt    weights, averaged weights, optimiser, position in the data; written under another name and renamed
  log.jsonl        one line of numbers for each logged step
  tensorboard/     the same, and the samples
  samples/         step-000500.png, ...
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, WeightsError
from ..runs import write_json

_FREE = ("steps", "save_every", "show_every", "log_every")  # may change when a run goes on


class Records:
    """The folder of one run. Raises `InputError` where it holds a run of another recipe."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        self.folder = folder
        kept = folder / "recipe.json"
        if kept.exists():
            before = json.loads(kept.read_text("utf-8"))
            differing = sorted(_differing(before, json.loads(json.dumps(recipe))))
            if differing:
                raise InputError(
                    f"{folder} holds a run of another recipe: {', '.join(differing)} differ. Choose another --run, or empty it."
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, recipe)

    @property
    def checkpoint(self) -> Path:
        """The file with the state after the last saved step."""
        return self.folder / "checkpoint.pt"

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.checkpoint.with_suffix(".part")
        torch.save(dict(state), part)
        part.replace(self.checkpoint)

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last, on the CPU; None at the beginning. Raises `WeightsError` for a damaged file."""
        if not self.checkpoint.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            raise WeightsError(f"{self.checkpoint} cannot be read ({error}). Remove it to start over.") from error
        return state

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add a line to the log."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")

    def rows(self) -> list[dict[str, float]]:
        """The lines of the log."""
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def rewind(self, step: int) -> None:
        """Drop the lines of steps from `step` on: they will be taken again."""
        kept = [row for row in self.rows() if row["step"] < step]
        part = self.folder / "log.part"
        part.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
        part.replace(self.folder / "log.jsonl")


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    found = []
    for name in before.keys() | now.keys():
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differing(old, new, f"{path}{name}.")
        elif old != new and name not in _FREE:
            found.append(path + name)
    return found
