"""Sound coded anew, for containers that cannot hold the source's."""

import av
from av.container import OutputContainer

from .border import Packet


class AacRecoder:
    """Turns packets of one audio track into AAC packets, at the track's own sample rate and layout."""

    def __init__(self, stream: av.AudioStream, file: OutputContainer) -> None:
        self.stream = stream
        added = file.add_stream("aac", rate=stream.rate)
        assert isinstance(added, av.AudioStream)
        self.added = added
        self.added.codec_context.layout = stream.layout.name
        self.added.bit_rate = 96_000 * max(1, stream.layout.nb_channels)

    def __call__(self, packet: Packet | None) -> list[Packet]:
        """The packets to write for one read packet; None ends the track."""
        frames = self.stream.decode(packet)
        packets = [coded for frame in frames for coded in self.added.encode(frame)]
        return packets if packet is not None else [*packets, *self.added.encode(None)]
