"""The facts about a video file, read without decoding more than its first frame."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer

from ..types import ColourTags
from .border import address, check_file, codec_name, reading
from .index import Index, build_index, video_stream
from .pixels import known_layout
from .read import FrameSource, Turn, tags_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A track of sound or subtitles."""

    index: int
    codec: str
    language: str = ""
    channels: int = 0  # of sound
    sample_rate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a video file holds. Sizes are upright; `bits` is the depth of the stored samples."""

    path: Path
    container: str
    codec: str
    pixel_format: str
    bits: int
    has_alpha: bool
    frames: int
    width: int
    height: int
    seconds: float
    rate: Fraction
    is_vfr: bool
    colour: ColourTags
    rotation: int  # degrees counterclockwise by which the stored frames are turned to be upright
    aspect: Fraction
    audio: tuple[Track, ...]
    subtitles: tuple[Track, ...]
    chapters: tuple[tuple[float, str], ...]  # start in seconds, title
    comment: str


def probe(path: str | Path) -> Facts:
    """The facts about a video file. Raises `VideoError` as `read` does, but accepts HDR and any size."""
    path = Path(path)
    check_file(path)
    index = build_index(path, damaged="trust")
    source = FrameSource(path, index)
    first = source.frame(0)
    turn = Turn.of(first)
    plan = known_layout(first.format.name)
    width, height = (first.height, first.width) if turn.transposed else (first.width, first.height)
    seconds = index.end_time - index.times[0]
    with reading(path), av.open(address(path), metadata_errors="replace") as container:
        return Facts(
            path=path,
            container=container.format.name,
            codec=codec_name(video_stream(container, path)),
            pixel_format=first.format.name,
            bits=plan.bits,
            has_alpha=plan.alpha,
            frames=len(index.pts),
            width=width,
            height=height,
            seconds=float(seconds),
            rate=len(index.pts) / seconds,
            is_vfr=_is_vfr(index),
            colour=tags_of(first),
            rotation=int(first.rotation),
            aspect=1 / source.aspect if turn.transposed else source.aspect,
            audio=_audio(container),
            subtitles=tuple(
                Track(index=one.index, codec=codec_name(one), language=one.language or "") for one in container.streams.subtitles
            ),
            chapters=tuple(
                (float(one["start"] * (one["time_base"] or 1)), one["metadata"].get("title", "")) for one in container.chapters()
            ),
            comment=_comment(container),
        )


def container_of(path: str | Path, allowed: Iterable[str]) -> str:
    """FFmpeg's name for the kind of a file, one of the `allowed`: files of other kinds are not followed to where they lead.

    FFmpeg goes by content, and some kinds are lists of other files and of addresses. Raises `VideoError` for those not allowed.
    """
    path = Path(path)
    check_file(path)
    kinds = {"format_whitelist": ",".join(sorted(allowed)), "protocol_whitelist": "file"}
    with reading(path), av.open(address(path), metadata_errors="replace", options=kinds) as container:
        return container.format.name


def read_comment(path: str | Path) -> str:
    """The comment tag of a video, "" if it has none. Raises `VideoError` for a file that is no video."""
    path = Path(path)
    check_file(path)
    with reading(path), av.open(address(path), metadata_errors="replace") as container:
        return _comment(container)


def _comment(container: InputContainer) -> str:
    return next((text for name, text in container.metadata.items() if name.lower() == "comment"), "")


def _audio(container: InputContainer) -> tuple[Track, ...]:
    return tuple(
        Track(
            index=one.index,
            codec=codec_name(one),
            language=one.language or "",
            channels=one.codec_context.channels,
            sample_rate=one.codec_context.sample_rate,
        )
        for one in container.streams.audio
    )


def _is_vfr(index: Index) -> bool:
    """Whether gaps differ by more than rounding to the file's clock explains."""
    gaps = [late - early for early, late in pairwise(index.pts)]
    return bool(gaps) and max(gaps) - min(gaps) > 1
