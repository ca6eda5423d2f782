"""`Result`: an edit that is ready to be looked at or written, and the writing itself."""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from torch import Tensor

from .. import seams, video
from ..errors import ConfigError, InputError
from ..methods.stablev2v import CANDIDATES
from ..parallel import WorkQueue, one_thread_each, threads_for_each
from ..report import Measurements, Timings, contact_sheet, peak_memory, versions, wanting
from ..runs import RunFolder, fingerprint, held, read_manifest, write_json
from ..seams import Executor, Notes, Run, Store
from ..timecode import clock
from ..types import Clip, Raw, from_raw
from .files import Files, check_writing, run_folder
from .first import First, check_replaceable, write_first
from .job import OF_THE_FILE, Job, provenance
from .painted import texture_kept
from .prepare import Given, Prepared, prepare, read_input
from .render import editor_of, first, render, side_by_side
from .spread import Spread, watched
from .watch import Shown, Watch

CHUNK = 48  # frames a segment: what an interruption can cost
_UNMEASURED = 3  # frames that wait to be measured

_log = logging.getLogger("flowpaint")


@dataclass
class Told(Notes):
    """Notes whose warnings are also logged as they come."""

    def warn(self, message: str) -> None:
        """Add a warning once, and log it."""
        if message not in self.warnings:
            _log.warning(message)
        super().warn(message)


class Saving(TypedDict, total=False):
    """How a result is written, apart from what it shows.

    `overwrite`: replace an existing output. `provenance` (True): the job goes into the file's comment tag. `run`: the run
    folder, OUTPUT.run if not given; `fresh`: start over, whatever is in it; `keep_run`: leave it after success. `executor`: who
    makes the shots, each by itself.
    """

    overwrite: bool
    provenance: bool
    keep_run: bool
    fresh: bool
    run: str | Path | None
    executor: Executor | None


