"""The names of parts, and recipes: parts as plain values and back."""

import dataclasses
import importlib
import math
import types as builtin_types
import typing
from collections.abc import Mapping
from dataclasses import field, fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from ..errors import ConfigError, nearest
from ..table import TABLE

# ---------------------------------------------------------------------------------------------------------------- names


def table() -> dict[str, dict[str, str]]:
    """Every known part: kind -> name -> "module:class". Outside packages add rows through the entry points `flowpaint.parts`."""
    rows = {kind: dict(names) for kind, names in TABLE.items()}
    for point, target in _outside():
        kind, _, name = point.partition(".")
        rows.setdefault(kind, {})[name] = target
    return rows


@cache
def _outside() -> tuple[tuple[str, str], ...]:
    """The rows of installed packages: read once, for every package on the path is asked, and each recipe asks many times."""
    return tuple((point.name, point.value) for point in entry_points(group="flowpaint.parts"))


def names(kind: str) -> list[str]:
    """The names known for a kind of part. Raises `ConfigError` for an unknown kind."""
    rows = table()
    if kind not in rows:
        raise ConfigError(f"There is no kind of part called {kind!r}. Nearest: {nearest(kind, rows)}.")
    return sorted(rows[kind])


def part_class(kind: str, name: str) -> type[Any]:
    """The class behind a name. Raises `ConfigError` with the nearest names."""
    known = names(kind)
    if name not in known:
        raise ConfigError(f"There is no {kind} called {name!r}. Nearest: {nearest(name, known)}.")
    module, _, attribute = table()[kind][name].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found


def build(kind: str, name: str, **values: Any) -> Any:
    """The part `name`, its fields set from plain `values`. Raises `ConfigError` for unknown names, fields and types."""
    return from_dict({"kind": kind, "part": name, **values})


def default(kind: str, name: str, **settings: Any) -> Any:
    """Return a dataclass field that holds the part `name` with `settings`, built when the owner is built."""
    return field(default_factory=lambda: part_class(kind, name)(**settings), metadata={"kind": kind})


# -------------------------------------------------------------------------------------------------------------- recipes


def to_dict(part: Any) -> dict[str, Any]:
    """A part as plain values: its kind, its name and the value of each field, nested parts likewise."""
    kind, name = _named(type(part))
    values = {one.name: _plain(getattr(part, one.name)) for one in fields(part) if one.init}
    return {"kind": kind, "part": name, **values}


def from_dict(recipe: Mapping[str, Any]) -> Any:
    """The part that `recipe` describes: the inverse of `to_dict`. Raises `ConfigError` for what it does not know."""
    values = dict(recipe)
    if "kind" not in values or "part" not in values:
        raise ConfigError(f"A recipe needs 'kind' and 'part', got {sorted(values)}. Add them.")
    kind, name = values.pop("kind"), values.pop("part")
    cls = part_class(kind, name)
    hints = typing.get_type_hints(cls)
    known = {one.name: one for one in fields(cls) if one.init}
    for unknown in values.keys() - known.keys():
        raise ConfigError(f"The {kind} {name!r} has no field {unknown!r}. Nearest: {nearest(unknown, known) or 'it has none'}.")
    built = {key: _revive(value, hints[key], known[key], f"{name}.{key}") for key, value in values.items()}
    try:
        return cls(**built)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"The {kind} {name!r} refuses its values: {error}. Look at `flowpaint show {name}`.") from error


def override(part: Any, path: str, text: str) -> Any:
    """`part` with the field at `path` ("flow" or "flow.preset") set from `text`. A part's name selects that part."""
    head, _, rest = path.partition(".")
    known = {one.name: one for one in fields(part)}
    _, name = _named(type(part))
    if head not in known:
        raise ConfigError(f"{name!r} has no field {head!r}. Nearest: {nearest(head, known) or 'it has none'}.")
    if rest:
        return dataclasses.replace(part, **{head: _inside(getattr(part, head), path, rest, text)})
    kind = known[head].metadata.get("kind")
    if kind and text == "none":
        return dataclasses.replace(part, **{head: () if isinstance(getattr(part, head), tuple) else None})
    value = _revive(text, typing.get_type_hints(type(part))[head], known[head], f"{name}.{head}")
    try:
        return dataclasses.replace(part, **{head: value})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}.{head} cannot be {text!r}: {error}. Look at `flowpaint show {name}`.") from error


def _inside(held: Any, path: str, rest: str, text: str) -> Any:
    """A part, or the one part of a tuple, with the field at `rest` set."""
    if not isinstance(held, tuple):
        return override(held, rest, text)
    if len(held) != 1:
        raise ConfigError(f"{path!r} could be of any of {len(held)} parts. Choose one part there, or give a recipe.")
    return (override(held[0], rest, text),)


def _named(cls: type[Any]) -> tuple[str, str]:
    for kind, rows in table().items():
        for name, target in rows.items():
            # Compare the name first: importing every part to find one would load them all.
            if target.endswith(f":{cls.__qualname__}") and part_class(kind, name) is cls:
                return kind, name
    raise ConfigError(f"{cls.__qualname__} is not a registered part. Register it under the entry points 'flowpaint.parts'.")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value


def _revive(value: Any, hint: Any, where: dataclasses.Field[Any], label: str) -> Any:
    """`value` from a recipe, a TOML file or the command line as the type that the field declares."""
    kind = where.metadata.get("kind")
    if kind and typing.get_origin(hint) is tuple:
        several = [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value
        return tuple(_part(kind, one) for one in several)
    if kind:
        return _part(kind, value)
    try:
        return _as(value, hint)
    except (TypeError, ValueError) as error:
        shown = getattr(hint, "__name__", str(hint))
        raise ConfigError(f"{label} cannot be {value!r}. It must be {shown}.") from error


def _part(kind: str, value: Any) -> Any:
    """A part from its name or its recipe; None, or one that is ready, as it is."""
    if value is None or dataclasses.is_dataclass(value):
        return value
    return build(kind, value) if isinstance(value, str) else from_dict({"kind": kind, **value})


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def _as(value: Any, hint: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in inner:
            raise ValueError(value)
        return value
    if origin in (typing.Union, builtin_types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return _as(value, next(one for one in inner if one is not type(None)))
    if origin is tuple:
        value = [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value
        every = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_as(one, kind) for one, kind in zip(value, every, strict=True))
    if hint is bool:
        if str(value).lower() not in _BOOLEANS:
            raise ValueError(value)
        return _BOOLEANS[str(value).lower()]
    if hint in (int, float):
        if isinstance(value, bool):
            raise TypeError(value)
        number = hint(value)
        if isinstance(number, float) and not math.isfinite(number):  # no report could hold it
            raise ValueError(value)
        return number
    if hint is str and not isinstance(value, str):
        raise TypeError(value)
    return value
