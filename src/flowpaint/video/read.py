"""A video file as a lazy clip: frames are decoded when asked for, in any order."""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from threading import Lock

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer

from ..errors import VideoError
from ..types import Clip, ColourTags, Origin, Raw
from . import tonemap as tone
from .border import Warn, address, check_file, check_size, ignore, reading
from .folder import PICTURES, read_folder
from .index import Index, build_index, only, sound_frames, video_stream
from .pixels import Array, known_layout, to_rgb

CACHE_BYTES = 96 << 20  # decoded frames kept: 70 of 1280x720, so that reading backwards does not decode a group anew each time
_KEPT_BYTES, _FEWEST_KEPT, _MOST_KEPT = 64 << 20, 4, 16  # of RGB pictures
_DAMAGED = "Copy it again, or use what can be decoded with --allow-damaged (allow_damaged=True)"


def read(
    path: str | Path,
    *,
    fps: Fraction = Fraction(24),
    allow_damaged: bool = False,
    tonemap: bool = False,
    warn: Warn = ignore,
) -> Clip:
    """The clip in a video file, or in a folder of pictures shown at `fps` in natural order of their names.

    Frames are upright, RGB, at the file's depth. Only the packets are read here; frames are decoded on demand. `tonemap`
    turns HDR (PQ, HLG) into BT.709. Raises `VideoError` for what is missing, damaged, without frames, under 16 px, over the
    pixel limit, or HDR without `tonemap`.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in PICTURES:
        return read_folder(path, fps=fps)
    check_file(path)
    index = build_index(path, damaged="decode" if allow_damaged else "refuse", warn=warn)
    source = FrameSource(path, index)
    first = source.frame(0)
    colour, plan = tags_of(first), known_layout(first.format.name)
    _check_first(path, first, tonemap=tonemap, warn=warn)
    turn = Turn.of(first, warn)
    hdr = colour.transfer in tone.HDR_TRANSFERS
    height, width = (first.width, first.height) if turn.transposed else (first.height, first.width)

    def upright(number: int) -> Raw:
        picture = turn.upright(to_rgb(source.frame(number), colour))
        if picture.shape[:2] != (height, width):
            raise VideoError(
                f"Frame {number} of {path} has another size than the first. Cut the file there, or convert it first."
            )
        return tone.to_sdr(picture, colour) if hdr else picture

    raw = _kept(upright, height * width * (3 if plan.depth == 8 and not hdr else 6))
    return Clip(
        raw,
        times=index.times,
        end=index.end_time,
        height=height,
        width=width,
        bits=16 if hdr else plan.depth,
        colour=replace(colour, matrix=1, primaries=1, transfer=1) if hdr else colour,
        aspect=1 / source.aspect if turn.transposed else source.aspect,
        codec=first.format.name,
        origin=Origin(path=path, whole=True, decoded=None if hdr else Decoded(source, raw, turn)),
    )


@dataclass(frozen=True, slots=True)
class Decoded:
    """The frames of an open file: `source` has them as they are stored, `raw` as upright RGB."""

    source: "FrameSource"
    raw: Callable[[int], Raw]
    turn: "Turn"


def _kept(read: Callable[[int], Raw], size: int) -> Callable[[int], Raw]:
    """`read`, which remembers the last frames, each of `size` bytes: method, measurement and encoder ask for the same ones."""
    most = max(_FEWEST_KEPT, min(_MOST_KEPT, _KEPT_BYTES // size))
    kept: OrderedDict[int, Raw] = OrderedDict()
    lock = Lock()

    def found(number: int) -> Raw:
        with lock:
            if number in kept:
                kept.move_to_end(number)
                return kept[number]
        picture = read(number)
        with lock:
            kept[number] = picture
            while len(kept) > most:
                kept.popitem(last=False)
        return picture

    return found


def _check_first(path: Path, first: av.VideoFrame, *, tonemap: bool, warn: Warn) -> None:
    """Raise `VideoError` where frames like this one cannot be worked on, warn where something of them is lost."""
    check_size(path, first.width, first.height)
    if known_layout(first.format.name).alpha:
        warn(f"{path.name} has transparency ({first.format.name}). It is dropped.")
    if first.interlaced_frame:
        warn(f"{path.name} is interlaced. Its frames are used as they are, with both fields.")
    kind = tone.HDR_TRANSFERS.get(int(first.color_trc))
    if kind and not tonemap:
        raise VideoError(
            f"{path} is HDR ({kind}), which looks wrong as it is. Add --tonemap (tonemap=True) to work on a BT.709 version."
        )


def tags_of(frame: av.VideoFrame) -> ColourTags:
    """The colour tags of a frame; a full-range pixel format counts as tagged."""
    full = known_layout(frame.format.name).full
    return ColourTags(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        range=2 if full else int(frame.color_range),
    )


class Turn:
    """How stored frames are laid upright: the display matrix, where it is made of quarter turns and flips."""

    __slots__ = ("flip_x", "flip_y", "transposed")

    def __init__(self, *, transposed: bool = False, flip_x: bool = False, flip_y: bool = False) -> None:
        self.transposed, self.flip_x, self.flip_y = transposed, flip_x, flip_y

    @classmethod
    def of(cls, frame: av.VideoFrame, warn: Warn = ignore) -> "Turn":
        """The turn that a frame's display matrix asks for."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if not isinstance(data, Buffer):
            return cls()
        a, b, _, c, d = np.frombuffer(memoryview(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
        if a == d == 0 and b and c:
            return cls(transposed=True, flip_x=c < 0, flip_y=b < 0)
        if b == c == 0 and a and d:
            return cls(flip_x=a < 0, flip_y=d < 0)
        warn("The video is turned by an angle that is no quarter turn. Its frames are used as they are stored.")
        return cls()

    @property
    def turns(self) -> bool:
        """Whether stored and upright frames differ."""
        return self.transposed or self.flip_x or self.flip_y

    def upright(self, picture: Array) -> Array:
        """The picture [H, W, 3], or plane [H, W], as it is to be seen."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        if self.flip_x:
            picture = picture[:, ::-1]
        if self.flip_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


class FrameSource:
    """Random access to the decoded frames of one file.

    Going forward never seeks within a group of pictures; any other jump starts at the key frame before. Frames passed on
    the way are kept, up to `CACHE_BYTES`.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.path, self.index = path, index
        self._open: tuple[InputContainer, av.VideoStream] | None = None
        self._frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._next = 0  # the frame that decoding reaches next
        self._cache: OrderedDict[int, av.VideoFrame] = OrderedDict()
        self._lock = Lock()  # a clip may be read from several threads; a decoder may not

    @property
    def aspect(self) -> Fraction:
        """Width / height of one stored sample."""
        assert self._open is not None
        return self._open[1].sample_aspect_ratio or Fraction(1)

    def close(self) -> None:
        """Let go of the file, and of the decoder's memory, which is not the garbage collector's to see."""
        if self._open is not None:
            self._open[0].close()
            self._open, self._frames = None, iter(())

    def __del__(self) -> None:
        self.close()

    def frame(self, number: int) -> av.VideoFrame:
        """Frame `number`, as decoded. Raises `VideoError` where it cannot be decoded."""
        with self._lock, reading(self.path, _DAMAGED):
            if number not in self._cache:
                self._decode(number)
            self._cache.move_to_end(number)
            return self._cache[number]

    def _decode(self, number: int) -> None:
        if self._open is None or self._is_jump(number):
            self._start(number)
        if not self._reach(number):
            self._start(0)  # the container took us past it: its own index is coarse, so come from the beginning
            if not self._reach(number):
                raise VideoError(f"Frame {number} of {self.path} cannot be decoded. {_DAMAGED}.")

    def _is_jump(self, number: int) -> bool:
        if number < self._next or self.index.counted:
            return number < self._next
        return number > self._next and self._key_before(number) > self.index.pts[self._next]

    def _key_before(self, number: int) -> int:
        at = bisect_right(self.index.keys, self.index.pts[number])
        return self.index.keys[at - 1] if at else self.index.pts[0]

    def _start(self, number: int) -> None:
        """Make `_frames` begin at, or at the key frame before, frame `number`."""
        key = self._key_before(number)
        if self._open is None or self.index.counted or number == 0 or key <= self.index.pts[0]:
            self.close()
            container = av.open(address(self.path), metadata_errors="replace")
            stream = video_stream(container, self.path)
            stream.thread_type = "AUTO"
            only(container, [stream])
            self._open = (container, stream)
            key = self.index.pts[0]
        else:
            container, stream = self._open
            container.seek(key, stream=stream)
        self._next = bisect_left(self.index.pts, key)
        self._frames = _numbered(self.index, container, stream, key)

    def _reach(self, number: int) -> bool:
        """Decode up to frame `number`; False where it does not come."""
        for passed, frame in self._frames:
            self._next = passed + 1
            if passed == number and frame.is_corrupt and not self.index.counted:
                raise VideoError(f"Frame {number} of {self.path} is damaged. {_DAMAGED}.")
            self._keep(passed, frame)
            if passed >= number:
                break
        return number in self._cache

    def _keep(self, number: int, frame: av.VideoFrame) -> None:
        self._cache[number] = frame
        size = sum(part.buffer_size for part in frame.planes)
        while len(self._cache) > max(2, CACHE_BYTES // size):
            self._cache.popitem(last=False)


def _numbered(index: Index, container: InputContainer, stream: av.VideoStream, key: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames from where the container stands, with their numbers. `key` is the time stamp that decoding starts at."""
    if index.counted:
        yield from zip(range(len(index.pts)), sound_frames(container, stream), strict=False)
        return
    numbers = {tick: number for number, tick in enumerate(index.pts) if tick >= key}  # earlier ones lean on what was not read
    for frame in container.decode(stream):
        number = numbers.get(frame.pts) if frame.pts is not None else None
        if number is not None:
            yield number, frame
