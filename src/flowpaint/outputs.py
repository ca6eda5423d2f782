"""Outputs: what one may replace, and how it takes its place, whole or not at all.

A file takes the place of a regular file only. A folder of pictures takes the place of a folder that holds nothing but pictures
which flowpaint wrote there: `sign` leaves a list of them in it, and `stranger` finds what is not on that list. Nothing is moved
aside: what is replaced is deleted by name when the new one is whole. A symbolic link is followed and stays.
"""

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import FULL, InputError, WorkError

SIGNATURE = ".flowpaint.json"  # in a folder of pictures: their names and sizes
_PICTURE = re.compile(r"\d{6,}\.png")
_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave in every folder that they show
_FILE, _FOLDER = "a file", "a folder"
_KINDS = (
    (stat.S_ISREG, _FILE),
    (stat.S_ISDIR, _FOLDER),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


# ----------------------------------------------------------------------------------------------------------------- checks


def check_file(path: Path, *, overwrite: bool) -> None:
    """Raise `InputError` unless a file can be written to `path`.

    Its folder must exist and be writable. Only a regular file may be there, and only with `overwrite`.
    """
    _check_around(path)
    _check_replaced_file(path, overwrite=overwrite)


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Raise `InputError` unless a folder of pictures can be written to `path`.

    The folder around it must exist and be writable. Only an empty folder may be there or, with `overwrite`, one that holds
    nothing but pictures as flowpaint wrote them.
    """
    _check_around(path)
    _check_replaced_folder(path, overwrite=overwrite)


def followed(path: Path) -> Path:
    """Return where the symbolic link at `path` leads, or `path` where it is no link. Raise `InputError` if it leads nowhere."""
    if not os.path.islink(path):  # noqa: PTH114  # Path.is_symlink raises for names that are too long
        return path
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a RuntimeError where links lead in a circle
        raise InputError(f"{path} is a symbolic link that leads nowhere. Remove the link, or choose another name.") from error


def make_folder(path: Path) -> None:
    """Make the folder `path` and those around it where they are missing.

    Raise `InputError` where something else is in the way or it may not be made, `WorkError` where the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise WorkError(f"The disk is full: {path} could not be made. Make room and run the same command again.") from error
        raise InputError(f"The folder {path} cannot be made ({error.strerror}). Choose another.") from error


def stranger(signature: str | None, sizes: Mapping[str, int | None]) -> str | None:
    """Return the first of the names in a folder that flowpaint did not write, or that was changed since; None if there is none.

    `signature` is the text of the folder's `SIGNATURE`, if there is one. `sizes` maps all names to sizes in bytes: None for
    a size that is not known, -1 for what is no regular file.
    """
    written = _pictures(signature)
    for name, size in sorted(sizes.items()):
        if size == -1:
            return name
        if name in _BY_SYSTEMS or (name == SIGNATURE and written):
            continue
        if name not in written or size not in (None, written[name]):
            return name
    return None


def _pictures(signature: str | None) -> dict[str, int]:
    """The pictures that a signature lists; none where it is damaged or of other origin."""
    try:
        listed = json.loads(signature or "{}")["pictures"].items()
        return {name: int(size) for name, size in listed if _PICTURE.fullmatch(name)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _stranger_in(folder: Path, *, sized: bool = True) -> str | None:
    """As `stranger` of the folder itself; without `sized` pictures may have any size."""
    with os.scandir(folder) as entries:
        plain = {one.name: one.stat().st_size if one.is_file(follow_symlinks=False) else -1 for one in entries}
    sizes = {name: size if sized or size == -1 else None for name, size in plain.items()}
    return stranger(_signature(folder), sizes)


def _signature(folder: Path) -> str | None:
    path = folder / SIGNATURE
    return path.read_text("utf-8", errors="replace") if path.is_file() else None


def _check_around(path: Path) -> None:
    """Raise `InputError` unless the folder around `path`, or around what a link leads to, is there and writable."""
    if path.name in ("", ".."):
        raise InputError(f"{str(path)!r} names no file. Give the output a name.")
    folder = followed(path).absolute().parent
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist. Make it first, or write elsewhere.")
    if not _is_writable(folder):
        raise InputError(f"The folder {folder} is not writable. Write elsewhere.")


def _check_replaced_file(path: Path, *, overwrite: bool) -> None:
    kind = _kind(path)
    if kind == _FOLDER:
        raise InputError(f"{path} is a folder where a file would go. Choose another name.")
    if kind not in (None, _FILE):
        raise InputError(f"{path} is {kind}, and only regular files are replaced. Choose another name.")
    if kind is not None and not overwrite:
        raise _existing(path)


def _check_replaced_folder(path: Path, *, overwrite: bool) -> None:
    kind = _kind(path)
    if kind is None:
        return
    if kind != _FOLDER:
        raise InputError(
            f"{path} is {kind} where a folder of pictures would go. Choose another name, for a video one with a suffix like .mp4."
        )
    if os.path.ismount(followed(path)):
        raise InputError(f"{path} is a mount point, which cannot be replaced. Write to a folder inside it.")
    try:
        other, is_empty = _stranger_in(path), not any(path.iterdir())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Choose another name.") from error
    if other is not None:
        raise InputError(f"{path} is a folder that holds other files than flowpaint wrote there ({other}). Choose another name.")
    if not is_empty and not overwrite:
        raise _existing(path)


def _kind(path: Path) -> str | None:
    """What is at `path`, or where a link there leads, in words; None for nothing."""
    try:
        mode = followed(path).stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}). Choose another name.") from error
    return next((word for is_one, word in _KINDS if is_one(mode)), "of an unknown kind")


