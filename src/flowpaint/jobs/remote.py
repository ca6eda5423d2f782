"""Files that are elsewhere: URLs like s3://bucket/in.mp4 are fetched to a folder here, and results are put where they belong.

Any file system that fsspec knows will do; access is as its driver finds it (environment, its own files), never in a URL of ours.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import ConfigError, InputError, MissingExtraError, VideoError, WorkError
from ..runs import fingerprint as local_fingerprint

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters or more: C:// is a drive
_MIB = 1 << 20
# Stores in which a file is there whole or not at all, so that it needs no temporary name; moving would copy it once more.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2"}


def is_url(name: str) -> bool:
    """Whether `name` is a URL and no path."""
    return _URL.match(name) is not None


def join(folder: str, name: str) -> str:
    """The name of a file in a folder that is a path or a URL."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


def fetch(url: str, cache: Path) -> Path:
    """Where the file or folder at `url` lies now: in `cache`, under a name that hangs on the URL, the size and the version there.

    What is there already is not fetched again. Raises `VideoError` where it is missing or refused, `WorkError` where the
    transfer fails, `MissingExtraError` without the driver.
    """
    system, path = _opened(url)
    with _asked(url):
        is_folder = system.isdir(path)
        facts = system.find(path, detail=True) if is_folder else {path: system.info(path)}
        if not facts:
            raise VideoError(f"The folder {url} is empty. Check the name.")
        version = "".join(f"{name}\0{one.get('size')}\0{_tag(one)}\n" for name, one in sorted(facts.items()))
        place = cache / hashlib.sha256(f"{url}\0{version}".encode()).hexdigest()[:24]
        name = path.rstrip("/").rpartition("/")[2] or "input"
        if not (place / name).exists():
            part = cache / f".{place.name}.{uuid4().hex}.part"
            part.mkdir(parents=True)
            try:
                system.get(path, str(part / name), recursive=is_folder)
                _check_size(part / name, facts, url)
                _settle(part, place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return place / name


def put(local: Path, url: str) -> None:
    """Store the file or folder `local` at `url` in place of what is there.

    A file is whole: it has a temporary name first where the store may show half of it. Raises `WorkError` where that fails.
    """
    system, path = _opened(url)
    with _sent(url):
        if "/" in path.rstrip("/"):
            system.makedirs(path.rstrip("/").rpartition("/")[0], exist_ok=True)
        if local.is_dir():
            _put_folder(system, local, path.rstrip("/"))
            return
        if _protocol(url) in _ATOMIC:
            system.put_file(str(local), path)
            return
        parts = path.rpartition("/")
        part = f"{parts[0]}{parts[1]}.{parts[2]}.{uuid4().hex}.part"
        try:
            system.put_file(str(local), part)
            if system.exists(path):
                system.rm(path)
            system.mv(part, path)
        except BaseException:
            if system.exists(part):
                system.rm(part)
            raise


def _put_folder(system: Any, local: Path, path: str) -> None:
    if system.exists(path):
        system.rm(path, recursive=True)
    files = sorted(one for one in local.rglob("*") if one.is_file())
    # Each by its name: where a folder is there, drivers put another one into it.
    there = [f"{path}/{one.relative_to(local).as_posix()}" for one in files]
    for folder in sorted({one.rpartition("/")[0] for one in [f"{path}/", *there]}):
        system.makedirs(folder, exist_ok=True)
    system.put([str(one) for one in files], there)


def listed(url: str) -> dict[str, int | None]:
    """The paths of all files in the folder at `url`, counted from it, with their sizes; none where it is no folder.

    A size that the store does not tell is None, that of a device or a pipe -1. Raises as `fetch`.
    """
    system, path = _opened(url)
    with _asked(url):
        found = system.find(path, detail=True) if system.isdir(path) else {}
        start = len(path.rstrip("/")) + 1
        return {str(name)[start:]: facts.get("size") if facts.get("type") == "file" else -1 for name, facts in found.items()}


def kind(url: str) -> str | None:
    """What is at a URL, in the words of fsspec ("file", "directory", ...), or "link"; None for nothing. Raises as `fetch`."""
    system, path = _opened(url)
    with _asked(url):
        if not system.exists(path):
            return None
        facts = system.info(path)
        return "link" if facts.get("islink") else str(facts.get("type"))


def exists(name: str) -> bool:
    """Whether there is something at a path or URL. Raises as `fetch`."""
    if not is_url(name):
        return Path(name).exists()
    system, path = _opened(name)
    with _asked(name):
        return bool(system.exists(path))


def remove(url: str) -> None:
    """Delete the file that a URL names, if it is there. Raises as `put`."""
    system, path = _opened(url)
    with _sent(url):
        if system.exists(path):
            system.rm(path)


def read_text(name: str) -> str:
    """The text in a small file at a path or URL. Raises `VideoError` where it is missing."""
    if not is_url(name):
        return Path(name).read_text("utf-8")
    system, path = _opened(name)
    with _asked(name):
        return bytes(system.cat_file(path)).decode("utf-8")


def fingerprint(name: str, cache: Path) -> str:
    """`flowpaint.runs.fingerprint` of what a path or URL names. Raises as `fetch`.

    Of a file elsewhere only the ends are read, if its store tells its size and can do that.
    """
    if not is_url(name):
        return local_fingerprint(Path(name))
    system, path = _opened(name)
    with _asked(name):
        size = None if system.isdir(path) else system.info(path).get("size")
        ends = None if size is None else _ends(system, path, int(size))
        if ends is None:
            return local_fingerprint(fetch(name, cache))
        return hashlib.sha256(str(size).encode() + ends).hexdigest()


def _ends(system: Any, path: str, size: int) -> bytes | None:
    """The first and last bytes of a file, as many as count for its fingerprint; None where a server sends other ones."""
    first = system.cat_file(path, start=0, end=min(_MIB, size)) if size else b""
    last = system.cat_file(path, start=max(_MIB, size - _MIB), end=size) if size > _MIB else b""
    return bytes(first + last) if len(first) + len(last) == min(size, 2 * _MIB) else None


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises `MissingExtraError` and `ConfigError`."""
    try:
        import fsspec
        from fsspec.registry import known_implementations
    except ImportError as error:
        raise MissingExtraError(f"{url} needs fsspec. Install it with `pip install 'flowpaint[ray]'`.") from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        needed = str(known_implementations.get(_protocol(url), {}).get("err", "")) or f"a driver for {_protocol(url)}://"
        raise MissingExtraError(f"{url} cannot be reached: {needed.rstrip('.')}. Install it on every worker.") from error
    except ValueError as error:
        raise ConfigError(f"{url} names no file system that is known ({error}). Use a path, or a URL like s3://.") from error
    system.invalidate_cache()  # drivers keep listings, and would not see what others have put there since
    return system, str(path)


def _protocol(url: str) -> str:
    return url.partition("://")[0].lower()


def _tag(facts: dict[str, Any]) -> str:
    """What changes with the content of a file, as far as its store tells."""
    names = ("ETag", "etag", "md5Hash", "content_md5", "generation", "mtime", "LastModified", "last_modified", "created")
    return "\0".join(str(facts[name]) for name in names if facts.get(name) is not None)


def _check_size(local: Path, facts: dict[str, Any], url: str) -> None:
    """Raises `WorkError` where less has come than there is, as far as the store tells: many an HTTP server does not."""
    sizes = [one.get("size") for one in facts.values()]
    if None in sizes:
        return
    wanted = sum(map(int, sizes))
    files = [one for one in local.rglob("*") if one.is_file()] if local.is_dir() else [local]
    found = sum(one.stat().st_size for one in files)
    if found != wanted:
        raise WorkError(f"Of the {wanted} bytes of {url} {found} came. Try again; if it stays so, look at the store.")


def _settle(part: Path, place: Path) -> None:
    """Give what was fetched its name; another worker of this machine may have been quicker."""
    try:
        part.replace(place)
    except OSError:
        if not place.is_dir():
            raise


@contextmanager
def _asked(url: str) -> Iterator[None]:
    """Errors of a store that is read as ours."""
    try:
        yield
    except (InputError, WorkError, ImportError):
        raise
    except FileNotFoundError as error:
        raise VideoError(f"There is nothing at {url}. Check the name.") from error
    except PermissionError as error:
        raise VideoError(f"{url} may not be read ({error}). Give the workers access to that store.") from error
    except Exception as error:  # every driver has errors of its own
        raise WorkError(f"{url} could not be fetched: {type(error).__name__}: {error}. Try again.") from error


@contextmanager
def _sent(url: str) -> Iterator[None]:
    """Errors of a store that is written as ours."""
    try:
        yield
    except Exception as error:  # every driver has errors of its own
        raise WorkError(f"{url} could not be written: {type(error).__name__}: {error}. Check that the store lets you.") from error
