"""Sound coded anew, for containers that cannot hold the source's."""

from fractions import Fraction

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
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None  # of the frames that it takes
        self._last: int | None = None  # when the last packet that was written begins
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
            frames: list[av.AudioFrame | None] = [*self.stream.decode(packet)]
        except av.FFmpegError:
            self._warn(f"Sound track {self.stream.index} has damaged packets. They are left out.")
            frames = []
        if packet is None:
            frames.append(None)
        packets = [coded for frame in frames for even in self._resampled(frame) for coded in self.added.encode(even)]
        return self._in_order(packets if packet is not None else [*packets, *self.added.encode(None)])

    def _in_order(self, packets: list[Packet]) -> list[Packet]:
        """Packets without those that begin before the one before them: after damage two may claim one time."""
        kept = []
        for packet in packets:
            if packet.dts is None or self._last is None or packet.dts > self._last:
                kept.append(packet)
                self._last = packet.dts
        return kept

    def _resampled(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        """A decoded frame as the encoder takes it; None for what is left. Broadcasts change layout and rate on their way."""
        kind = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        left: list[av.AudioFrame] = []
        if kind != self._kind:
            left = self._resampler.resample(None) if self._resampler is not None else []
            context = self.added.codec_context
            self._kind = kind
            self._resampler = None if frame is None else av.AudioResampler(context.format, context.layout, context.sample_rate)
        if frame is not None and self._resampler is not None:
            left += self._resampler.resample(frame)
        for one in left:  # on one clock: resamplers differ in whether they keep the file's
            if one.pts is not None and one.time_base is not None:
                one.pts, one.time_base = round(one.pts * one.time_base * one.sample_rate), Fraction(1, one.sample_rate)
        return left


def _layout(stream: av.AudioStream) -> str:
    """The track's own layout; the usual one of so many channels where it says no more than how many there are."""
    unsaid = f"{stream.layout.nb_channels} channels"
    return f"{stream.layout.nb_channels}c" if stream.layout.name == unsaid else stream.layout.name
