"""What routes share: the store, the children, the figures; whose request it is; names instead of paths."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import Depends, Request

from ..errors import FlowpaintError
from ..jobs.store import JobStore
from . import children
from .children import Asks
from .metrics import Meter
from .problems import Refusal
from .settings import Settings

if TYPE_CHECKING:
    from .views import Commands

Found = TypeVar("Found")
_COUNTED = 5.0  # seconds for which a size of the data folder is good enough


@dataclass
class Service:
    """One server's things."""

    settings: Settings
    store: JobStore
    asks: Asks
    meter: Meter
    commands: "Commands"
    streams: dict[str, int] = field(default_factory=dict)
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    _under_way: dict[str, "asyncio.Task[Any]"] = field(default_factory=dict)
    _usage: tuple[float, int] = (-_COUNTED, 0)

    def close(self) -> None:
        """End the children and close the store's connections."""
        self.asks.close()
        self.store.close()

    async def work(self, task: str, names: Mapping[str, str], **values: Any) -> dict[str, Any]:
        """What a task in a child gives. Errors say `names` (path to name) where they would say paths."""
        try:
            return await children.answer(self.asks, task, **values)
        except FlowpaintError as error:
            raise type(error)(self.shown(str(error), names)) from None

    async def known(self, task: str) -> dict[str, Any]:
        """What a task gives that is the same as long as the server runs."""
        if task not in self._known:
            self._known[task] = await self.work(task, {})
        return self._known[task]

    async def alone(self, name: str, make: Callable[[], Coroutine[Any, Any, Found]]) -> Found:
        """What `make` gives, for all who want what is called `name` while it is made."""
        task: asyncio.Task[Found] | None = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(make())
            task.add_done_callback(lambda _: self._under_way.pop(name))
        return await asyncio.shield(task)

    def shown(self, text: str, names: Mapping[str, str]) -> str:
        """A text for users: files under their own names, and nothing of where the data folder is."""
        for path in sorted(names, key=len, reverse=True):
            text = text.replace(path, names[path])
        return text.replace(f"{self.settings.data.absolute()}{os.sep}", "")

    def plain(self, value: Any, names: Mapping[str, str]) -> Any:
        """Values with every text in them as `shown` gives it."""
        if isinstance(value, str):
            return self.shown(value, names)
        if isinstance(value, Mapping):
            return {key: self.plain(one, names) for key, one in value.items()}
        return [self.plain(one, names) for one in value] if isinstance(value, (list, tuple)) else value

    def check_room(self, more: int) -> None:
        """Nothing, where `more` bytes fit into what the data folder may take. Raises `Refusal` (507)."""
        now, quota = time.monotonic(), self.settings.limits.quota_bytes
        if now - self._usage[0] > _COUNTED:
            self._usage = now, self.store.usage()
        if self._usage[1] + more > quota:
            raise Refusal(507, f"The data folder may take {quota:,} bytes, and they are used. Delete assets or jobs.", code=1)
        self._usage = self._usage[0], self._usage[1] + more

    @contextmanager
    def streaming(self, owner: str) -> Iterator[None]:
        """Inside, one stream more of this owner is open. Raises `Refusal` (429) for too many."""
        most = self.settings.limits.streams
        if self.streams.get(owner, 0) >= most:
            raise Refusal(429, f"{most} streams of events are open. Close one first.", headers={"retry-after": "10"})
        self.streams[owner] = self.streams.get(owner, 0) + 1
        try:
            yield
        finally:
            self.streams[owner] -= 1


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _owner(request: Request) -> str:
    return str(request.state.owner)


Here = Annotated[Service, Depends(_service)]
Owner = Annotated[str, Depends(_owner)]


def media_type(request: Request) -> str:
    """What kind of body a request says that it has, without what is said of it besides; "" where it says nothing."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def in_thread(call: Callable[..., Found], *values: Any) -> Found:
    """What a call that waits for the disk gives; the event loop goes on meanwhile."""
    return await to_thread.run_sync(lambda: call(*values))


def tidy(name: str, default: str) -> str:
    """A file name to show: the last part of what was sent, without what a terminal or a header would take for something else."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(one for one in last if one.isprintable()).strip().strip(".")
    stem, dot, suffix = kept[-200:].rpartition(".")
    return f"{stem[-150:]}{dot}{suffix[:20]}" if stem else suffix or default


async def shielded(call: Callable[..., Found], *values: Any) -> Found:
    """As `in_thread`, and finished even where whoever asked has gone."""
    return await asyncio.shield(asyncio.ensure_future(in_thread(call, *values)))
