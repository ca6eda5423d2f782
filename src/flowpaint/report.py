"""What a run reports: flicker and sharpness, measured while the frames stream past, the contact sheet, the JSON file."""

import platform
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from threading import Lock, local
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from .parallel import is_helper
from .texture import Samples
from .types import Clip, Raw

Grey = npt.NDArray[np.uint8]

_SHORT_SIDE = 192  # of the pictures that are measured
_LONGEST = 640
_STEADY = 16  # levels of 255: where the warped source misses by more, the flow is wrong or something came into view
_COLUMNS = ("source_flicker", "result_flicker", "source_sharpness", "result_sharpness")
_MOMENTS = 6
_PACKAGES = ("flowpaint", "torch", "av", "numpy", "opencv-python-headless", "onnxruntime")


class Measurements:
    """Numbers of each frame of a source and its result, and the pictures for the contact sheet.

    Frames are shown to it in order with `see`; its memory does not grow with their size. `saved` and `restore` carry what
    was seen of a stretch of frames over an interruption.

    *Flicker* of a row: root mean square of luma minus the luma of the frame before, laid onto it along the optical flow
    of the source (DIS), in levels of 255, where that flow explains the source. *Sharpness*: mean magnitude of the gradient
    of luma (Sobel), in levels of 255 a pixel. Both at a short side of 192 pixels. The flicker of the whole is that of
    `flowpaint.texture`, at full size, of the frames that `samples` picks.
    """

    def __init__(self, source: Clip, *, cuts: Collection[int] = ()) -> None:
        self.moments = sorted({(2 * place + 1) * len(source) // (2 * _MOMENTS) for place in range(_MOMENTS)})
        self._cuts = frozenset(cuts)
        self._rows = np.full((len(_COLUMNS), len(source)), np.nan, np.float32)
        self._tiles: dict[int, tuple[Grey, Grey]] = {}
        self._last: tuple[int, Grey, Grey] | None = None
        ratio = min(1.0, _SHORT_SIDE / min(source.height, source.width), _LONGEST / max(source.height, source.width))
        self._size = max(1, round(source.width * ratio)), max(1, round(source.height * ratio))
        self._tile = _tile_size(source)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.samples = Samples(len(source), cuts)

    def see(self, index: int, source: Raw, result: Raw) -> None:
        """Measure frame `index`, raw [H, W, 3] before and after."""
        grey, edited = self._grey(source), self._grey(result)
        self._rows[2:, index] = _sharpness(grey), _sharpness(edited)
        last = self._last
        if last is not None and last[0] == index - 1 and index not in self._cuts:
            self._rows[:2, index] = self._flicker(last[1:], (grey, edited))
        self._last = index, grey, edited
        if index in self.moments:
            self._tiles[index] = _tile(source, self._tile), _tile(result, self._tile)
        self.samples.see(index, source, result)

    def _grey(self, raw: Raw) -> Grey:
        small = cv2.resize(raw, self._size, interpolation=cv2.INTER_AREA)
        if small.dtype == np.uint16:
            small = cv2.convertScaleAbs(small, alpha=255 / 65535)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)

    def _flicker(self, before: tuple[Grey, Grey], now: tuple[Grey, Grey]) -> tuple[float, float]:
        height, width = now[0].shape
        vectors = np.zeros((height, width, 2), np.float32)
        if min(height, width) >= 16:  # what DIS needs; nothing moves far in fewer pixels
            vectors[:] = self._flow.calc(now[0], before[0], vectors.copy())
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        laid = [cv2.remap(one, x + vectors[..., 0], y + vectors[..., 1], cv2.INTER_LINEAR) for one in before]
        source, result = (a.astype(np.float32) - b for a, b in zip(now, laid, strict=True))
        steady = np.abs(source) < _STEADY
        if not steady.any():
            return float("nan"), float("nan")
        return float(np.sqrt(np.square(source[steady]).mean())), float(np.sqrt(np.square(result[steady]).mean()))

    def saved(self, frames: range) -> dict[str, npt.NDArray[Any]]:
        """What was seen of `frames`, as arrays."""
        kept: dict[str, npt.NDArray[Any]] = {"rows": self._rows[:, frames.start : frames.stop]}
        for index in self._tiles.keys() & set(frames):
            kept[f"source{index}"], kept[f"result{index}"] = self._tiles[index]
        if self._last is not None and self._last[0] == frames[-1]:
            kept["last_source"], kept["last_result"] = self._last[1:]
        return kept | self.samples.saved(frames)

    def restore(self, frames: range, kept: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `saved` gave for `frames`."""
        self._rows[:, frames.start : frames.stop] = kept["rows"]
        for index in set(self.moments) & set(frames):
            if f"source{index}" in kept:
                self._tiles[index] = kept[f"source{index}"], kept[f"result{index}"]
        if "last_source" in kept:
            self._last = frames[-1], kept["last_source"], kept["last_result"]
        self.samples.restore(frames, kept)

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Means over the frames seen: flicker and sharpness of source, result, and result relative to source."""
        sharpness = [float(row[~np.isnan(row)].mean()) if not np.isnan(row).all() else None for row in self._rows[2:]]
        return {"flicker": _compared(*(self.samples.flicker() or (None, None))), "sharpness": _compared(*sharpness)}

    def rows(self) -> dict[int, dict[str, float]]:
        """The numbers of each frame, by its place in the clip."""
        return {
            index: {name: round(float(one), 3) for name, one in zip(_COLUMNS, column, strict=True) if not np.isnan(one)}
            for index, column in enumerate(self._rows.T)
            if not np.isnan(column).all()
        }

    def tiles(self) -> dict[int, tuple[Grey, Grey]]:
        """Small pictures [h, w, 3] of source and result at the moments of the contact sheet."""
        return dict(sorted(self._tiles.items()))


def _sharpness(grey: Grey) -> float:
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *axis, ksize=3, scale=0.125) for axis in ((1, 0), (0, 1)))
    return float(cv2.magnitude(dx, dy).mean())