def _is_writable(folder: Path) -> bool:
    """Tried, because permission bits do not tell of read-only disks and shares."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _existing(path: Path) -> InputError:
    return InputError(f"{path} exists. Use --overwrite to replace it, or choose another name.")


# ---------------------------------------------------------------------------------------------------------------- writing


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; what the block writes there becomes `path` when it ends without an error.

    Until then `path` is as it was. Raise `InputError` as `check_file` does, before the block and again after it: the block
    may have taken hours. Errors of the disk are raised as they are.
    """
    _check_replaced_file(path, overwrite=overwrite)
    target = followed(path)
    part = target.with_name(f".{target.name}.part")
    if os.path.lexists(part):  # left by a process that was killed; FFmpeg would write through a link, and wait at a pipe
        _check_replaced_file(part, overwrite=True)
        part.unlink()
    try:
        yield part
        _check_replaced_file(path, overwrite=overwrite)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all, without changing its line ends. Raise as `replacing` does."""
    with replacing(path, overwrite=overwrite) as part:
        part.write_text(text, "utf-8", newline="")


def sign(folder: Path) -> None:
    """Note in `folder` the names and sizes of the pictures in it, so that `check_folder` knows them again."""
    sizes = {one.name: one.stat().st_size for one in sorted(folder.iterdir()) if _PICTURE.fullmatch(one.name)}
    text = json.dumps({"about": "Pictures that flowpaint wrote, and their sizes in bytes.", "pictures": sizes}, indent=0)
    (folder / SIGNATURE).write_text(text + "\n", "utf-8")


def replace_folder(made: Path, path: Path, *, overwrite: bool = True) -> None:
    """Let the signed folder `made` become `path`; on another disk it is copied, and stays.

    `path` is never there in part. Whatever was there is deleted only when `made` is whole and beside it, picture by picture,
    so that something that is put there meanwhile is not deleted. Raise `InputError` as `check_folder` does. Errors of the
    disk are raised as they are.
    """
    _check_replaced_folder(path, overwrite=overwrite)
    target = followed(path)
    near = made if _on_one_disk(made, target.absolute().parent) else _copied(made, target)
    try:
        _check_replaced_folder(path, overwrite=overwrite)  # copying may have taken minutes
        if target.is_dir():
            _delete(target)
        near.rename(target)
    except BaseException:
        if near != made:
            _delete(near)
        raise


def _on_one_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _copied(made: Path, target: Path) -> Path:
    """A copy of the signed folder `made` in the folder of `target`; its signature is there first, so that it is known again."""
    near = target.with_name(f".{target.name}.part")
    if os.path.lexists(near):  # left by a process that was killed while it copied
        if not _is_leftover(near):
            raise InputError(f"{near} is in the way, and not flowpaint's. Move it away, or choose another name.")
        _delete(near)
    near.mkdir()
    try:
        for name in (SIGNATURE, *sorted(_pictures(_signature(made)))):
            shutil.copyfile(made / name, near / name)
    except BaseException:
        _delete(near)
        raise
    return near


def _is_leftover(folder: Path) -> bool:
    """Whether a folder is what `_copied` leaves when it is killed: pictures may be cut short, and even the list of them."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return os.listdir(folder) == [SIGNATURE] or _stranger_in(folder, sized=False) is None  # noqa: PTH208


def _delete(folder: Path) -> None:
    """Delete the pictures that flowpaint wrote in `folder`, then the list of them, then the folder."""
    for name in sorted(_pictures(_signature(folder)), reverse=True):
        (folder / name).unlink(missing_ok=True)
    for name in (*_BY_SYSTEMS, SIGNATURE):
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise InputError(f"{folder} holds a file now that flowpaint did not write. Move it away, and go on.") from error
        raise
