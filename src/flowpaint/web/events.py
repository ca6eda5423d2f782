"""What happens to a job, as it happens: server-sent events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..jobs.records import Unknown
from .document import STREAM
from .models import Key
from .problems import documented
from .service import Here, Owner, Service, in_thread
from .views import names_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_LOOK = 0.25  # seconds between two looks
_ALIVE = 10.0  # seconds of silence after which a comment says that the connection is there


@router.get("/{key}/events", response_class=StreamingResponse, responses=STREAM | documented(404, 422))
async def events(
    key: Key,
    service: Here,
    owner: Owner,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Events of a job after number `after`, or after what the header Last-Event-ID says: state, progress, preview, log, end.

    The stream ends after the job has.
    """
    said = last_event_id or ""
    start = int(said) if said.isascii() and said.isdecimal() and len(said) < 19 else after
    await in_thread(service.store.get, owner, key)
    return _Counted(service, owner, _happening(service, owner, key, start))


class _Counted(StreamingResponse):
    """A stream that counts as its owner's from before its head is sent until it ends, also where nobody comes to read it."""

    def __init__(self, service: Service, owner: str, events: AsyncIterator[bytes]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._service, self._owner = service, owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Raises `Refusal` (429) where too many are open."""
        with self._service.streaming(self._owner):
            await super().__call__(scope, receive, send)


async def _happening(service: Service, owner: str, key: str, after: int) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    spoke = time.monotonic()
    while True:
        try:
            record = await in_thread(service.store.get, owner, key)  # before the events: none comes after the last state
        except Unknown:
            yield _event("end", after, {"state": "removed"})
            return
        found = await in_thread(service.store.events, key, after)
        names = await in_thread(names_of, [record], service) if found else {}
        for one in found:
            after, spoke = one.seq, time.monotonic()
            yield _event(one.kind, one.seq, {"time": one.time, **service.plain(one.data, names)})
        if record.has_ended:
            yield _event("end", after, {"state": record.state})
            return
        if time.monotonic() - spoke > _ALIVE:
            spoke = time.monotonic()
            yield b": still there\n\n"
        await asyncio.sleep(_LOOK)


def _event(kind: str, number: int, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\nid: {number}\ndata: {json.dumps(data)}\n\n".encode()
