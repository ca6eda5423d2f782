"""Where every frame of a file lies: found by reading its packets, without decoding them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Literal

import av
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream

from ..errors import VideoError
from .border import Warn, address, clock_zero, ignore, reading

# Codecs whose packets are not frames one to one (hidden frames, several fields or frames in a packet).
_PACKETS_ARE_NOT_FRAMES = {"vp8", "mpeg4", "msmpeg4v3", "cavs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The frames of a video stream in the order they are shown, in ticks of `time_base`."""

    stream: int
    time_base: Fraction
    zero: Fraction  # seconds that count as 0, see `clock_zero`
    pts: tuple[int, ...]
    keys: tuple[int, ...]  # time stamps at which decoding can start
    end: int
    counted: bool = False  # time stamps do not lead to the frames: they are found by counting from the start

    @property
    def times(self) -> list[Fraction]:
        """Seconds at which each frame appears."""
        return [tick * self.time_base - self.zero for tick in self.pts]

    @property
    def end_time(self) -> Fraction:
        """Seconds at which the last frame goes."""
        return self.end * self.time_base - self.zero


@dataclass(slots=True)
class _Scan:
    """What one pass over the packets saw."""

    pts: list[int | None]
    keys: list[int]
    durations: dict[int, int]
    rate: Fraction
    damage: str = ""
    counted: bool = False

    @property
    def is_ambiguous(self) -> bool:
        """Whether some frames have no time stamp of their own."""
        return None in self.pts or len(set(self.pts)) < len(self.pts)


def only(container: InputContainer, kept: Sequence[Stream]) -> None:
    """Let the demuxer skip every stream but those."""
    for stream in container.streams:
        if stream not in kept:
            stream.discard = Discard.all


def video_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """The stream to work on. Raises `VideoError` where there is none (cover art is none)."""
    moving = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not moving:
        kinds = ", ".join(sorted({one.type for one in container.streams})) or "no streams"
        raise VideoError(f"{path} holds no video ({kinds}). Give a file with a picture.")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    assert isinstance(stream, av.VideoStream)
    if stream.codec_context is None:
        raise VideoError(f"{path} is coded in a way that this build of FFmpeg cannot decode. Convert it first.")
    return stream


def build_index(path: Path, *, damaged: Literal["refuse", "decode", "trust"] = "refuse", warn: Warn = ignore) -> Index:
    """The index of the video in `path`.

    `damaged` says what becomes of a file with frames missing: it is refused; or decoded once, to index exactly the frames
    that come out, with a warning; or its packets are trusted as they are. Raises `VideoError` for a file without frames.
    """
    with reading(path), av.open(address(path), metadata_errors="replace") as container:
        stream = video_stream(container, path)
        only(container, [stream])
        scan = _scan_packets(container, stream)
        number, clock = stream.index, (stream.time_base or Fraction(1, 1000), clock_zero(container))
        is_plain = stream.codec.name not in _PACKETS_ARE_NOT_FRAMES
    if scan.damage and damaged == "refuse":
        raise VideoError(
            f"{path} is damaged: {scan.damage}. "
            "Copy it again, or use what can be decoded with --allow-damaged (allow_damaged=True)."
        )
    if not scan.pts:
        raise VideoError(f"{path} holds no frames. Copy or download it again.")
    if not is_plain or scan.is_ambiguous or damaged == "decode":
        decoded = _scan_frames(path, scan)
        if is_plain and damaged == "decode" and (scan.damage or len(decoded.pts) < len(scan.pts)):
            warn(f"{path.name} is damaged ({scan.damage or 'not all of it decodes'}). {len(decoded.pts)} frames of it are used.")
            decoded.counted = True
        scan = decoded
    return _indexed(path, scan, number, clock, warn)


