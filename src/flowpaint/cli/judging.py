"""The commands that judge: `evaluate`, `compare`, `benchmark`, `vote`."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .edits import read_keyframes
from .options import Manners, Weights, grouped
from .talk import Talk, talking

if TYPE_CHECKING:
    from ..api import Poll, Verdict

_ARROWS = {True: "higher is better", False: "lower is better", None: ""}
_LAYOUTS = ("davis", "davis-edit", "known-edits", "scenes", "folder")


def _option(text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Judging", metavar=metavar)


@dataclass(frozen=True, kw_only=True)
class Judging:
    """By what a result is judged, and where that is written."""

    metrics: Annotated[str, _option("all, fast (no network, half size), or names with commas between.")] = "all"
    settings: Annotated[
        list[str], _option("Set a field of a metric; may be repeated.", "--set", metavar="METRIC.FIELD=VALUE")
    ] = field(default_factory=list)
    report: Annotated[Path | None, _option("Page to write (.html); .json and .csv lie beside it.")] = None
    device: Annotated[str, _option("auto, cpu, cuda:0 or mps.")] = "auto"
    overwrite: Annotated[bool, _option("Replace an existing report, and videos that were made otherwise.", "--overwrite")] = False


_Video = Annotated[Path, typer.Argument(metavar="INPUT", help="A video, or a folder of pictures.")]
_Methods = Annotated[str, typer.Option(help="Names with commas between: `flowpaint list method`.")]


@grouped(judging=Judging, weights=Weights, manners=Manners)
def evaluate(
    *,
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="The edited video.")],
    source: Annotated[Path, typer.Option(help="The video it was made from.")],
    prompt: Annotated[str, typer.Option(help="What was asked for. Default: what is stored in the result.")] = "",
    source_prompt: Annotated[str, typer.Option(help="What the source shows, in words.")] = "",
    mask: Annotated[Path | None, typer.Option(help="Picture or video, white where the edit may show.")] = None,
    result_mask: Annotated[Path | None, typer.Option(help="Picture or video, white where the result shows the object.")] = None,
    frame_by_frame: Annotated[
        Path | None, typer.Option(help="The source with every frame edited by itself: what texture is compared with.")
    ] = None,
    resample: Annotated[bool, typer.Option("--resample", help="Show the result at the source's times and size.")] = False,
    judging: Judging,
    weights: Weights,
    manners: Manners,
) -> None:
    """Judge a result by every metric: `flowpaint evaluate out.mp4 --source in.mp4 --report report.html`."""
    with talking(manners) as talk:
        from .. import api

        api.check_report(judging.report, overwrite=judging.overwrite)
        with talk.progress() as tell:
            verdict = api.evaluate(
                result, source, metrics=judging.metrics, settings=judging.settings, resample=resample, device=judging.device,
                prompt=prompt, source_prompt=source_prompt, mask=mask, result_mask=result_mask, frame_by_frame=frame_by_frame,
                policy=weights.policy(), progress=tell,
            )  # fmt: skip
        _tell(talk, verdict, judging)


@grouped(judging=Judging, weights=Weights, manners=Manners)
def compare(
    *,
    video: _Video,
    prompt: Annotated[str, typer.Argument(help="A look, in words.")] = "",
    methods: _Methods = "analogy,frame-by-frame,warp",
    style: Annotated[Path | None, typer.Option(help="A picture whose style the video takes.")] = None,
    keyframe: Annotated[
        list[str] | None, typer.Option("--keyframe", metavar="TIME=PICTURE", help="An edited frame; may be repeated.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Picture or video, white where the edit may show.")] = None,
    source_prompt: Annotated[str, typer.Option(help="What the source shows, in words.")] = "",
    start: Annotated[str | None, typer.Option(metavar="TIME", help="First frame: 48, 3.5s or 00:00:03.500.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Where to stop, not included.")] = None,
    quality: Annotated[str, typer.Option(help="draft, normal or best.")] = "normal",
    seed: Annotated[int, typer.Option(help="What is drawn by lot follows from it.")] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the videos. Default: beside the report.")
    ] = None,
    judging: Judging,
    weights: Weights,
    manners: Manners,
) -> None:
    """Edit a video by several methods and judge them: `flowpaint compare in.mp4 "van gogh" --report compare.html`."""
    with talking(manners) as talk:
        from .. import api

        folder = _folder(output, judging.report, "videos")
        api.check_report(judging.report, overwrite=judging.overwrite)
        options: dict[str, Any] = {
            "mask": mask, "start": start, "end": end, "quality": quality, "seed": seed, "device": judging.device, **vars(weights),
        }  # fmt: skip
        with talk.progress() as tell:
            verdict = api.compare(
                video, prompt, methods=_names(methods, "method"), folder=folder, style=style,
                keyframes=read_keyframes(keyframe or []) or None, metrics=judging.metrics, metric_settings=judging.settings,
                source_prompt=source_prompt, overwrite=judging.overwrite, progress=tell, **options,
            )  # fmt: skip
        _tell(talk, verdict, judging)


@grouped(judging=Judging, weights=Weights, manners=Manners)
def benchmark(
    *,
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help=f"One of {', '.join(_LAYOUTS)}.")],
    path: Annotated[Path | None, typer.Argument(metavar="[PATH]", help="The folder of the data; none for scenes.")] = None,
    methods: _Methods = "analogy,warp,freeze",
    prompt: Annotated[str, typer.Option(help="Edit for videos that name none.")] = "",
    only: Annotated[str, typer.Option(help="Only cases whose name holds this.")] = "",
    sizes: Annotated[str, typer.Option(help="known-edits: short sides in pixels, with commas between.")] = "256",
    against: Annotated[Path | None, typer.Option(help="known-edits: a CSV of another program's PSNR.")] = None,
    count: Annotated[int | None, typer.Option(help="scenes: how many; davis: how many frames of each video.")] = None,
    first_frames: Annotated[Path | None, typer.Option(help="A folder of edited first frames, CASE.png.")] = None,
    quality: Annotated[str, typer.Option(help="draft, normal or best.")] = "normal",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for rows and videos.")] = None,
    judging: Judging,
    weights: Weights,
    manners: Manners,
) -> None:
    """Judge methods over a whole benchmark, one row a case; the same command again goes on where it stopped."""
    with talking(manners) as talk:
        from .. import api

        folder = _folder(output, judging.report, "rows")
        api.check_report(
            judging.report, overwrite=judging.overwrite, renew=True
        )  # rows are kept, the report is brought up to date
        with talk.progress() as tell:
            verdict = api.benchmark(
                layout, path, methods=_names(methods, "method"), folder=folder, prompt=prompt, only=only, sizes=_sizes(sizes),
                against=against, count=count, first_frames=first_frames, quality=quality, metrics=judging.metrics,
                metric_settings=judging.settings,
                device=judging.device, policy=weights.policy(), overwrite=judging.overwrite, progress=tell,
            )  # fmt: skip
        _tell(talk, verdict, judging, renew=True)


@grouped(manners=Manners)
def vote(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Sub-folders named by method, with equally named videos.")],
    tally: Annotated[bool, typer.Option("--tally", help="Count the votes*.json in DIR.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
    manners: Manners,
) -> None:
    """Make a blind A/B page for people, or count its votes: `flowpaint vote DIR`, `flowpaint vote DIR --tally`."""
    with talking(manners) as talk:
        from .. import api

        if tally:
            counted = api.tally(folder)
            for warning in counted.warnings:
                talk.say(f"warning: {warning}")
            talk.result(counted.to_dict(), _polled(counted))
            return
        page = api.vote_page(folder, overwrite=overwrite)
        talk.say(f"Open it, vote, save the votes into {folder}, then: flowpaint vote {folder} --tally")
        talk.result({"page": str(page)}, [str(page)])


def _folder(output: Path | None, report: Path | None, what: str) -> Path:
    """Where `what` goes: the folder that was given, else one beside the report."""
    folder = output or (report.with_suffix(".files") if report else None)
    if folder is None:
        raise InputError(f"There is no place for the {what}. Give --report PAGE.html, or a folder with -o.")
    return folder


def _names(text: str, what: str) -> list[str]:
    names = [one.strip() for one in text.split(",") if one.strip()]
    if not names:
        raise InputError(f"No {what} is named. Write names with commas between.")
    return names


def _sizes(text: str) -> list[int]:
    try:
        return [int(one) for one in _names(text, "size")]
    except ValueError:
        raise InputError(f"{text!r} are no sizes. Write whole numbers with commas between, like 256,512.") from None


def _polled(poll: "Poll") -> list[str]:
    """A line a method: its share of the votes it took part in, with the 95 % interval."""
    lines = [f"{poll.votes} votes of {poll.voters} people, {poll.ties} undecided"]
    for method, found in sorted(poll.methods.items(), key=lambda one: -one[1].share):
        lines.append(f"{method}: {found.share:.0%} ({found.low:.0%} to {found.high:.0%})")
    return lines


def _tell(talk: Talk, verdict: "Verdict", judging: Judging, *, renew: bool = False) -> None:
    """The page, where one was asked for, and the numbers. What was not there when the work began is not replaced."""
    if judging.report is not None:
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        verdict.write(judging.report, command=command, overwrite=judging.overwrite or renew)
    found = verdict.to_dict() | ({"report": str(judging.report)} if judging.report else {})
    talk.result(found, [*_table(verdict), *([str(judging.report)] if judging.report else [])])


def _table(verdict: "Verdict") -> Sequence[str]:
    """A line a measure, a column a result."""
    labels, rows = verdict.table()
    wide = max((len(row[0]) for row in rows), default=0)
    column = max([14, *map(len, labels)]) + 2
    lines = [" " * wide + "".join(f"{label:>{column}}" for label in labels)]
    for title, values, unit, better in rows:
        lines.append(
            f"{title:<{wide}}" + "".join(f"{value:>{column}}" for value in values) + f"  {unit:<22}{_ARROWS[better]}".rstrip()
        )
    return lines
