"""Plain values as TOML, which the standard library reads but does not write."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, VideoError

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(values: Mapping[str, Any]) -> str:
    """`values` as TOML text: nested mappings become inline tables, None is left out."""
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in values.items() if value is not None)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one sign that JSON lets through
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items() if one is not None) + "}"
    return "[" + ", ".join(_value(one) for one in value) + "]"


def load(path: Path) -> dict[str, Any]:
    """The values in a TOML file. Raises `VideoError` where it is missing, `ConfigError` where it is no TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror or error}). Check the name.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML file ({error}). `flowpaint show NAME` prints a recipe to start from.") from error
