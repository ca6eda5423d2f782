"""`Job`: everything that was asked for, as plain values. It goes into the run folder, the report and the video itself."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from .. import seams
from ..errors import ConfigError, InputError, nearest
from ..report import versions
from ..video import Encoding, read_comment
from ..weights import Policy, is_known, names_file
from . import toml
from .choose import DEFAULT_METHOD, choose_method

Kind = Literal["edit", "propagate", "deflicker", "colorize"]
Quality = Literal["draft", "normal", "best"]
OtherShots = Literal["refuse", "keep"]
_KEPT = {".mp4": ".mp4", ".m4v": ".mp4", ".mov": ".mov"}  # suffixes that take H.264 and what such files hold; others become .mkv
OF_THE_FILE = ("output", "encoding.audio")  # fields of which nothing hangs but the file that is put together in the end
KINDS: tuple[Kind, ...] = ("edit", "propagate", "deflicker", "colorize")
WITHOUT_KEYS: frozenset[Kind] = frozenset({"deflicker", "colorize"})  # done by the method of that name, which needs no key frames
QUALITIES: tuple[Quality, ...] = ("draft", "normal", "best")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to do with which files. Empty text and None mean "not given"; `input` and key pictures may also be passed beside.

    `prompts` maps times of the input to the words that hold from then on; `negative` are words for what should not be there.
    `keyframes` maps times of the input to picture files; `method` is a recipe (`flowpaint.seams.to_dict`), `look` the words
    that say which look was taken, `encoding` the fields of `flowpaint.video.Encoding` that differ from their defaults.
    `objects` are the marks of what a method changes the shape of: mask files, click:x,y, box:x0,y0,x1,y1 or auto;
    `new_object` is the mask of what an edited first frame shows there, `reference` and `sketch` are pictures of what shall be
    there, `depth` is a video of the source's depth, white = near. `instruct`: the prompt says what to change; `remove`: the
    objects shall be gone. `by` is the video that lends its colours (kind "colorize"), shown at the input's times with
    `resample`. With `strict` a key picture that does not match its frame is refused. Times count in the input, whatever
    `start` says. `offline`, `commercial_only` and `allow_pickle` are those of `flowpaint.weights.Policy`. Raises
    `ConfigError` for a word that is not one of a field's choices, `InputError` for a strength outside 0..1 and for colours
    both kept and taken.
    """

    kind: Kind = "edit"
    input: str = ""
    output: str = ""
    prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    negative: str = ""
    style: str | None = None
    by: str | None = None
    resample: bool = False
    look: str = ""
    keyframes: Mapping[str, str] = field(default_factory=dict)
    mask: str | None = None
    objects: tuple[str, ...] = ()
    new_object: str | None = None
    reference: str | None = None
    sketch: str | None = None
    depth: str | None = None
    instruct: bool = False
    remove: bool = False
    method: Mapping[str, Any] = field(default_factory=dict)
    strength: float = 1.0
    keep_colors: bool = False
    quality: Quality = "normal"
    seed: int = 0
    device: str = "auto"
    start: str | None = None
    end: str | None = None
    preview: str | None = None
    side_by_side: bool = False
    other_shots: OtherShots = "refuse"
    strict: bool = False
    allow_damaged: bool = False
    tonemap: bool = False
    fps: str = "24"
    offline: bool = False
    commercial_only: bool = False
    allow_pickle: bool = False
    encoding: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in (("kind", KINDS), ("quality", QUALITIES), ("other_shots", ("refuse", "keep"))):
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"There is no {name.replace('_', ' ')} {value!r}. Nearest: {nearest(value, choices)}.")
        if not 0.0 <= self.strength <= 1.0:
            raise InputError(f"The strength {self.strength} is outside 0..1. Give 0 for the source, 1 for the whole edit.")
        if self.kind == "colorize" and self.keep_colors:
            raise InputError("--keep-colors would keep what colorize changes. Leave it out, or give a --strength below 1.")
        if self.kind != "colorize" and (self.by or self.resample):
            raise InputError(f"Only colorize takes its colours from a video, not {self.kind}. Leave out `by` and `resample`.")
        if not self.objects and (self.remove or self.new_object):
            raise InputError("Nothing says which object is meant. Mark it with --object: a mask, click:X,Y, box:X,Y,X,Y or auto.")
        if self.instruct and not self.prompt.strip():
            raise InputError('The instruction is empty. Say what to change, like --instruct "make it winter".')
        self.encoded()

    def encoded(self) -> Encoding:
        """How the result is to be encoded. Raises `ConfigError` or `InputError` for unknown fields and values."""
        known = {one.name: one.type for one in fields(Encoding) if one.name != "comment"}
        for unknown in self.encoding.keys() - known.keys():
            raise ConfigError(f"An encoding has no {unknown!r}. Nearest: {nearest(unknown, known)}.")
        return Encoding(**{name: _checked(name, value, known[name]) for name, value in self.encoding.items()})

    def policy(self) -> Policy:
        """What may be done to get weights for it."""
        return Policy(offline=self.offline, commercial_only=self.commercial_only, allow_pickle=self.allow_pickle)

    def to_dict(self) -> dict[str, Any]:
        """The job as values that JSON and TOML can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Job":
        """The job that `to_dict` described. Raises `ConfigError` for fields that it does not know or that do not fit."""
        known = {one.name: one for one in fields(cls)}
        for unknown in values.keys() - known.keys():
            raise ConfigError(f"A job has no field {unknown!r}. Nearest: {nearest(unknown, known)}.")
        checked = {name: _checked(name, value, known[name].type) for name, value in values.items()}
        if "objects" in checked:
            checked["objects"] = tuple(checked["objects"])  # files know no tuples
        return cls(**checked)

    @classmethod
    def of_run(cls, manifest: Mapping[str, Any]) -> "Job":
        """The job that a run folder's manifest tells of, with the policy that stands beside it. Raises as `from_dict` does."""
        return cls.from_dict({**manifest["job"], **manifest.get("policy", {})})

    def to_toml(self) -> str:
        """The job as TOML text."""
        return toml.dumps(self.to_dict())

    def files(self) -> list[str]:
        """The files and folders that the job reads."""
        pictures = (self.style, self.by, self.mask, self.new_object, self.reference, self.sketch, self.depth)
        own = {one for one in (self.input, *pictures, *self.keyframes.values()) if one}
        own |= {one for one in self.objects if not marks_by_words(one)}
        return sorted(own.union(_paths(self.method)))

    def named(self, name: Callable[[str], str], folder: Path = Path()) -> "Job":
        """The same job with every path replaced by `name(path)`; in recipes, what is a path in `folder` or from the root."""
        return replace(
            self,
            input=name(self.input) if self.input else "",
            output=name(self.output) if self.output else "",
            style=name(self.style) if self.style else None,
            by=name(self.by) if self.by else None,
            mask=name(self.mask) if self.mask else None,
            objects=tuple(one if marks_by_words(one) else name(one) for one in self.objects),
            new_object=name(self.new_object) if self.new_object else None,
            reference=name(self.reference) if self.reference else None,
            sketch=name(self.sketch) if self.sketch else None,
            depth=name(self.depth) if self.depth else None,
            keyframes={time: name(path) for time, path in self.keyframes.items()},
            method=_renamed(self.method, name, folder),
        )


