"""The run folder: what has been finished of a job, so that a killed run goes on where it stopped.

OUTPUT.run/
  run.json       the job, the policy on weights, versions, fingerprints of the files that it reads
  segments/      finished pieces of the video, written by the encoder
  store/         finished key frames, states and measurements: `FolderStore`
  warnings.txt   one a line, so that a resumed run reports those of its first part too
  first.png      the edited first frame that was to be approved, and what `api.first` writes beside it: an input of the job
                 that goes on, so it stays after success
"""

import hashlib
import json
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import FULL, InputError, WorkError
from .outputs import replacing

if TYPE_CHECKING:
    from .seams import Store

Arrays = Mapping[str, npt.NDArray[Any]]

FIRST, UNMASKED, APPROVED = "first.png", "first_unmasked.png", "approved.json"
_MIB = 1 << 20
_INPUTS = {FIRST, UNMASKED, APPROVED}  # in the folder of a run, and still not what it has finished
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


class FolderStore:
    """A store on disk: one file a key, there whole or not at all; a damaged file counts as absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays under `key`, or None."""
        try:
            with self._file(key).open("rb") as file, np.load(file, allow_pickle=False) as found:
                return dict(found)
        except _BROKEN:
            return None

    def put(self, key: str, arrays: Arrays) -> None:
        """Store `arrays` under `key`. Raises `WorkError` where the disk is full."""
        path = self._file(key)
        part = path.with_suffix(".part")
        with _disk(path):
            try:
                with zipfile.ZipFile(part, "w") as archive:  # not np.savez, to which some names of arrays are arguments
                    for name, array in arrays.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                            np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def drop(self, key: str) -> None:
        """Forget `key`, if it is there."""
        self._file(key).unlink(missing_ok=True)