def _compared(source: float | None, result: float | None) -> dict[str, float | None]:
    relative = result / source if source and result is not None else None
    return {
        name: None if value is None else round(value, 4)
        for name, value in (("source", source), ("result", result), ("relative", relative))
    }


# ---------------------------------------------------------------------------------------------------------------- sheet

_PAGE, _GAP, _LINE = 1600, 10, 24
_TALL = 0.8  # width / height below which three pairs stand in a row instead of two


def _tile_size(clip: Clip) -> tuple[int, int]:
    """Width and height of one picture of the sheet, as it looks on a screen."""
    shape = clip.width * float(clip.aspect) / clip.height
    across = 6 if shape < _TALL else 4
    width = (_PAGE - _GAP * (across + 1)) // across
    return width, max(8, min(2 * width, round(width / shape)))


def _tile(raw: Raw, size: tuple[int, int]) -> Grey:
    shrinks = size[0] <= raw.shape[1] and size[1] <= raw.shape[0]
    small = cv2.resize(raw, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(cv2.convertScaleAbs(small, alpha=255 / 65535) if small.dtype == np.uint16 else small, np.uint8)


def contact_sheet(tiles: Mapping[int, tuple[Grey, Grey]], labels: Mapping[int, str]) -> Raw:
    """Source | result of some moments on one page, 1600 pixels wide: uint8 [H, W, 3]. `labels` says when each one is."""
    height, width = next(iter(tiles.values()))[0].shape[:2]
    pairs = (_PAGE - _GAP) // (2 * (width + _GAP))
    rows = -(-len(tiles) // pairs)
    page = Image.new("RGB", (_PAGE, rows * (height + _LINE + _GAP) + _GAP), (247, 247, 245))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for place, (index, pictures) in enumerate(tiles.items()):
        y = _GAP + place // pairs * (height + _LINE + _GAP)
        for side, (name, picture) in enumerate(zip(("source", "result"), pictures, strict=True)):
            x = _GAP + (2 * (place % pairs) + side) * (width + _GAP)
            page.paste(Image.fromarray(picture), (x, y + _LINE))
            pen.text((x + 1, y + 3), labels[index] if side == 0 else name, fill=(40, 40, 40), font=font)
    return np.array(page)


# --------------------------------------------------------------------------------------------------------------- report


class Timings:
    """Seconds for which each named stage was busy, whichever thread worked on it.

    A stage within a stage is counted in its own row only. Stages in different threads overlap, so the rows may add up to more
    than `total`: the seconds of the thread that waits for the result, from the beginning to the end of its outermost stages.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.total = 0.0
        self._lock = Lock()
        self._thread = local()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside."""
        inside: list[float] = self._thread.__dict__.setdefault("inside", [])
        start = perf_counter()
        inside.append(0.0)
        try:
            yield
        finally:
            spent = perf_counter() - start
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + spent - inside.pop()
                if inside:
                    inside[-1] += spent
                elif not is_helper():
                    self.total += spent

    def all(self) -> tuple[dict[str, float], float]:
        """Return the seconds by stage, and the total."""
        with self._lock:
            return {name: round(spent, 3) for name, spent in self.seconds.items()}, round(self.total, 3)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def peak_memory() -> dict[str, int]:
    """The most memory this process has had, in bytes: resident, and on a GPU where one was used."""
    found = {}
    if sys.platform != "win32":
        import resource  # absent on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        found["resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.max_memory_allocated()
    return found


TRUSTED = 0.6  # mean confidence of a frame below which another key frame is due: 40 % of it has no trusted match


def wanting(rows: Mapping[int, Mapping[str, float]]) -> list[int]:
    """Of each stretch of frames with too little confidence, the worst: those that deserve another key frame."""
    doubtful = [index for index in sorted(rows) if rows[index].get("confidence", 1.0) < TRUSTED]
    stretches: list[list[int]] = []
    for index in doubtful:
        if stretches and index == stretches[-1][-1] + 1:
            stretches[-1].append(index)
        else:
            stretches.append([index])
    return [min(stretch, key=lambda index: rows[index]["confidence"]) for stretch in stretches]
