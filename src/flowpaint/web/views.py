"""Jobs as answers have them: the store's rows with artifacts, names instead of paths, and the command line that does the same."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import Any

from ..jobs.records import Record, Unknown
from . import models
from .asked import ONE
from .files import type_of
from .service import Service, in_thread

_REMEMBERED = 8 << 20  # characters of command lines
_BATCH = 50  # jobs of which command lines are asked for at a time
_BATCH_LENGTH = 1 << 20  # characters of these, but of the first: in a command line one may take seven
_SUFFIX_OF = {"video": "", "report": ".json", "sheet": ".sheet.png", "candidates": ".candidates.png"}


class Commands:
    """The command lines of jobs, found in a child and remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._length = 0

    async def of(self, records: Sequence[Record], names: Mapping[str, str], service: Service) -> list[str]:
        """The command line of each job."""
        keys = await in_thread(lambda: [_key(one) for one in records])
        made = {key: self._known[key] for key in keys if key in self._known}  # those may be forgotten before all are there
        new = {key: one for key, one in zip(keys, records, strict=True) if key not in made}
        for batch in await in_thread(_batches, new):
            read = {path for one in batch.values() for path in _files(one.job)}
            told = {path: name for path, name in names.items() if path in read}
            jobs = [{**one.job, "output": one.name} for one in batch.values()]
            found = await service.work("commands", names, jobs=jobs, known=told)
            for key, line in zip(batch, found["commands"], strict=True):
                made[key] = line
                self._note(key, line)
        return [made[key] for key in keys]

    def learn(self, record: Record, command: str) -> None:
        """Remember the command line of a job."""
        self._note(_key(record), command)

    def _note(self, key: bytes, command: str) -> None:
        self._length += len(command) - len(self._known.pop(key, ""))
        self._known[key] = command
        while self._length > _REMEMBERED:
            self._length -= len(self._known.popitem(last=False)[1])


def _key(record: Record) -> bytes:
    """What tells jobs apart, and is short: jobs may hold many words."""
    return hashlib.sha256(json.dumps({**record.job, "output": record.name}, sort_keys=True).encode()).digest()


def _batches(jobs: Mapping[bytes, Record]) -> list[dict[bytes, Record]]:
    """The jobs in pieces that a child has soon, and the answer to which it may give."""
    batches: list[dict[bytes, Record]] = []
    taken = 0
    for key, one in jobs.items():
        length = len(json.dumps(one.job))
        if not batches or len(batches[-1]) == _BATCH or taken + length > _BATCH_LENGTH:
            batches.append({})
            taken = 0
        batches[-1][key] = one
        taken += length
    return batches


async def job(record: Record, service: Service) -> models.Job:
    """One job as answers have it."""
    return (await jobs([record], service))[0]


async def jobs(records: Sequence[Record], service: Service) -> list[models.Job]:
    """Jobs as answers have them."""
    names = await in_thread(names_of, records, service) if records else {}
    commands = await service.commands.of(records, names, service)
    return await in_thread(lambda: [_shown(*one, service, names) for one in zip(records, commands, strict=True)])


def names_of(records: Sequence[Record], service: Service) -> dict[str, str]:
    """What the owners of these jobs call the files that they read, by path."""
    names: dict[str, str] = {}
    for owner, path in {(record.owner, path) for record in records for path in _files(record.job)}:
        with suppress(Unknown):  # deleted since
            names[path] = service.store.asset(owner, Path(path).parent.name).name
    return names


def _files(job: Mapping[str, Any]) -> Iterator[str]:
    """The files that a job reads, by its own fields."""
    told = [job.get(field) for field in ONE] + list(job.get("objects", ())) + list(job.get("keyframes", {}).values())
    yield from (path for path in told if path and Path(path).parent.parent.name == "assets")


def _shown(record: Record, command: str, service: Service, names: Mapping[str, str]) -> models.Job:
    method = record.job.get("method", {})
    plain = ("id", "state", "name", "priority", "created", "started", "finished", "attempt", "approve")
    failed = record.state == "failed"
    return models.Job(
        **{field: getattr(record, field) for field in plain},
        kind=record.job["kind"],
        prompt=record.job.get("prompt", ""),
        look=record.job.get("look", ""),
        method=str(method.get("part", "")),
        progress=models.Progress(stage=record.stage, done=record.done, total=record.total),
        error=models.Failure(code=record.code or 1, message=service.shown(record.error, names)) if failed else None,
        artifacts=[_artifact(record, name, *there) for name, there in artifacts(record).items()],
        request=dict(record.request),
        command=service.shown(command, names),
    )


def artifacts(record: Record) -> dict[str, tuple[Path, int]]:
    """The files of a job that are ready, and their bytes, by what they are."""
    output, run = record.output, record.run
    found = {"preview": record.folder / "preview.jpg"}
    if record.state == "done":
        found |= {name: output if not end else output.with_name(f"{output.stem}{end}") for name, end in _SUFFIX_OF.items()}
    elif record.state == "waiting":
        found["candidates"] = run / "candidates.png"
    if record.first is not None:
        path = Path(record.first["path"])
        found["first"] = path if path.exists() else record.folder / path.name  # a copy is left when the run folder goes
    sizes = {name: _size(path) for name, path in found.items()}  # asked once: they may go at any time
    return {name: (found[name], size) for name, size in sizes.items() if size is not None}


def _size(path: Path) -> int | None:
    """The bytes of a file, None where there is none."""
    try:
        said = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return said.st_size if S_ISREG(said.st_mode) else None


def file_name(record: Record, name: str, path: Path) -> str:
    """What an artifact is called for its owner: as the job is, with an end that says what it is."""
    shown = PurePath(record.name)
    end = _SUFFIX_OF.get(name, f".{name}{path.suffix}")
    return f"{shown.stem}{end or path.suffix}"


def _artifact(record: Record, name: str, path: Path, size: int) -> models.Artifact:
    return models.Artifact.model_validate(
        {
            "name": name,
            "file": file_name(record, name, path),
            "bytes": size,
            "type": type_of(path),
            "href": f"/v1/jobs/{record.id}/artifacts/{name}",
        }
    )
