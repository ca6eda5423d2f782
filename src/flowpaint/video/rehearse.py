"""A rehearsal of the muxing, before anything is rendered: the real tracks, their first packets, written to nowhere."""

import io
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import av
from av.stream import Stream

from ..errors import InputError
from ..types import Clip
from .border import Packet, Warn, close_quietly, codec_name, ignore
from .copied import Copied, left_out, open_origin
from .encode import sample_segment
from .encoding import Encoding, Sound, Target, supported
from .mux import add_video, instants_of, muxer_options, shift_of, timeline_of


def rehearse(clip: Clip, out: Path, target: Target, encoding: Encoding, *, warn: Warn = ignore) -> frozenset[int]:
    """Return the streams of the clip's origin that the container of `target` refuses and that can be left out of `out`.

    `warn` is told of each of them, and of what else will not go along. Raises `InputError` for sound that the container
    refuses, and where it takes each track but not all of them, with what works instead; `VideoError` where the origin is gone.
    """
    if clip.origin is None:
        return frozenset()
    stage, warnings = _Stage(clip=clip, target=target, encoding=encoding), list[str]()
    refused: dict[int, str] = {}
    if stage.refusal(warn=warnings.append) is not None:
        refused = _leave_out(stage, out)
        warnings = list(refused.values())
        if (reason := stage.refusal(refused, warn=warnings.append)) is not None:
            whole = f"{out.suffix} files cannot hold all tracks of {clip.origin.path} together ({reason})"
            raise InputError(f"{whole}. {_remedy(stage, refused)}")
    for message in warnings:
        warn(message)
    return frozenset(refused)


def _leave_out(stage: "_Stage", out: Path) -> dict[int, str]:
    """For each stream that is refused when it is the only one a warning that it is left out. Raises `InputError` for sound."""
    with open_origin(stage.clip) as origin:
        streams = [] if origin is None else list(origin.streams)
        every = {stream.index for stream in streams}
        reasons = {stream.index: stage.refusal(every - {stream.index}) for stream in streams}
        refused = {
            stream.index: left_out(stream, stage.target.container)
            for stream in streams
            if reasons[stream.index] is not None and stream.type != "audio"
        }
        for stream in streams:
            if stream.type == "audio" and (reason := reasons[stream.index]) is not None:
                raise InputError(f"{_about_sound(stage, stream, out, reason)}. {_remedy(stage, refused)}")
    return refused


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stage:
    """What is rehearsed."""

    clip: Clip
    target: Target
    encoding: Encoding

    def refusal(self, refused: Collection[int] = (), *, warn: Warn = ignore) -> str | None:
        """Why the muxer does not take the origin's streams without those `refused`, in FFmpeg's words; None where it does."""
        try:
            self._mux(refused, warn)
        except av.FFmpegError as error:
            return error.strerror or str(error)
        except ValueError as error:  # PyAV's own, for a codec that the container does not know
            if isinstance(error, InputError):
                raise
            return str(error)
        return None

    def _mux(self, refused: Collection[int], warn: Warn) -> None:
        """Write a file with one frame and the first packets of each track, as `assemble` would."""
        clip, target = self.clip, self.target
        with ExitStack() as stack:
            origin = stack.enter_context(open_origin(clip))
            segment = io.BytesIO(sample_segment(target))
            timeline = timeline_of(instants_of(clip)[:2], origin, [[0]])
            options = muxer_options(target, timeline.time_base, origin, faststart=False)
            file = av.open(io.BytesIO(), "w", format=target.container, options=options)
            stack.callback(close_quietly, file)
            video = add_video(file, segment, target, timeline.time_base)
            copied = Copied(clip, origin, file, encoding=self.encoding, shift=shift_of(clip), refused=refused, warn=warn)
            copied.carry_metadata(video)
            segment.seek(0)
            with av.open(segment, "r") as container:
                packet = cast(Packet, next(one for one in container.demux(video=0) if one.size))
                timeline.stamp(packet, 0, 0)
                packet.stream = video
                file.mux_one(packet)
            copied.write_sample()
            file.close()


def _about_sound(stage: _Stage, stream: Stream, out: Path, reason: str) -> str:
    """What is wrong with a sound track that was refused, as the beginning of a message."""
    sound = f"the sound of {stage.clip.origin.path if stage.clip.origin else 'the clip'} ({codec_name(stream)})"
    if stage.encoding.audio == "copy":
        return f"{out.suffix} files cannot hold {sound}"
    if "aac" not in supported(stage.target.container):
        return f"{out.suffix} files cannot hold aac sound"
    return f"T{sound[1:]} cannot be coded as aac ({reason})"


def _remedy(stage: _Stage, refused: Collection[int]) -> str:
    """What to do about tracks that cannot go along, as a sentence: only what has been tried."""
    encoding, target = stage.encoding, stage.target
    elsewhere = replace(stage, target=replace(target, container="matroska"))
    ways = ["write to .mkv"] if target.container != "matroska" and elsewhere.refusal(refused) is None else []
    others: dict[str, tuple[Sound, ...]] = {"copy": ("aac", "none"), "aac": ("copy", "none"), "none": ("none",)}
    for audio in others[encoding.audio]:
        if replace(stage, encoding=replace(encoding, audio=audio)).refusal(refused) is None:
            ways.append(f"use --audio {audio}")
            break
    sentence = ", or ".join(ways) or "give a copy of the input without these tracks"
    return f"{sentence[0].upper()}{sentence[1:]}."
