"""A table of jobs, as CSV, TOML or JSON lines: every row checked before any work starts."""

import csv
import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, FlowpaintError, InputError, VideoError, nearest
from . import remote

_INTS, _FLOATS = {"seed", "crf"}, {"strength"}
_FLAGS = {
    *("resample", "keep_colors", "side_by_side", "strict", "allow_damaged", "tonemap", "instruct", "remove"),
    *("offline", "commercial_only", "allow_pickle", "pad_even"),
}
_ENCODING = {"codec", "crf", "preset", "pixel_format", "pad_even", "audio"}
_PATHS = ("input", "style", "by", "mask", "new_object", "reference", "sketch", "depth")
_BY_TIME, _LISTS = {"keyframes", "prompts"}, {"settings", "objects"}
_ALIASES = {"keyframe": "keyframes", "object": "objects", "set": "settings"}
_OTHERS = {
    "output",
    "kind",
    "prompt",
    "negative",
    "method",
    "quality",
    "device",
    "start",
    "end",
    "preview",
    "other_shots",
    "extent",
    "fps",
}
COLUMNS = frozenset({*_PATHS, *_BY_TIME, *_LISTS, *_OTHERS, *_FLAGS, *_FLOATS, *_INTS, *_ENCODING})
_TRUE, _FALSE = {"true", "yes", "1", "x"}, {"false", "no", "0"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: its number, counted from 1, and the job in plain values, whose paths are absolute or URLs."""

    number: int
    job: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How the row is called in messages."""
        return f"row {self.number} ({self.job['output']})"


def read_rows(path: Path, *, output_dir: str | None = None, cache: Path) -> list[Row]:
    """The rows of the table at `path`, checked. Relative paths count from its folder, outputs from `output_dir` if given.

    Raises `VideoError` for a file that cannot be read, `ConfigError` for one that is no table, `InputError` that lists every row
    with something wrong.
    """
    folder, rows, wrong = path.absolute().parent, [], []
    for number, values in enumerate(_records(path), start=1):
        try:
            rows.append(Row(number=number, job=_job(values, folder, output_dir or str(folder), cache)))
        except FlowpaintError as error:
            wrong.append(f"row {number}: {error}")
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(_report_of(row.job["output"]), row)
        if other is not row:
            theirs = other.job["output"]
            shares = "is that" if theirs == row.job["output"] else f"has the report of {theirs}, that"
            wrong.append(f"row {row.number}: its output {row.job['output']} {shares} of row {other.number}. Give each its own.")
    if wrong:
        raise InputError(f"{path} cannot be done as it is; nothing was started.\n" + "\n".join(wrong))
    if not rows:
        raise InputError(f"{path} has no rows. Give one row a video.")
    return rows


def _report_of(output: str) -> str:
    """Where the report of an output goes, the same for all ways to say it: two with one report overwrite each other's."""
    from ..api import Files

    if not remote.is_url(output):
        return str(Files.of(Path(output).resolve()).report)
    protocol, _, path = output.partition("://")
    if protocol.lower() in ("file", "local"):
        return _report_of(path)
    return f"{protocol.lower()}://{Files.of(os.path.normpath(path)).report}"


def _records(path: Path) -> list[Mapping[str, Any]]:
    readers: dict[str, Callable[[str], list[Any]]] = {".csv": _csv, ".toml": _toml, ".jsonl": _jsonl}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"{path} is no table that is known. Give a .csv, .toml or .jsonl file.")
    try:
        found = readers[path.suffix.lower()](path.read_text("utf-8-sig"))
    except OSError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror or error}). Check the name.") from error
    except (ValueError, csv.Error) as error:  # also of texts that are no UTF-8
        raise ConfigError(f"{path} is damaged: {error}. Correct it there.") from error
    for number, one in enumerate(found, start=1):
        if not isinstance(one, Mapping):
            raise ConfigError(
                f"Row {number} of {path} is no set of names and values but {one!r}. Write input = ..., output = ..."
            )
    return found


def _csv(text: str) -> list[dict[str, str]]:
    found = csv.DictReader(text.splitlines(), strict=True)
    rows = []
    for row in found:
        if None in row or None in row.values():
            raise ValueError(f"line {found.line_num} has {'more' if None in row else 'fewer'} cells than the first line")
        if any(cell.strip() for cell in row.values()):
            rows.append({name.strip(): cell.strip() for name, cell in row.items() if cell.strip()})
    return rows


