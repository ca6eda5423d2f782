"""What a result takes from its origin: sound, subtitles, chapters, metadata."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from ..errors import FULL, WorkError
from ..types import Clip
from .border import Packet, Warn, address, clock_zero, codec_name, ignore, reading
from .encoding import Encoding, takes
from .index import video_stream
from .sound import AacRecoder
from .subtitles import SubtitleRecoder, can_recode

if TYPE_CHECKING:  # it lives in PyAV's stubs alone
    from av.container.core import Chapter

# Facts about the old file, which the new one states for itself.
_OWN_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "vendor_id"}
_OWN_PREFIXES = ("_statistics", "number_of_", "bps")
_BEFORE = 10  # seconds by which a packet may lie behind the picture in the file
_SAMPLE = 3  # packets of a track
_SAMPLE_LENGTH = 64  # pictures of the origin: tracks of which nothing lies between them are not waited for

Convert: TypeAlias = Callable[[Packet | None], list[Packet]]  # a packet, shifted, or None at the end


def open_origin(clip: Clip) -> AbstractContextManager[InputContainer | None]:
    """The file a clip was read from, open; None for clips of arrays and folders. Raises `VideoError` where it is gone."""
    if clip.origin is None:
        return nullcontext(None)
    with reading(clip.origin.path, "The sound is copied from it: put it back where it was"):
        return av.open(address(clip.origin.path), metadata_errors="replace")


class Copied:
    """The streams of the origin that go into the result, read packet by packet as the frames are written.

    A clip that shows the whole file takes every packet; another takes those that sound while it is on screen, with its
    first frame at 0. The streams `refused` are left out without a word, `warn` is told of all others that are.
    """

    def __init__(
        self,
        clip: Clip,
        origin: InputContainer | None,
        file: OutputContainer,
        *,
        encoding: Encoding,
        shift: Fraction,
        refused: Collection[int] = (),
        warn: Warn = ignore,
    ) -> None:
        self._clip, self._origin, self._file, self._shift, self._warn = clip, origin, file, shift, warn
        self._comment, self._audio = encoding.comment, encoding.audio
        self._tracks: dict[int, Convert] = {}
        self._zero = Fraction(0)
        if origin is not None:
            self._zero = clock_zero(origin)
            picture = video_stream(origin, Path(origin.name))
            for stream in origin.streams:
                if stream.index in refused or stream is picture:
                    _skip(stream)
                else:
                    self._add(stream, encoding)
        self._packets = self._read()
        self._waiting: Packet | None = None

    def _add(self, stream: Stream, encoding: Encoding) -> None:
        convert = None
        if stream.type == "audio":
            convert = self._sound(stream, encoding)
        elif stream.type == "subtitle":
            convert = self._subtitles(stream)
        elif stream.type == "attachment" and self._file.format.name == "matroska":
            self._file.add_stream_from_template(stream)  # fonts of subtitles; they have no packets
            return
        elif stream.disposition & Disposition.attached_pic and takes(self._file.format.name, stream):
            convert = self._copy(stream)  # the cover
        elif not (stream.type == "data" and "timecode" in stream.metadata):  # MP4 and MOV make that track of the tag themselves
            self._warn(left_out(stream, self._file.format.name))
        if convert is None:
            _skip(stream)
        else:
            self._tracks[stream.index] = convert

    def _sound(self, stream: Stream, encoding: Encoding) -> Convert | None:
        assert isinstance(stream, av.AudioStream)
        if encoding.audio == "none":
            return None
        if codec_name(stream) == "unknown":
            self._warn(f"Sound track {stream.index} has a codec that is unknown here. It is left out.")
            return None
        if encoding.audio == "copy":
            return self._copy(stream)
        recoder = AacRecoder(stream, self._file, self._warn)
        _carry_tags(stream, recoder.added)
        return recoder

    def _subtitles(self, stream: Stream) -> Convert | None:
        if takes(self._file.format.name, stream):
            return self._copy(stream)
        if not can_recode(codec_name(stream), self._file.format.name):
            self._warn(left_out(stream, self._file.format.name))
            return None
        assert isinstance(stream, SubtitleStream)
        recoder = SubtitleRecoder(stream, self._file)
        _carry_tags(stream, recoder.added)
        return recoder

    def _copy(self, stream: Stream) -> Convert:
        added = self._file.add_stream_from_template(stream, opaque=True)
        _carry_tags(stream, added)
        before: int | None = None

        def convert(packet: Packet | None) -> list[Packet]:
            nonlocal before
            if packet is None:
                return []
            if stream.type == "audio" and not packet.duration and packet.dts is not None and before is not None:
                packet.duration = packet.dts - before  # MP4 hides a last packet that lasts no time
            packet.stream, before = added, packet.dts
            return [packet]

        return convert

    def carry_metadata(self, video: av.VideoStream) -> None:
        """Set tags of the file and of its picture, and the chapters."""
        if self._origin is not None:
            self._file.metadata.update(kept_tags(self._origin.metadata))
            source = self._origin.streams.best("video")
            if source is not None:
                _carry_tags(source, video)
            self._file.set_chapters(self._chapters(self._origin))
        if self._comment:
            for name in [name for name in self._file.metadata if name.lower() == "comment"]:
                del self._file.metadata[name]
            self._file.metadata["comment"] = self._comment

    def _chapters(self, origin: InputContainer) -> "list[Chapter]":
        chapters: list[Chapter] = []
        for chapter in origin.chapters():
            base = chapter["time_base"]
            assert base is not None
            start, end = chapter["start"] * base - self._zero, chapter["end"] * base - self._zero
            if self._is_whole or (end > self._clip.times[0] and start < self._clip.end):
                first, last = (start, end) if self._is_whole else (max(start, self._clip.times[0]), min(end, self._clip.end))
                ticks = [round((instant + self._shift) / base) for instant in (first, last)]
                chapters.append(cast("Chapter", {**chapter, "start": ticks[0], "end": ticks[1]}))
        return chapters

    @property
    def _is_whole(self) -> bool:
        return self._clip.origin is not None and self._clip.origin.whole

    def write_until(self, instant: Fraction | None) -> None:
        """Write the packets due before `instant` (seconds in the output); None: all that are left, and end the tracks.

        Raises `WorkError` for a packet that the muxer refuses, and the disk's errors as they are.
        """
        while self._waiting is not None or self._advance():
            packet = self._waiting
            assert packet is not None
            due = packet.dts if packet.dts is not None else packet.pts
            if instant is not None and due is not None and due * packet.time_base > instant:
                return
            self._waiting = None
            self._write(self._tracks[packet.stream.index](packet), packet.stream)
        if instant is None and self._origin is not None:
            for index, convert in self._tracks.items():
                self._write(convert(None), self._origin.streams[index])

    def write_sample(self) -> None:
        """Write the first packets of each track, as far as they lie near the clip's beginning. Raises what the muxer raises."""
        for packet in self._read(sample=True):
            self._file.mux(self._tracks[packet.stream.index](packet))

    def _write(self, packets: list[Packet], stream: Stream) -> None:
        try:
            self._file.mux(packets)
        except av.FFmpegError as error:
            if error.errno in FULL:
                raise
            remedy = f"Use --audio {'aac' if self._audio == 'copy' else 'copy'}, or --audio none"
            remedy = remedy if stream.type == "audio" else "Write to another kind of file"
            raise WorkError(
                f"Track {stream.index} ({codec_name(stream)}) cannot be written ({error.strerror}). "
                f"{remedy}; what is finished of the video is kept."
            ) from error

    def _advance(self) -> bool:
        self._waiting = next(self._packets, None)
        return self._waiting is not None

    def _read(self, *, sample: bool = False) -> Iterator[Packet]:
        """The packets that belong to the clip, with their output time stamps; of a sample the first of each track."""
        if self._origin is None or not self._tracks:
            return
        try:
            self._skip_to_start(self._origin, at_once=sample)
            for packet in self._sample(self._origin) if sample else self._demuxed(self._origin):
                if packet.stream.disposition & Disposition.attached_pic:
                    packet.pts = packet.dts = 0  # a cover has no time
                    yield packet
                    continue
                tick = packet.pts if packet.pts is not None else packet.dts or 0
                start = tick * packet.time_base - self._zero
                if not self._is_whole and start > self._clip.end + _BEFORE:
                    return
                if self._is_whole or self._sounds(start, packet):
                    moved = round((self._shift - self._zero) / packet.time_base)
                    packet.pts, packet.dts = tick + moved, (tick if packet.dts is None else packet.dts) + moved
                    yield packet
        except av.FFmpegError as error:
            self._warn(f"The sound of {self._origin.name} ends early ({error.strerror}). What could be read of it is kept.")

    def _demuxed(self, origin: InputContainer) -> Iterator[Packet]:
        """The packets of all tracks that go along."""
        for packet in origin.demux([origin.streams[index] for index in self._tracks]):
            if packet.size:  # else it is the end of a track
                yield packet

    def _sample(self, origin: InputContainer) -> Iterator[Packet]:
        """The first packets of each track, no further than so many pictures: a track may begin late, or hold nothing."""
        picture = video_stream(origin, Path(origin.name))
        picture.discard = Discard.default
        taken: Counter[int] = Counter()
        for packet in origin.demux([picture, *(origin.streams[index] for index in self._tracks)]):
            index = packet.stream.index
            taken[index] += 1
            if taken[picture.index] > _SAMPLE_LENGTH or all(taken[one] > _SAMPLE for one in self._tracks):
                return
            if packet.size and index != picture.index and taken[index] <= _SAMPLE:
                yield packet

    def _skip_to_start(self, origin: InputContainer, *, at_once: bool) -> None:
        early = self._clip.times[0] + self._zero - 1
        if self._is_whole or early <= 0:
            return
        if at_once or not origin.streams.subtitles:  # a subtitle may have begun long before
            origin.seek(int(early * av.time_base))

    def _sounds(self, start: Fraction, packet: Packet) -> bool:
        length = (packet.duration or 0) * packet.time_base
        return start < self._clip.end and start + length > self._clip.times[0]


