"""Decoded frames <-> RGB pictures, by one exact matrix in both directions.

FFmpeg's own scaler works in fixed point, smooths chroma, and so does not return what it was given. Here chroma is
repeated on the way in and averaged over its cell on the way out, and the matrix is applied in float. Rounding a pixel to
8-bit RGB moves luma by at most 0.43 and chroma by 0.44 of a level (limited range: the rows of the RGB-to-YUV matrix have
absolute sums of 219/255 and 224/255), so YUV -> RGB -> YUV is exact wherever the colour exists in RGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias, cast

import av
import cv2
import numpy as np
import numpy.typing as npt

from ..types import Bits, ColourTags, Raw

Array: TypeAlias = npt.NDArray[Any]

# Kr and Kb by H.273 matrix code; 10 (constant luminance) is read as 9, which it differs from only in saturated colours.
_LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
# What players assume of untagged video: HD is BT.709, anything smaller BT.601; limited range unless the format says full.
_HD_LINES = 720
LIMITED, FULL = 1, 2

_PACKED = {
    "rgb24": "RGB",
    "bgr24": "BGR",
    "rgba": "RGBA",
    "bgra": "BGRA",
    "argb": "ARGB",
    "abgr": "ABGR",
    "rgb0": "RGB0",
    "bgr0": "BGR0",
    "0rgb": "0RGB",
    "0bgr": "0BGR",
    "rgb48le": "RGB",
    "bgr48le": "BGR",
    "rgba64le": "RGBA",
    "bgra64le": "BGRA",
}
# Formats that only order the same samples differently: FFmpeg's scaler turns them into these without loss.
_REORDERED = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "nv42": "yuv444p",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyyvyy411": "yuv411p",
    "nv20le": "yuv422p10le",
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p210le": "yuv422p10le",
    "p212le": "yuv422p12le",
    "p216le": "yuv422p16le",
    "p410le": "yuv444p10le",
    "p412le": "yuv444p12le",
    "p416le": "yuv444p16le",
    "y210le": "yuv422p10le",
    "y212le": "yuv422p12le",
    "v30xle": "yuv444p10le",
    "xv30le": "yuv444p10le",
    "xv36le": "yuv444p12le",
    "vuyx": "yuv444p",
    "vuya": "yuva444p",
    "ayuv": "yuva444p",
    "ayuv64le": "yuva444p16le",
    "pal8": "bgra",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the samples of a pixel format lie: `kind`, bits a sample, and how many pixels share a chroma sample."""

    name: str
    kind: str  # "yuv", "gbr" (planes), "packed", "gray"
    bits: int
    cell: tuple[int, int] = (1, 1)  # width, height in pixels of a chroma sample
    full: bool = False  # the yuvj formats say so by name
    alpha: bool = False

    @property
    def is_rgb(self) -> bool:
        """Whether the samples are red, green and blue."""
        return self.kind in ("packed", "gbr")

    @property
    def depth(self) -> Bits:
        """Bits of the RGB pictures that hold it."""
        return 8 if self.bits <= 8 else 16


@lru_cache
def layout(name: str) -> Layout | None:
    """The layout of a pixel format, or None for those that are converted first (see `plain_format`)."""
    facts = av.VideoFormat(name, 64, 64)
    parts = facts.components
    bits = max(part.bits for part in parts)
    alpha = any(part.is_alpha for part in parts)
    odd_one = name.endswith("be") or (bits > 8 and not name.endswith("le")) or "f16" in name or "f32" in name
    if odd_one or facts.has_palette or facts.is_bit_stream or facts.is_bayer or name.endswith("msble"):
        return None
    if name in _PACKED:
        return Layout(name, "packed", bits, alpha=alpha)
    if name.startswith(("gbrp", "gbrap")):
        return Layout(name, "gbr", bits, alpha=alpha)
    if name.startswith("gray"):
        return Layout(name, "gray", bits)
    if name.startswith(("yuv", "yuva", "yuvj")) and facts.is_planar and len({part.plane for part in parts}) == len(parts):
        cell = (64 // parts[1].width, 64 // parts[1].height)
        return Layout(name, "yuv", bits, cell, full=name.startswith("yuvj"), alpha=alpha)
    return None


def plain_format(name: str) -> str:
    """The format, one that `layout` knows, into which FFmpeg turns `name` with the least loss."""
    if layout(name) is not None:
        return name
    little = name.removesuffix("be") + "le"
    if name.endswith("be") and (layout(little) or little in _REORDERED):
        return _REORDERED.get(little, little)
    if name in _REORDERED:
        return _REORDERED[name]
    facts = av.VideoFormat(name, 64, 64)
    deep = max(part.bits for part in facts.components) > 8
    if any(part.is_chroma for part in facts.components) and not facts.is_rgb:
        return "yuv444p16le" if deep else "yuv444p"
    return "gbrp16le" if deep else "gbrp"


def known_layout(name: str) -> Layout:
    """The layout of the plain format of `name`."""
    found = layout(plain_format(name))
    assert found is not None
    return found


def resolved(tags: ColourTags, plan: Layout, height: int) -> ColourTags:
    """The tags with matrix and range made definite."""
    matrix = tags.matrix if tags.matrix in (*_LUMA, 8) else (1 if height >= _HD_LINES else 6)
    full = plan.full or tags.range == FULL or (plan.kind == "gray" and tags.range == 0)  # as FFmpeg takes untagged gray
    return replace(tags, matrix=matrix, range=FULL if full else LIMITED)


def _from_rgb(matrix: int) -> npt.NDArray[np.float64]:
    """R'G'B' in [0, 1] to Y' in [0, 1], Cb, Cr in [-0.5, 0.5]: H.273, equations 38 to 40; YCgCo 8: equations 45 to 47."""
    if matrix == 8:
        return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]])
    red, blue = _LUMA[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * blue), ([1, 0, 0] - luma) / (2 - 2 * red)])


