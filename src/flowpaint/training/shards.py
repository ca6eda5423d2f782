"""Samples in tar shards: the WebDataset layout, written whole, read as a stream that can be resumed exactly.

A sample is the files of a tar that share a name up to its first dot: `000012.png`, `000012.json`. A shard holds some hundreds.
"""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np

from ..errors import VideoError, WorkError

T = TypeVar("T")

_BROKEN = (tarfile.TarError, OSError, EOFError, ValueError, KeyError)


@dataclass(frozen=True, slots=True)
class Sample:
    """Files by extension, and the name that they share."""

    key: str
    files: Mapping[str, bytes]


class ShardWriter:
    """Writes samples to `folder` as shards of `size`. A shard is there whole or not at all."""

    def __init__(self, folder: Path, size: int = 256) -> None:
        if folder.exists() and any(folder.glob("*.tar")):
            raise WorkError(f"{folder} has shards already. Choose an empty folder.")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._size = folder, size
        self._tar: tarfile.TarFile | None = None
        self._count = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del error, trace
        self._close(whole=kind is None)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Add a sample; its key is its number."""
        number, place = divmod(self._count, self._size)
        if place == 0:
            self._close(whole=True)
            self._tar = tarfile.open(self._part(number), "w")  # noqa: SIM115 - `_close` closes it
        assert self._tar is not None
        for extension, content in files.items():
            member = tarfile.TarInfo(f"{self._count:08d}.{extension}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self._count += 1

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:06d}.tar.part"

    def _close(self, *, whole: bool) -> None:
        if self._tar is None:
            return
        self._tar.close()
        part = self._part((self._count - 1) // self._size)
        self._tar = None
        if whole:
            part.replace(part.with_suffix(""))
        else:
            part.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a stream is: the epoch, the samples of it that were passed, and how many broken ones were met so far."""

    epoch: int = 0
    place: int = 0
    skipped: int = 0


class ShardStream(Generic[T]):
    """An endless stream of decoded samples in an order that follows from (seed, epoch) alone.

    Shards are drawn in random order, `mix` at a time, and the samples of those shuffled: memory holds `mix` shards. Of `world`
    processes number `rank` gets every `world`-th sample. What cannot be read or decoded is skipped and counted. `position` may be
    saved after any sample and given back later. Raises `VideoError` for a folder without shards or without one sound sample.
    """

    def __init__(
        self,
        folder: Path,
        decode: Callable[[Sample], T],
        *,
        seed: int,
        mix: int = 4,
        rank: int = 0,
        world: int = 1,
        position: Position = Position(),
    ) -> None:
        self._shards = shards_in(folder)
        self._folder, self._decode = folder, decode
        self._seed, self._mix, self._rank, self._world = seed, mix, rank, world
        self.position = position

    def __iter__(self) -> Iterator[T]:
        epoch = self.position.epoch
        while True:
            sound = False
            for decoded in self._epoch(epoch):
                sound = True
                yield decoded
            if not sound and self.position.place == 0:
                raise VideoError(f"Not one sample in {self._folder} can be read. Make the shards again.")
            epoch += 1
            self.position = Position(epoch=epoch, skipped=self.position.skipped)

    def _epoch(self, epoch: int) -> Iterator[T]:
        rng = np.random.default_rng([107, self._seed, epoch])
        order = rng.permutation(len(self._shards))
        start = self.position.place
        passed = 0
        for first in range(0, len(order), self._mix):
            samples, broken = self._group(order[first : first + self._mix])
            shuffled = rng.permutation(len(samples))
            if passed >= start:  # else a resumed stream has been in it, and counted its damage
                self._count(broken)
            for number in shuffled:
                passed += 1
                if passed <= start or passed % self._world != self._rank:
                    continue
                try:
                    decoded = self._decode(samples[number])
                except _BROKEN:
                    self._count(1)
                    continue
                self.position = Position(epoch=epoch, place=passed, skipped=self.position.skipped)
                yield decoded

    def _count(self, broken: int) -> None:
        now = self.position
        self.position = Position(epoch=now.epoch, place=now.place, skipped=now.skipped + broken)

    def _group(self, numbers: np.ndarray[Any, Any]) -> tuple[list[Sample], int]:
        samples: list[Sample] = []
        broken = 0
        for number in numbers:
            found, bad = read_shard(self._shards[number])
            samples += found
            broken += bad
        return samples, broken


def read_shard(path: Path) -> tuple[list[Sample], int]:
    """The samples of one shard, in its order, and 1 where it breaks off (what comes behind is lost), else 0."""
    found: dict[str, dict[str, bytes]] = {}
    broken = 0
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                files = found.setdefault(key, {})
                content = tar.extractfile(member)
                if content is not None:
                    files[extension] = content.read()
    except _BROKEN:
        broken = 1
        if found:
            found.popitem()  # it lacks files
    return [Sample(key, files) for key, files in found.items()], broken


def shards_in(folder: Path) -> list[Path]:
    """The shards of `folder`, in order. Raises `VideoError` where there are none."""
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise VideoError(f"{folder} holds no shards. Make them with `flowpaint data synth` or `flowpaint data prepare`.")
    return shards


def first_of(folder: Path, decode: Callable[[Sample], T], count: int) -> list[T]:
    """The first `count` samples of `folder` that can be decoded, from its first shards. Raises `VideoError` where none can."""
    found: list[T] = []
    for path in shards_in(folder):
        for sample in read_shard(path)[0]:
            if len(found) == count:
                return found
            with suppress(*_BROKEN):
                found.append(decode(sample))
    if not found:
        raise VideoError(f"Not one sample in {folder} can be read. Make the shards again.")
    return found
