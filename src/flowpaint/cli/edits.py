"""The commands that make a video."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .options import How, ImageModel, Input, Machines, Manners, Objects, Output, RunOptions, Weights, What, grouped
from .talk import Talk, talking

if TYPE_CHECKING:  # the commands import it when they run, so that --help need not wait for torch
    from ..api import First, Job, Result, Saving

_Video = Annotated[Path, typer.Argument(metavar="INPUT", help="A video, or a folder of pictures.")]
_Method = Annotated[str, typer.Option(help="A name (`flowpaint list method`) or a recipe file.", metavar="NAME|FILE.toml")]
_AnyMethod = Annotated[
    str | None,
    typer.Option(
        "--method", help="A name or a recipe file. Default analogy; stablev2v for an --object.", metavar="NAME|FILE.toml"
    ),
]
_Keys = Annotated[list[str] | None, typer.Option("--keyframe", metavar="TIME=PICTURE", help="An edited frame; may be repeated.")]
_Strict = Annotated[bool, typer.Option("--strict", help="Refuse a key frame that does not match its frame.")]
_Shots = Annotated[str, typer.Option(help="Shots without a key frame: refuse, or keep as they are.")]


@grouped(
    what=What,
    things=Objects,
    words=ImageModel,
    how=How,
    weights=Weights,
    source=Input,
    out=Output,
    run=RunOptions,
    machines=Machines,
    manners=Manners,
)
def edit(
    ctx: typer.Context,
    *,
    video: Annotated[Path | None, typer.Argument(metavar="INPUT", help="A video, or a folder of pictures.")] = None,
    prompt: Annotated[str, typer.Argument(help="A look, in words: `flowpaint looks` lists them.")] = "",
    style: Annotated[Path | None, typer.Option(help="A picture whose style the video takes.")] = None,
    method: _AnyMethod = None,
    keyframe: _Keys = None,
    strict: _Strict = False,
    replay: Annotated[Path | None, typer.Option(help="Repeat what is stored in a result or its report.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Edit the first frame only, and say how to go on.")] = False,
    what: What,
    things: Objects,
    words: ImageModel,
    how: How,
    weights: Weights,
    source: Input,
    out: Output,
    run: RunOptions,
    machines: Machines,
    manners: Manners,
) -> None:
    """Give a video a look: `flowpaint edit in.mp4 "van gogh" -o out.mp4`."""
    with talking(manners) as talk:
        from .. import api

        if approve and (replay or run.dry_run):
            raise InputError("--approve makes a picture before the run. Leave out --replay and --dry-run, or --approve.")
        if replay is not None:
            own = (what, things, words, how, source) != (What(), Objects(), ImageModel(), How(), Input())
            if prompt or style or keyframe or strict or own:
                raise InputError("--replay brings its own words and settings. Give at most an input and an output beside it.")
            _make(_replayed(replay, video, weights, out), out, run, talk, machines)
            return
        if video is None:
            raise InputError("There is no input. Name a video, or a result to --replay.")
        if things.instruct is not None and prompt:
            raise InputError("There are both a prompt and an instruction. Give the words once.")
        prompt = prompt if things.instruct is None else things.instruct
        plain = _plain(what, how, source, out) | vars(weights) | things.plain() | {"strict": strict}
        plain |= {"prompts": _by_time(words.prompts, "prompt", "WORDS"), "negative": words.negative}
        plain["settings"] = [*things.settings(), *words.settings(), *how.settings]
        job, _ = api.plan_job(
            "edit", video, prompt=prompt, method=method, style=style, keyframes=read_keyframes(keyframe or []), **plain
        )
        if approve:
            _approve(job, out, run, talk, said=ctx.obj)
        else:
            _make(job, out, run, talk, machines)


def _approve(job: "Job", out: Output, run: RunOptions, talk: Talk, said: Sequence[str]) -> None:
    """Make the first frame of the job, and say how the command `said` goes on from there."""
    from .. import api

    job = replace(job, output=str(out.output or api.default_output(job)))
    if job.look:
        talk.say(job.look)
    api.check_approval(job)
    api.check_output(job, overwrite=out.overwrite)
    result = api.Result(job)
    first = result.approve(**_saving(out, run))
    command = _going_on(said, first)
    report = result.report | {"output": job.output, "first": str(first.path), "frame": first.frame, "command": command}
    shown = ("first", "frame", "command", "output", "look", "method", "warnings")
    talk.result({name: report[name] for name in shown}, [str(first.path), command])
    talk.say("Another picture: the same command with another --seed. (A look in which nothing is drawn by lot stays as it is.)")


def _going_on(said: Sequence[str], first: "First") -> str:
    """The command `said` for a shell, with the approved first frame in place of --approve."""
    end = said.index("--") if "--" in said else len(said)  # what follows are no options
    options = [one for one in said[:end] if one != "--approve"]
    return shlex.join(["flowpaint", *options, "--keyframe", first.keyframe, *said[end:]])


def _replayed(replay: Path, video: Path | None, weights: Weights, out: Output) -> "Job":
    """The job stored in `replay`, on another video where one is given, as strict about weights as either wants it."""
    from .. import api

    if out.encoding() or out.side_by_side:
        raise InputError("--replay encodes as it was done before. Leave out --codec and its like.")
    job = api.recorded(replay)
    return replace(
        job,
        input=str(video) if video else job.input,
        output="",
        offline=job.offline or weights.offline,
        commercial_only=job.commercial_only or weights.commercial_only,
        allow_pickle=job.allow_pickle or weights.allow_pickle,
    )


@grouped(what=What, how=How, weights=Weights, source=Input, out=Output, run=RunOptions, machines=Machines, manners=Manners)
def propagate(
    *,
    video: _Video,
    keyframe: _Keys = None,
    strict: _Strict = False,
    method: _Method = "analogy",
    other_shots: _Shots = "refuse",
    what: What,
    how: How,
    weights: Weights,
    source: Input,
    out: Output,
    run: RunOptions,
    machines: Machines,
    manners: Manners,
) -> None:
    """Carry edited frames to all others: `flowpaint propagate in.mp4 --keyframe 0=edited.png -o out.mp4`."""
    with talking(manners) as talk:
        from .. import api

        plain = _plain(what, how, source, out) | vars(weights) | {"other_shots": other_shots, "strict": strict}
        job, _ = api.plan_job("propagate", video, method=method, keyframes=read_keyframes(keyframe or []), **plain)
        _make(job, out, run, talk, machines)


@grouped(what=What, how=How, source=Input, out=Output, run=RunOptions, machines=Machines, manners=Manners)
def deflicker(
    *, video: _Video, what: What, how: How, source: Input, out: Output, run: RunOptions, machines: Machines, manners: Manners
) -> None:
    """Take the flicker out of a video: `flowpaint deflicker in.mp4 -o out.mp4`."""
    with talking(manners) as talk:
        from .. import api

        job, _ = api.plan_job("deflicker", video, method="deflicker", **_plain(what, how, source, out))
        _make(job, out, run, talk, machines)


@grouped(what=What, how=How, source=Input, out=Output, run=RunOptions, machines=Machines, manners=Manners)
def colorize(
    *,
    video: _Video,
    by: Annotated[Path, typer.Option(help="The video whose colours it takes.", metavar="VIDEO")],
    resample: Annotated[bool, typer.Option("--resample", help="Take the frame on screen at the same time.")] = False,
    what: What,
    how: How,
    source: Input,
    out: Output,
    run: RunOptions,
    machines: Machines,
    manners: Manners,
) -> None:
    """Give a video the colours of another: `flowpaint colorize in.mp4 --by out.mp4 -o coloured.mp4`."""
    with talking(manners) as talk:
        from .. import api

        plain = _plain(what, how, source, out)
        job, _ = api.plan_job("colorize", video, method="colorize", by=by, resample=resample, **plain)
        _make(job, out, run, talk, machines)


@grouped(machines=Machines, manners=Manners)
def resume(
    *,
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder: OUTPUT.run.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write to another file.")] = None,
    audio: Annotated[str | None, typer.Option(help="copy, aac or none, in place of what was said.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    machines: Machines,
    manners: Manners,
) -> None:
    """Go on with an edit that was interrupted."""
    with talking(manners) as talk:
        from .. import api

        executor = machines.chosen()
        result, saving = api.resume(folder, output=output, audio=audio, overwrite=overwrite)
        talk.run = folder
        _save(result, talk, {**saving, "executor": executor})


def _plain(what: What, how: How, source: Input, out: Output) -> dict[str, Any]:
    """The shared options under the names that the calls give them."""
    return {**vars(what), **vars(how), **vars(source), "side_by_side": out.side_by_side, "encoding": out.encoding()}


def read_keyframes(given: list[str]) -> dict[str, str | Path]:
    """What `--keyframe TIME=PICTURE` says, picture by time. Raises `InputError` for what is no such thing."""
    return dict(_by_time(given, "key frame", "PICTURE"))


def _by_time(given: list[str], what: str, metavar: str) -> dict[str, str]:
    """What options like TIME=PICTURE say, by time."""
    found: dict[str, str] = {}
    for one in given:
        time, equals, value = one.partition("=")
        if not equals or not time or not value:
            raise InputError(f"The {what} {one!r} has no time. Write TIME={metavar}, like 0={one}.")
        if time in found:
            raise InputError(f"There are two {what}s at {time}. Give one of them.")
        found[time] = value
    return found


def _make(job: "Job", out: Output, run: RunOptions, talk: Talk, machines: Machines) -> None:
    """Do the job, or say what it would take."""
    from .. import api

    job = replace(job, output=str(out.output or api.default_output(job)))
    if job.look and not run.dry_run:  # the plan names it
        talk.say(job.look)
    executor = machines.chosen()
    api.check_output(job, overwrite=out.overwrite)
    result = api.Result(job, dry=run.dry_run)
    if run.dry_run:
        plan = api.plan(result, overwrite=out.overwrite, run=run.run)
        talk.result(plan, _plan_lines(plan))
        return
    talk.run = run.run or api.run_folder(job.output)
    _save(result, talk, {**_saving(out, run), "executor": executor})


def _saving(out: Output, run: RunOptions) -> "Saving":
    return {
        "overwrite": out.overwrite,
        "run": run.run,
        "fresh": run.fresh,
        "keep_run": run.keep_run,
        "provenance": not out.no_provenance,
    }


def _save(result: "Result", talk: Talk, saving: "Saving") -> None:
    with talk.progress() as tell:
        result.save(progress=tell, **saving)
    report = result.report
    made: Mapping[str, str | None] = report["output"]
    if report["wants_keyframe"]:
        numbers = ", ".join(map(str, report["wants_keyframe"][:10]))
        talk.say(f"An edited key frame would help at: {numbers}.")
    talk.say(
        f"{_count(report['input']['num_frames'], 'frame')} in {report['seconds']['total']:.1f} s.{_paint(report['metrics'])}"
    )
    shown = {name: report[name] for name in ("look", "method", "metrics", "seconds", "keyframes", "wants_keyframe", "warnings")}
    talk.result({"output": made["video"], **made, **shown}, [path for path in made.values() if path])


def _paint(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The flicker of a result and the texture that it kept, where both are known: one alone misleads."""
    flicker, kept = metrics["flicker"], metrics["texture_kept"]
    if flicker["result"] is None or kept["still"] is None:
        return ""
    fast = "" if kept["fast"] is None else f"{kept['fast']:.2f} where motion is fast, "
    told = f"Flicker {flicker['result']:.1f} levels of 255 (source {flicker['source']:.1f})"
    return f" {told}, texture kept {fast}{kept['still']:.2f} where all is still."


