"""Colour grades on raw pictures: the functions of `grades`, by tables and a few passes over strips of rows.

`grades.graded` defines a grade. Here every curve of one variable is a table over 65536 codes, and a strip of rows passes through
all steps before the next one is read, so that it stays in the processor's cache. A code rounds by at most 1/131070 of linear
light, so results differ from the definition by at most one level of 8 bits, and of 10 bits for deep pictures.
"""

import math
from functools import lru_cache
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...colour import from_linear, to_linear
from ...types import Raw
from .brushes import Picture, Plane, blur, unit
from .grades import DARKEST, SPILL, Grade, in_light, kept_light, s_curve, tinted, toned

Codes: TypeAlias = npt.NDArray[np.int32]  # [h, W]: values times 65535

_TOP = 65535
_STRIP = 1 << 15  # pixels worked on at once
_LUMA = (0.2126, 0.7152, 0.0722)
_COARSE = 4  # the glow is blurred at a quarter of the size ...
_SMOOTH = 16.0  # ... where its deviation has at least as many pixels: the result moves by less than one level


@lru_cache(maxsize=2)
def raw_grade(grade: Grade, deep: bool, height: int, width: int) -> "RawGrade":
    """Return the grade ready for pictures of this size, uint16 where they are `deep`, uint8 otherwise."""
    return RawGrade(grade, deep=deep, height=height, width=width)


