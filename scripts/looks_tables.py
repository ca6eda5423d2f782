"""The rows of `bench_looks.py`, their file, and the tables made of them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

KEYS = ("clip", "look", "height", "frames", "variant")
NUMBERS = (
    "flicker", "texture_fast", "texture_still", "sharpness", "sharpness_kept", "texture_fast_drift", "texture_still_drift",
    "sharpness_kept_drift", "seconds", "cpu",
)  # fmt: skip
FLICKER_OF_OLD, TEXTURE_FAST = 0.6, 0.75  # floors
FLICKER_OF_SOURCE, FLICKER_OF_EBSYNTH, TEXTURE, DRIFT = 1.5, 1 / 3, 0.9, 0.1  # goals


@dataclass(frozen=True)
class Row:
    """What was measured of one variant of one clip under one look."""

    clip: str
    look: str
    height: str
    frames: str
    variant: str
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        return self.clip, self.look, self.height, self.frames, self.variant

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value:.3g}" for name, value in self.numbers.items())
        return f"{self.clip} {self.height} px high, {self.frames} frames, {self.look}, {self.variant}: {told}"

    @classmethod
    def read(cls, path: Path) -> dict[tuple[str, ...], "Row"]:
        """The rows in a file by their keys; of equal keys the last one."""
        if not path.exists():
            return {}
        with path.open(newline="") as file:
            found = [
                cls(*(one[key] for key in KEYS), numbers={name: float(one[name]) for name in NUMBERS if one[name]})
                for one in csv.DictReader(file)
            ]
        return {row.key: row for row in found}

    def append_to(self, path: Path) -> None:
        """Write the row at the end of the file, with the names of its columns where it is the first."""
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow([*KEYS, *NUMBERS])
            writer.writerow([*self.key, *(f"{self.numbers[name]:.5g}" if name in self.numbers else "" for name in NUMBERS)])


def report(rows: Sequence[Row], variants: Sequence[str], *, long: bool) -> None:
    """Print the tables by clip and by look, the floors with the worst case of each, and with `long` the drift."""
    if not rows:
        return
    for by in ("clip", "look"):
        _table(rows, variants, by)
    for variant in variants:
        _floors(rows, variant)
    if long:
        _drift(rows, variants)


def _values(rows: Iterable[Row], variant: str, name: str) -> list[float]:
    found = [row.numbers.get(name, np.nan) for row in rows if row.variant == variant]
    return [one for one in found if not np.isnan(one)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _table(rows: Sequence[Row], variants: Sequence[str], by: str) -> None:
    """Print flicker, texture fast / still as means over all else, the worst in brackets, and processor seconds a frame."""
    print(f"\n| {by} | source | frame by frame |" + "".join(f" {name} | texture kept | CPU s |" for name in variants))
    print("|---|---|---|" + "---|---|---|" * len(variants))
    for group in (*dict.fromkeys(getattr(row, by) for row in rows), "all"):
        chosen = [row for row in rows if group in ("all", getattr(row, by))]
        line = "".join(f" {_mean(_values(chosen, one, 'flicker')):.1f} |" for one in ("source", "frame by frame"))
        for variant in variants:
            fast, still = (_values(chosen, variant, f"texture_{part}") for part in ("fast", "still"))
            worst = f" ({min(fast):.2f} / {min(still):.2f})" if len(fast) > 1 and still else ""
            seconds = _mean([one for one in _values(chosen, variant, "cpu") if one])
            line += f" {_mean(_values(chosen, variant, 'flicker')):.1f} | {_mean(fast):.2f} / {_mean(still):.2f}{worst} |"
            line += f" {seconds:.2f} |"
        print(f"| {group} |{line}")


def _pairs(rows: Sequence[Row], variant: str, other: str, name: str) -> list[tuple[float, Row]]:
    """What `variant` has of a number over what `other` has, for each clip and look."""
    beside = {row.key[:-1]: row.numbers[name] for row in rows if row.variant == other}
    mine = [row for row in rows if row.variant == variant and row.key[:-1] in beside]
    return [(row.numbers[name] / beside[row.key[:-1]], row) for row in mine if beside[row.key[:-1]] > 0]


def _floors(rows: Sequence[Row], variant: str) -> None:
    """Print each floor and goal: on how many cases it holds, the mean and the worst."""
    print(f"\n{variant}:")
    for other, most in (("old", FLICKER_OF_OLD), ("ebsynth", FLICKER_OF_EBSYNTH), ("source", FLICKER_OF_SOURCE)):
        if other != variant:
            _kept(f"flicker over {other}'s, at most {most:.2f}", _pairs(rows, variant, other, "flicker"), most, largest=True)
    for part, least in (("fast", TEXTURE_FAST), ("fast", TEXTURE), ("still", TEXTURE)):
        name = f"texture_{part}"
        found = [(row.numbers[name], row) for row in rows if row.variant == variant and name in row.numbers]
        _kept(f"texture {part}, at least {least}", found, least, largest=False)


def _kept(title: str, found: Sequence[tuple[float, Row]], limit: float, *, largest: bool) -> None:
    found = [(value, row) for value, row in found if not np.isnan(value)]
    if found:
        worst, row = (max if largest else min)(found, key=lambda one: one[0])
        kept = sum(value <= limit if largest else value >= limit for value, _ in found)
        mean = _mean([value for value, _ in found])
        print(f"- {title}: {kept} of {len(found)}, mean {mean:.2f}, worst {worst:.2f} ({row.clip}, {row.look})")


def _drift(rows: Sequence[Row], variants: Sequence[str]) -> None:
    """The last second over the first, by clip: mean over looks."""
    names = ("texture_fast_drift", "texture_still_drift", "sharpness_kept_drift")
    print(f"\nLast second over the first, goal within {DRIFT:.0%}: texture fast / still / sharpness over frame by frame's\n")
    print("| clip |" + "".join(f" {name} |" for name in variants))
    print("|---|" + "---|" * len(variants))
    for clip in dict.fromkeys(row.clip for row in rows):
        mine = [row for row in rows if row.clip == clip]
        cells = [" / ".join(f"{_mean(_values(mine, variant, name)):.2f}" for name in names) for variant in variants]
        print(f"| {clip} | " + " | ".join(cells) + " |")
    for variant in variants:
        for name in names:
            found = [(row.numbers[name], row) for row in rows if row.variant == variant and name in row.numbers]
            if found:
                worst, row = max(found, key=lambda one: abs(one[0] - 1))
                kept = sum(abs(value - 1) <= DRIFT for value, _ in found)
                print(f"- {variant}, {name}: {kept} of {len(found)}, worst {worst:.2f} ({row.clip}, {row.look})")
