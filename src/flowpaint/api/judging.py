"""`evaluate` and `compare`: from files and names to cards and a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

from .. import seams, video
from ..errors import ConfigError, InputError, nearest
from ..evaluation import judge as judging
from ..evaluation.card import Card
from ..moments import Case, Pass
from ..outputs import make_folder
from ..seams import FlowEstimator, Metric
from ..timecode import span
from ..types import Clip, from_raw, to_raw
from ..warp import resize
from ..weights import DEFAULT_POLICY, Policy, keeping
from .calls import KeyFrames, Options, plan_job
from .files import check_files
from .job import Job, Kind, recorded
from .painted import frame_by_frame, frame_by_frame_of
from .prepare import check_parts, on_screen, resolve_device
from .result import Result
from .verdict import Verdict

Video: TypeAlias = str | Path | Clip

NETWORK_FREE = (
    "fidelity", "identity", "truth", "edit-strength", "sharpness", "warp-error",
    "pixel-mse", "flicker", "texture", "alternation", "colour-drift", "shape", "cost",
)  # fmt: skip
_FAST_SETTINGS = {"warp-error": {"own": False}, "fidelity": {"multiscale": False}}
_NOTE = (
    "A frozen, blurred or smeared video has low warp errors and little flicker, and an unedited one has everything: "
    "read them beside texture, sharpness, motion and edit strength, and look at the pictures."
)
_FAST_FLOW = "ultrafast"


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Which metrics look on, and how: `needed` are those that must not be left out for want of weights."""

    metrics: Mapping[str, Metric]
    flow: FlowEstimator
    half: bool = False  # judge at half size
    needed: frozenset[str] = frozenset()

    def check(self) -> None:
        """Raises what judging would raise later for want of weights of the metrics that were named."""
        for name in self.needed:
            check_parts(self.metrics[name])

    def through(self, clip: Clip, device: str) -> Pass:
        """The pass over a case of `clip`."""
        return Pass(flow=self.flow, side=min(clip.height, clip.width) // 2 if self.half else None, device=device)


def choose_judges(metrics: str = "all", settings: Sequence[str] = ()) -> Judges:
    """The judges that `metrics` names: "all", "fast" (no network, half size, fast flow) or names with commas between.

    `settings` are `metric.field=value`, or `flow.field=value`. Raises `ConfigError` for unknown names and fields.
    """
    known = seams.names("metric")
    fast = metrics.strip() == "fast"
    names = {"all": known, "fast": list(NETWORK_FREE)}.get(metrics.strip()) or [one.strip() for one in metrics.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"There is no metric called {name!r}. Nearest: {nearest(name, known)}; `all` and `fast` name several."
            )
    built = {name: seams.build("metric", name, **(_FAST_SETTINGS.get(name, {}) if fast else {})) for name in dict.fromkeys(names)}
    flow = seams.build("flow", "dis", **({"preset": _FAST_FLOW} if fast else {}))
    for setting in settings:
        path, equals, value = setting.partition("=")
        head, _, rest = path.strip().partition(".")
        if not equals or not rest:
            raise InputError(f"The setting {setting!r} is not understood. Write it as metric.field=value.")
        if head == "flow":
            flow = seams.override(flow, rest, value.strip())
        elif head in built:
            built[head] = seams.override(built[head], rest, value.strip())
        else:
            raise ConfigError(f"No metric called {head!r} was chosen. Nearest: {nearest(head, [*built, 'flow'])}.")
    needed = frozenset() if metrics.strip() in ("all", "fast") else frozenset(names)
    return Judges(metrics=built, flow=flow, half=fast, needed=needed)


class About(TypedDict, total=False):
    """What is known of a result. What is not given is taken from the recipe stored in it, and from the report beside it.

    `frame_by_frame` is the source with every frame edited by itself: what texture is compared with.
    """

    prompt: str
    source_prompt: str
    mask: Video | None
    result_mask: Video | None
    frame_by_frame: Video | None


def evaluate(
    result: Video,
    source: Video,
    *,
    metrics: str = "all",
    settings: Sequence[str] = (),
    resample: bool = False,
    device: str = "auto",
    label: str = "",
    policy: Policy = DEFAULT_POLICY,
    progress: judging.Progress | None = None,
    **about: Unpack[About],
) -> Verdict:
    """The verdict on `result`, made from `source`: one card.

    With `resample`, a result of other length or size is shown at the source's times and size; `policy` says what may be done to
    get weights. Raises `InputError` where they differ otherwise, `ConfigError` for unknown metrics, `WeightsError` or
    `LicenceError` where a metric that was named lacks its weights or may not use them.
    """
    judges = choose_judges(metrics, settings)
    with keeping(policy):
        judges.check()
    recipe = recorded_in(result)
    case = case_of(result, source, resample=resample, recipe=recipe, **about)
    device = resolve_device(device)
    if recipe is not None and case.frame_by_frame is None:
        case = replace(case, frame_by_frame=frame_by_frame_of(recipe, case.source, case.mask, device))
    through = judges.through(case.source, device)
    with keeping(policy):
        card = judging.judge(
            case,
            judges.metrics,
            through=through,
            label=label or _label(result, recipe),
            needed=judges.needed,
            recipe={} if recipe is None else recipe.to_dict(),
            progress=progress,
        )
    videos: dict[str, Path] = {} if isinstance(result, Clip) else {card.label: Path(result)}
    return Verdict(
        title=f"{_named(result)}, judged against {_named(source)}",
        subtitle=case.prompt,
        cards={card.label: card},
        cases={card.label: case},
        through=through,
        videos=videos,
        notes=(_NOTE,),
    )


def compare(
    source: Video,
    prompt: str = "",
    *,
    methods: Sequence[str],
    folder: str | Path,
    style: str | Path | None = None,
    keyframes: KeyFrames | None = None,
    metrics: str = "all",
    metric_settings: Sequence[str] = (),
    source_prompt: str = "",
    overwrite: bool = False,
    progress: judging.Progress | None = None,
    **options: Unpack[Options],
) -> Verdict:
    """The verdict on the same edit by several `methods`, a card each; their videos are written to `folder`.

    `options` are those of `flowpaint.edit`. A method whose video is there, made by the same job, is not run again; other files
    are replaced with `overwrite` only. Raises as `edit` and `evaluate` do.
    """
    judges = choose_judges(metrics, metric_settings)
    folder = Path(folder)
    make_folder(folder)
    kind: Kind = "edit" if prompt or style else "propagate"
    jobs = {
        method: plan_job(kind, source, prompt=prompt, method=method, style=style, keyframes=keyframes, **options)
        for method in dict.fromkeys(methods)
    }
    _check_videos({folder / f"{method}.mp4": job for method, (job, _) in jobs.items()}, overwrite=overwrite)
    cards: dict[str, Card] = {}
    cases: dict[str, Case] = {}
    videos: dict[str, Path] = {}
    through: Pass | None = None
    for method, (job, given) in jobs.items():
        with keeping(job.policy()):
            judges.check()
        result = Result(job, given)
        videos[method] = _made(result, folder / f"{method}.mp4", progress, overwrite=overwrite)
        about = About(prompt=prompt, source_prompt=source_prompt, mask=result.prepared.mask)
        # One process makes them all: its peak memory tells nothing of the later ones.
        case = case_of(videos[method], result.prepared.clip, shots=result.prepared.shots, **about)
        cases[method] = replace(case, peak_memory=None, frame_by_frame=frame_by_frame(result.prepared))
        through = judges.through(result.prepared.clip, result.prepared.device)
        cards[method] = _judged(result, cases[method], judges, through, label=method, progress=progress)
    title = f"{prompt or 'Edited key frames'}: {', '.join(cards)}"
    return Verdict(title=title, subtitle=_named(source), cards=cards, cases=cases, through=through, videos=videos, notes=(_NOTE,))


def _judged(result: Result, case: Case, judges: Judges, through: Pass, *, label: str, progress: judging.Progress | None) -> Card:
    with keeping(result.job.policy()):
        return judging.judge(
            case,
            judges.metrics,
            through=through,
            label=label,
            needed=judges.needed,
            recipe=result.job.to_dict(),
            progress=progress,
        )


def _check_videos(jobs: Mapping[Path, Job], *, overwrite: bool) -> None:
    """Raise `InputError` where a job may not write its video: for all of them, before the first one takes hours."""
    for path, job in jobs.items():
        if not is_made(job, path):
            check_files(replace(job, output=str(path)), overwrite=overwrite)


def _made(result: Result, path: Path, progress: judging.Progress | None, *, overwrite: bool) -> Path:
    """The video of `result` at `path`: the one that is there, where the same job made it."""
    return path if is_made(result.job, path) else result.save(path, overwrite=overwrite, progress=progress)


def is_made(job: Job, path: Path) -> bool:
    """Whether the video at `path` is there, made by `job`."""
    kept = recorded_in(path) if path.exists() else None
    wanted = replace(job, output=str(path)).named(lambda name: Path(name).name)
    return kept is not None and kept.named(lambda name: Path(name).name) == wanted


def case_of(
    result: Video,
    source: Video,
    *,
    resample: bool = False,
    recipe: Job | None = None,
    shots: Sequence[range] | None = None,
    **about: Unpack[About],
) -> Case:
    """The case of a result and its source, opened; the source's `shots` are looked for where they are not known. Raises as
    `evaluate` does.
    """
    source_clip, result_clip = _clip(source), _clip(result)
    if recipe is not None and len(result_clip) != len(source_clip):
        frames = span(source_clip, recipe.start, recipe.end)  # it may have been made from a part
        source_clip = source_clip[frames.start : frames.stop]
    if resample:
        result_clip = resampled(result_clip, source_clip)
    elif (len(result_clip), result_clip.width, result_clip.height) != (len(source_clip), source_clip.width, source_clip.height):
        raise InputError(
            f"{_named(source)} has {_shape(source_clip)} and {_named(result)} {_shape(result_clip)}. "
            "Give a result of its source, or --resample."
        )

    def opened(given: Video | None) -> Clip | None:
        if given is None:
            return None
        return resampled(_clip(given), source_clip) if resample else _clip(given)

    seconds, memory = _costs(result)
    return Case(
        source=source_clip,
        result=result_clip,
        prompt=about.get("prompt", "") or (recipe.prompt if recipe else ""),
        source_prompt=about.get("source_prompt", ""),
        cuts=frozenset(shot.start for shot in (shots or video.shots(source_clip)) if shot.start),
        seconds_per_frame=seconds,
        peak_memory=memory,
        mask=opened(about.get("mask")),
        result_mask=opened(about.get("result_mask")),
        frame_by_frame=opened(about.get("frame_by_frame")),
    )


def resampled(clip: Clip, like: Clip) -> Clip:
    """`clip` at the times and the size of `like`: the frame on screen then, resized; a clip of one frame stays one frame."""
    size = like.height, like.width
    if len(clip) == 1:
        places, base = [0], like[0:1]
    else:
        places, base = on_screen(clip, like), like
    if (clip.height, clip.width) == size and places == list(range(len(clip))):
        return clip
    return base.with_frames(lambda index: to_raw(resize(from_raw(clip.raw(places[index]))[None], *size)[0], like.bits))


def recorded_in(result: Video) -> Job | None:
    """The job stored in a result, if there is one."""
    if isinstance(result, Clip):
        return None
    try:
        return recorded(result)
    except (InputError, ConfigError):
        return None


def _costs(result: Video) -> tuple[float | None, int | None]:
    """Seconds a frame and peak bytes, from the report beside a result."""
    if isinstance(result, Clip):
        return None, None
    try:
        told: dict[str, Any] = json.loads(Path(result).with_suffix(".json").read_text("utf-8"))
        frames = int(told["input"]["num_frames"])
        return float(told["seconds"]["total"]) / frames, int(told["peak_memory"]["resident"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None, None


def _clip(given: Video) -> Clip:
    return given if isinstance(given, Clip) else video.read(given)


def _label(result: Video, recipe: Job | None) -> str:
    if recipe is not None and recipe.method.get("part"):
        return str(recipe.method["part"])
    return "result" if isinstance(result, Clip) else Path(result).stem


def _named(given: Video) -> str:
    return repr(given) if isinstance(given, Clip) else Path(given).name


def _shape(clip: Clip) -> str:
    return f"{len(clip)} frames of {clip.width}x{clip.height}"
