"""`benchmark` and votes: methods over whole sets of videos."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ..errors import ConfigError, InputError, nearest
from ..evaluation import bench
from ..evaluation import judge as judging
from ..evaluation.aggregate import summarise
from ..evaluation.card import Card
from ..evaluation.davis import davis, davis_edit
from ..evaluation.files import hash_of
from ..evaluation.folder import videos
from ..evaluation.known_edits import joined, known_edits
from ..evaluation.synthetic import scene_edits
from ..evaluation.task import Task, Tasks, file_name
from ..evaluation.vote import Poll, tally, write_ballot
from ..moments import Case
from ..outputs import check_file, make_folder
from ..seams import to_dict
from ..types import from_raw
from ..video import read, read_picture
from ..weights import DEFAULT_POLICY, Policy, keeping
from .calls import Options, plan_job
from .choose import choose_method
from .files import Files
from .job import Kind, recipe_of
from .judging import Judges, choose_judges, recorded_in
from .prepare import resolve_device, takes_objects
from .result import Result
from .verdict import Verdict

Layout = Literal["davis", "davis-edit", "known-edits", "scenes", "folder"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

__all__ = ["LAYOUTS", "Poll", "benchmark", "tally", "vote_page"]

_LOSSLESS = {"codec": "ffv1", "pixel_format": "bgr0"}  # what is judged must be what was made
_TABLES = ("tasks.csv", "tasks.toml")
_log = logging.getLogger("flowpaint")


def benchmark(
    layout: str,
    path: str | Path | None = None,
    *,
    methods: Sequence[str],
    folder: str | Path,
    prompt: str = "",
    only: str = "",
    sizes: Sequence[int] = (256,),
    count: int | None = None,
    against: str | Path | None = None,
    first_frames: str | Path | None = None,
    metrics: str = "all",
    metric_settings: Sequence[str] = (),
    quality: str = "normal",
    seed: int = 0,
    device: str = "auto",
    policy: Policy = DEFAULT_POLICY,
    overwrite: bool = False,
    progress: judging.Progress | None = None,
) -> Verdict:
    """The verdict on `methods` over all cases of a `layout` at `path`; rows and videos are kept in `folder`.

    Layouts: "davis", "davis-edit" (folders of those names' data), "known-edits" (a folder of videos), "scenes" (no path),
    "folder" (videos, with a table tasks.csv or tasks.toml if there is one). `only` chooses cases whose name holds it, `count`
    how many frames (davis), or scenes; `first_frames` is a folder with edited first frames, CASE.png, that all methods go out
    from; `sizes` and `against` (a CSV of other programs' PSNR) are for known edits. `policy` says what may be done to get
    weights. The same call again does what is missing. In `folder`, videos that flowpaint did not make are replaced with
    `overwrite` only. Raises `ConfigError` and `InputError` for what does not fit; a case that fails is noted.
    """
    judges = choose_judges(metrics, metric_settings)
    with keeping(policy):
        judges.check()
    tasks = _chosen(_tasks(layout, path, prompt=prompt, sizes=tuple(sizes), count=count), only)
    if first_frames is not None:
        tasks = _begun(tasks, Path(first_frames))
    options = cast(Options, {"quality": quality, "seed": seed, "device": device, **asdict(policy)})
    rows = bench.benchmark(
        tasks,
        {name: {**recipe_of(choose_method(name)[0]), "options": {"quality": quality, "seed": seed}} for name in methods},
        make=_maker(Path(folder) / "videos", options, overwrite=overwrite),
        judge=_judge(judges, resolve_device(device), policy),
        folder=Path(folder),
        settings={name: to_dict(one) for name, one in judges.metrics.items()}
        | {"flow": to_dict(judges.flow), "half": judges.half},
        progress=progress or _silent,
        warn=_log.warning,
    )
    return _verdict(rows, layout, Path(against) if against else None)


def vote_page(folder: str | Path, *, overwrite: bool = False) -> Path:
    """The blind A/B page written into `folder`. Raises `InputError` where there is one already, or nothing to compare."""
    check_file(Path(folder) / "vote.html", overwrite=overwrite)
    return write_ballot(Path(folder))


def _silent(*_: object) -> None:
    """Nobody is told."""


def _tasks(layout: str, path: str | Path | None, *, prompt: str, sizes: tuple[int, ...], count: int | None) -> Tasks:
    if layout not in LAYOUTS:
        raise ConfigError(f"There is no layout called {layout!r}. Nearest: {nearest(layout, LAYOUTS)}.")
    if layout == "scenes":
        return scene_edits(range(8 if count is None else count))
    if path is None or not Path(path).is_dir():
        raise InputError(f"{path or 'Nothing'} is no folder. Give the folder that holds the data of {layout!r}.")
    root, warn = Path(path), _log.warning
    if layout == "davis":
        return davis(root, prompt=prompt, first=count, warn=warn)
    if layout == "davis-edit":
        return davis_edit(root, first=16 if count is None else count, warn=warn)
    if layout == "known-edits":
        return known_edits(root, sizes=sizes, warn=warn)
    table = next((root / name for name in _TABLES if (root / name).is_file()), None)
    return videos(root, table=table, prompt=prompt)


def _chosen(tasks: Tasks, only: str) -> Tasks:
    kept = [place for place, name in enumerate(tasks.names) if only in name]
    if not kept:
        raise InputError(f"No case is called {only!r}. Nearest: {nearest(only, tasks.names)}.")
    return Tasks((tasks.names[place], _opener(tasks, place)) for place in kept)


def _begun(tasks: Tasks, folder: Path) -> Tasks:
    """The tasks that have an edited first frame in `folder`, with it as their key frame. Raises `InputError` where none has."""
    there = [place for place, name in enumerate(tasks.names) if (folder / f"{name}.png").is_file()]
    if not there:
        raise InputError(f"{folder} holds no edited first frame of these cases. Name them like {tasks.names[0]}.png.")
    for place in sorted(set(range(len(tasks))) - set(there)):
        _log.warning("%s has no edited first frame in %s and is left out.", tasks.names[place], folder)

    def opened(place: int) -> Task:
        file = folder / f"{tasks.names[place]}.png"
        facts = {**(task := tasks[place]).facts, "first_frame": hash_of(file)}
        return replace(task, keyframes={0: from_raw(read_picture(file))}, facts=facts)

    return Tasks((tasks.names[place], partial(opened, place)) for place in there)


def _opener(tasks: Tasks, place: int) -> Callable[[], Task]:
    return lambda: tasks[place]


def _maker(folder: Path, options: Options, *, overwrite: bool) -> bench.Make:
    """What makes a task by a method: its video is written without loss, and read again to be judged."""

    def make(task: Task, method: str) -> bench.Made:
        make_folder(folder)
        reshapes = takes_objects(choose_method(method)[0])  # the new object may be where the old one is not
        kind: Kind = "propagate" if task.keyframes else "edit"
        chosen: dict[str, Any] = dict(options)
        job, given = plan_job(
            kind,
            task.source,
            prompt="" if task.keyframes else task.prompt,
            method=method,
            style=None if reshapes or task.keyframes else task.reference_picture,
            keyframes=dict(task.keyframes) or None,
            mask=task.mask if task.reference is None and not reshapes else None,  # the truth need not know where the edit ends
            objects=(task.mask,) if reshapes and task.mask is not None else (),
            other_shots="keep",
            encoding=_LOSSLESS,
            **chosen,
        )
        result = Result(job, given)
        path = folder / f"{file_name(task.name)}--{file_name(method)}.mkv"
        result.save(path, overwrite=overwrite or _is_ours(path))
        return bench.Made(
            result=read(path),
            seconds_per_frame=float(result.report["seconds"]["total"]) / len(task.source),
            recipe=job.to_dict(),
        )

    return make


def _is_ours(output: Path) -> bool:
    """Whether flowpaint made what is at `output`, of an old row; where that is gone, whether it made the report beside it."""
    told = output if output.exists() else Files.of(output).report
    return told.is_file() and recorded_in(told) is not None


def _judge(judges: Judges, device: str, policy: Policy) -> bench.Judge:
    def judge(case: Case, label: str) -> Card:
        through = judges.through(case.source, device)
        with keeping(policy):
            return judging.judge(case, judges.metrics, through=through, label=label, needed=judges.needed)

    return judge


def _verdict(rows: bench.Benchmark, layout: str, against: Path | None) -> Verdict:
    """The summaries of all cases and of each group; failures as notes."""
    cards = joined(rows.cards, against) if against else rows.cards
    groups = {name: {case: cards[case] for case in found} for name, found in rows.groups.items()}
    failed = tuple(f"{row.task} by {row.method}: {row.error}" for row in rows.failures)
    if not any(cards.values()):
        raise InputError(f"No case was judged. {failed[0] if failed else 'Give one.'}")
    summaries = [summarise({case: row for case, row in cards.items() if row})]
    if len(groups) > 1:
        found = {name: {case: row for case, row in group.items() if row} for name, group in groups.items()}
        summaries += [summarise(group, name=name) for name, group in found.items() if group]
    return Verdict(
        title=f"Benchmark {layout}",
        subtitle=rows.summary(),
        summaries=tuple(summaries),
        notes=failed,
    )