class PrefixedStore:
    """Another store's corner: every key gets `prefix`, so that two shots never meet."""

    def __init__(self, store: "Store", prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays under `key`, or None."""
        return self._store.get(self._prefix + key)

    def put(self, key: str, arrays: Arrays) -> None:
        """Store `arrays` under `key`."""
        self._store.put(self._prefix + key, arrays)

    def drop(self, key: str) -> None:
        """Forget `key`, if it is there."""
        self._store.drop(self._prefix + key)


class RunFolder:
    """One job's run folder, made or found again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segments = path / "segments"
        self.store = FolderStore(path / "store")

    @classmethod
    def open(cls, path: Path, manifest: Mapping[str, Any], *, fresh: bool = False, minor: Collection[str] = ()) -> "RunFolder":
        """The folder at `path` for the job in `manifest`; `fresh` empties it first.

        Another job's folder in which nothing is finished is taken over: a command that failed early must not stand in the way
        of the corrected one. What tells jobs apart are `job` and `files` of the manifest, without the fields of the job named
        by `minor` ("field" or "field.key"): nothing that is finished hangs on them, and the folder notes the latest. Raises
        `InputError` where another job has finished something, or where anything else is in it, `WorkError` where it cannot be
        written.
        """
        found = read_manifest(path) if (path / "run.json").exists() else None
        if found is None and path.exists() and (not path.is_dir() or any(one.name not in _INPUTS for one in path.iterdir())):
            raise _no_run_folder(path)
        wanted = json.loads(json.dumps(manifest))
        differing = [] if found is None else _differing(found, wanted, minor)
        if differing and not fresh and _begun(path):
            changed = "another job" if "job" in differing else "this job with other files"
            raise InputError(f"{path} holds the unfinished run of {changed}. Use --fresh to start over, or another --run.")
        if fresh or differing:
            _clear(path)
        folder = cls(path)
        if found is None or fresh or differing:
            write_json(path / "run.json", wanted)
        else:
            folder.amend(**{key: wanted[key] for key in ("job", "saving") if key in wanted})
        return folder

    def warnings(self) -> list[str]:
        """The warnings noted so far."""
        file = self.path / "warnings.txt"
        return file.read_text("utf-8").splitlines() if file.exists() else []

    def keep_warnings(self, warnings: Sequence[str]) -> None:
        """Note these warnings, in place of those noted before."""
        with _disk(self.path):
            lines = (" ".join(message.splitlines()) + "\n" for message in warnings)
            (self.path / "warnings.txt").write_text("".join(lines), "utf-8")

    @property
    def is_begun(self) -> bool:
        """Whether a segment, a key frame or anything else that can be gone on from is finished."""
        return _begun(self.path)

    def amend(self, **values: Any) -> None:
        """Put `values` into the manifest, in place of what it said of them. Raises `WorkError` where it cannot be written."""
        before = read_manifest(self.path)
        if (after := before | values) != before:
            write_json(self.path / "run.json", after)

    def remove(self) -> None:
        """Delete what the run has made, and the folder if nothing else is in it."""
        _clear(self.path)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Inside, the run folder at `path` is this process's alone; it is made, and unmade where nothing came into it.

    Whoever holds it may be killed: the system lets go of it then. Raises `InputError` where another one holds it, `WorkError`
    where it cannot be made. On Windows and on file systems without locks nothing is held, and processes of other machines are
    not kept out.
    """
    handle = _locked(path)
    try:
        yield
    finally:
        _unmake(path)
        if handle is not None:
            os.close(handle)


def _locked(path: Path) -> int | None:
    """A handle of the folder at `path`, made and locked; None where this system locks no folders."""
    if os.path.lexists(path) and not path.is_dir():
        raise _no_run_folder(path)
    while True:
        with _disk(path):
            path.mkdir(parents=True, exist_ok=True)
            if sys.platform == "win32":
                return None
            handle = os.open(path, os.O_RDONLY)
        import fcntl  # absent on Windows

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:  # whoever held it has just unmade it
            pass
        except BlockingIOError:
            os.close(handle)
            raise InputError(f"{path} is worked on by another process. Wait for that one, or choose another --run.") from None
        except OSError:  # a file system without locks
            os.close(handle)
            return None
        os.close(handle)


def _no_run_folder(path: Path) -> InputError:
    return InputError(f"{path} is not a run folder of flowpaint. Choose another with --run.")


def read_manifest(path: Path) -> dict[str, Any]:
    """What `run.json` of the run folder says. Raises `InputError` where there is none that can be read."""
    try:
        found = json.loads((path / "run.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a run folder that can be gone on with ({error}). Run the first command again."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in ("job", "files", "versions")):
        raise InputError(f"{path / 'run.json'} holds no job of flowpaint's. Choose another --run, or delete that folder.")
    return found


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], minor: Collection[str]) -> list[str]:
    """Which of `job` and `files` differ between two manifests, apart from the fields of the job that are `minor`."""
    jobs = [_without(dict(manifest.get("job", {})), minor) for manifest in (one, other)]
    return ["job"] * (jobs[0] != jobs[1]) + ["files"] * (one.get("files") != other.get("files"))


def _without(job: dict[str, Any], minor: Collection[str]) -> dict[str, Any]:
    for name in minor:
        field, _, key = name.partition(".")
        if not key:
            job.pop(field, None)
        elif isinstance(job.get(field), dict):
            job[field] = {name: value for name, value in job[field].items() if name != key}
    return job


def _begun(path: Path) -> bool:
    """Whether the encoder has finished a segment or a picture of a folder, or the store holds anything."""
    pieces = (one for one in (path / "segments").rglob("*") if one.is_file() and one.suffix != ".part")
    return any(pieces) or any((path / "store").glob("*.npz"))


def _clear(path: Path) -> None:
    for name in ("segments", "store"):
        shutil.rmtree(path / name, ignore_errors=True)
    for name in ("run.json", "warnings.txt"):
        (path / name).unlink(missing_ok=True)
    _unmake(path)


def _unmake(path: Path) -> None:
    """Remove a folder that is empty; one that a symbolic link leads to was made by the user, and stays."""
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        path.rmdir()


def synced(path: Path) -> None:
    """Return once what is in the file at `path`, and its name, will outlast a power failure. Raises `WorkError`."""
    with _disk(path):
        places = (path,) if sys.platform == "win32" else (path, path.parent)  # Windows opens no folders
        for place in places:
            handle = os.open(place, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def write_json(path: Path, value: Mapping[str, Any], *, overwrite: bool = True) -> None:
    """Write `value` to `path`, whole or not at all.

    Raises `InputError` for what is no regular file and, without `overwrite`, for what is there, `WorkError` where writing fails.
    """
    with _disk(path), replacing(path, overwrite=overwrite) as part, part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def fingerprint(path: Path) -> str:
    """`sha256 of size, first and last MiB` of a file, in hex; of a folder, over the names, sizes and times of all files in it."""
    digest = hashlib.sha256()
    if path.is_dir():
        inside = (Path(place, name) for place, _, names in os.walk(path, followlinks=True) for name in names)
        for name, file in sorted((file.relative_to(path).as_posix(), file) for file in inside):
            facts = file.stat()
            digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as opened:
        digest.update(opened.read(_MIB))
        opened.seek(max(_MIB, size - _MIB))
        digest.update(opened.read(_MIB))
    return digest.hexdigest()


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Errors of the disk as `WorkError`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise WorkError(
                f"The disk is full: {path} could not be written. Make room and run the same command again; it goes on from here."
            ) from error
        raise WorkError(f"{path} could not be written ({error.strerror or error}). Check the folder.") from error