def _plan_lines(plan: dict[str, Any]) -> list[str]:
    output = plan["output"]
    shots = [
        f"  {_span(one['first'], one['last'])}, from {one['from']}" + ", kept as it is" * one["kept"] for one in plan["shots"]
    ]
    more = "; more are placed by tracking where the picture becomes another" * plan["more_by_tracking"]
    more += "; more are placed where the picture changes most" * plan["more_by_difference"]
    return [
        f"{_count(plan['frames'], 'frame')}, {plan['length']}, {_count(len(plan['shots']), 'shot')}:",
        *shots,
        f"method {plan['method']} on {plan['device']}. {plan['look']}".rstrip(),
        f"key frames given: {_listed(plan['keyframes_given'])}; edited by the method: {_listed(plan['keyframes_made'])}{more}",
        f"output {output['path']}: {output['width']}x{output['height']} {output['codec']} {output['pixel_format']}",
        _cost_line(plan["estimate"]),
    ]


def _cost_line(cost: Mapping[str, Any]) -> str:
    disk = f"{_mebi(cost['disk_bytes'])} of disk"
    if cost["seconds"] is None:
        return f"{disk}; time and memory are not estimated, for they hang on the image model and the machine"
    seconds = f"about {cost['seconds']:.0f} s" if cost["seconds"] >= 1 else "less than 1 s"
    return f"{seconds}, {_mebi(cost['memory_bytes'])} of memory, {disk}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _span(first: int, last: int) -> str:
    return f"frame {first}" if first == last else f"frames {first} to {last}"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _mebi(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