def _toml(text: str) -> list[Any]:
    found = tomllib.loads(text)
    if list(found) != ["job"] or not isinstance(found["job"], list):
        raise ValueError("it needs [[job]] before each job and nothing else at the top")
    return found["job"]


def _jsonl(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


# -------------------------------------------------------------------------------------------------------------- one row


def _job(given: Mapping[str, Any], folder: Path, outputs: str, cache: Path) -> dict[str, Any]:
    """The job of one row in plain values."""
    from .. import api
    from ..api.job import KINDS

    values = _named(given)

    def beside(name: str) -> str:
        return name if remote.is_url(name) else str(folder / Path(name).expanduser())

    if not values.get("input"):
        raise InputError("It has no input. Name a video in the column `input`.")
    values |= {name: beside(values[name]) for name in _PATHS if name in values}
    values["keyframes"] = {time: beside(name) for time, name in values.get("keyframes", {}).items()}
    values["objects"] = [one if _by_words(one) else beside(one) for one in values.get("objects", [])]
    kind, output = values.pop("kind", "edit"), values.pop("output", "")
    method = values.pop("method", kind if kind in ("deflicker", "colorize") else None)
    if method is not None and method.endswith(".toml"):
        method = beside(method)
    style = values.get("style", "")
    if remote.is_url(style):  # the picture is looked at now
        values["style"] = str(remote.fetch(style, cache))
    encoding = {name: values.pop(name) for name in sorted(_ENCODING & values.keys())}
    if kind not in KINDS:
        raise ConfigError(f"There is no kind {kind!r}. Nearest: {nearest(kind, KINDS)}.")
    job, _ = api.plan_job(kind, values.pop("input"), method=method or _usual(kind), encoding=encoding, **values)
    job = job.named(beside, folder)  # also what settings and recipes name
    if remote.is_url(style):
        job = job.named(lambda name: style if name == values["style"] else name)
    output = (output.rstrip("/") or output) or Path(api.default_output(job)).name  # a folder is said with and without
    return replace(job, output=output if _is_placed(output) else remote.join(outputs, output)).to_dict()


def _usual(kind: str) -> str | None:
    return "analogy" if kind == "propagate" else None


def _is_placed(name: str) -> bool:
    return remote.is_url(name) or Path(name).is_absolute()


def _by_words(mark: str) -> bool:
    return mark == "auto" or mark.startswith(("click:", "box:"))


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row under their names, each of its type. Raises `ConfigError` for unknown names and wrong values."""
    values: dict[str, Any] = {}
    for said, value in given.items():
        name = str(said).strip().lower().replace("-", "_")
        name = _ALIASES.get(name, name)
        if name not in COLUMNS:
            raise ConfigError(f"There is no column {said!r}. Nearest: {nearest(name, COLUMNS)}.")
        if name in values:
            raise ConfigError(f"The column {name!r} is there twice. Keep one of them.")
        if value is not None and value != "":
            values[name] = _value(name, value)
    return values


def _value(name: str, value: Any) -> Any:
    try:
        if name in _FLAGS:
            return _flag(value)
        if name in _INTS | _FLOATS:
            if isinstance(value, bool):
                raise ValueError(value)
            return int(value) if name in _INTS else float(value)
    except ValueError as error:
        wanted = "true or false" if name in _FLAGS else "a whole number" if name in _INTS else "a number"
        raise ConfigError(f"The column {name!r} cannot be {value!r}. Give {wanted}.") from error
    if name in _BY_TIME:
        return {str(time): str(one) for time, one in value.items()} if isinstance(value, Mapping) else _by_time(name, value)
    if name in _LISTS:
        if isinstance(value, Mapping):
            return [f"{path}={one}" for path, one in value.items()]
        return [str(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else _split(value)
    if isinstance(value, (Mapping, list, bool)):
        raise ConfigError(f"The column {name!r} cannot be {value!r}. Give a text.")
    return str(value)


def _flag(value: Any) -> bool:
    text = str(value).lower()
    if text not in _TRUE | _FALSE:
        raise ValueError(value)
    return text in _TRUE


def _split(value: Any) -> list[str]:
    return [one.strip() for one in str(value).split(";") if one.strip()]


def _by_time(name: str, value: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in _split(value):
        time, equals, text = one.partition("=")
        if not equals or not time or not text or time in found:
            raise ConfigError(f"The column {name!r} cannot be {value!r}. Write TIME=VALUE;TIME=VALUE, each time once.")
        found[time] = text
    return found
