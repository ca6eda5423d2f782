"""A clip encoded in closed segments: each is a file that is there complete or not at all."""

import io
import os
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer

from ..errors import VideoError
from ..parallel import WorkQueue
from ..types import Clip, Raw
from .border import Busy, Packet, Progress, address, close_quietly, silent, untimed, writing
from .encoding import Target
from .index import build_index
from .pixels import equal_pixels, from_rgb, keep_samples, known_layout, plane, resolved, to_rgb
from .read import Decoded, FrameSource, Turn, tags_of

_TICK = Fraction(1, 1000)  # Matroska's; frame n of a segment stands at tick n, only the order counts
_EARLY = 64  # frames: no encoder decodes further ahead
_SMALL = 64  # pixels: the least that every encoder takes
_AHEAD_BYTES, _MOST_AHEAD = 16 << 20, 4  # of frames that wait for conversion, and of those that wait for the encoder


def encode_segments(
    clip: Clip, folder: Path, target: Target, *, chunk: int = 48, progress: Progress = silent, busy: Busy = untimed
) -> list[Path]:
    """The files, in order, that hold the encoded clip. A segment that is there already is not read from the clip again.

    Frames are pulled and `progress` is called in the calling thread; conversion and encoding run in two others, each a few frames
    behind, which `busy` times. Raises `WorkError` where the disk is full or the encoder fails; finished segments stay.
    """
    files = []
    with _Line(clip, target, progress, busy) as line:
        for start in range(0, len(clip), chunk):
            frames = range(start, min(start + chunk, len(clip)))
            path = folder / f"{target.digest}-{frames.start:07d}-{len(frames):04d}.mkv"
            if path.exists():
                line.finish()
                progress("write", frames.stop, len(clip))
            else:
                line.encode(frames, path)
            files.append(path)
        line.finish()
    return files


@lru_cache(maxsize=4)
def sample_segment(target: Target) -> bytes:
    """Return a segment with one small grey frame in it, encoded as `target` says: all that a muxer asks of the video."""
    small, held = replace(target, width=_SMALL, height=_SMALL), io.BytesIO()
    with writing(Path("a sample")), av.open(held, "w", format="matroska") as container:
        stream = _add_stream(container, small)
        frame = from_rgb(np.full((_SMALL, _SMALL, 3), 128, np.uint8), small.pixel_format, small.colour)
        frame.pts, frame.time_base = 0, 1 / small.rate
        set_tags(frame, small)
        _mux(container, [*stream.encode(frame), *stream.encode(None)], 0)
    return held.getvalue()


