"""The final file: encoded segments and the origin's other streams, laid together with exact time stamps."""

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer, OutputContainer

from ..errors import WorkError
from ..outputs import replacing
from ..types import Clip
from .border import Packet, Warn, address, close_quietly, ignore, writing
from .copied import Copied, kept_tags, open_origin
from .encode import set_tags
from .encoding import Encoding, Target

_LARGEST_CLOCK = (1 << 31) - 1  # ticks a second that MP4 can hold
_TAGS = {"hevc": "hvc1"}  # the tag that Apple's players ask for; without it they show nothing


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each frame is shown and decoded, in ticks, over the whole output."""

    time_base: Fraction
    shown: list[int]  # each frame's first tick; one more at the end
    delay: int  # frames by which decoding runs ahead of showing

    def stamp(self, packet: Packet, place: int, frame: int) -> None:
        """Stamp the packet that is decoded at `place` and shows `frame`.

        Decoding times are the sorted show times, `delay` frames early: they rise, and none comes after its frame is shown.
        """
        packet.time_base = self.time_base
        packet.pts, packet.duration = self.shown[frame], self.shown[frame + 1] - self.shown[frame]
        early = place - self.delay
        packet.dts = self.shown[early] if early >= 0 else self.shown[0] + early * (self.shown[1] - self.shown[0])


def assemble(
    clip: Clip,
    segments: Sequence[Path],
    out: Path,
    target: Target,
    encoding: Encoding,
    *,
    refused: Collection[int] = (),
    overwrite: bool = True,
    warn: Warn = ignore,
) -> None:
    """Write `out` from its segments, with the sound, subtitles, chapters and metadata of the clip's origin.

    `refused` are the streams of the origin that the container does not take (see `rehearse`). The file appears complete or not
    at all. MP4 and MOV keep time stamps exactly; Matroska and WebM count milliseconds. Raises `InputError` where something is
    there by now that may not be replaced, `WorkError` where the file cannot be written, `VideoError` where the origin cannot
    be read any more.
    """
    with writing(out), replacing(out, overwrite=overwrite) as part, ExitStack() as stack:
        origin = stack.enter_context(open_origin(clip))
        orders = [_shown_order(path) for path in segments]
        timeline = timeline_of(instants_of(clip), origin, orders)
        file = av.open(address(part), "w", format=target.container, options=muxer_options(target, timeline.time_base, origin))
        stack.callback(close_quietly, file)
        video = add_video(file, address(segments[0]), target, timeline.time_base)
        copied = Copied(clip, origin, file, encoding=encoding, shift=shift_of(clip), refused=refused, warn=warn)
        copied.carry_metadata(video)
        for packet in _packets(segments, orders, timeline):
            copied.write_until((packet.dts or 0) * timeline.time_base)
            packet.stream = video
            file.mux_one(packet)
        copied.write_until(None)
        file.close()


def shift_of(clip: Clip) -> Fraction:
    """Return what is added to the clip's instants (seconds): a part of a file begins at 0, a whole file where it did."""
    return Fraction(0) if clip.origin is not None and clip.origin.whole else -clip.times[0]


def _shown_order(segment: Path) -> list[int]:
    """For each packet of a segment, in decoding order, the place of its frame in showing order."""
    with writing(segment), av.open(address(segment)) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size]
    rank = {tick: place for place, tick in enumerate(sorted(tick for tick in pts if tick is not None))}
    return [rank[tick] for tick in pts if tick is not None]


def instants_of(clip: Clip) -> list[Fraction]:
    """Return when the clip's frames begin in the output, and when the last one ends, in seconds."""
    shift = shift_of(clip)
    return [time + shift for time in (*clip.times, clip.end)]


def timeline_of(instants: Sequence[Fraction], origin: InputContainer | None, orders: Sequence[Sequence[int]]) -> Timeline:
    """Return when frames are shown that begin at `instants` (seconds), the last of which is the end.

    `orders` has, for each segment, its frames in the order of their packets.
    """
    time_base = _time_base(instants, origin)
    delay = max(place - frame for order in orders for place, frame in enumerate(order))
    return Timeline(time_base, [round(instant / time_base) for instant in instants], delay)


def _time_base(instants: Sequence[Fraction], origin: InputContainer | None) -> Fraction:
    """The origin's, where it counts all instants exactly; else the coarsest that does; else microseconds."""
    if origin is not None:
        for stream in origin.streams.video:
            if stream.time_base is not None and all((instant / stream.time_base).denominator == 1 for instant in instants):
                return stream.time_base
    ticks = lcm(*{instant.denominator for instant in instants})
    return Fraction(1, ticks if ticks <= _LARGEST_CLOCK else 1_000_000)


def muxer_options(
    target: Target, time_base: Fraction, origin: InputContainer | None, *, faststart: bool = True
) -> dict[str, str]:
    """Return the options of the container. `faststart` moves the index to the front, which only a file on disk allows."""
    if target.container not in ("mp4", "mov"):
        return {"avoid_negative_ts": "disabled"}  # else all streams move until the first sample of sound stands at 0
    clock = time_base.denominator if time_base.numerator == 1 and time_base.denominator <= _LARGEST_CLOCK else 1_000_000
    flags = "+faststart" if faststart else ""
    if origin is not None and {name.lower() for name in kept_tags(origin.metadata)} - _PLAIN_TAGS:
        flags += "+use_metadata_tags"  # the way in which MP4 holds tags of any name
    # A late start of a stream is written in ticks of the movie's own clock, milliseconds if not told otherwise.
    movflags = {"movflags": flags} if flags else {}
    return {**movflags, "video_track_timescale": str(clock), "movie_timescale": str(clock)}


# Names that MP4's classic tags hold.
_PLAIN_TAGS = {
    *("creation_time", "title", "artist", "album_artist", "album", "composer", "date", "comment", "genre", "copyright"),
    *("grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc"),
}


def add_video(file: OutputContainer, segment: str | io.BytesIO, target: Target, time_base: Fraction) -> av.VideoStream:
    """Add the track that holds the packets of a segment, which is the address of a file or in memory."""
    with av.open(segment) as container:
        video = file.add_stream_from_template(container.streams.video[0], opaque=True)
        tag = container.streams.video[0].codec_tag
    context = video.codec_context
    if target.container in ("mp4", "mov") and (target.codec == "prores" or target.codec in _TAGS):
        context.codec_tag = _TAGS.get(target.codec, tag)
    context.sample_aspect_ratio = target.aspect
    context.framerate = target.rate
    set_tags(context, target)
    video.time_base = time_base
    return video


def _packets(segments: Sequence[Path], orders: Sequence[Sequence[int]], timeline: Timeline) -> Iterator[Packet]:
    """The packets of all segments, stamped, in decoding order."""
    done, header = 0, None
    for path, order in zip(segments, orders, strict=True):
        with writing(path), av.open(address(path)) as container:
            own = container.streams.video[0].codec_context.extradata
            header = own if header is None else header
            if own != header:  # one header serves the whole file
                raise WorkError(
                    f"The segment {path} was made by another version of the encoder. Start afresh (--fresh), or delete it."
                )
            packets = (packet for packet in container.demux(video=0) if packet.size)
            for place, (packet, frame) in enumerate(zip(packets, order, strict=True)):
                timeline.stamp(cast(Packet, packet), done + place, done + frame)
                yield cast(Packet, packet)
        done += len(order)
