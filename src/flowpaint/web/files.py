"""Files on their way out: byte ranges, and nothing again that the asker has."""

from pathlib import Path

from fastapi import Request
from fastapi.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from . import problems
from .problems import Refusal

TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
}


def type_of(path: Path) -> str:
    """The media type of a file of ours, by its suffix; never one that a browser would run."""
    return TYPES.get(path.suffix.lower(), "application/octet-stream")


class Ranged(FileResponse):
    """A file, or the ranges of it that are asked for; a range that it has not is a problem like others."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        refused = False

        async def checked(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                refused = True
            elif not refused:
                await send(message)

        await super().__call__(scope, receive, checked)
        if refused:
            size = self.headers["content-length"]
            said = f"The file has {size} bytes, and not the range that is asked for. Ask for bytes=FIRST-LAST inside it."
            await problems.answer(416, said, code=2, headers={"content-range": f"bytes */{size}"})(scope, receive, send)


def served(request: Request, path: Path, *, name: str, kind: str | None = None) -> Response:
    """The file at `path`, for download as `name`; 304 where the asker has it. Raises `Refusal` (404) where it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise Refusal(404, f"{name} is no longer there. Files of old jobs are deleted when room is needed.") from None
    response = Ranged(path, media_type=kind or type_of(path), filename=name, stat_result=found)
    tag = response.headers["etag"]
    response.headers["cache-control"] = "private, no-cache"
    given = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in given or given == ["*"]:
        return Response(status_code=304, headers={"etag": tag, "cache-control": "private, no-cache"})
    return response