def _indexed(path: Path, scan: _Scan, stream: int, clock: tuple[Fraction, Fraction], warn: Warn) -> Index:
    time_base, zero = clock
    counted = scan.counted or scan.is_ambiguous
    if counted:
        pts, time_base = _counted(path, scan, time_base, warn)
    else:
        pts = sorted(tick for tick in scan.pts if tick is not None)
    last = scan.durations.get(pts[-1], 0) if time_base == clock[0] else 1
    return Index(
        stream=stream,
        time_base=time_base,
        zero=zero if time_base == clock[0] else Fraction(0),
        pts=tuple(pts),
        keys=tuple(sorted(scan.keys)),
        end=pts[-1] + (last or _usual_gap(pts, scan.durations)),
        counted=counted,
    )


def _scan_packets(container: InputContainer, stream: av.VideoStream) -> _Scan:
    scan = _Scan([], [], {}, stream.average_rate or Fraction(25))
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:  # the flush packet; frames that an edit list hides
                continue
            scan.pts.append(packet.pts)
            if packet.pts is not None:
                scan.durations[packet.pts] = packet.duration or 0
                if packet.is_keyframe:
                    scan.keys.append(packet.pts)
            if packet.is_corrupt:
                scan.damage = f"a packet at {len(scan.pts) - 1} is cut short"
    except av.FFmpegError as error:
        scan.damage = f"reading stops after {len(scan.pts)} frames ({error.strerror})"
    scan.damage = scan.damage or _missing(container, stream, scan)
    return scan


def _missing(container: InputContainer, stream: av.VideoStream, scan: _Scan) -> str:
    """What the container promises and does not hold: packets beyond the end of the file, or seconds."""
    if "mov" in container.format.name.split(","):  # only there the index lists every packet at opening
        promised = sum(1 for entry in stream.index_entries if not entry.is_discard)
        return f"it holds {len(scan.pts)} of {promised} frames" if len(scan.pts) < promised else ""
    pts = [tick for tick in scan.pts if tick is not None]
    if container.duration is None or not pts or stream.time_base is None or len(container.streams) > 1:
        return ""  # with sound, the container may rightly be longer than its picture
    shown = max(pts) * stream.time_base - Fraction(container.start_time or 0, av.time_base)
    promised_end = Fraction(container.duration, av.time_base)
    return f"it ends at {float(shown):.2f} of {float(promised_end):.2f} s" if promised_end - shown > 1 + shown / 10 else ""


def _scan_frames(path: Path, packets: _Scan) -> _Scan:
    """The scan repeated on decoded frames, for files whose packets do not tell."""
    with reading(path), av.open(address(path), metadata_errors="replace") as container:
        stream = video_stream(container, path)
        only(container, [stream])
        pts = [frame.pts for frame in sound_frames(container, stream)]
    if not pts:
        raise VideoError(f"{path} holds no frame that can be decoded. Copy or download it again.")
    return _Scan(pts, packets.keys, packets.durations, packets.rate)


def sound_frames(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """The frames that decode, in order, from where the container stands; what does not decode is passed over."""
    stream.thread_type = "AUTO"
    try:
        for packet in container.demux(stream):
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                continue
            yield from (frame for frame in frames if not frame.is_corrupt)
    except av.FFmpegError:
        return


def _counted(path: Path, scan: _Scan, time_base: Fraction, warn: Warn) -> tuple[list[int], Fraction]:
    """Ticks that rise, for frames that have no time stamps or share some, and their time base."""
    given = [tick for tick in scan.pts if tick is not None]
    if len(given) < len(scan.pts):
        warn(f"{path.name} has frames without time stamps. They are shown at {float(scan.rate):.3f} frames a second.")
        return list(range(len(scan.pts))), 1 / scan.rate
    rising = list(accumulate(given, lambda before, tick: max(before + 1, tick)))
    if rising != given:
        warn(f"{path.name} has frames that share a time stamp. The later ones are shown {float(time_base):.6f} s later.")
    return rising, time_base


def _usual_gap(pts: list[int], durations: dict[int, int]) -> int:
    """A duration for a last frame that has none: the average."""
    if len(pts) > 1:
        return max(1, round(Fraction(pts[-1] - pts[0], len(pts) - 1)))
    return max(1, *durations.values(), 1)
