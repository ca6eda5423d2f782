"""Every point at which something can be exchanged: the protocols, `Run`, the table of names, recipes.

A *part* is a frozen dataclass: its fields are its configuration and calling it does its work. It needs nothing from here to
conform. A *recipe* is a part as nested plain values: `{"part": "dis", "preset": "fast"}`, and reads back to an equal part.
"""

import dataclasses
import importlib
import types as builtin_types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .errors import ConfigError, nearest
from .table import TABLE
from .types import Clip, Cues, Edit, Flow, Measure, Score

if TYPE_CHECKING:
    from .diffusion.hooked import Hooks
    from .diffusion.model import LatentDiffusion
    from .moments import Case, Moment

# ---------------------------------------------------------------------------------------------------------------- seams


@runtime_checkable
class ImageEditor(Protocol):
    """Turns one picture into its edited version, the same size, the same for the same generator state."""

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The edited picture [3, H, W] in [0, 1] of `image` [3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class FlowEstimator(Protocol):
    """Measures where what a shows is seen in b."""

    def __call__(self, a: Tensor, b: Tensor) -> Flow:
        """Flow a to b with visibility, for pictures a, b [N, 3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class SpatialCondition(Protocol):
    """Draws what of a clip an edit has to keep, for a ControlNet. What it measures to do so, it measures per clip.

    One that measures may offer `fitted(frames) -> SpatialCondition`: itself with the scale of `frames`, for parts of a clip.
    """

    def __call__(self, frames: Tensor) -> Tensor:
        """Control maps [T, 3, H, W] in [0, 1] of `frames` [T, 3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Finds the object of a clip. A `hint` [1 or T, 1, H, W] in [0, 1] is 1 about where it is."""

    def __call__(self, frames: Tensor, hint: Tensor | None = None) -> Tensor:
        """Masks [T, 1, H, W] in [0, 1], 1 = object, of `frames` [T, 3, H, W] in [0, 1]; 0 everywhere where there is none."""
        ...


@runtime_checkable
class Consistency(Protocol):
    """Binds the frames of a window together while they are denoised."""

    def __call__(self, model: "LatentDiffusion", cues: Callable[[tuple[int, ...]], Cues], text: Tensor) -> "Hooks":
        """Hooks for a loop over windows of `model` under the words `text`; `cues` measures a window's frames when asked."""
        ...


@runtime_checkable
class Propagator(Protocol):
    """Carries edited key frames to every frame of one shot."""

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: "Run") -> Clip:
        """The edited clip; `keyframes` maps frame numbers of `clip` to pictures [3, H, W] in [0, 1], returned exactly."""
        ...


@runtime_checkable
class Interpolator(Protocol):
    """Makes the pictures between two."""

    def __call__(self, a: Tensor, b: Tensor, times: Sequence[float]) -> Tensor:
        """Pictures [len(times), 3, H, W] in [0, 1] between a and b [3, H, W] in [0, 1]: time 0 is a, 1 is b, exactly."""
        ...


@runtime_checkable
class Method(Protocol):
    """*How*: a clip and an edit become an edited clip of the same length, size and time stamps."""

    def __call__(self, clip: Clip, edit: Edit, run: "Run") -> Clip:
        """The edited clip, lazy."""
        ...


@runtime_checkable
class FeatureExtractor(Protocol):
    """A network that sees: one row of numbers for each picture or clip."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Features [N, D], float32, of pictures [N, 3, H, W], or of clips [N, T, 3, H, W], in [0, 1], any size."""
        ...


class Tally(Protocol):
    """One metric at work on one case. It keeps little of what it saw: memory does not grow with the size of the pictures."""

    def see(self, moment: "Moment") -> None:
        """Take in the next moment."""
        ...

    def score(self) -> Score:
        """What was found. Without a frame seen, every measure is missing, with the reason."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Judges a result. Every frame is shown once, in order; several metrics share the pass."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The numbers it can give."""
        ...

    def __call__(self, case: "Case", /) -> Tally:
        """A fresh tally for `case`."""
        ...


Item = TypeVar("Item")
Made = TypeVar("Made")


@runtime_checkable
class Executor(Protocol):
    """Does independent pieces of work, here or elsewhere."""

    def map(self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]) -> Iterator[Made]:
        """What `work` makes of each of `items`, in their order.

        `key` names an item. The first failure is raised as `WorkError` with that name; errors of ours pass as they are.
        """
        ...


# ------------------------------------------------------------------------------------------------------------------ run


class Store(Protocol):
    """Named results of finished work. What is there was written whole."""

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays stored under `key`, or None."""
        ...

    def put(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Store `arrays` under `key`, replacing what was there."""
        ...

    def drop(self, key: str) -> None:
        """Forget `key`, if it is there."""
        ...


class MemoryStore:
    """A store that ends with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, npt.NDArray[Any]]] = {}

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        return self._kept.get(key)

    def put(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._kept[key] = {name: np.asarray(array) for name, array in arrays.items()}

    def drop(self, key: str) -> None:
        self._kept.pop(key, None)


@dataclass
class Notes:
    """What a run has to say afterwards: warnings for people, and a row of numbers for each frame."""

    warnings: list[str] = field(default_factory=list)
    frames: dict[int, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def warn(self, message: str) -> None:
        """Add a warning once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def frame(self, index: int, **numbers: float) -> None:
        """Add numbers to the row of frame `index`."""
        self.frames.setdefault(index, {}).update(numbers)


def _silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """*Where* and with what manners a method works: device, seed, store, progress, notes."""

    device: str = "cpu"
    seed: int = 0
    quality: str = "normal"  # draft, normal or best: read by parts that can trade time for quality
    store: Store = field(default_factory=MemoryStore)
    notes: Notes = field(default_factory=Notes)
    progress: Callable[[str, int, int], None] = _silent  # (stage, done, total)
    chunk: int = 48  # frames between checkpoints, and in one encoded segment
    offset: int = 0  # number in the whole clip of this clip's frame 0; shots are planned alone

    def generator(self, frame: int = 0, step: int = 0) -> torch.Generator:
        """Randomness keyed by (seed, frame, step), drawn on CPU: window size, device and resume do not change it."""
        key = (self.seed * 1_000_003 + frame) * 1_009 + step
        return torch.Generator().manual_seed(key % (2**63))


# ---------------------------------------------------------------------------------------------------------------- names


def table() -> dict[str, dict[str, str]]:
    """Every known part: kind -> name -> "module:class". Outside packages add rows through the entry points `flowpaint.parts`."""
    rows = {kind: dict(names) for kind, names in TABLE.items()}
    for point in entry_points(group="flowpaint.parts"):
        kind, _, name = point.name.partition(".")
        rows.setdefault(kind, {})[name] = point.value
    return rows


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


def default(kind: str, name: str) -> Any:
    """A dataclass field that holds the part `name`, built when the owner is built."""
    return field(default_factory=lambda: build(kind, name), metadata={"kind": kind})


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
        return hint(value)
    if hint is str and not isinstance(value, str):
        raise TypeError(value)
    return value
