"""A clip encoded in closed segments: each is a file that is there complete or not at all."""

import io
import os
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer

from ..errors import VideoError
from ..types import Clip, Raw
from .border import Packet, Progress, address, close_quietly, silent, writing
from .encoding import Target
from .index import build_index
from .pixels import from_rgb, keep_samples, known_layout, plane, resolved, to_rgb
from .read import FrameSource, Turn, tags_of

_TICK = Fraction(1, 1000)  # Matroska's; frame n of a segment stands at tick n, only the order counts
_EARLY = 64  # frames: no encoder decodes further ahead
_SMALL = 64  # pixels: the least that every encoder takes


def encode_segments(clip: Clip, folder: Path, target: Target, *, chunk: int = 48, progress: Progress = silent) -> list[Path]:
    """The files, in order, that hold the encoded clip. A segment that is there already is not read from the clip again.

    Raises `WorkError` where the disk is full or the encoder fails; finished segments stay.
    """
    files = []
    original = Original.of(clip, target)
    for start in range(0, len(clip), chunk):
        frames = range(start, min(start + chunk, len(clip)))
        path = folder / f"{target.digest}-{frames.start:07d}-{len(frames):04d}.mkv"
        if not path.exists():
            _encode(clip, frames, path, target, original=original, progress=progress)
        progress("write", frames.stop, len(clip))
        files.append(path)
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


def _encode(clip: Clip, frames: range, path: Path, target: Target, *, original: "Original | None", progress: Progress) -> None:
    part = path.with_suffix(".part")
    with ExitStack() as stack:
        stack.callback(part.unlink, missing_ok=True)
        with writing(path):
            container = av.open(address(part), "w", format="matroska")
            stack.callback(close_quietly, container)
            stream = _add_stream(container, target)
        place = 0
        for number, index in enumerate(frames):
            raw = clip.raw(index)  # outside `writing`: what goes wrong there is no trouble of the disk
            frame = from_rgb(_padded(raw, target), target.pixel_format, target.colour)
            if original is not None:
                original.restore(frame, raw, clip.times[index])
            frame.pts, frame.time_base = number, 1 / target.rate
            set_tags(frame, target)
            with writing(path):
                place = _mux(container, stream.encode(frame), place)
            progress("write", index + 1, len(clip))
        with writing(path):
            _mux(container, stream.encode(None), place)
            container.close()
            with part.open("rb+") as whole:
                os.fsync(whole.fileno())  # what is called finished must outlast a power failure
            part.replace(path)


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


class Original:
    """The decoded frames of a clip's origin, from which the encoder takes its samples where the picture is the source's."""

    def __init__(self, source: FrameSource, turn: Turn) -> None:
        self._source, self._turn = source, turn
        self._numbers = {time: number for number, time in enumerate(source.index.times)}

    @classmethod
    def of(cls, clip: Clip, target: Target) -> "Original | None":
        """The original, where its stored samples can be the target's: YUV of the same format, matrix, size and orientation."""
        if clip.origin is None or clip.codec.replace("yuvj", "yuv") != target.pixel_format.replace("yuvj", "yuv"):
            return None
        try:
            source = FrameSource(clip.origin.path, build_index(clip.origin.path, damaged="trust"))
            first = source.frame(0)
        except VideoError:
            return None  # gone or changed since it was read; the clip's own pixels are all there is
        plan = known_layout(first.format.name)
        tags = resolved(tags_of(first), plan, first.height)
        same = tags == resolved(target.colour, known_layout(target.pixel_format), target.height)
        turn = Turn.of(first)
        size = (first.height, first.width) if turn.transposed else (first.width, first.height)
        # Turning whole chroma cells gives chroma cells only where they are square and none is cut by the border.
        turns_well = not turn.turns or (
            plan.cell[0] == plan.cell[1] and not size[0] % plan.cell[0] and not size[1] % plan.cell[1]
        )
        fits = plan.kind == "yuv" and same and size == (target.width, target.height) and turns_well
        return cls(source, turn) if fits else None

    def restore(self, frame: av.VideoFrame, raw: Raw, time: Fraction) -> None:
        """Make the samples of `frame`, which shows `raw` at `time`, the source's own where its RGB is the source's."""
        number = self._numbers.get(time)
        if number is None:
            return
        try:
            source = self._source.frame(number)
        except VideoError:
            return  # a damaged origin, of which other frames may decode
        same = (self._turn.upright(to_rgb(source, tags_of(source))) == raw).all(axis=2)
        if same.any():
            keep_samples(frame, [self._turn.upright(plane(source, number)) for number in range(3)], same)