class Result:
    """The edited video: `frames` makes them when asked, `save` writes them all, `report` tells about it.

    With `dry` it is only to be planned: weights that are not here are a warning, and are not fetched.
    """

    def __init__(self, job: Job, given: Given | None = None, *, dry: bool = False) -> None:
        self.job = job
        self._given = given or Given()
        self._notes, self._timings = Told(), Timings()
        self._workers: dict[str, Any] | None = None  # what an executor has to say
        with one_thread_each():
            self.prepared: Prepared = prepare(job, self._given, notes=self._notes, timings=self._timings, dry=dry)
        self.report: dict[str, Any] = _opening(self.prepared)

    @cached_property
    def frames(self) -> Clip:
        """The edited clip, lazy: `result.frames.frame(8)` is [3, H, W] in [0, 1]."""
        return self._shown(render(self.prepared, self._run()))

    def first(self) -> Tensor:
        """The first frame as the method's editor edits it and the result will show it: [3, H, W] in [0, 1].

        Nothing else is made. Raises `InputError` for a method that has no editor and where a key frame stands in for it.
        """
        return from_raw(first(self.prepared, self._run())[1])

    def approve(self, **saving: Unpack[Saving]) -> First:
        """The first frame, written into the run folder of the job's output as `first.png`, for somebody to look at.

        The same job with it as a key frame makes the video of which this is the first frame; the folder is then that job's, so
        that `resume` goes on with it. Raises as `first` and `save` do, and `InputError` where the folder holds more of this job.
        """
        if not self._given.is_empty:
            raise ConfigError("Pictures and methods passed in memory are in no command. Use `first` and give it as a key frame.")
        if not (saving.get("run") or self.job.output):
            raise InputError("There is neither an output nor a run folder to write the first frame into. Give `run`, a folder.")
        path = Path(saving.get("run") or run_folder(self.job.output))
        with held(path):
            made = self._approved(path, saving)
        self.report = _opening(self.prepared)
        return made

    def _approved(self, path: Path, saving: Saving) -> First:
        """The first frame, made and written into the run folder at `path`, which is then that of the job that goes on from it."""
        check_replaceable(path)
        folder = RunFolder.open(path, self._manifest(saving), fresh=saving.get("fresh", False), minor=OF_THE_FILE)
        if folder.is_begun:
            raise InputError(f"{path} holds more of this job than its first frame. Go on without --approve, or use --fresh.")
        try:
            run = self._run()
            picture, shown = first(self.prepared, run)
            self._write_candidates(run.store, path / "candidates.png")
            made = write_first(path, self.job, frame=self.prepared.first, picture=picture, shown=shown)
        except BaseException:
            folder.remove()
            raise
        going_on = replace(self.job, keyframes={**self.job.keyframes, str(made.frame): str(made.path)})
        RunFolder.open(path, self._manifest(saving, going_on))
        return made

    def save(
        self,
        path: str | Path | None = None,
        *,
        progress: video.Progress | None = None,
        shown: Shown | None = None,
        **saving: Unpack[Saving],
    ) -> Path:
        """Where the video was written: `path`, or the job's output. The report lies beside it (.json), with a contact sheet.

        An interrupted call goes on where it stopped when it is made again. `progress(stage, done, total)` is called for each
        frame, `shown(index, picture)` with each finished one, raw [H, W, 3]. Raises `InputError` for an output
        that exists or cannot be written, `WorkError` where the disk is full.
        """
        self.job = replace(self.job, output=str(path or self.job.output))
        encoding, overwrite = self.job.encoded(), saving.get("overwrite", False)
        about_file = _Said(self._notes.warn)
        files = check_writing(self.job, self._shown(self.prepared.clip), overwrite=overwrite, warn=about_file)
        with self._folder(saving) as folder:
            if saving.get("provenance", True):
                encoding = replace(encoding, comment=provenance(self.job))
            with (
                self._watched(folder, files, progress, shown) as watch,
                self._made(self._run(folder, watch.told), saving) as (clip, spread),
                self._timings.stage("write"),
            ):
                watch.passing = about_file.messages
                video.write(
                    self._shown(watch.over(clip)),
                    files.video,
                    encoding=encoding,
                    overwrite=overwrite,
                    segments=folder.segments,
                    chunk=CHUNK,
                    progress=watched(spread, watch.told, CHUNK),
                    busy=self._timings.stage,
                    warn=self._notes.warn,
                )
                watch.finish()
            with self._timings.stage("report"):
                self.report = self._finished(files, watch.measurements, folder.store, overwrite=overwrite)
        return files.video

    @contextmanager
    def _watched(self, folder: RunFolder, files: Files, progress: video.Progress | None, shown: Shown | None) -> Iterator[Watch]:
        """What measures frames on their way to the file. Inside, threads read ahead, measure, and share the work of `each`."""
        prepared = self.prepared
        with prepared.threads(), threads_for_each(), prepared.frames_read.ahead(), WorkQueue("measure", _UNMEASURED) as measuring:
            chunk = CHUNK if files.video.suffix else 1
            yield Watch(prepared, folder, chunk=chunk, measuring=measuring, progress=progress, shown=shown)

    @contextmanager
    def _made(self, run: Run, saving: Saving) -> Iterator[tuple[Clip, Spread | None]]:
        """The edited clip, made here or by an executor."""
        executor = saving.get("executor")
        if executor is None:
            yield render(self.prepared, run), None
            return
        with closing(Spread(self.prepared, run, executor, files=self._manifest(saving)["files"])) as spread:
            yield spread.clip, spread
            self._workers = spread.told

    def _write_candidates(self, store: Store, path: Path, *, overwrite: bool = True) -> str | None:
        """Where the sheet of an editor's candidates was written, if it was asked for several."""
        kept = store.get(f"shot {self.prepared.shots[0].start}: {CANDIDATES}")
        if kept is None:
            return None
        video.write_picture(path, cast(Raw, kept["picture"]), overwrite=overwrite)
        return str(path)

    def _shown(self, clip: Clip) -> Clip:
        return side_by_side(self.prepared.clip, clip) if self.job.side_by_side else clip

    def _run(self, folder: RunFolder | None = None, progress: video.Progress | None = None) -> Run:
        job = self.job
        run = Run(device=self.prepared.device, seed=job.seed, quality=job.quality, notes=self._notes, chunk=CHUNK)
        if folder is not None:
            run = replace(run, store=folder.store)
        return run if progress is None else replace(run, progress=progress)

    @contextmanager
    def _folder(self, saving: Saving) -> Iterator[RunFolder]:
        """The run folder, removed after success, and where the words do not fit and nothing was finished.

        A temporary one where what was passed in memory cannot be found again.
        """
        if not self._given.is_empty:
            if saving.get("executor") is not None:
                raise ConfigError("Pictures and methods passed in memory reach no other process. Use files, or no executor.")
            beside = Path(self.job.output).absolute().parent
            with tempfile.TemporaryDirectory(prefix=".flowpaint-", dir=beside) as name:
                yield RunFolder.open(Path(name), {})
            return
        place = Path(saving.get("run") or run_folder(self.job.output))
        with held(place):
            folder = RunFolder.open(place, self._manifest(saving), fresh=saving.get("fresh", False), minor=OF_THE_FILE)
            self._notes.warnings += [one for one in folder.warnings() if one not in self._notes.warnings]
            self._keep_to(folder)
            try:
                yield folder
            except (ConfigError, InputError):
                if not folder.is_begun:
                    folder.remove()
                raise
            if not saving.get("keep_run", False):
                folder.remove()

    def _manifest(self, saving: Saving, job: Job | None = None) -> dict[str, Any]:
        """What the run folder notes of this job, or of another one that is to go on from it."""
        job = (job or self.job).named(lambda path: str(Path(path).absolute()))
        found = {name: fingerprint(Path(name)) for name in job.files()}
        kept = {name: saving[name] for name in ("overwrite", "provenance", "keep_run") if name in saving}
        policy = asdict(job.policy())  # beside the job: it does not change what is made
        plain = {name: value for name, value in job.to_dict().items() if name not in policy}
        return {"job": plain, "policy": policy, "files": found, "versions": versions(), "saving": kept}

    def _keep_to(self, folder: RunFolder) -> None:
        """Find weights by the stricter of two policies, this job's and that of the run so far; so will what goes on from here."""
        policy = asdict(self.job.policy().stricter(Job.of_run(read_manifest(folder.path)).policy()))
        folder.amend(policy=policy)
        self.job = replace(self.job, **policy)
        self.prepared = replace(self.prepared, job=replace(self.prepared.job, **policy))

    def _finished(self, files: Files, measurements: Measurements, store: Store, *, overwrite: bool) -> dict[str, Any]:
        """Write the report, the contact sheet and that of candidates; the report."""
        prepared = self.prepared
        tiles = measurements.tiles()
        if tiles:
            instants = {i: clock(prepared.clip.times[i] - prepared.begin) for i in tiles}
            labels = {i: f"source at {instant}, frame {i + prepared.first}" for i, instant in instants.items()}
            video.write_picture(files.sheet, contact_sheet(tiles, labels), overwrite=overwrite)
        seconds, total = self._timings.all()
        told = self._notes.frames
        seen = {index + prepared.first: row for index, row in measurements.rows().items()}
        rows = [{"frame": number, **seen.get(number, {}), **told.get(number, {})} for number in sorted({*seen, *told})]
        output = {"video": str(files.video), "sheet": str(files.sheet) if tiles else None, "report": str(files.report)}
        if candidates := self._write_candidates(store, files.candidates, overwrite=overwrite):
            output["candidates"] = candidates
        report = _opening(prepared) | {
            "job": self.job.named(lambda path: str(Path(path).absolute())).to_dict(),
            "files": self._manifest({})["files"],
            "output": output,
            "seconds": seconds | {"total": total},
            "frames_per_second": round(len(prepared.clip) / total, 3),
            "peak_memory": peak_memory(),
            "workers": self._workers,
            "metrics": measurements.metrics() | {"texture_kept": texture_kept(prepared, measurements.samples, store)},
            "wants_keyframe": wanting(told) if getattr(prepared.method, "editor", None) is None else [],  # it edits its own
            "facts": self._notes.facts,
            "weights": prepared.ledger.to_list(),
            "warnings": list(self._notes.warnings),
            "frames": rows,
        }
        plain: dict[str, Any] = json.loads(json.dumps(report, default=str), parse_constant=lambda _: None)
        write_json(files.report, plain, overwrite=overwrite)
        return plain


