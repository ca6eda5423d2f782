"""How a video is to be encoded, and everything about it that can be known before work starts."""

import hashlib
import io
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

import av
from av.stream import Stream

from ..errors import ConfigError, InputError, nearest
from ..types import Clip, ColourTags
from .border import Warn, ignore
from .pixels import FULL, LIMITED, known_layout, layout

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "prores": "prores_ks",
    "ffv1": "ffv1",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
}
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
SOUNDS = ("copy", "aac", "none")
Sound: TypeAlias = Literal["copy", "aac", "none"]
_WORST_CRF = {"h264": 51, "hevc": 51, "vp9": 63, "av1": 63}
_THREADS = {
    "threads": "4"
}  # of the encoder: what it writes depends on their number, which must not be that of the machine's cores
_RGB_X264 = {"rgb24", "bgr24", "bgr0"}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The wish: codec, quality, pixel format, what happens to the sound, and the text of the comment tag.

    Raises `ConfigError` for an unknown codec, preset or way with the sound, `InputError` for a `crf` that the codec has not.
    """

    codec: Literal["h264", "hevc", "prores", "ffv1", "vp9", "av1"] = "h264"
    crf: int = 16  # 0 best; prores and ffv1 do not use it
    preset: str = "medium"  # of x264 and x265: slower is smaller
    pixel_format: str | None = None  # None: 4:2:0 at the clip's depth; what the codec needs; the source's own where lossless
    pad_even: bool = False  # odd sizes: repeat the last row and column instead of encoding 4:4:4
    audio: Sound = "copy"
    comment: str = ""

    def __post_init__(self) -> None:
        for name, known in (("codec", tuple(ENCODERS)), ("preset", PRESETS), ("audio", SOUNDS)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"There is no {name} {value!r}. The nearest are {nearest(str(value), known)}.")
        worst = _WORST_CRF.get(self.codec)
        if worst is not None and not 0 <= self.crf <= worst:
            raise InputError(f"The crf {self.crf} is outside 0..{worst}, which {self.codec} takes. Give 0 for the best picture.")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The wish made definite for one clip and container."""

    encoder: str
    codec: str
    container: str
    pixel_format: str
    width: int
    height: int
    rate: Fraction
    colour: ColourTags
    aspect: Fraction
    options: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """Names segments, so that those of another encoding are never taken for this one's. They fit into every container."""
        return hashlib.sha256(repr(replace(self, container="")).encode()).hexdigest()[:8]


def resolve(clip: Clip, out: Path, encoding: Encoding, warn: Warn = ignore) -> Target:
    """The target of an encoding. Raises `ConfigError` or `InputError` for what this codec or container cannot do."""
    container = CONTAINERS.get(out.suffix.lower())
    if container is None:
        raise InputError(
            f"{out} has a suffix that is not written. Use {', '.join(CONTAINERS)}, or none for a folder of PNG pictures."
        )
    if encoding.codec not in supported(container):
        raise InputError(f"{out.suffix} files cannot hold {encoding.codec}. Write to .mkv, or choose another codec.")
    even = (clip.width + clip.width % 2, clip.height + clip.height % 2) if encoding.pad_even else (clip.width, clip.height)
    pixel_format = encoding.pixel_format or _pixel_format(clip, encoding, even, warn)
    encoder = "libx264rgb" if encoding.codec == "h264" and pixel_format in _RGB_X264 else ENCODERS[encoding.codec]
    _check_encoder(encoder, pixel_format, even)
    return Target(
        encoder=encoder,
        codec=encoding.codec,
        container=container,
        pixel_format=pixel_format,
        width=even[0],
        height=even[1],
        rate=clip.rate.limit_denominator(1001),
        colour=_colour(clip, pixel_format),
        aspect=clip.aspect,
        options=tuple(_options(encoding, pixel_format).items()),
    )


def supported(container: str) -> set[str]:
    """Names of the codecs that a container can hold."""
    with av.open(io.BytesIO(), "w", format=container) as probe:
        return set(probe.supported_codecs)


def takes(container: str, stream: Stream) -> bool:
    """Whether a container can hold packets of the stream's codec. (Some codecs have several names; this asks for none.)"""
    with av.open(io.BytesIO(), "w", format=container) as probe:
        try:
            probe.add_stream_from_template(stream, opaque=True)
        except (ValueError, av.FFmpegError):
            return False
    return True


