"""What may be done to get weights, and which were used: a policy, laid in by a context manager, and a ledger."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import LicenceError, WeightsError
from .files import SAFE, is_pickle, sha256_of
from .licences import Licence

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be done to get weights.

    `offline`: nothing is fetched. `commercial_only`: weights whose licence forbids commercial use, or is unknown, are refused.
    `allow_pickle`: PyTorch's pickles are read as well as safetensors; no code in them is run in either case.
    """

    offline: bool = False
    commercial_only: bool = False
    allow_pickle: bool = False

    def stricter(self, other: "Policy") -> "Policy":
        """The policy that allows what both allow."""
        return Policy(
            offline=self.offline or other.offline,
            commercial_only=self.commercial_only or other.commercial_only,
            allow_pickle=self.allow_pickle and other.allow_pickle,
        )


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """A set of weights that was used: `source` is a repository, a package, an address, or "" for files of the user's own."""

    name: str
    licence: str
    source: str = ""
    revision: str = ""
    folder: Path
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the hash of every file."""
        hashes = {one.relative_to(self.folder).as_posix(): file_hash(one) for one in self.files}
        plain = {"name": self.name, "source": self.source, "revision": self.revision, "licence": self.licence}
        return {**plain, "sha256": hashes}


class Ledger:
    """The weights that were used, each once, in the order in which they were first asked for."""

    def __init__(self, warn: Callable[[str], None] = _log.warning) -> None:
        self.warn = warn
        self._used: dict[Used, None] = {}
        self._earlier: list[Mapping[str, Any]] = []

    def note(self, used: Used) -> None:
        """Add a set of weights."""
        self._used[used] = None

    def recall(self, earlier: Sequence[Mapping[str, Any]]) -> None:
        """Add what `to_list` said in an earlier part of the same run."""
        self._earlier += earlier

    def to_list(self) -> list[dict[str, Any]]:
        """Plain values: name, source, revision, licence and the hashes of the files of each set."""
        every = [dict(one) for one in self._earlier] + [one.to_dict() for one in self._used]
        return [one for place, one in enumerate(every) if one not in every[:place]]


_IN_FORCE: ContextVar[tuple[Policy, Ledger | None]] = ContextVar("policy", default=(DEFAULT_POLICY, None))


@contextmanager
def keeping(policy: Policy, ledger: Ledger | None = None) -> Iterator[None]:
    """Inside, weights are found as `policy` says, and `ledger` notes which."""
    token = _IN_FORCE.set((policy, ledger))
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Inside, weights that are not on this machine are missing: nobody asked for a download."""
    policy, ledger = _IN_FORCE.get()
    with keeping(replace(policy, offline=True), ledger):
        yield


def in_force() -> Policy:
    """The policy that holds here."""
    return _IN_FORCE.get()[0]


def admit(name: str, licence: Licence, others: Sequence[str] = ()) -> None:
    """Nothing, where the policy in force lets weights of `licence` be used; a warning, where that is for their owner to know.

    Raises `LicenceError` otherwise, naming `others` that may be used instead.
    """
    if not in_force().commercial_only or licence.commercial:
        return
    if licence.commercial is None:
        warn(f"The licence of {name} is not known here. Make sure yourself that it allows commercial use.")
        return
    instead = f"take {', '.join(others)}" if others else "give weights of your own, as a file or folder"
    raise LicenceError(
        f"The licence of {name} ({licence}) is not known to allow commercial use, and --commercial-only asks for that. "
        f"Leave the option out, or {instead}."
    )


def check_pickle(path: Path, name: str, remedy: str) -> None:
    """Raises `WeightsError` for a file of tensors that is no `.safetensors`, where the policy in force lets no pickle be read."""
    if path.suffix != SAFE and not in_force().allow_pickle:
        what = "is a pickle" if is_pickle(path) else f"is no {SAFE} file and could only be read as a pickle"
        raise WeightsError(f"{name} {what}, which can hold code. {remedy}, or read it with --allow-pickle, which runs none.")


def warn(message: str) -> None:
    """Tell whoever keeps the ledger in force, or the log, what should be known of a use of weights."""
    ledger = _IN_FORCE.get()[1]
    (ledger.warn if ledger is not None else _log.warning)(message)


def note(used: Used) -> None:
    """Tell the ledger in force, if there is one, that weights are used."""
    ledger = _IN_FORCE.get()[1]
    if ledger is not None and used.files:
        ledger.note(used)


# -------------------------------------------------------------------------------------------------------- hashes of the hub

_SHA256, _SHA1 = 64, 40  # hexadecimal digits


def blob_of(path: Path) -> str:
    """The hash by which the hub's cache names the content of `path`, or "" for a file elsewhere.

    64 digits are the SHA-256 of a large file, 40 the SHA-1 that Git gives a small one.
    """
    real = path.resolve()
    named = real.name if real.parent.name == "blobs" else ""
    return named if len(named) in (_SHA256, _SHA1) and not set(named) - set("0123456789abcdef") else ""


def file_hash(path: Path) -> str:
    """The SHA-256 of a file: the name of its blob in the hub's cache where that is one, else found once per process."""
    named = blob_of(path)
    return named if len(named) == _SHA256 else sha256_of(path)
