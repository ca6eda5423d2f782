"""From names, files and words to a method: which algorithm, which editor of pictures, which look."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

from .. import seams
from ..diffusion.wan import is_vace
from ..errors import ConfigError, InputError, nearest
from ..methods.analogy import Analogy
from ..parts import editors
from ..seams import Method
from ..video import read_picture
from ..weights import suited
from . import toml

DEFAULT_METHOD, OBJECT_METHOD = "analogy", "stablev2v"  # the latter where objects are marked
_MODEL = "model.weights"


def choose_method(
    method: str | Path | Method,
    *,
    prompt: str = "",
    style: str | None = None,
    settings: Sequence[str] = (),
    keyframes: bool = False,
) -> tuple[Method, str]:
    """The method with its editor in place, and words that say which look was taken ("" where none was).

    `method` is a name, a recipe file (`.toml`) or a ready object. `prompt` names a look where the method has an editor of
    pictures and `settings` choose none; other methods read the prompt themselves. `settings` are `part.field=value`; with a
    model come those that suit it (`flowpaint.weights.suited`), where nothing else was said. Where a method reads words itself,
    they need not name a look if there are `keyframes`, or if a model was chosen that may know them.
    Raises `ConfigError` for unknown names and fields, `InputError` for settings that are no settings.
    """
    chosen = _named(method) if isinstance(method, (str, Path)) else method
    look, values = "", _values(settings, _fields(chosen))
    said = dict(values)
    if isinstance(method, str) and _MODEL not in said and _has(chosen, _MODEL):
        chosen = _suited(chosen, "", cast(Any, chosen).model.weights, said)
    if style and ("editor" not in _fields(chosen) or "editor" in said):
        raise InputError("The style of a picture is for methods with a look. Leave --style out, or take no image model.")
    if "editor" in _fields(chosen) and (style or prompt.strip()) and "editor" not in said:
        free = hasattr(chosen, "first_frame") or ("model" in _fields(chosen) and (keyframes or _MODEL in said))
        editor, look = _editor(prompt, style, free=free)
        chosen = cast(Method, dataclasses.replace(cast(Any, chosen), editor=editor))
    for path, value in values:
        chosen = _with_model(chosen, value) if path == _MODEL else _set(chosen, path, value)
        if path.endswith(_MODEL):
            chosen = _suited(chosen, path.removesuffix(_MODEL), _weights(chosen, path), said)
    return chosen, look


def _with_model(method: Method, name: str) -> Method:
    """`method` with the model that `name` means to it."""
    for_model = getattr(method, "for_model", None)
    return _set(method, _MODEL, name) if for_model is None else cast(Method, for_model(name))


def _weights(method: Method, path: str) -> str:
    part: Any = method
    for name in path.split("."):
        part = getattr(part, name)
    return str(part)


def _suited(method: Method, owner: str, model: str, said: Collection[str]) -> Method:
    """`method` with what suits `model`, which the part at `owner` ("" or "editor.") holds, in fields that nobody set."""
    for path, value in suited(model).items():
        if owner + path not in said and _has(method, owner + path):
            method = _set(method, owner + path, value)
    return method


def _has(part: Any, path: str) -> bool:
    head, _, rest = path.partition(".")
    return head in _fields(part) and (not rest or _has(getattr(part, head), rest))


def _values(settings: Sequence[str], fields: Sequence[str]) -> list[tuple[str, str]]:
    """Path and value of each setting.

    A model for a method that has none of its own is one for the part that generates its video, or for its editor of pictures.
    """
    values = []
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path.strip():
            raise InputError(f"The setting {setting!r} is not understood. Write it as part.field=value.")
        values.append((path.strip(), value.strip()))
    if "editor" not in fields and "generate" not in fields:
        return values
    ours = {path for path, _ in values if path.partition(".")[0] in ("model", "control") and path.partition(".")[0] not in fields}
    if not ours:
        return values
    owner, usual = "editor", "diffusion"
    if "generate" in fields:
        owner, usual = "generate", "wan-vace" if is_vace(dict(values).get(_MODEL, "")) else "image"
    part = dict(values).get(owner, usual)  # first, for the others are fields of it
    rest = [(path, value) for path, value in values if path != owner]
    return [(owner, part), *((f"{owner}.{path}" if path in ours else path, value) for path, value in rest)]


def _named(method: str | Path) -> Method:
    if Path(method).suffix == ".toml":
        recipe = {"kind": "method", **toml.load(Path(method))}
        if recipe["kind"] != "method":
            raise ConfigError(f"{method} describes a {recipe['kind']}, not a method. Give the recipe of a method.")
        return cast(Method, seams.from_dict(recipe))
    return cast(Method, seams.build("method", str(method)))


def _editor(prompt: str, style: str | None, *, free: bool) -> tuple[seams.ImageEditor | None, str]:
    """The editor of a picture and what is said of it; with `free` words none where they name no look."""
    if style is not None:
        read_picture(style)  # unreadable, missing or too large is said now, not after minutes
        return editors.StyleEditor(picture=style), f"Look taken: the style of {Path(style).name}."
    try:
        choice = editors.choose(prompt)
    except ConfigError:
        if free:
            return None, ""
        raise
    return editors.LookEditor(looks=choice.looks), choice.text


def _set(method: Method, path: str, value: str) -> Method:
    """Return `method` with one field set; a part that is off (None) is named as such instead of being looked into."""
    if path.startswith("propagate.") and isinstance(method, Analogy):
        method = dataclasses.replace(method, propagate=method.propagator())
    part: Any = method
    for name in path.split(".")[:-1]:
        part = getattr(part, name, part)
        if part is None:
            raise ConfigError(f"{name!r} is off, so {path!r} cannot be set. Choose a part first: --set {name}=NAME.")
    if not dataclasses.is_dataclass(part):
        raise ConfigError(f"{path!r} names no field of a part. Nearest: {nearest(path, _fields(method)) or 'it has none'}.")
    return cast(Method, seams.override(method, path, value))


def _fields(part: Any) -> list[str]:
    return [one.name for one in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
