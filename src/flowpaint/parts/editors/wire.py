"""How editors speak to a server over HTTP: where to, with which key, how long, how often, and what of an answer is believed.

The key is read from the environment when a request leaves and goes nowhere but into its Authorization header: no part, recipe,
report or message holds it, no redirect is followed, and what a server says is shown without it.
"""

import base64
import html
import ipaddress
import json
import os
import re
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from io import BytesIO
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import numpy as np
import requests
import torch
import urllib3
from PIL import Image, ImageOps
from torch import Tensor

from ...errors import ConfigError, WorkError
from ...weights.policy import in_force

KEY = "FLOWPAINT_EDIT_KEY"
_LONGEST_WAIT = 60.0  # seconds before a repetition, whatever Retry-After says
_MOST_BYTES = 64 * 2**20  # of an answer
_MOST_PIXELS = 2**26
_SHOWN = 200  # characters of an answer in a message
_PIECE = 2**16
_PASSING = {429: "too many requests", 500: "error", 502: "bad gateway", 503: "unavailable", 504: "gateway timeout"}
_RESUMES = "The run resumes where it stopped: repeat the command"
_PLAIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?(/[a-z0-9._~%+/-]*)?", re.IGNORECASE | re.ASCII)

Told = Callable[[Any], str]
Origin = tuple[str, str, int]
_NOWHERE: Origin = ("", "", 0)


def pause(seconds: float) -> None:
    """Nothing, after `seconds`."""
    time.sleep(seconds)


def checked_url(url: str) -> str:
    """`url` without a slash at its end; "" stays. Raises `ConfigError` for what is no plain address: a key must not be in it."""
    plain = _PLAIN.fullmatch(url)
    if url and (plain is None or int((plain[2] or ":0")[1:]) >= 2**16):
        shown = "" if set(url) & set("@?#") else f" {url!r}"
        raise ConfigError(
            f"The url{shown} of an editor is no plain address of a server. Write it like http://127.0.0.1:8188 or "
            f"https://host/v1; a key goes into the environment variable {KEY}, never into a url."
        )
    return url.rstrip("/")


class _Session(requests.Session):
    """Knows no redirects: even without following one, requests would read all of its body."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nothing."""
        del resp
        return None


