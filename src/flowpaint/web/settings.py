"""How the web server is set up, and what it lets in."""

import hashlib
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest

_SHORTEST_TOKEN = 8


def _all_memory() -> int:
    """As much as this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 40


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is too much. Raises `ConfigError` for a limit that is not above zero."""

    upload_bytes: int = 4 << 30  # of one request's files together
    picture_bytes: int = 256 << 20
    body_bytes: int = 8 << 20  # of a request without files
    seconds: float = 4 * 3600.0  # length of a video
    frames: int = 400_000
    pixels: int = 7680 * 4320  # of one frame
    requests_a_minute: int = 6000  # of one client
    uploads_a_minute: int = 600
    logins_a_minute: int = 10
    jobs_queued: int = 1000  # of one owner
    streams: int = 32  # of events, open at a time, of one owner
    quota_bytes: int = 100 << 30  # the whole data folder
    job_seconds: float = 24 * 3600.0  # for one job, by the clock
    worker_bytes: int = field(default_factory=_all_memory)  # of memory that one worker may have, on Linux
    child_seconds: float = 60.0  # for what is read of one file, by the clock
    child_bytes: int = 3 << 30  # of memory, beside what Python and torch have
    children: int = 2  # that open files at a time, and as many that go through all of one

    @classmethod
    def of(cls, given: Mapping[str, float]) -> "Limits":
        """The limits with those `given` by name changed. Raises `ConfigError` for a name that is none, with the nearest."""
        known: dict[str, Any] = {one.name: one.type for one in fields(cls)}
        for name in given.keys() - known.keys():
            raise ConfigError(f"There is no limit {name!r}. Nearest: {nearest(name, known)}.")
        return cls(**{name: known[name](value) for name, value in given.items()})

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < 2**62:
                raise ConfigError(f"The limit {name} cannot be {value}. Give a number above zero.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the server keeps its data, where it listens, and who may use it.

    With `tokens` a request has to bring one of them, and each has jobs of its own. Raises `ConfigError` for a host that others
    can reach without a token, and for a token that could be guessed.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 7860
    tokens: tuple[str, ...] = field(default=(), repr=False)
    limits: Limits = Limits()
    offline: bool = True
    commercial_only: bool = False

    def __post_init__(self) -> None:
        if not self.tokens and not is_loopback(self.host):
            raise ConfigError(
                f"The host {self.host!r} can be reached by others, and there is no token. Give --token, or listen on 127.0.0.1."
            )
        for token in self.tokens:
            if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
                raise ConfigError(
                    f"A token has {len(token)} characters, or some that no header can hold. "
                    f"Give {_SHORTEST_TOKEN} or more letters and digits, drawn by lot."
                )

    def owner(self, token: str) -> str:
        """The name under which the store keeps what belongs to a token: "" without one."""
        return hashlib.sha256(token.encode()).hexdigest()[:16] if token else ""


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