def formats_of(encoder: str) -> list[str]:
    """Pixel formats that an encoder takes. Raises `ConfigError` where this build of PyAV has no such encoder."""
    try:
        found = av.Codec(encoder, "w").video_formats or []
    except ValueError as error:
        raise ConfigError(f"PyAV has no encoder {encoder!r} here. Choose another codec, or install its wheel.") from error
    return [one.name for one in found]


def _pixel_format(clip: Clip, encoding: Encoding, size: tuple[int, int], warn: Warn) -> str:
    formats = formats_of(ENCODERS[encoding.codec])
    deep = clip.bits > 8
    if encoding.codec == "ffv1":
        own = clip.codec.replace("yuvj", "yuv").replace("yuva", "yuv")
        rgb = "gbrp16le" if deep else "bgr0"
        return own if own in formats and (known_layout(own).bits > 8) == deep else rgb
    if encoding.codec == "prores":
        known = known_layout(clip.codec) if clip.codec else None
        return "yuv444p10le" if known and known.kind != "gray" and known.cell == (1, 1) else "yuv422p10le"
    odd = bool(size[0] % 2 or size[1] % 2) and encoding.codec in ("h264", "hevc")
    wanted = ("yuv444p" if odd else "yuv420p") + ("10le" if deep else "")
    if odd:
        warn(
            f"The size {size[0]}x{size[1]} is odd and is encoded as 4:4:4, which some players cannot show. "
            "Use --pad-even (pad_even=True) for one more row or column instead."
        )
    if wanted not in formats and deep:
        warn(f"The encoder for {encoding.codec} takes 8 bit only. The deeper source is reduced; av1, hevc or h264 keep 10 bit.")
        wanted = wanted.removesuffix("10le")
    return wanted


def _colour(clip: Clip, pixel_format: str) -> ColourTags:
    """The clip's tags; where RGB becomes YUV or the reverse, with the matrix and range that this makes definite."""
    was_rgb = not clip.codec or known_layout(clip.codec).is_rgb
    if known_layout(pixel_format).is_rgb:
        return replace(clip.colour, matrix=0, range=clip.colour.range if was_rgb else FULL)
    if was_rgb:
        return replace(clip.colour, matrix=clip.colour.matrix if clip.colour.matrix not in (0, 2) else 1, range=LIMITED)
    return clip.colour


def _check_encoder(encoder: str, pixel_format: str, size: tuple[int, int]) -> None:
    formats = formats_of(encoder)
    if pixel_format not in formats or layout(pixel_format) is None:
        raise ConfigError(f"{encoder} cannot encode {pixel_format!r}. The nearest are {nearest(pixel_format, formats)}.")
    plan = known_layout(pixel_format)
    uneven = size[0] % plan.cell[0] or size[1] % plan.cell[1]
    if uneven and encoder in ("libx264", "libx265", "libsvtav1"):
        raise InputError(f"{encoder} cannot encode {size[0]}x{size[1]} as {pixel_format}. Use --pad-even (pad_even=True).")
    if encoder == "libsvtav1" and min(size) < 64:
        raise InputError(f"{encoder} cannot encode {size[0]}x{size[1]}, it needs 64 pixels a side. Choose another codec.")


def _options(encoding: Encoding, pixel_format: str) -> dict[str, str]:
    quality = str(encoding.crf)
    match encoding.codec:
        case "h264":  # x264's macroblock tree gives other bytes from run to run at some sizes, and a resumed run must not
            return {"crf": quality, "preset": encoding.preset, "x264-params": "mbtree=0", "thread_type": "frame"} | _THREADS
        case "hevc":  # segments are joined, so none may lean on frames of the one before
            params = "log-level=error:open-gop=0:frame-threads=2"
            return {"crf": quality, "preset": encoding.preset, "x265-params": params}
        case "vp9":
            return {"crf": quality, "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "3"} | _THREADS
        case "av1":
            return {"crf": quality, "preset": "8"}
        case "prores":
            return {"profile": "4444" if "444" in pixel_format else "hq"}
        case "ffv1":
            return {"level": "3", "slicecrc": "1"}
