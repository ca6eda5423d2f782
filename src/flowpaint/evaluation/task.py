"""One row of a benchmark before it is run: a video, what is wanted of it, and what is known of the answer."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import overload

from torch import Tensor

from ..errors import InputError
from ..types import Clip, Raw

_LONGEST = 80  # bytes of a name: two of them, joined, fit into the 255 that file systems take
_KEPT = 64 << 20  # bytes of frames that a remembering clip holds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """`name` tells it from all others and is fit for a file name; `group` is what averages are taken over (a split, a filter).

    `keyframes` are edited pictures [3, H, W] in [0, 1] by frame, where the task gives them; `mask`, `reference`,
    `reference_frames` and `cuts` are as in `flowpaint.moments.Case`, and `cuts` None means that nobody looked yet.
    `reference_picture` is a picture of what is wanted, no frame of the video. `facts` tell its inputs from others that could go
    by the same name (a file's hash, a seed): results made from other facts are out of date.
    """

    name: str
    group: str
    source: Clip
    prompt: str = ""
    source_prompt: str = ""
    keyframes: Mapping[int, Tensor] = field(default_factory=dict)
    mask: Clip | None = None
    reference: Clip | None = None
    reference_frames: frozenset[int] | None = None
    cuts: frozenset[int] | None = None
    reference_picture: Path | None = None
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


class Tasks(Sequence[Task]):
    """Tasks that open their files when they are asked for, each time anew: only the one at work is in memory.

    `openers` are the tasks' names and what opens them; taking a task raises what its opener raises (`InputError`, `VideoError`).
    Raises `InputError` where two names are the same but for upper and lower case: some file systems see no difference.
    """

    def __init__(self, openers: Iterable[tuple[str, Callable[[], Task]]]) -> None:
        pairs = tuple(openers)
        self.names = tuple(name for name, _ in pairs)
        self._openers = tuple(opener for _, opener in pairs)
        seen: dict[str, str] = {}
        for name in self.names:
            if name.casefold() in seen:
                raise InputError(f"Two tasks are called {seen[name.casefold()]!r} and {name!r}. Give each its own name.")
            seen[name.casefold()] = name

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> "Tasks":
        """`tasks` as they are, or, where they are open already, in their order."""
        return tasks if isinstance(tasks, Tasks) else cls((task.name, _always(task)) for task in tasks)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, item: int) -> Task: ...
    @overload
    def __getitem__(self, item: slice) -> "Tasks": ...
    def __getitem__(self, item: int | slice) -> "Task | Tasks":
        if isinstance(item, slice):
            return Tasks(zip(self.names[item], self._openers[item], strict=True))
        return self._openers[item]()


def _always(task: Task) -> Callable[[], Task]:
    return lambda: task


class Pictures(Mapping[int, Tensor]):
    """Key frames that are made when asked for: `make(frame)` gives a picture [3, H, W] in [0, 1] for each of `frames`."""

    def __init__(self, frames: Sequence[int], make: Callable[[int], Tensor]) -> None:
        self._frames, self._make = dict.fromkeys(frames), make

    def __getitem__(self, frame: int) -> Tensor:
        if frame not in self._frames:
            raise KeyError(frame)
        return self._make(frame)

    def __contains__(self, frame: object) -> bool:
        return frame in self._frames

    def __iter__(self) -> Iterator[int]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


def remembering(clip: Clip) -> Clip:
    """`clip` with its latest frames kept (64 MiB), so that what makes them is not paid for by whoever reads twice."""
    size = clip.height * clip.width * 3 * (clip.bits // 8)

    @lru_cache(maxsize=max(2, _KEPT // size))
    def read(index: int) -> Raw:
        raw = clip.raw(index)
        raw.flags.writeable = False  # it is handed out again
        return raw

    return clip.with_frames(read)


def file_name(text: str) -> str:
    """`text` as a part of a file name on any system; two texts that differ give two names that differ.

    Letters, digits, `.`, `_` and single `-` stay. What was changed, or is longer than 80 bytes, ends in a hash of the text.
    """
    plain = re.sub(r"[^\w.]+", "-", unicodedata.normalize("NFC", text)).strip("-.")
    while len(plain.encode()) > _LONGEST:
        plain = plain[:-1]
    if plain and plain == text:
        return plain
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain}~{digest}"
