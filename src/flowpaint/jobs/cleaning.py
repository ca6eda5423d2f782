"""Keeping the store small: what nobody can ask for any more goes, and of the rest the oldest while there is too much."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from .store import JobStore

_STALE = 3600.0  # seconds after which a folder without a row, or an upload that did not end, is nobody's


def clean(store: JobStore, *, quota: int | None = None) -> int:
    """How many bytes all files of the store take afterwards.

    What belongs to no job or asset goes, and what is left of cancelled jobs. While more than `quota` bytes are taken, files of
    jobs that have ended go, the oldest first, then assets that no unfinished job reads. The jobs themselves stay in the list.
    Raises `WorkError` where the disk is full.
    """
    for stray in _strays(store):
        shutil.rmtree(stray, ignore_errors=True)
        stray.unlink(missing_ok=True) if not stray.is_dir() else None
    used = store.usage()
    for job in store.ended():
        if job.state == "cancelled" or (quota is not None and used > quota):
            used -= store.clear(job)
    for asset in store.unread() if quota is not None and used > quota else []:
        if quota is not None and used > quota:
            store.remove_asset(asset.owner, asset.id)
            used -= asset.bytes
    return used


def _strays(store: JobStore) -> Iterator[Path]:
    """Folders and files that have been nobody's for some time."""
    before = time.time() - _STALE
    places = [*(store.folder / "incoming").iterdir(), *(store.folder / "assets").iterdir(), *(store.folder / "jobs").iterdir()]
    for path in places:
        try:
            is_old = path.stat().st_mtime < before
        except FileNotFoundError:
            continue
        if is_old and (path.parent.name == "incoming" or not store.is_known(path)):
            yield path