def left_out(stream: Stream, container: str) -> str:
    """Return the warning that a stream of the origin does not go into a file of the kind `container`."""
    name, index = codec_name(stream), stream.index
    if stream.disposition & Disposition.attached_pic:
        what = f"the cover, track {index} ({name})"
    elif stream.type == "subtitle":
        what = f"subtitle track {index} ({name})"
    elif stream.type == "attachment":
        what = f"the attached file {stream.metadata.get('filename', index)}"
    else:
        kind = {"data": "Data", "video": "Video", "audio": "Sound"}.get(stream.type, "Unknown")
        return f"{kind} track {index} ({name}) is left out: one picture, sound, subtitles, fonts and covers go along."
    is_kept = container != "matroska" and (stream.type == "attachment" or takes("matroska", stream))
    return f"The output cannot hold {what}. It is left out{'; .mkv would keep it' if is_kept else ''}."


def _skip(stream: Stream) -> None:
    if stream.type != "attachment":
        stream.discard = Discard.all


def _carry_tags(source: Stream, target: Stream) -> None:
    target.metadata.update(kept_tags(source.metadata))
    target.disposition = source.disposition


def kept_tags(tags: dict[str, str]) -> dict[str, str]:
    """Those tags that say something about the content, not about the old file."""
    return {
        name: text for name, text in tags.items() if name.lower() not in _OWN_TAGS and not name.lower().startswith(_OWN_PREFIXES)
    }