class _Passing(Exception):
    """What may be gone the next time: in words, with the seconds that the server asks to wait."""

    def __init__(self, said: str, wait: float = 0.0) -> None:
        super().__init__(said)
        self.wait = wait


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A server at `url`, spoken to with `timeout` seconds for a connection, an answer's beginning and its rest each.

    What may pass (timeouts, lost connections, 429, 500, 502, 503, 504) is tried `retries` times more, after 1, 2, 4 ... seconds
    or what Retry-After says, at most 60. Raises `ConfigError` where the request may not leave or the key is refused, `WorkError`
    where the server fails.
    """

    url: str
    timeout: float
    retries: int

    @classmethod
    def to(cls, url: str, variable: str, *, timeout: float, retries: int) -> "Wire":
        """The server at `url`, or else at the one in the environment `variable`. Raises `ConfigError` where neither says one."""
        found = checked_url(url or os.environ.get(variable, "").strip())
        if not found:
            raise ConfigError(f"The editor has no server to ask. Set its field `url`, or the environment variable {variable}.")
        return cls(url=found, timeout=timeout, retries=retries)

    @cached_property
    def origin(self) -> Origin:
        """Scheme, host and port."""
        return _origin(self.url)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        host = self.origin[1]
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def check(self) -> None:
        """Raises `ConfigError` where the key could not be sent: it is no key, or would go over the open network in plain text."""
        key = self._key()
        if not all("!" <= sign <= "~" for sign in key):
            raise ConfigError(f"The key in the environment holds signs that no key has. Set {KEY} again, without blanks in it.")
        if key and self.origin[0] != "https" and not self.is_local:
            raise ConfigError(
                f"The key would go to {self.origin[1]} in plain text over the network. Give an https:// url, or unset {KEY}."
            )

    def get(self, path: str, **params: str) -> bytes:
        """What the server answers at `path`, which starts with a slash."""
        return self._send("GET", self.url + path, _told, {"params": params})

    def post(self, path: str, *, told: Told | None = None, **body: Any) -> bytes:
        """What the server answers to `body` (`data`, `files`, `json` as `requests` takes them); `told` reads errors' JSON."""
        return self._send("POST", self.url + path, told or _told, body)

    def fetch(self, address: str) -> bytes:
        """What is at an address that the server named, which may start at `path`. Raises `WorkError` for another server's."""
        origin, target = _led_to(self.url + "/", address)
        if origin != self.origin:
            there = self.words(origin[1] or address)
            raise WorkError(
                f"{self.url} says that its picture lies on another server, {there!r}, from which nothing is fetched. Set the "
                "field `response_format` to b64_json, or give an endpoint that keeps its own pictures."
            )
        return self._send("GET", self.url[: len(self.url) - len(urlsplit(self.url).path)] + target, _told, {})

    def parsed(self, content: bytes) -> Any:
        """The JSON of an answer. Raises `WorkError` for anything else."""
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self.garbage("no JSON", content) from error

    def picture(self, content: bytes) -> tuple[Tensor, Tensor | None]:
        """A picture file as [3, H, W] in [0, 1], upright, and its transparency [1, H, W] in [0, 1], 1 = opaque, where it has one.

        Raises `WorkError` for what is no PNG, JPEG or WebP, or has more than 2^26 pixels: the header says so before the rest is
        read.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is an error
                with Image.open(BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as file:
                    if file.width * file.height > _MOST_PIXELS:
                        raise self.garbage(f"a picture of {file.width} x {file.height} pixels, more than {_MOST_PIXELS}", b"")
                    sheer = file.has_transparency_data
                    shown = np.array(ImageOps.exif_transpose(file).convert("RGBA"), np.float32)
        except (OSError, ValueError, SyntaxError, EOFError, zlib.error, Image.DecompressionBombError) as error:
            raise self.garbage("no picture that can be read", content) from error
        planes = torch.from_numpy(shown).permute(2, 0, 1).div_(255.0)
        return planes[:3].contiguous(), planes[3:].contiguous() if sheer else None

    def garbage(self, what: str, content: bytes | str) -> WorkError:
        """The error that says that an answer held `what` in place of what was due, with its beginning."""
        begins = f", which begins {self.words(content)!r}" if content else ""
        return WorkError(f"{self.url} answered 200 with {what}{begins}. Check that the url is that of the interface. {_RESUMES}.")

    def words(self, said: bytes | str) -> str:
        """The first 200 characters of what the server says, in one line, the key and signs that are no letters blotted out."""
        text = said.decode("utf-8", errors="replace") if isinstance(said, bytes) else said
        key = self._key()
        if key:
            quoted = base64.b64encode(key.encode()).decode().rstrip("=")
            forms = {key, quote(key), quote(key, safe=""), html.escape(key), json.dumps(key)[1:-1], quoted}
            text = re.sub("|".join(re.escape(one) for one in sorted(forms, key=len, reverse=True)), "***", text, flags=re.I)
        return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:_SHOWN]

    # ------------------------------------------------------------------------------------------------------- one request

    def _key(self) -> str:
        """The key that belongs to the server: OpenAI's own goes to OpenAI alone."""
        key = os.environ.get(KEY, "").strip()
        if not key and self.origin == ("https", "api.openai.com", 443):
            key = os.environ.get("OPENAI_API_KEY", "").strip()
        return key

    def _send(self, method: str, url: str, told: Told, body: Mapping[str, Any]) -> bytes:
        self.check()
        if in_force().offline and not self.is_local:
            raise ConfigError(
                f"The editor would send pictures to {self.origin[1]}, and --offline forbids that. Leave the option out, or give "
                "the url of a server on this machine."
            )
        for attempt in range(self.retries + 1):
            try:
                return self._once(method, url, told, body)
            except _Passing as passing:
                if attempt == self.retries:
                    tries = f" in {attempt + 1} tries" if attempt else ""
                    raise WorkError(f"{self.url} {passing}{tries}. See whether it runs. {_RESUMES}.") from passing.__cause__
                pause(min(max(2.0**attempt, passing.wait), _LONGEST_WAIT))
        raise AssertionError("every try returns or raises")

    def _once(self, method: str, url: str, told: Told, body: Mapping[str, Any]) -> bytes:
        """The answer to one request. Raises `_Passing` for what may be gone the next time."""
        # `trust_env` would let a proxy see what goes to this machine, and a .netrc file replace the key.
        with _Session() as session:
            session.trust_env = False
            proxies = {} if self.is_local else requests.utils.get_environ_proxies(url)
            bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
            headers = {"Accept-Encoding": "identity", "User-Agent": "flowpaint"}
            if key := self._key():
                headers["Authorization"] = f"Bearer {key}"
            try:
                with session.request(
                    method,
                    url,
                    headers=headers,
                    timeout=self.timeout,
                    stream=True,
                    allow_redirects=False,
                    proxies=proxies,
                    verify=bundle,
                    **body,
                ) as response:
                    return self._judged(response, self._read(response), told)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                raise self._lost(error) from error

    def _read(self, response: requests.Response) -> bytes:
        """The body of an answer, in pieces: neither endless nor trickling ones are waited for."""
        content, until = bytearray(), time.monotonic() + self.timeout
        while piece := response.raw.read1(_PIECE, decode_content=True):
            content += piece
            if len(content) > _MOST_BYTES:
                raise WorkError(
                    f"{self.url} sent more than {_MOST_BYTES / 2**20:g} MB in one answer. Ask for a smaller picture. {_RESUMES}."
                )
            if time.monotonic() > until:
                raise _Passing(f"had not sent the whole answer after {self.timeout:g} s")
        return bytes(content)

    def _judged(self, response: requests.Response, content: bytes, told: Told) -> bytes:
        """`content`, if the status is a good one."""
        status = response.status_code
        if 200 <= status < 300:
            return content
        if 300 <= status < 400:
            there = response.headers.get("Location", "")
            leads = self.words(_led_to(self.url, there)[0][1] or there)
            raise WorkError(
                f"{self.url} answered {status}, a redirect to {leads!r}, and none is followed. "
                "Give the address that it leads to as the url of the editor."
            )
        said = self._reason(content, told)
        if status in _PASSING:
            raise _Passing(f"answered {status} ({_PASSING[status]}), {said!r}", _wait(response.headers.get("Retry-After", "")))
        if status in (401, 403):
            what = "refused the key" if self._key() else "wants a key and none is set"
            raise ConfigError(f"{self.url} {what}: set {KEY} ({status}, {said!r}). The key is read from the environment alone.")
        raise WorkError(f"{self.url} answered {status}, {said!r}, to what it was sent. Check the editor's fields. {_RESUMES}.")

    def _reason(self, content: bytes, told: Told) -> str:
        try:
            return self.words(told(json.loads(content)) or content)
        except (ValueError, RecursionError, TypeError, AttributeError, KeyError):
            return self.words(content)

    def _lost(self, error: Exception) -> Exception:
        """What a failure of the connection is to the user: certificates do not change by trying again."""
        if isinstance(error, requests.exceptions.SSLError):
            return WorkError(f"{self.url} shows no certificate that holds here. Set REQUESTS_CA_BUNDLE, or take another url.")
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return _Passing(f"could not be reached within {self.timeout:g} s")
        if isinstance(error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
            return _Passing(f"did not answer within {self.timeout:g} s")
        refused = "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error)
        return _Passing("could not be reached" if refused else "cut the connection")


def _origin(url: str) -> Origin:
    """Scheme, host and port of `url`. Raises `ValueError` for what has none."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _led_to(url: str, address: str) -> tuple[Origin, str]:
    """Where `address`, named by the server at `url`, leads: its origin, and what is asked for there, from the slash on.

    Nowhere for what parsers do not agree on: a backslash, or somebody's name before the host.
    """
    try:
        parts = urlsplit(urljoin(url, address))
        origin = _origin(parts.geturl())
    except ValueError:
        return _NOWHERE, ""
    if "\\" in address or "@" in parts.netloc:
        return _NOWHERE, ""
    return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _told(answer: Any) -> str:
    """What an error's JSON says: `{"error": {"message": ...}}`, as OpenAI's interface has it, or `{"error": ...}`."""
    error = answer["error"]
    return str(error["message"] if isinstance(error, dict) else error)


def _wait(said: str) -> float:
    """The seconds of a Retry-After header, which may be a date; 0 where it says nothing."""
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
