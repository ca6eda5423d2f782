"""From a job to everything that work needs, checked: the clip, its shots, the method, the key pictures, the mask."""

import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .. import seams, timecode, video
from ..errors import ConfigError, InputError, WeightsError
from ..parallel import ReadAhead, one_thread_each
from ..report import Timings
from ..seams import Method, Notes
from ..types import Clip, Raw, from_raw, to_raw
from ..warp import resize
from ..weights import Ledger, keeping, nothing_fetched
from . import first
from .fit import ASPECT_SLACK, Laid, check_matches, lay
from .job import WITHOUT_KEYS, Job
from .objects import Marked, check_shots, fitting, marked

_PREVIEW_SIDE = 256

Warn = Callable[[str], None]
Shots: TypeAlias = tuple[range, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What a program passes beside a job because it is in no file."""

    clip: Clip | None = None
    keyframes: Mapping[int | str, Tensor] = field(default_factory=dict)
    mask: Clip | None = None
    by: Clip | None = None
    objects: tuple[Clip, ...] = ()
    method: Method | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the job alone says everything."""
        return (
            not self.keyframes and not self.objects and all(one is None for one in (self.clip, self.mask, self.by, self.method))
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A job with its inputs opened. Frames count in `clip`; `first` is the number of its frame 0 in the input."""

    job: Job
    clip: Clip
    first: int
    begin: Fraction  # the instant of the input's own first frame
    shots: Shots
    passed: frozenset[range]  # shots without a key frame that go through as they are
    method: Method
    prompts: Mapping[int, str]
    keyframes: Mapping[int, Tensor]
    finished: frozenset[int]  # key frames that have what the job asks of every edit: they were approved
    matches: tuple[Mapping[str, Any], ...]  # of each key frame, how well it matches
    mask: Clip | None
    by: Clip | None
    marked: Marked
    device: str
    notes: Notes
    timings: Timings
    ledger: Ledger  # of the weights that were used
    frames_read: ReadAhead  # what `clip` shows

    def policed(self) -> AbstractContextManager[None]:
        """Inside, weights are found as the job says, and noted."""
        return keeping(self.job.policy(), self.ledger)

    def threads(self) -> AbstractContextManager[None]:
        """Inside, results do not depend on the number of threads; image models alone use all that torch has."""
        return one_thread_each(of_torch=not has_image_model(self.method))


def prepare(job: Job, given: Given, *, notes: Notes, timings: Timings, dry: bool = False, shots: Shots = ()) -> Prepared:
    """The job with its inputs opened and checked; the weights of its method are here, or with `dry` a warning says that not.
    `shots` are the clip's, where they are known.

    Raises `InputError`, `VideoError` and `ConfigError` for what does not fit, `WeightsError` and `LicenceError` for weights that
    cannot be used.
    """
    method = given.method or _method(job)
    device, ledger = resolve_device(job.device), Ledger(notes.warn)
    with timings.stage("weights"), keeping(job.policy(), ledger):
        check_parts(method, warn=notes.warn if dry else None)
    with timings.stage("read"):
        whole = given.clip or read_input(job, notes.warn)
        frames = chosen_frames(job, whole)
        clip = whole[frames.start : frames.stop]
        mask, by = _mask(job, given, whole, frames, notes.warn), _by(job, given, whole, frames, notes.warn)
        said = marked(job, given.objects, whole, frames, notes.warn)
        if (said.objects or said.depth is not None) and not takes_objects(method):
            raise InputError(f"The method {type(method).__name__} takes no objects and no depth. Use --method stablev2v.")
        if job.preview is not None:
            clip, mask, said = _small(clip), mask and _small(mask), _small_marks(said)
        clip = clip.with_frames(frames_read := _read_ahead(clip, timings))
    prompts = _prompts(job, method, whole, frames.start)
    with timings.stage("key frames"):
        laid = _keyframes(job, given, whole, clip, frames=frames, warn=notes.warn)
    with timings.stage("shots"), frames_read.ahead():
        shots = shots or tuple(video.shots(clip, warn=notes.warn))
    check_shots(said.objects, shots, first=frames.start)
    passed = _without_keys(job, method, shots, laid, first=frames.start, warn=notes.warn)
    return Prepared(
        job=job,
        clip=clip,
        first=frames.start,
        begin=whole.times[0],
        shots=shots,
        passed=passed,
        method=method,
        prompts=prompts,
        keyframes={index: one.picture for index, one in laid.items()},
        finished=frozenset(index for index, one in laid.items() if one.finished),
        matches=tuple(one.to_dict() for one in laid.values()),
        mask=mask,
        by=by,
        marked=said,
        device=device,
        notes=notes,
        timings=timings,
        ledger=ledger,
        frames_read=frames_read,
    )


def _read_ahead(clip: Clip, timings: Timings) -> ReadAhead:
    """The frames of `clip`, of which the last are kept: method, mask, measurement and sheet ask for the same ones."""

    def read(index: int) -> Raw:
        with timings.stage("decode"):
            return clip.raw(index)

    return ReadAhead(read, len(clip), clip.height * clip.width * 3 * clip.bits // 8)


def _method(job: Job) -> Method:
    if not job.method:
        raise ConfigError(
            "The job holds no method: it was a program's own, which no file can hold. Run that program again, or name a method."
        )
    method: Method = seams.from_dict(job.method)
    return method


def check_parts(part: object, *, warn: Warn | None = None) -> None:
    """Nothing, where all that a part and those in it need from outside is here: weights are fetched now, not after long work.

    With `warn` none are, and it is told what is missing. Raises `WeightsError` otherwise; in both cases `LicenceError`, and what
    else a part's own `check` raises.
    """
    check = getattr(part, "check", None)
    if callable(check):
        try:
            with nullcontext() if warn is None else nothing_fetched():
                check()
        except WeightsError as error:
            if warn is None:
                raise
            warn(str(error))
    if dataclasses.is_dataclass(part):
        for one in dataclasses.fields(part):
            if "kind" in one.metadata:
                check_parts(getattr(part, one.name), warn=warn)


def read_input(job: Job, warn: Warn) -> Clip:
    """The whole clip that a job names."""
    return _read(job, job.input, warn)


def _read(job: Job, path: str, warn: Warn) -> Clip:
    try:
        fps = Fraction(job.fps)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if fps <= 0:
        raise InputError(f"{job.fps!r} is no frame rate. Give frames a second above zero, like 24 or 30000/1001.")
    return video.read(path, fps=fps, allow_damaged=job.allow_damaged, tonemap=job.tonemap, warn=warn)


def resolve_device(device: str) -> str:
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:0` or `mps`. Raises `ConfigError` for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return device
    if kind == "cuda" and (not number or number.isdecimal()) and int(number or 0) < torch.cuda.device_count():
        return device
    if device == "mps" and torch.backends.mps.is_available():
        return device
    raise ConfigError(f"The device {device!r} is not on this machine. Use auto or cpu; `flowpaint doctor` lists what is here.")


def chosen_frames(job: Job, whole: Clip) -> range:
    """The frames of the input that are worked on: `start` to `end`, of those the first seconds for a preview."""
    frames = timecode.span(whole, job.start, job.end)
    if job.preview is None:
        return frames
    last = whole.times[frames.start] + timecode.duration(job.preview)
    return range(frames.start, max(frames.start + 1, sum(whole.times[index] < last for index in frames) + frames.start))


def sized(clip: Clip, read: Callable[[int], Raw], *, height: int, width: int) -> Clip:
    """A clip with the time stamps, tags and origin of `clip` whose frames have another size."""
    return Clip(
        read,
        times=clip.times,
        end=clip.end,
        height=height,
        width=width,
        bits=clip.bits,
        colour=clip.colour,
        aspect=clip.aspect,
        codec=clip.codec,
        origin=clip.origin,
    )


def _small(clip: Clip) -> Clip:
    """The clip at a short side of 256 pixels, even, for a preview."""
    ratio = _PREVIEW_SIDE / min(clip.height, clip.width)
    if ratio >= 1:
        return clip
    height, width = (2 * round(side * ratio / 2) for side in (clip.height, clip.width))
    return sized(
        clip, lambda index: to_raw(resize(clip.frame(index)[None], height, width)[0], clip.bits), height=height, width=width
    )


def _small_marks(said: Marked) -> Marked:
    """Marks for a clip that is shown small."""
    shape = said.new_object
    if shape is not None:
        shape = (_small(Clip.from_array(shape[None].expand(1, 3, -1, -1))).frame(0)[:1] > 0.5).float()
    return dataclasses.replace(said, objects=tuple(_small(one) for one in said.objects), new_object=shape)


def on_screen(clip: Clip, like: Clip) -> list[int]:
    """For each frame of `like` the frame of `clip` on screen then, both counted from their own first instant."""
    begins = [time - clip.times[0] for time in clip.times]
    return [max(0, bisect_right(begins, time - like.times[0]) - 1) for time in like.times]


# ---------------------------------------------------------------------------------------------- masks, colours and keys


def _mask(job: Job, given: Given, whole: Clip, frames: range, warn: Warn) -> Clip | None:
    """The mask for `frames` of the input: one frame for all, or one for each."""
    mask = given.mask
    if mask is None:
        if job.mask is None:
            return None
        mask = video.read(job.mask, warn=warn)
    return fitting(mask, job.mask or "The mask", whole, frames)


def _by(job: Job, given: Given, whole: Clip, frames: range, warn: Warn) -> Clip | None:
    """The clip that lends its colours to `frames` of the input: one frame for each, of any size."""
    by = given.by
    if by is None and job.by is not None:
        by = _read(job, job.by, warn)
    if by is None:
        if job.kind == "colorize":
            raise InputError("There is no video to take colours from. Name one with --by.")
        return None
    name, aspect = job.by or "The video that lends its colours", by.width * whole.height / (by.height * whole.width)
    if abs(aspect - 1) > ASPECT_SLACK:
        raise InputError(
            f"{name} is {by.width}x{by.height}, another shape than the video's {whole.width}x{whole.height}. "
            "Give one of the same shape; the size does not matter."
        )
    if job.resample:
        places = on_screen(by, whole)
        shown = sized(whole, lambda index: by.raw(places[index]), height=by.height, width=by.width)
        return shown[frames.start : frames.stop]
    if len(by) == len(frames):
        return by
    if len(by) != len(whole):
        raise InputError(
            f"{name} has {len(by)} frames where the video has {len(whole)}. "
            "Give one as long as it, or --resample to take the frame on screen at the same time."
        )
    return by[frames.start : frames.stop]


def takes_objects(method: Method) -> bool:
    """Whether `method` changes the shape of objects that are marked for it."""
    return bool(getattr(method, "takes_objects", False))


def has_image_model(method: Method) -> bool:
    """Whether `method` or its editor makes pictures by an image model, which reads words, here or on a server."""
    makers = (method, getattr(method, "editor", None))
    return any("model" in getattr(one, "__dataclass_fields__", {}) or hasattr(one, "tasks") for one in makers)


def _prompts(job: Job, method: Method, whole: Clip, first: int) -> dict[int, str]:
    """The words that hold from frames of the clip on; frames before its own first are negative. Raises `InputError`."""
    if not (job.prompts or job.negative):
        return {}
    if not has_image_model(method):
        raise InputError(
            "Words by time (--prompt) and words against (--negative) are for methods with an image model; a look holds for the "
            "whole video. Use --method fresco, or --model with frame-by-frame or analogy."
        )
    found: dict[int, str] = {}
    for time, words in job.prompts.items():
        frame = timecode.frame_at(time, whole) - first
        if not words.strip() or frame in found:
            raise InputError(f"The words at {time} are empty or not the only ones there. Give one prompt for a time.")
        found[frame] = words
    return found


def _keyframes(job: Job, given: Given, whole: Clip, clip: Clip, *, frames: range, warn: Warn) -> dict[int, Laid]:
    """Key pictures laid onto their frames, by number in `clip`."""
    wanted: dict[int, tuple[str, Tensor | first.Approved]] = {}
    named = [(time, path, None) for time, path in job.keyframes.items()]
    for time, name, picture in [*named, *((time, f"the key frame at {time}", one) for time, one in given.keyframes.items())]:
        number = timecode.frame_at(time, whole)
        if number not in frames:
            if job.preview is None:
                raise InputError(
                    f"{name} is for frame {number}, outside frames {frames.start} to {frames[-1]}. Give another --start or --end."
                )
            warn(f"The preview ends before frame {number}, so {name} is not used. Give --start to see that part.")
        elif number - frames.start in wanted:
            other = wanted[number - frames.start][0]
            raise InputError(f"{other} and {name} are both for frame {number}. Give one of them.")
        elif picture is None and (known := first.approved(name, number, job)) is not None:
            wanted[number - frames.start] = name, known
        else:
            wanted[number - frames.start] = name, from_raw(video.read_picture(name)) if picture is None else picture
    laid = {
        index: lay(picture, clip.frame(index), name=name, number=index + frames.start)
        for index, (name, picture) in sorted(wanted.items())
    }
    check_matches(laid, clip, strict=job.strict, warn=warn)
    return laid


def _without_keys(
    job: Job, method: Method, shots: Shots, keyframes: Collection[int], *, first: int, warn: Warn
) -> frozenset[range]:
    """Shots that nothing is known for, which pass as they are where that is asked for. Raises `InputError` otherwise."""
    if job.kind in WITHOUT_KEYS or job.remove or getattr(method, "editor", None) is not None:
        return frozenset()
    if (job.prompt.strip() or job.prompts) and not (keyframes and hasattr(method, "editor")):
        return frozenset()  # the method reads words itself
    if job.kind == "edit" and not keyframes:
        raise InputError("The prompt is empty. Name a look (`flowpaint looks` lists them), or give --style or --keyframe.")
    if not keyframes:
        raise InputError(
            "There is no key frame to propagate. Take one out with `flowpaint frames`, edit it and give it with --keyframe."
        )
    bare = [shot for shot in shots if not any(index in shot for index in keyframes)]
    listed = "; ".join(f"frames {shot.start + first} to {shot[-1] + first}: edit frame {shot.start + first}" for shot in bare)
    if bare and job.other_shots == "refuse":
        rest = "--start and --end around the others"
        if job.kind == "propagate":  # `edit` has no such option
            rest = "--other-shots keep to leave these shots as they are"
        raise InputError(
            f"{len(bare)} of the {len(shots)} shots have no key frame of their own, and none is carried over a cut ({listed}). "
            f"Give one for each, or {rest}."
        )
    if bare:
        warn(f"{len(bare)} of the {len(shots)} shots have no key frame and stay as they are ({listed}).")
    return frozenset(bare)
