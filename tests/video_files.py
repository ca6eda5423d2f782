"""Small video files with known content, made with PyAV alone, so that they do not depend on what is tested."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

PLAIN = {"crf": "0", "preset": "ultrafast"}


def smooth(height: int, width: int, shift: int = 0, seed: int = 0) -> np.ndarray:
    """A picture [H, W, 3] uint8 of slow waves in unsaturated colours: inside the gamut of every YUV format."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 3 * shift) * rng.uniform(0.05, 0.2) + y * rng.uniform(0.05, 0.2) + phase) for phase in (0, 2, 4)]
    return (128 + 50 * np.stack(waves, axis=2)).round().astype(np.uint8)


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The samples of a planar frame, as they are stored."""
    dtype = np.uint8 if frame.format.components[0].bits <= 8 else np.uint16
    found = []
    for part in frame.planes:
        rows = np.frombuffer(part, dtype).reshape(part.height, part.line_size // np.dtype(dtype).itemsize)
        found.append(rows[:, : part.width].copy())
    return found


def make(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    ticks: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    rotate: float = 0,
    flip: bool = False,
    sound: Sequence[str] = (),
    aspect: Fraction = Fraction(1),
    tags: tuple[int, int, int, int] = (2, 2, 2, 0),
    metadata: dict[str, str] | None = None,
    chapters: bool = False,
    container: str | None = None,
) -> Path:
    """A video of RGB `pictures`, with a sine on a track for each language in `sound`."""
    ticks = ticks or [512 * index for index in range(len(pictures))]
    height, width = pictures[0].shape[:2]
    with av.open(
        f"file:{path}",
        "w",
        format=container,
        options={"movflags": "+faststart", "movie_timescale": "12800"} if path.suffix == ".mp4" else {},
    ) as file:
        file.metadata.update(metadata or {})
        stream = file.add_stream(codec, rate=25, options=PLAIN if options is None else options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        if rotate or flip:
            stream.set_display_rotation(rotate, hflip=flip)
        tracks = [_add_track(file, language) for language in sound]
        if chapters:
            half = ticks[len(ticks) // 2]
            rows = [(0, half, "one"), (half, ticks[-1] + 512, "two")]
            file.set_chapters(
                [
                    {"id": n, "start": a, "end": b, "time_base": time_base, "metadata": {"title": title}}
                    for n, (a, b, title) in enumerate(rows)
                ]
            )
        for number, track in enumerate(tracks):
            _sing(file, track, float((ticks[-1] + 512) * time_base), 220 * (number + 1))
        for tick, picture in zip(ticks, pictures, strict=True):
            deep = picture.dtype == np.uint16
            frame = av.VideoFrame.from_ndarray(picture, "rgb48le" if deep else "rgb24")
            if pixel_format not in ("rgb24", "rgb48le"):
                frame = frame.reformat(format=pixel_format, dst_colorspace="itu709" if tags[0] == 1 else None)
            frame.pts, frame.time_base = tick, time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def _add_track(file: av.container.OutputContainer, language: str) -> av.AudioStream:
    stream = file.add_stream("aac", rate=48000)
    stream.codec_context.layout = "mono"
    stream.metadata["language"] = language
    return stream


def _sing(file: av.container.OutputContainer, stream: av.AudioStream, seconds: float, hertz: float) -> None:
    count = round(seconds * 48000)
    wave = np.sin(np.arange(count) * 2 * np.pi * hertz / 48000).astype(np.float32)
    for start in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def packets(path: Path, kind: str = "audio") -> list[list[tuple[Fraction, bytes]]]:
    """(time, bytes) of every packet, for each stream of a kind."""
    with av.open(f"file:{path}") as file:
        tracks: dict[int, list[tuple[Fraction, bytes]]] = {stream.index: [] for stream in file.streams if stream.type == kind}
        for packet in file.demux():
            if packet.size and packet.stream.index in tracks:
                tracks[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
    return list(tracks.values())


def frames(path: Path) -> list[av.VideoFrame]:
    """All frames, decoded in order, as stored."""
    with av.open(f"file:{path}") as file:
        return list(file.decode(video=0))
