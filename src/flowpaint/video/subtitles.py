"""Text subtitles re-coded for a container that holds another kind."""

from av.container import OutputContainer
from av.subtitles.stream import SubtitleStream

from .border import Packet

_TEXT = {"subrip", "mov_text", "ass", "webvtt", "text"}
_WRITTEN = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}


def can_recode(codec: str, container: str) -> bool:
    """Whether subtitles of this codec can be written into the container as text."""
    return codec in _TEXT and container in _WRITTEN


class SubtitleRecoder:
    """Turns packets of one subtitle track into packets of the container's own kind of text."""

    def __init__(self, stream: SubtitleStream, file: OutputContainer) -> None:
        self.stream = stream
        added = file.add_stream(_WRITTEN[file.format.name])
        assert isinstance(added, SubtitleStream)
        assert stream.time_base is not None
        stream.codec_context.open(strict=False)  # only then is the header known, and the encoder asks for one
        self.added = added
        self.added.codec_context.time_base = stream.time_base
        self.added.time_base = stream.time_base
        self.added.codec_context.subtitle_header = stream.codec_context.subtitle_header

    def __call__(self, packet: Packet | None) -> list[Packet]:
        """The packets to write for one read packet; None ends the track."""
        shown = self.stream.codec_context.decode2(packet) if packet is not None else None
        if packet is None or shown is None or not len(shown):  # MP4 stores the pauses too
            return []
        recoded = self.added.codec_context.encode_subtitle(shown)
        recoded.pts = recoded.dts = packet.pts
        recoded.duration, recoded.time_base, recoded.stream = packet.duration, packet.time_base, self.added
        return [recoded]