class _Line:
    """From the frames of a clip to segments: pulled here, converted in one thread and encoded in another."""

    def __init__(self, clip: Clip, target: Target, progress: Progress, busy: Busy) -> None:
        self._clip, self._target, self._progress, self._busy = clip, target, progress, busy
        self._original = Original.of(clip, target)
        ahead = max(1, min(_MOST_AHEAD, _AHEAD_BYTES // (clip.height * clip.width * 3 * clip.bits // 8)))
        self._converting, self._coding = WorkQueue("convert", ahead), WorkQueue("encode", ahead)
        self._done: deque[int | _Segment] = deque()  # what the encoder has finished and nobody has been told of yet
        self._begun: list[_Segment] = []
        self._refused = False  # whoever is told of progress has raised an error
        self._threads = ExitStack()

    def __enter__(self) -> "_Line":
        self._threads.enter_context(self._coding)  # left last: converting waits for it
        self._threads.enter_context(self._converting)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is not None and not self._refused:  # what was pulled before it failed is not lost
                with suppress(Exception):
                    self.finish()
        finally:
            self._threads.close()
            for segment in self._begun:
                segment.give_up()

    def encode(self, frames: range, path: Path) -> None:
        """Pull `frames` and hand them on; the segment is at `path` after `finish`, or earlier."""
        segment = _Segment(path, self._target)
        self._begun.append(segment)
        for number, index in enumerate(frames):
            raw = self._clip.raw(index)
            stored = None if self._original is None else self._original.stored(self._clip.times[index])
            self._converting.do(partial(self._convert, segment, number, index, raw, stored))
            self._tell()
        self._converting.do(partial(self._coding.do, partial(self._close, segment, frames.stop)))

    def finish(self) -> None:
        """Return when all segments so far are finished."""
        self._converting.finish()
        self._coding.finish()
        self._tell()

    def _convert(self, segment: "_Segment", number: int, index: int, raw: Raw, stored: "Stored | None") -> None:
        target = self._target
        with self._busy("convert"):
            frame = from_rgb(_padded(raw, target), target.pixel_format, target.colour)
            if stored is not None:
                stored.restore(frame, raw)
            frame.pts, frame.time_base = number, 1 / target.rate
            set_tags(frame, target)
        self._coding.do(partial(self._code, segment, frame, index))

    def _code(self, segment: "_Segment", frame: av.VideoFrame, index: int) -> None:
        with self._busy("encode"):
            segment.add(frame)
        self._done.append(index + 1)

    def _close(self, segment: "_Segment", done: int) -> None:
        with self._busy("encode"):
            segment.close()
        self._done += (segment, done)

    def _tell(self) -> None:
        """Tell of frames that are encoded, and give closed segments their names, in that order: what is told of a segment's last
        frame may have to be stored before the segment counts as finished.
        """
        while self._done:
            one = self._done.popleft()
            if isinstance(one, _Segment):
                one.keep()
                self._begun.remove(one)
                continue
            self._refused = True
            self._progress("write", one, len(self._clip))
            self._refused = False


class _Segment:
    """One file that is being encoded, under another name until it is whole."""

    def __init__(self, path: Path, target: Target) -> None:
        self._path, self._part = path, path.with_suffix(".part")
        with writing(path):
            self._container = av.open(address(self._part), "w", format="matroska")
            self._stream = _add_stream(self._container, target)
        self._place = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Encode the next frame."""
        with writing(self._path):
            self._place = _mux(self._container, self._stream.encode(frame), self._place)

    def close(self) -> None:
        """Write what the encoder still holds, and what the disk does."""
        with writing(self._path):
            _mux(self._container, self._stream.encode(None), self._place)
            self._container.close()
            with self._part.open("rb+") as whole:
                os.fsync(whole.fileno())  # what is called finished must outlast a power failure

    def keep(self) -> None:
        """Give the closed file its name."""
        with writing(self._path):
            self._part.replace(self._path)

    def give_up(self) -> None:
        """Remove what was written so far."""
        close_quietly(self._container)
        self._part.unlink(missing_ok=True)


def _add_stream(container: OutputContainer, target: Target) -> av.VideoStream:
    if target.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; else it writes pages to stderr for every segment
    stream = container.add_stream(target.encoder, rate=target.rate, options=dict(target.options))
    assert isinstance(stream, av.VideoStream)
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = target.width, target.height, target.pixel_format
    context.time_base = 1 / target.rate
    context.sample_aspect_ratio = target.aspect
    set_tags(context, target)
    return stream


def set_tags(coded: av.VideoCodecContext | av.VideoFrame, target: Target) -> None:
    """Write the colour tags into a codec context; or into a frame, from where some encoders (ProRes) take them."""
    tags = target.colour
    coded.colorspace, coded.color_range = tags.matrix, tags.range
    coded.color_primaries, coded.color_trc = tags.primaries, tags.transfer


def _mux(container: OutputContainer, packets: list[Packet], place: int) -> int:
    """Write packets, the first of which is decoded at `place`; the place after the last."""
    for after, packet in enumerate(packets, start=place + 1):
        packet.time_base = _TICK
        packet.dts = after - _EARLY  # x265 leaves it undefined for the shortest segments
        container.mux_one(packet)
    return place + len(packets)


def _padded(raw: Raw, target: Target) -> Raw:
    below, right = target.height - raw.shape[0], target.width - raw.shape[1]
    if below or right:
        return cast(Raw, cv2.copyMakeBorder(raw, 0, below, 0, right, cv2.BORDER_REPLICATE))
    return raw


@dataclass(frozen=True, slots=True)
class Stored:
    """A frame of the origin: its samples as they are stored, and as upright RGB."""

    frame: av.VideoFrame
    raw: Raw
    turn: Turn

    def restore(self, frame: av.VideoFrame, raw: Raw) -> None:
        """Make the samples of `frame`, which shows `raw`, the origin's own where its RGB is the origin's."""
        same = equal_pixels(self.raw, raw)
        if same.any():
            keep_samples(frame, [self.turn.upright(plane(self.frame, number)) for number in range(3)], same)


class Original:
    """The decoded frames of a clip's origin, from which the encoder takes its samples where the picture is the source's."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded
        self._numbers = {time: number for number, time in enumerate(decoded.source.index.times)}

    @classmethod
    def of(cls, clip: Clip, target: Target) -> "Original | None":
        """The original, where its stored samples can be the target's: YUV of the same format, matrix, size and orientation."""
        if clip.origin is None or clip.codec.replace("yuvj", "yuv") != target.pixel_format.replace("yuvj", "yuv"):
            return None
        try:
            decoded = clip.origin.decoded or _opened(clip.origin.path)
            first = decoded.source.frame(0)
        except VideoError:
            return None  # gone or changed since it was read; the clip's own pixels are all there is
        plan = known_layout(first.format.name)
        tags = resolved(tags_of(first), plan, first.height)
        same = tags == resolved(target.colour, known_layout(target.pixel_format), target.height)
        turn = decoded.turn
        size = (first.height, first.width) if turn.transposed else (first.width, first.height)
        # Turning whole chroma cells gives chroma cells only where they are square and none is cut by the border.
        turns_well = not turn.turns or (
            plan.cell[0] == plan.cell[1] and not size[0] % plan.cell[0] and not size[1] % plan.cell[1]
        )
        fits = plan.kind == "yuv" and same and size == (target.width, target.height) and turns_well
        return cls(decoded) if fits else None

    def stored(self, time: Fraction) -> Stored | None:
        """The origin's frame at `time`, None where it has none or it cannot be decoded."""
        number = self._numbers.get(time)
        if number is None:
            return None
        try:
            return Stored(self._decoded.source.frame(number), self._decoded.raw(number), self._decoded.turn)
        except VideoError:
            return None  # a damaged origin, of which other frames may decode


def _opened(path: Path) -> Decoded:
    source = FrameSource(path, build_index(path, damaged="trust"))
    turn = Turn.of(source.frame(0))

    def raw(number: int) -> Raw:
        frame = source.frame(number)
        return cast(Raw, turn.upright(to_rgb(frame, tags_of(frame))))

    return Decoded(source, raw, turn)
