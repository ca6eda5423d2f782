"""Keeping the store small: what nobody can ask for any more goes, and of the rest the oldest while there is too much."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from .store import JobStore, size_of

_STALE = 3600.0  # seconds after which a folder without a row, or an upload that did not end, is nobody's


def clean(store: JobStore, *, quota: int | None = None) -> int:
    """How many bytes all files of the store take afterwards.

    What `sweep` takes goes; while more than `quota` bytes are taken, files of jobs that have ended go, too, the oldest first,
    then assets that no unfinished job reads. The jobs stay in the list. Raises `WorkError` where the disk is full.
    """
    sweep(store)
    used = store.usage()
    if quota is None:
        return used
    for job in store.ended():
        if used > quota:
            used -= store.clear(job)
    for asset in store.unread() if used > quota else []:
        if used > quota and time.time() - asset.created > _STALE:  # its owner may be about to ask for something with it
            taken = size_of(asset.path.parent)
            with suppress(InputError):  # somebody has just deleted it, or named it
                store.remove_asset(asset.owner, asset.id)
                used -= taken
    return used


def sweep(store: JobStore) -> None:
    """Delete the files of cancelled jobs, the run folders of failed ones, and what belongs to no job or asset.

    Raises `WorkError` where the disk is full.
    """
    for stray in _strays(store):
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)
        else:
            stray.unlink(missing_ok=True)
    for job in store.ended():
        if job.state == "cancelled":
            store.clear(job)
        elif job.run.exists():
            shutil.rmtree(job.run, ignore_errors=True)


def _touched(path: Path) -> float:
    """When something was last written there: an upload may take hours, and its folder does not tell."""
    times: list[float] = [one.stat().st_mtime for one in (path, *(path.iterdir() if path.is_dir() else ()))]
    return max(times)


def _strays(store: JobStore) -> Iterator[Path]:
    """Folders and files that have been nobody's for some time."""
    before = time.time() - _STALE
    places = [*(store.folder / "incoming").iterdir(), *(store.folder / "assets").iterdir(), *(store.folder / "jobs").iterdir()]
    for path in places:
        try:
            is_old = _touched(path) < before
        except FileNotFoundError:
            continue
        if is_old and (path.parent.name == "incoming" or not store.is_known(path)):
            yield path
