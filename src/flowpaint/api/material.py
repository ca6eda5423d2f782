"""What an uploaded file is, seen once before anything is done with it: facts, single frames, for a page to show."""

from pathlib import Path
from typing import Any

import torch

from .. import video
from ..errors import VideoError
from ..types import Clip, from_raw, to_raw
from ..warp import resize

# How files begin that are looked into at all. FFmpeg would take lists of other files and addresses for videos, too.
_PICTURES = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp"}
_VIDEOS = {b"\x1aE\xdf\xa3": ".mkv", b"FLV\x01": ".flv", b"OggS": ".ogv", b"\x00\x00\x01\xba": ".mpg", b"GIF8": ".gif"}
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}  # QuickTime, MP4
_FORMATS = {"mov", "matroska", "flv", "ogg", "mpeg", "mpegts", "avi", "gif"}  # FFmpeg's names for them
_TRANSPORT = 188  # bytes of a packet of a transport stream
_REFUSED = (
    "is neither a video nor a picture of a kind that is taken. Send MP4, MOV, MKV, WebM, AVI, MPEG, PNG, JPEG, WebP or TIFF."
)


def suffix_of(path: str | Path) -> tuple[str, bool]:
    """The suffix that suits what a file begins with, and whether it is a picture. Raises `VideoError` for other kinds."""
    with Path(path).open("rb") as file:
        head = file.read(3 * _TRANSPORT)
    if not head:
        raise VideoError(f"{path} is empty. Copy or send it again.")
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"AVI "):
        return (".webp", True) if head[8:12] == b"WEBP" else (".avi", False)
    if head[4:8] in _BOXES:
        return (".mov" if head[4:12] == b"ftypqt  " or head[4:8] != b"ftyp" else ".mp4"), False
    if head[:1] == b"G" and head[_TRANSPORT : _TRANSPORT + 1] == b"G":
        return ".ts", False
    for known, is_picture in ((_PICTURES, True), (_VIDEOS, False)):
        for magic, suffix in known.items():
            if head.startswith(magic):
                return (".webm" if suffix == ".mkv" and b"webm" in head[:64] else suffix), is_picture
    raise VideoError(f"{path} {_REFUSED}")


def facts(path: str | Path, *, seconds: float, frames: int, pixels: int, picture_bytes: int) -> dict[str, Any]:
    """What a video or picture is, with its first frame decoded: kind, suffix, size, frames, seconds, rate, sound.

    Raises `VideoError` for a file that is damaged, of another kind, or beyond the limits given.
    """
    path = Path(path)
    suffix, is_picture = suffix_of(path)
    if is_picture:
        taken = path.stat().st_size
        if taken > picture_bytes:
            raise VideoError(f"{path} is a picture of {taken:,} bytes, over the limit of {picture_bytes:,}. Scale it down first.")
        height, width, _ = video.picture_size(path)  # from the header, before anything is decoded
        _check_pixels(path, height, width, pixels)
        video.read_picture(path)
        return _said("picture", suffix, (height, width), frames=1, seconds=0.0, rate=0.0, sound=False)
    found = video.probe(path)
    if not _FORMATS & set(found.container.split(",")):
        raise VideoError(f"{path} {_REFUSED}")
    _check_pixels(path, found.height, found.width, pixels)
    if found.seconds > seconds or found.frames > frames:
        raise VideoError(
            f"{path} has {found.frames} frames in {found.seconds:.0f} s, over the limit of {frames} frames and {seconds:.0f} s. "
            "Cut it into pieces first."
        )
    clip = opened(path)
    clip.raw(0)
    size, rate = (clip.height, clip.width), float(found.rate)
    return _said("video", suffix, size, frames=len(clip), seconds=found.seconds, rate=rate, sound=bool(found.audio))


def _said(
    kind: str, suffix: str, shape: tuple[int, int], *, frames: int, seconds: float, rate: float, sound: bool
) -> dict[str, Any]:
    size = {"height": shape[0], "width": shape[1]}
    return {"kind": kind, "suffix": suffix, **size, "frames": frames, "seconds": seconds, "rate": rate, "has_audio": sound}


def _check_pixels(path: Path, height: int, width: int, pixels: int) -> None:
    if height * width > pixels:
        raise VideoError(f"{path} is {width}x{height} pixels, over the limit of {pixels:,}. Scale it down first.")


def opened(path: Path) -> Clip:
    """The clip in a file to look at: in BT.709, and what can be decoded of it where it is damaged."""
    try:
        return video.read(path, tonemap=True)
    except VideoError:
        return video.read(path, tonemap=True, allow_damaged=True)


def take_frame(path: str | Path, number: int, *, side: int, out: str | Path) -> None:
    """Nothing; frame `number` of a video is then in `out` (.jpg), its long side at most `side`. Raises `VideoError`."""
    clip = opened(Path(path))
    if not 0 <= number < len(clip):
        raise VideoError(f"There is no frame {number}, the video has {len(clip)}. Choose one from 0 to {len(clip) - 1}.")
    ratio = min(1.0, side / max(clip.height, clip.width))
    height, width = (max(1, round(one * ratio)) for one in (clip.height, clip.width))
    with torch.inference_mode():
        picture = from_raw(clip.raw(number))
        small = picture if ratio == 1.0 else resize(picture[None], height, width)[0]
        video.write_picture(out, to_raw(small, 8))