def default_output(job: Job) -> str:
    """The file name of a job's result where none was given: STEM_METHOD_SEED with the input's suffix, where that takes H.264."""
    path = Path(job.input)
    suffix = ".mp4" if path.is_dir() else _KEPT.get(path.suffix.lower(), ".mkv")
    return f"{path.stem}_{job.method.get('part', job.kind)}_{job.seed}{suffix}"


def marks_by_words(mark: str) -> bool:
    """Whether the mark of an object is no file: auto, click:x,y or box:x0,y0,x1,y1."""
    return mark == "auto" or mark.startswith(("click:", "box:"))


_HINTS: dict[str, tuple[type, ...]] = {
    "float": (int, float),
    "bool": (bool,),
    "int": (int,),
    "Mapping": (Mapping,),
    "tuple": (tuple, list),
}


def _checked(name: str, value: Any, hint: Any) -> Any:
    said = getattr(hint, "__name__", str(hint))
    wanted = next((types for word, types in _HINTS.items() if said.startswith(word)), None)
    if wanted is None:
        wanted = (str, type(None)) if "None" in str(hint) else (str,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise ConfigError(f"The field {name!r} of a job cannot be {value!r}. Give {said}.")
    return value


# -------------------------------------------------------------------------------------------------------- paths in recipes

PLACES = frozenset(
    {"path", "weights", "shape", "controlnets", "lora", "heads", "workflow"}
)  # fields that may name a file or a folder


def _is_path(text: str, field: str, folder: Path) -> bool:
    """Whether a `field` of a part names a file or folder, a relative one in `folder`, and not weights known by a name."""
    path = Path(_expanded(text))
    if field == "picture" or path.is_absolute() or names_file(text):
        return bool(text)
    if field == "program":  # a bare name is looked for on PATH
        return path.name != text and (folder / path).exists()
    return bool(text) and field in PLACES and not is_known(text) and (folder / path).exists()


def _expanded(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111  # a Path would make sd15, which is a public name, of ./sd15


def _paths(recipe: Any, field: str = "") -> Iterator[str]:
    """The files and folders that the parts of a recipe name, those that are there."""
    if isinstance(recipe, Mapping):
        for key, value in recipe.items():
            yield from _paths(value, key)
    elif isinstance(recipe, (list, tuple)):
        for value in recipe:
            yield from _paths(value, field)
    elif isinstance(recipe, str) and _is_path(recipe, field, Path()) and Path(found := _expanded(recipe)).exists():
        yield found


def _renamed(recipe: Any, name: Callable[[str], str], folder: Path, field: str = "") -> Any:
    if isinstance(recipe, Mapping):
        return {key: _renamed(value, name, folder, key) for key, value in recipe.items()}
    if isinstance(recipe, (list, tuple)):
        return [_renamed(value, name, folder, field) for value in recipe]
    if isinstance(recipe, str) and _is_path(recipe, field, folder):
        renamed = name(_expanded(recipe))
        return f"./{renamed}" if is_known(renamed) else renamed
    return recipe


# ----------------------------------------------------------------------------------------------------------- provenance


def provenance(job: Job) -> str:
    """The text of a result's comment tag: the job with its paths cut to file names, and the versions."""
    shown = job.named(lambda path: Path(path).name).to_dict()
    return json.dumps({"flowpaint": versions(), "job": shown}, ensure_ascii=False, sort_keys=True)


def recorded(path: str | Path) -> Job:
    """The job stored in a result's comment, in a report (.json) or in a recipe file (.toml).

    Paths are names of files beside it or in the current folder. Raises `InputError` where there is no job in it.
    """
    path = Path(path)
    if path.suffix.lower() == ".toml":
        return _completed(toml.load(path))
    try:
        text = path.read_text("utf-8") if path.suffix.lower() == ".json" else read_comment(path)
        found = json.loads(text)["job"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} holds no recipe of flowpaint. Give a video made by `flowpaint edit`, or its .json.") from error
    return Job.from_dict(found).named(lambda name: _beside(name, path), path.parent)


def _completed(values: Mapping[str, Any]) -> Job:
    """The job in a file that may be written by hand: its method by name, as a recipe, or left to be chosen as `edit` does."""
    kind = values.get("kind", "edit")
    method = values.get("method", kind if kind in WITHOUT_KEYS else DEFAULT_METHOD)
    if not isinstance(method, str):
        job = Job.from_dict(values)
        return replace(job, method={"kind": "method", **job.method}) if job.method else job
    job = Job.from_dict({**values, "method": {}})
    chosen, look = choose_method(method, prompt=job.prompt, style=job.style)
    return replace(job, method=recipe_of(chosen), look=look)


def _beside(name: str, path: Path) -> str:
    near = path.parent / name
    return str(near) if not Path(name).exists() and near.exists() else name


def recipe_of(part: object) -> dict[str, Any]:
    """A part as plain values, {} where it is not registered: a job that holds it cannot be repeated from a file."""
    try:
        return seams.to_dict(part)
    except ConfigError:
        return {}
