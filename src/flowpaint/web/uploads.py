"""Files on their way in: a multipart body goes to the disk while it comes, and what is too large is cut off there."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from .problems import Refusal
from .settings import Limits

_FLUSH = 1 << 20  # bytes held before they are written
_PARTS = 1100  # of one request: a thousand key frames and what else there is
_RESERVE = 64 << 20  # bytes of the disk that are left for the store itself


@dataclass
class File:
    """A part that is a file: where it lies, and what its sender calls it."""

    path: Path
    name: str
    bytes: int = 0


@dataclass
class Form:
    """What a multipart body held: texts and files by the names of their parts."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)


@contextmanager
def place(folder: Path) -> Iterator[Path]:
    """A new folder in `folder` for one request's files, gone with what is left in it afterwards."""
    made = folder / secrets.token_hex(12)
    made.mkdir(mode=0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


async def receive(request: Request, folder: Path, limits: Limits) -> Form:
    """The parts of a multipart request, its files in `folder` under names of ours.

    Raises `Refusal` for a body that is malformed (400), or too large (413) - as soon as that is seen.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal(415, "The request is not multipart/form-data with a boundary. Send the file as a form does.")
    room = shutil.disk_usage(folder).free - _RESERVE
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > room:
        raise Refusal(507, "There is no room for a file of that size. Make room, or send a smaller one.", code=1)
    receiver = _Receiver(folder, limits)
    try:
        parser = MultipartParser(boundary, receiver.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            if receiver.held >= _FLUSH:
                await anyio.to_thread.run_sync(receiver.flush)
        parser.finalize()
        await anyio.to_thread.run_sync(receiver.flush)
    except FormParserError as error:
        raise Refusal(400, f"The form cannot be read ({error}). Send it as multipart/form-data.") from error
    except ClientDisconnect as error:
        raise Refusal(400, "The upload broke off. Send it again.") from error
    finally:
        receiver.close()
    if not receiver.ended:
        raise Refusal(400, "The upload ended before it was complete. Send it again.")
    return receiver.form


class _Receiver:
    """What the parser calls. Bytes are kept until `flush`, which writes them and may be called in another thread."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.form, self.held, self.ended = Form(), 0, False
        self._folder, self._limits = folder, limits
        self._total = self._texts = self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._file: File | None = None
        self._text: tuple[str, bytearray] | None = None
        self._pending: list[tuple[Path, bytes]] = []
        self._open: tuple[Path, IO[bytes]] | None = None

    def callbacks(self) -> Any:
        """The functions for the parser, by its names for them."""
        names: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._part,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._over,
        }
        return names

    def _begin(self) -> None:
        self._headers, self._file, self._text = {}, None, None
        self._parts += 1
        if self._parts > _PARTS:
            raise Refusal(413, f"The form has more than {_PARTS} parts. Send fewer files at a time.")

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name or name in self.form.texts or name in self.form.files:
            raise Refusal(400, f"The form has a part without a name, or two called {name[:100]!r}. Name each once.")
        if b"filename" in options:
            shown = options[b"filename"].decode("utf-8", "replace")
            self._file = self.form.files[name] = File(self._folder / f"{len(self.form.files):04d}", shown)
            self._pending.append((self._file.path, b""))
        else:
            self._text = name, bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        size = end - start
        if self._file is None:
            self._texts += size
            if self._texts > self._limits.body_bytes:
                raise Refusal(413, f"The texts of the form are longer than {self._limits.body_bytes:,} bytes. Send less.")
            if self._text is not None:
                self._text[1].extend(data[start:end])
            return
        self._total += size
        if self._total > self._limits.upload_bytes:
            raise Refusal(
                413,
                f"The upload is larger than {self._limits.upload_bytes:,} bytes. Send a smaller file.",
                headers={"connection": "close"},
            )
        self._file.bytes += size
        self._pending.append((self._file.path, data[start:end]))
        self.held += size

    def _end(self) -> None:
        if self._text is not None:
            name, value = self._text
            try:
                self.form.texts[name] = value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise Refusal(400, f"The part {name[:100]!r} is no UTF-8 text. Send files with a file name.") from error

    def _over(self) -> None:
        self.ended = True

    def flush(self) -> None:
        """Write what is held."""
        for path, data in self._pending:
            if self._open is None or self._open[0] != path:
                self.close()
                self._open = path, path.open("ab")
            self._open[1].write(data)
        self._pending.clear()
        self.held = 0

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            with suppress(OSError):
                self._open[1].close()
            self._open = None
