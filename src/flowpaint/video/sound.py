"""Sound coded anew, for containers that cannot hold the source's."""

import av
from av.container import OutputContainer

from .border import Packet, Warn


class AacRecoder:
    """Turns packets of one audio track into AAC packets, at the track's own layout and, where AAC has it, sample rate."""

    def __init__(self, stream: av.AudioStream, file: OutputContainer, warn: Warn) -> None:
        self.stream, self._warn = stream, warn
        added = file.add_stream("aac", rate=self._rate())
        assert isinstance(added, av.AudioStream)
        self.added = added
        self.added.codec_context.layout = _layout(stream)
        self.added.bit_rate = 96_000 * max(1, stream.layout.nb_channels)

    def _rate(self) -> int:
        """The track's own rate in Hz, or the next lower one that AAC has."""
        own, rates = self.stream.rate, av.Codec("aac", "w").audio_rates or []
        if own in rates or not rates:
            return own
        rate = max((one for one in rates if one < own), default=min(rates))
        self._warn(f"AAC has no sound of {own} Hz. Track {self.stream.index} is resampled to {rate} Hz.")
        return rate

    def __call__(self, packet: Packet | None) -> list[Packet]:
        """Return the packets to write for one read packet; None ends the track. A damaged packet is left out."""
        try:
            frames = self.stream.decode(packet)
        except av.error.InvalidDataError:
            self._warn(f"Sound track {self.stream.index} has damaged packets. They are left out.")
            frames = []
        packets = [coded for frame in frames for coded in self.added.encode(frame)]
        return packets if packet is not None else [*packets, *self.added.encode(None)]


def _layout(stream: av.AudioStream) -> str:
    """The track's own layout; the usual one of so many channels where it says no more than how many there are."""
    unsaid = f"{stream.layout.nb_channels} channels"
    return f"{stream.layout.nb_channels}c" if stream.layout.name == unsaid else stream.layout.name
