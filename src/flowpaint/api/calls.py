"""`edit`, `propagate`, `deflicker`, `colorize`: from what a program or the command line has at hand to a `Result`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from ..runs import read_manifest
from ..seams import Method
from ..types import Clip, from_raw
from .choose import DEFAULT_METHOD, OBJECT_METHOD, choose_method
from .job import Job, Kind, OtherShots, Quality, recipe_of
from .prepare import Given
from .result import Result, Saving

Array: TypeAlias = npt.NDArray[np.generic]
Video: TypeAlias = str | Path | Array | Tensor | Clip
Picture: TypeAlias = str | Path | Array | Tensor
KeyFrames: TypeAlias = Mapping[int, Picture] | Mapping[str, Picture]
Settings: TypeAlias = Mapping[str, object] | Sequence[str]


class Options(TypedDict, total=False):
    """What all four calls take besides.

    `prompts`: words by time, which hold from then on, and `negative` words for what should not be there, for methods that
    read words. `mask`: a picture or video, white where the edit may show. `objects`: what a method changes the shape of, each
    a mask file or clip, "click:x,y", "box:x0,y0,x1,y1" or "auto"; `new_object`: a mask of what an edited first frame shows
    there. `reference`, `sketch`: picture files of what shall be there; `depth`: a video of the source's depth, white = near;
    `instruct`: the prompt says what to change; `remove`: the objects shall be gone. `settings`: fields of the method's parts,
    as a mapping {"flow.preset": "fast"} or as texts "flow.preset=fast". `start`, `end`: times, the end not included.
    `preview`: the first so many seconds ("2s") at a short side of 256 pixels. `strict`: a key picture that does not match its
    frame is refused, where it otherwise is a warning. `fps`: the rate of folders and arrays. `encoding`: fields of
    `flowpaint.video.Encoding`. `offline`, `commercial_only`, `allow_pickle`: see `flowpaint.weights.Policy`.
    """

    prompts: Mapping[int, str] | Mapping[str, str]
    negative: str
    mask: str | Path | Clip | None
    objects: Sequence[str | Path | Clip]
    new_object: str | Path | None
    reference: str | Path | None
    sketch: str | Path | None
    depth: str | Path | None
    instruct: bool
    remove: bool
    strength: float
    keep_colors: bool
    quality: Quality
    seed: int
    device: str
    settings: Settings
    start: int | str | None
    end: int | str | None
    preview: str | None
    side_by_side: bool
    other_shots: OtherShots
    strict: bool
    allow_damaged: bool
    tonemap: bool
    fps: float | str
    offline: bool
    commercial_only: bool
    allow_pickle: bool
    encoding: Mapping[str, object]


def edit(
    video: Video,
    prompt: str = "",
    *,
    method: str | Path | Method | None = None,
    style: str | Path | None = None,
    keyframes: KeyFrames | None = None,
    **options: Unpack[Options],
) -> Result:
    """The video with the look that `prompt` names, or that of the picture `style`; nothing is made until it is asked for.

    `video` is a path, an array [T, H, W, 3] of uint8 or uint16, a tensor [T, 3, H, W] in [0, 1] or a `Clip`; `keyframes` maps
    times to pictures edited by hand. Without a `method` it is "stablev2v" where there are `objects`, else "analogy". Raises
    `InputError`, `VideoError` or `ConfigError` for what does not fit.
    """
    return Result(*plan_job("edit", video, prompt=prompt, method=method, style=style, keyframes=keyframes, **options))


def propagate(
    video: Video,
    keyframes: KeyFrames,
    *,
    method: str | Path | Method = DEFAULT_METHOD,
    **options: Unpack[Options],
) -> Result:
    """The video edited as its key frames are: `keyframes` maps times (frame numbers, "3.5s") to edited pictures.

    Pictures are paths, arrays [H, W, 3] or tensors [3, H, W] in [0, 1]. Each shot needs one, unless `other_shots="keep"`.
    Raises as `edit` does.
    """
    return Result(*plan_job("propagate", video, method=method, keyframes=keyframes, **options))


def deflicker(video: Video, **options: Unpack[Options]) -> Result:
    """The video without what jumps to and fro from frame to frame. Raises as `edit` does."""
    return Result(*plan_job("deflicker", video, method="deflicker", **options))


def colorize(video: Video, *, by: Video, resample: bool = False, **options: Unpack[Options]) -> Result:
    """The video in the colours of another one, frame for frame: the lightness of `video`, the chroma of `by`.

    `by` has as many frames as the video or as the range chosen of it, in any size; with `resample` the frame on screen at the
    same time counts. Raises as `edit` does.
    """
    return Result(*plan_job("colorize", video, method="colorize", by=by, resample=resample, **options))


def resume(
    run: str | Path, *, output: str | Path | None = None, audio: str | None = None, overwrite: bool = False
) -> tuple[Result, Saving]:
    """The job in a run folder, and how it was to be saved: `result.save(**saving)`.

    `output` and `audio` take the place of what the job said: nothing that is finished hangs on them. With `overwrite` an output
    that is there is replaced, whatever was said before. Raises `InputError` where there is no job, `ConfigError` for a way with
    the sound that is unknown.
    """
    run = Path(run)
    manifest = read_manifest(run)
    kept = manifest.get("saving", {})
    job = Job.of_run(manifest)
    if output is not None:
        job = replace(job, output=str(output))
    if audio is not None:
        job = replace(job, encoding={**job.encoding, "audio": audio})
    saving = Saving(
        run=run,
        overwrite=overwrite or bool(kept.get("overwrite", False)),
        provenance=bool(kept.get("provenance", True)),
        keep_run=bool(kept.get("keep_run", False)),
    )
    return Result(job), saving


def plan_job(
    kind: Kind,
    video: Video,
    *,
    prompt: str = "",
    method: str | Path | Method | None = None,
    style: str | Path | None = None,
    keyframes: KeyFrames | None = None,
    by: Video | None = None,
    resample: bool = False,
    **options: Unpack[Options],
) -> tuple[Job, Given]:
    """The job in plain values, and beside it what is in no file. Raises `ConfigError`, `InputError` for unknown words."""
    objects = options.get("objects", ())
    chosen, look = choose_method(
        (OBJECT_METHOD if objects else DEFAULT_METHOD) if method is None else method,
        prompt=prompt,
        style=_file(style),
        settings=_settings(options.get("settings", ())),
        keyframes=bool(keyframes),
    )
    recipe = recipe_of(chosen)
    fps, mask = options.get("fps", 24), options.get("mask")
    named, pictures = _sorted_out(keyframes or {})
    job = Job(
        kind=kind,
        input=_file(video) or "",
        prompt=prompt,
        prompts={str(time): words for time, words in options.get("prompts", {}).items()},
        style=_file(style),
        by=_file(by),
        resample=resample,
        look=look,
        keyframes=named,
        mask=_file(mask),
        objects=tuple(str(one) for one in objects if not isinstance(one, Clip)),
        method=recipe,
        fps=str(fps),
        encoding=dict(options.get("encoding", {})),
        **_plain(options),
    )
    given = Given(
        clip=None if isinstance(video, (str, Path)) else _clip(video, fps),
        keyframes=pictures,
        mask=mask if isinstance(mask, Clip) else None,
        by=None if by is None or isinstance(by, (str, Path)) else _clip(by, fps),
        objects=tuple(one for one in objects if isinstance(one, Clip)),
        method=None if recipe else chosen,
    )
    return job, given


_AS_THEY_ARE = {
    *("negative", "strength", "keep_colors", "quality", "seed", "device"),
    *("preview", "side_by_side", "other_shots", "strict", "allow_damaged", "tonemap"),
    *("offline", "commercial_only", "allow_pickle", "instruct", "remove"),
}
_AS_TEXT = ("new_object", "reference", "sketch", "depth", "start", "end")


def _settings(settings: Settings) -> list[str]:
    if isinstance(settings, Mapping):
        return [f"{path}={value}" for path, value in settings.items()]
    return list(settings)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a job holds as they are, or as text."""
    plain = {name: value for name, value in options.items() if name in _AS_THEY_ARE}
    return plain | {name: str(value) for name, value in options.items() if name in _AS_TEXT and value is not None}


def _file(given: object) -> str | None:
    """The path of what is given as a file."""
    return str(given) if isinstance(given, (str, Path)) else None


def _clip(video: Array | Tensor | Clip, fps: float | str) -> Clip:
    return video if isinstance(video, Clip) else Clip.from_array(video, Fraction(str(fps)))


def _sorted_out(keyframes: KeyFrames) -> tuple[dict[str, str], dict[int | str, Tensor]]:
    """Key frames that are files, and those that are pictures in memory."""
    named: dict[str, str] = {}
    pictures: dict[int | str, Tensor] = {}
    for time, picture in keyframes.items():
        if isinstance(picture, (str, Path)):
            named[str(time)] = str(picture)
        elif isinstance(picture, Tensor):
            pictures[time] = picture
        elif picture.ndim == 3 and picture.shape[-1] == 3 and picture.dtype in (np.uint8, np.uint16):
            pictures[time] = from_raw(picture)  # type: ignore[arg-type]
        else:
            raise InputError(
                f"The key frame at {time} is an array of shape {picture.shape}, {picture.dtype}. "
                "Give [H, W, 3] of uint8 or uint16, a tensor [3, H, W] in [0, 1], or a path."
            )
    return named, pictures
