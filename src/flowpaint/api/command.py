"""A job as the command line that does the same."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..errors import FlowpaintError
from .choose import DEFAULT_METHOD, OBJECT_METHOD, choose_method
from .job import WITHOUT_KEYS, Job, marks_by_words, recipe_of

_FLAGS = ("keep_colors", "side_by_side", "strict", "allow_damaged", "tonemap", "offline", "commercial_only", "allow_pickle")
_VALUES = ("strength", "start", "end", "preview", "quality", "seed", "device", "fps", "negative", "other_shots", "extent")
_FILES = ("mask", "new_object", "reference", "sketch", "depth", "style", "by")
_ENCODING = ("codec", "crf", "preset", "pixel_format", "audio")
_MOST = 200  # settings
_DEFAULTS: Mapping[str, Any] = {one.name: getattr(Job(), one.name) for one in fields(Job)}


def command(job: Job, name: Callable[[str], str] = str) -> str:
    """The command line, quoted for a shell, that does `job`: only what differs from the defaults is said.

    `name` gives the name under which a file is shown. What no option can say, as a method of a program's own, is left out.
    """
    words = ["flowpaint", job.kind, _safe(name(job.input))]
    if job.kind == "edit" and job.prompt and not job.instruct:
        words += ["--", job.prompt] if job.prompt.startswith("-") else [job.prompt]
    options = [*_method(job), *_words(job), *_plain(job, name)]
    if job.output:
        options += ["-o", name(job.output)]
    if "--" in words:  # what follows it are no options
        place = words.index("--")
        words[place:place] = options
        return shlex.join(words)
    return shlex.join([*words, *options])


def _safe(path: str) -> str:
    """A path that is not taken for an option."""
    return f"./{path}" if path.startswith("-") else path


def _words(job: Job) -> Iterator[str]:
    if job.instruct:
        yield f"--instruct={job.prompt}"
    for time, words in job.prompts.items():
        yield f"--prompt={time}={words}"


def _plain(job: Job, name: Callable[[str], str]) -> Iterator[str]:
    """Options whose value stands in the job as it is."""
    for field in _VALUES:
        value = getattr(job, field)
        if value != _DEFAULTS[field]:
            yield f"--{field.replace('_', '-')}={value}"
    for field in _FLAGS:
        if getattr(job, field):
            yield f"--{field.replace('_', '-')}"
    yield from ["--resample"] * job.resample
    yield from ["--remove"] * job.remove
    for field in _FILES:
        if getattr(job, field) is not None:
            yield f"--{field.replace('_', '-')}={name(getattr(job, field))}"
    for mark in job.objects:
        yield f"--object={mark if marks_by_words(mark) else name(mark)}"
    for time, path in job.keyframes.items():
        yield f"--keyframe={time}={name(path)}"
    for field in _ENCODING:
        if field in job.encoding:
            yield f"--{field.replace('_', '-')}={job.encoding[field]}"
    yield from ["--pad-even"] * bool(job.encoding.get("pad_even"))


# ------------------------------------------------------------------------------------------------------------ the method


def _method(job: Job) -> list[str]:
    """The options that lead to the job's method: its name, and what of it is set otherwise than the name alone would."""
    part = str(job.method.get("part", ""))
    if not part or job.kind in WITHOUT_KEYS:
        return [f"--set={one}" for one in _settings(job, part)] if part else []
    usual = OBJECT_METHOD if job.objects and job.kind == "edit" else DEFAULT_METHOD
    named = [f"--method={part}"] if part != usual else []
    return [*named, *(f"--set={one}" for one in _settings(job, part))]


def _settings(job: Job, part: str) -> list[str]:
    """Settings that turn the method called `part`, as the job's words alone choose it, into the job's: as few as do."""
    said: list[str] = []
    found = _chosen(job, part, said)
    if found is None:  # the words alone name no look: they are for an editor or a model
        said = list(_readers(job.method))
        found = _chosen(job, part, said)
    for _ in range(_MOST):  # each setting may bring others with it, as a model brings what suits it
        step = None if found is None else next(_differences(found, job.method), None)
        if step is None or step in said:
            break
        said.append(step)
        found = _chosen(job, part, said)
    return said


def _readers(method: Mapping[str, Any]) -> Iterator[str]:
    """The setting that chooses who reads words."""
    if isinstance(method.get("editor"), Mapping):
        yield f"editor={method['editor']['part']}"
    elif isinstance(method.get("model"), Mapping):
        yield f"model.weights={method['model'].get('weights', '')}"


def _chosen(job: Job, part: str, settings: Sequence[str]) -> dict[str, Any] | None:
    """The method that the words of the job and some settings lead to, None where they lead to none."""
    prompt = job.prompt if job.kind == "edit" else ""
    try:
        method, _ = choose_method(part, prompt=prompt, style=job.style, settings=settings, keyframes=bool(job.keyframes))
    except FlowpaintError:
        return None
    return recipe_of(method)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Settings for the fields that differ: models first, for others follow from them, then parts, then what is in parts."""
    names = sorted(wanted, key=lambda one: (one != "model", one))
    for field in names:
        have, want, place = found.get(field), wanted[field], f"{path}{field}"
        if have == want or field in ("kind", "part"):
            continue
        if isinstance(want, Mapping):
            if not isinstance(have, Mapping) or have.get("part") != want.get("part"):
                yield f"{place}={want['part']}"
            else:
                yield from _differences(have, want, f"{place}.")
        elif isinstance(want, list) and len(want) == 1 and isinstance(want[0], Mapping):
            if isinstance(have, list) and len(have) == 1 and have[0].get("part") == want[0].get("part"):
                yield from _differences(have[0], want[0], f"{place}.")
            else:
                yield f"{place}={want[0]['part']}"
        else:
            yield f"{place}={_text(want)}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(str(one["part"]) if isinstance(one, Mapping) else _text(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