class RawGrade:
    """One grade with its tables, for pictures of one type and size. Several threads may use it at once."""

    def __init__(self, grade: Grade, *, deep: bool, height: int, width: int) -> None:
        self._glow = grade.glow
        self._top = _TOP if deep else 255
        self._rows = max(1, _STRIP // width)
        self._light = _Light(grade, self._top, height, width)
        kind = _Greys if self._light.is_grey else _Tones
        self._tones = kind(grade, self._light, self._top)

    def __call__(self, picture: Raw) -> Raw:
        """Return the graded picture [H, W, 3] of `picture` [H, W, 3], of the same type."""
        strips = [slice(top, top + self._rows) for top in range(0, len(picture), self._rows)]
        if self._glow:
            return self._glowing(picture, strips)
        made = np.empty_like(picture)
        for rows in strips:
            made[rows] = _rounded(cv2.merge(self._tones(self._light(picture[rows], rows))), self._top)
        return made

    def _glowing(self, picture: Raw, strips: list[slice]) -> Raw:
        whole = np.empty(picture.shape, np.float32)
        bright = np.empty_like(whole)
        for rows in strips:
            graded = cv2.merge(self._tones(self._light(picture[rows], rows)))
            whole[rows] = np.clip(graded / np.float32(self._top), 0, 1)
            planes = [np.asarray(one, np.float32) for one in cv2.split(whole[rows])]
            share = np.square(_luma(planes))
            bright[rows] = cv2.merge([one * share for one in planes])
        spilled = _spilled(bright, exact=self._top > 255)
        made = np.empty_like(picture)
        for rows in strips:
            mixed = 1 - (1 - whole[rows]) * (1 - np.float32(self._glow) * spilled[rows])
            made[rows] = _rounded(mixed * np.float32(self._top), self._top)
        return made


class _Light:
    """The first steps of a grade: its mix, and what it does in linear light. `shown` [65536] is the value in [0, 1] of a code."""

    def __init__(self, grade: Grade, top: int, height: int, width: int) -> None:
        mix = None if grade.mix is None else np.array(grade.mix)
        self.is_grey = mix is not None and bool((mix == mix[0]).all()) and not (grade.warmth or grade.magenta)
        self._mix = None if mix is None else (mix[:1] if self.is_grey else mix) * (_TOP / top)
        self._kept = kept_light(grade, height, width).numpy() if grade.vignette else None
        values = _steps(top if mix is None else _TOP).expand(3, 1, -1)
        light = in_light(to_linear(values), grade) if grade.changes_light else values
        self._codes: list[npt.NDArray[Any]]
        if self._kept is None:
            codes, self.shown = from_linear(light) if grade.changes_light else light, _steps(_TOP)
            self._codes = [_whole(one * _TOP) for one in codes[:, 0]]
        else:  # light has to be multiplied before it is shown, so codes are linear
            self._codes, self.shown = [_plain(one * _TOP) for one in light[:, 0]], from_linear(_steps(_TOP))

    def __call__(self, strip: Raw, rows: slice) -> list[Codes]:
        """Return the codes of red, green and blue of `strip` [h, W, 3], the rows `rows` of a picture; of a grey grade one."""
        if self._mix is None:
            planes = cv2.split(strip)
        else:
            planes = cv2.split(_rounded(cv2.transform(strip.astype(np.float32), self._mix), _TOP))
        found = [_looked_up(table, one) for table, one in zip(self._codes, planes, strict=not self.is_grey)]
        if self._kept is None:
            return found
        return [np.asarray(cv2.multiply(one, self._kept[rows], dtype=cv2.CV_32S), np.int32) for one in found]


class _Greys:
    """The tones of a grade whose pictures are grey until it tints them: one table a channel."""

    def __init__(self, grade: Grade, light: _Light, top: int) -> None:
        tones = toned(light.shown.expand(3, 1, -1), grade)[:, 0]
        self._tones = [_plain(one * top) for one in tones]

    def __call__(self, codes: list[Codes]) -> list[Plane]:
        """Return red, green and blue of the one plane of `codes`."""
        return [_looked_up(table, codes[0]) for table in self._tones]


class _Tones:
    """The tones of any grade: its curve, saturation, tints, black and white, as `grades.toned` has them."""

    def __init__(self, grade: Grade, light: _Light, top: int) -> None:
        self._saturation = grade.saturation
        values = _steps(_TOP)
        curved, curve = (s_curve(one, grade.contrast, grade.pivot) if grade.contrast else one for one in (light.shown, values))
        self._has_curve = bool(grade.contrast)
        self._shown, self._curved, self._curve = _plain(light.shown), _plain(curved / 2), _plain(curve)
        greyed = 1 - min(grade.saturation, 1.0)  # what fades of the chroma is light, so one table adds it with the tints
        black, white = (torch.tensor(end, dtype=torch.float64)[:, None, None] for end in (grade.black, grade.white))
        added = tinted(greyed * values.expand(3, 1, -1), values[None, None], grade)
        self._added = [_plain(one) for one in (top * (black + (white - black) * added))[:, 0]]
        self._gains = [float(one) for one in (top * (white - black) * min(grade.saturation, 1.0))[:, 0, 0]]

    def __call__(self, codes: list[Codes]) -> list[Plane]:
        """Return red, green and blue of the three planes of `codes`."""
        planes = [_looked_up(self._shown, one) for one in codes]
        light = _luma(planes)
        if self._has_curve:
            raised = _looked_up(self._curve, _coded(light))
            factor = np.asarray(raised / np.maximum(light, np.float32(DARKEST)), np.float32)
            pull = np.float32(0.5) * _room(planes, light, raised, factor)
            curved = [_looked_up(self._curved, one) for one in codes]  # half of it, as of all else here
            base = np.float32(0.5) * raised
            planes = [(one - light) * pull + (base + other) for one, other in zip(planes, curved, strict=True)]
            light = _luma(planes)
        if self._saturation > 1:
            pull = _room(planes, light, light, self._saturation)
            planes = [(one - light) * pull + light for one in planes]
        place = _coded(light)
        added = [_looked_up(table, place) for table in self._added]
        return [
            np.asarray(cv2.scaleAdd(one, gain, more), np.float32)
            for one, gain, more in zip(planes, self._gains, added, strict=True)
        ]


def _room(planes: list[Plane], light: Plane, target: Plane, most: Plane | float) -> Plane:
    """Return by how much the chroma of `planes`, whose luma is `light`, may be multiplied about the luma `target`: `most`, or
    less where a channel would leave [0, 1].
    """
    above = np.maximum(cv2.max(cv2.max(planes[0], planes[1]), planes[2]) - light, np.float32(1e-6))
    below = np.maximum(light - cv2.min(cv2.min(planes[0], planes[1]), planes[2]), np.float32(1e-6))
    return np.asarray(np.maximum(np.minimum(np.minimum((1 - target) / above, target / below), most), 0), np.float32)


def _luma(planes: list[Plane]) -> Plane:
    return np.asarray(cv2.scaleAdd(planes[2], _LUMA[2], cv2.addWeighted(planes[0], _LUMA[0], planes[1], _LUMA[1], 0)), np.float32)


def _coded(values: Plane) -> Codes:
    """Return `values` in [0, 1] as codes; what lies outside by rounding is brought in."""
    return np.asarray(np.rint(np.clip(values, 0, 1) * np.float32(_TOP)), np.int32)


def _looked_up(table: npt.NDArray[Any], codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if codes.dtype == np.uint8:
        return np.asarray(cv2.LUT(codes, table[None]))
    return np.take(table, codes, mode="wrap")  # none is outside; this mode is the fastest


def _rounded(levels: npt.NDArray[Any], top: int) -> Raw:
    """Return the nearest integers, saturated at 0 and `top`, the highest of their type."""
    # Adding nothing rounds, saturates and converts in one pass.
    return cast(Raw, cv2.add(levels, np.zeros(4), dtype=cv2.CV_8U if top == 255 else cv2.CV_16U))


def _spilled(bright: Picture, *, exact: bool) -> Picture:
    """Return `bright` [H, W, 3] blurred over `SPILL` units; unless `exact`, at a quarter of the size where that is enough."""
    deviation = SPILL * unit(bright)
    if exact or deviation < _SMOOTH:
        return blur(bright, SPILL)
    margin = _COARSE * math.ceil(3 * deviation / _COARSE)
    below, right = (-side % _COARSE + margin for side in bright.shape[:2])
    grown = cv2.copyMakeBorder(bright, margin, below, margin, right, cv2.BORDER_REFLECT_101)
    height, width = grown.shape[:2]
    small = cv2.resize(grown, (width // _COARSE, height // _COARSE), interpolation=cv2.INTER_AREA)
    # Making it small and large again blurs, too: variances of a box, (c^2 - 1) / 12, and of linear interpolation, c^2 / 6.
    rest = deviation**2 - (_COARSE**2 - 1) / 12 - _COARSE**2 / 6
    soft = cv2.GaussianBlur(small, (0, 0), rest**0.5 / _COARSE)
    large = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[margin : height - below, margin : width - right], np.float32)


def _steps(top: int) -> Tensor:
    """Return the values 0, 1 / top, ... 1: float64 [top + 1]."""
    return torch.arange(top + 1, dtype=torch.float64) / top


def _plain(values: Tensor) -> npt.NDArray[np.float32]:
    return values.float().contiguous().numpy()


def _whole(values: Tensor) -> npt.NDArray[np.int32]:
    return values.round().int().contiguous().numpy()