def check_output(job: Job, *, overwrite: bool = False) -> None:
    """Nothing, where the job's output can be written: what `Result.save` would refuse is said before shots are looked for.

    Raises as `Result.save` and `flowpaint.edit` do.
    """
    clip = read_input(job, lambda _: None)
    check_writing(job, side_by_side(clip, clip) if job.side_by_side else clip, overwrite=overwrite, warn=lambda _: None)


def check_approval(job: Job) -> None:
    """Nothing, where the job's method edits a first frame that can be looked at. Raises `InputError` otherwise."""
    editor_of(seams.from_dict(job.method))


def _opening(prepared: Prepared) -> dict[str, Any]:
    """The part of the report that is known before any work."""
    job, clip = prepared.job, prepared.clip
    source = Path(job.input) if job.input else None
    return {
        "flowpaint": versions(),
        "job": job.to_dict(),
        "method": job.method.get("part", type(prepared.method).__name__),
        "look": job.look,
        "device": prepared.device,
        "input": {
            "path": job.input or None,
            "fingerprint": fingerprint(source) if source is not None else None,
            "fingerprint_of": "sha256 of size, first and last MiB; of a folder, of names, sizes and times",
            "width": clip.width,
            "height": clip.height,
            "first_frame": prepared.first,
            "num_frames": len(clip),
            "seconds": round(float(clip.end - clip.times[0]), 3),
            "rate": str(clip.rate.limit_denominator(1001)),
            "bits": clip.bits,
            "pixel_format": clip.codec,
        },
        "shots": [[shot.start + prepared.first, shot[-1] + prepared.first] for shot in prepared.shots],
        "keyframes": list(prepared.matches),
        "warnings": list(prepared.notes.warnings),
    }


class _Said:
    """A warner that remembers what it passed on: `messages`."""

    def __init__(self, warn: video.Warn) -> None:
        self._warn = warn
        self.messages: set[str] = set()

    def __call__(self, message: str) -> None:
        """Pass a message on."""
        self.messages.add(message)
        self._warn(message)