@lru_cache
def encoding_matrix(matrix: int, full: bool, bits: int, top: int) -> npt.NDArray[np.float64]:
    """[3, 4]: RGB over 0..top to the integer levels of `bits`-deep YUV. H.273, equations 20 to 25 (limited), 26 to 31 (full)."""
    levels = _from_rgb(matrix)
    step = 1 << (bits - 8)
    luma, chroma, black = (255 * step + step - 1,) * 2 + (0,) if full else (219 * step, 224 * step, 16 * step)
    scaled = levels * np.array([[luma], [chroma], [chroma]]) / top
    return np.hstack([scaled, [[black], [128 * step], [128 * step]]])


@lru_cache
def decoding_matrix(matrix: int, full: bool, bits: int, top: int) -> npt.NDArray[np.float64]:
    """[3, 4]: the inverse of `encoding_matrix`."""
    forward = encoding_matrix(matrix, full, bits, top)
    back = np.linalg.inv(forward[:, :3])
    return np.hstack([back, -back @ forward[:, 3:]])


def plane(frame: av.VideoFrame, number: int, channels: int = 1) -> Array:
    """Plane `number` as a writable view [h, w] or [h, w, channels] of the frame's own memory."""
    part = frame.planes[number]
    dtype: type[np.uint8 | np.uint16] = np.uint8 if max(one.bits for one in frame.format.components) <= 8 else np.uint16
    width = abs(part.line_size) // np.dtype(dtype).itemsize
    rows: Array = np.frombuffer(memoryview(part), dtype)[: width * part.height].reshape(part.height, width)
    rows = rows[:, : part.width * channels]
    if part.line_size < 0:  # stored bottom up
        rows = rows[::-1]
    return rows if channels == 1 else rows.reshape(part.height, part.width, channels)


def to_rgb(frame: av.VideoFrame, tags: ColourTags) -> Raw:
    """The frame as raw [H, W, 3] RGB: uint8, or uint16 over 0..65535 where it is deeper than 8 bit. Alpha is left out."""
    plan = known_layout(frame.format.name)
    if plan.name != frame.format.name:
        same = "itu601" if frame.colorspace == 2 else None  # never let the scaler change the matrix
        # One thread: with several, swscale 9 (FFmpeg 8.1) now and then leaves chroma rows of p010 unwritten.
        frame = frame.reformat(format=plan.name, src_colorspace=same, dst_colorspace=same, threads=1)
    if plan.kind == "packed":
        order = _PACKED[plan.name]
        return _spread(plane(frame, 0, len(order))[..., [order.index(name) for name in "RGB"]], plan.bits)
    if plan.kind == "gbr":
        return _spread(cv2.merge([plane(frame, number) for number in (2, 0, 1)]), plan.bits)
    definite = resolved(tags, plan, frame.height)
    full = definite.range == FULL
    top = 255 if plan.depth == 8 else 65535
    back = decoding_matrix(definite.matrix, full, plan.bits, top)
    luma = plane(frame, 0)
    if plan.kind == "gray":
        levels = luma.astype(np.float32) * np.float32(back[0, 0]) + np.float32(-back[0, 0] * (0 if full else 16 << plan.bits - 8))
        return _rounded(cv2.merge([levels] * 3), plan.depth)
    height, width = luma.shape
    chroma = [_repeat(plane(frame, number), plan.cell)[:height, :width] for number in (1, 2)]
    return _rounded(cv2.transform(cv2.merge([luma, *chroma]).astype(np.float32), back), plan.depth)


