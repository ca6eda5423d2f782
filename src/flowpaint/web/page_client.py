"""`Rest`: the page's only way to jobs and files, the same routes that every program uses, as the visitor who is asking."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from fastapi import FastAPI

from ..errors import InputError

if TYPE_CHECKING:
    import gradio

T = TypeVar("T")

_PASSED_ON = ("host", "cookie", "authorization", "user-agent", "accept-language")


class Rest:
    """The REST routes of `app`, called inside this process with the cookies of the visitor's `request`.

    Every call raises `InputError` with the server's own words where it refuses, and for an answer that is none of its own.
    """

    def __init__(self, app: FastAPI, request: "gradio.Request") -> None:
        found = request.headers
        self._headers = {name: str(found[name]) for name in _PASSED_ON if found.get(name)}
        self._client = (str(getattr(request.client, "host", "127.0.0.1")), int(getattr(request.client, "port", 0) or 0))
        self._site = f"{request.url.scheme}://{self._headers.get('host', '127.0.0.1')}"
        self._app = app

    async def get(self, path: str, **query: Any) -> Any:
        """What `path` answers, from JSON."""
        return await self._ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    async def read(self, path: str, how: Callable[[bytes], T]) -> T:
        """What `how` makes of the bytes at `path`, in a thread: of large ones it would keep all others waiting."""
        return await asyncio.to_thread(how, (await self._answer("GET", path)).content)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What `path` answers to `body`, from JSON."""
        return await self._ask("POST", path, json=dict(body))

    async def delete(self, path: str) -> Any:
        """What `path` answers, from JSON; None where it says nothing."""
        return await self._ask("DELETE", path)

    async def _ask(self, verb: str, path: str, **what: Any) -> Any:
        answer = await self._answer(verb, path, **what)
        return answer.json() if answer.content else None

    async def _answer(self, verb: str, path: str, **what: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app, client=self._client, raise_app_exceptions=False)
        headers = {**self._headers, "origin": self._site, "sec-fetch-site": "same-origin"}
        async with httpx.AsyncClient(transport=transport, base_url=self._site, headers=headers, timeout=60) as client:
            answer = await client.request(verb, path, **what)
        if answer.is_success:
            return answer
        raise InputError(_refusal(answer))


def _refusal(answer: httpx.Response) -> str:
    try:
        said = answer.json()
        return str(said.get("detail") or said["title"])
    except (ValueError, KeyError, AttributeError):
        return f"The server answered {answer.status_code} and said no more. Reload the page and try again."