def from_rgb(raw: Raw, name: str, tags: ColourTags) -> av.VideoFrame:
    """The picture raw [H, W, 3] as a frame of pixel format `name`, one that `layout` knows."""
    plan = known_layout(name)
    height, width = raw.shape[:2]
    frame = av.VideoFrame(width, height, name)
    if plan.kind == "packed":
        order = _PACKED[name]
        target = plane(frame, 0, len(order))
        target[...] = 255 if plan.bits == 8 else 65535
        target[..., [order.index(letter) for letter in "RGB"]] = _narrowed(raw, plan.bits)
    elif plan.kind == "gbr":
        for number, channel in zip((2, 0, 1), cv2.split(_narrowed(raw, plan.bits)), strict=True):
            plane(frame, number)[...] = channel
    else:
        _fill_yuv(frame, raw, plan, resolved(tags, plan, height))
    if plan.alpha and plan.kind != "packed":
        plane(frame, 3)[...] = (1 << plan.bits) - 1
    return frame


def _fill_yuv(frame: av.VideoFrame, raw: Raw, plan: Layout, tags: ColourTags) -> None:
    top = 255 if raw.dtype == np.uint8 else 65535
    forward = encoding_matrix(tags.matrix, tags.range == FULL, plan.bits, top)
    levels = cv2.transform(raw.astype(np.float32), forward)
    if plan.cell == (1, 1) or plan.kind == "gray":
        channels = cv2.split(_rounded(levels, plan.depth, limit=plan.bits))
    else:
        luma, *chroma = cv2.split(levels)
        channels = [_rounded(part, plan.depth, limit=plan.bits) for part in (luma, *(_average(c, plan.cell) for c in chroma))]
    for number, channel in enumerate(channels[: 1 if plan.kind == "gray" else 3]):
        plane(frame, number)[...] = channel


def _repeat(samples: Array, cell: tuple[int, int]) -> Array:
    if cell == (1, 1):
        return samples
    height, width = samples.shape
    size = (width * cell[0], height * cell[1])
    return cv2.resize(samples, size, interpolation=cv2.INTER_NEAREST)


def _average(levels: Array, cell: tuple[int, int]) -> Array:
    """Means over cells; cells that the border cuts count only what is inside, by repeating it."""
    height, width = levels.shape
    below, right = -height % cell[1], -width % cell[0]
    if below or right:
        levels = cv2.copyMakeBorder(levels, 0, below, 0, right, cv2.BORDER_REPLICATE)
    size = (levels.shape[1] // cell[0], levels.shape[0] // cell[1])
    return cv2.resize(levels, size, interpolation=cv2.INTER_AREA)


def _rounded(levels: Array, depth: Bits, limit: int | None = None) -> Raw:
    """To the nearest integer, saturated: at the type's range, or at `limit` bits."""
    if limit is not None and limit not in (8, 16):
        levels = np.minimum(levels, np.float32((1 << limit) - 1))
    # Adding nothing rounds, saturates and converts in one pass.
    return cast(Raw, cv2.add(levels, np.zeros(4), dtype=cv2.CV_8U if depth == 8 else cv2.CV_16U))


def _spread(samples: Array, bits: int) -> Raw:
    """Integers of `bits` bits over the full range of their type."""
    if bits in (8, 16):
        return np.ascontiguousarray(samples)
    factor = (255 if bits < 8 else 65535) / ((1 << bits) - 1)
    return _rounded(samples.astype(np.float32) * np.float32(factor), 8 if bits < 8 else 16)


def _narrowed(raw: Raw, bits: int) -> Array:
    """The inverse of `_spread`, and the change of depth where picture and format differ."""
    top = 255 if raw.dtype == np.uint8 else 65535
    if (1 << bits) - 1 == top:
        return raw
    return _rounded(raw.astype(np.float32) * np.float32(((1 << bits) - 1) / top), 8 if bits <= 8 else 16)


def keep_samples(frame: av.VideoFrame, source: Sequence[Array], same: npt.NDArray[np.uint8]) -> None:
    """Put the source's own YUV samples (three planes) into `frame` where `same` [H, W] is not 0: its RGB is the source's there.

    Video holds colours that RGB cannot (noise around black, white and saturated edges), so its samples do not all survive
    the way through RGB. The planes have the frame's format, size and orientation.
    """
    across, down = known_layout(frame.format.name).cell
    below, right = -same.shape[0] % down, -same.shape[1] % across
    whole = cv2.copyMakeBorder(same, 0, below, 0, right, cv2.BORDER_REPLICATE) if below or right else same
    cells = whole[::down, ::across]
    for y in range(down):
        for x in range(across):
            cells = cv2.min(cells, np.ascontiguousarray(whole[y::down, x::across]))
    for number, mask in ((0, same), (1, cells), (2, cells)):
        cv2.copyTo(source[number], mask, plane(frame, number))


def equal_pixels(a: Raw, b: Raw) -> npt.NDArray[np.uint8]:
    """Where all channels of the pictures a and b [H, W, 3] are equal: [H, W], 255 there and 0 elsewhere."""
    return np.asarray(cv2.inRange(cv2.absdiff(a, b), (0, 0, 0), (0, 0, 0)), np.uint8)
