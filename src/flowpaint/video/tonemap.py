"""HDR pictures (PQ, HLG) as BT.709 ones.

Curves: SMPTE ST 2084 (PQ), ITU-R BT.2100-2 (HLG and its system gamma), ITU-R BT.2390-8 section 5.4.1 (the EETF that
brings down the brightness range), ITU-R BT.2087 (BT.2020 primaries to BT.709).
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..types import ColourTags, Raw

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_WHITE = 203.0  # cd/m2 of diffuse white in HDR, ITU-R BT.2408; it becomes SDR white's neighbourhood
_PEAK = 1000.0  # cd/m2 that the brightest highlights of graded HDR have
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # BT.2087, M2
_LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]])  # of BT.2020 primaries


def to_sdr(raw: Raw, tags: ColourTags) -> Raw:
    """An HDR picture, raw [H, W, 3], as a BT.709 picture: uint16 over 0..65535."""
    signal = raw.astype(np.uint16) * np.uint16(257) if raw.dtype == np.uint8 else raw
    light = _light_table(tags.transfer)[signal]  # linear, 1 = diffuse white
    if tags.transfer == 18:  # BT.2100-2, table 5: scene light to display light
        luminance = cv2.transform(light, _LUMINANCE)
        light *= np.maximum(luminance, 1e-6)[..., None] ** 0.2
        light *= _PEAK / _WHITE
    brightest = light.max(axis=2)
    light *= _tone_table()[np.clip(brightest * _TABLE_STEPS * _WHITE / _PEAK, 0, _TABLE_STEPS).astype(np.int32)][..., None]
    if tags.primaries in (2, 9):
        light = cv2.transform(light, _TO_709)
    coded = np.clip(light, 0, 1) ** np.float32(1 / 2.4)  # the inverse of BT.1886, the curve that displays apply
    return (coded * np.float32(65535.0) + np.float32(0.5)).astype(np.uint16)


_TABLE_STEPS = 16384


@lru_cache
def _light_table(transfer: int) -> npt.NDArray[np.float32]:
    """[65536]: linear light of a signal. PQ: 1 = diffuse white; HLG: scene light, 1 = peak."""
    signal = np.arange(65536) / 65535
    light = pq_light(signal) / _WHITE if transfer == 16 else hlg_light(signal)
    return light.astype(np.float32)


def pq_light(signal: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """cd/m2 of a PQ signal in [0, 1]: ST 2084, equation 4.1."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return 10000.0 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def pq_signal(light: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The PQ signal in [0, 1] of cd/m2: ST 2084, equation 5.2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (light / 10000.0) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg_light(signal: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Scene light in [0, 1] of an HLG signal: BT.2100-2, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


@lru_cache
def _tone_table() -> npt.NDArray[np.float32]:
    """[steps + 1]: the factor on light whose brightest channel is peak * step / steps, to end in [0, 1]."""
    light = np.linspace(0, _PEAK, _TABLE_STEPS + 1)
    light[0] = light[1] / 2
    mapped = pq_light(_eetf(pq_signal(light) / pq_signal(np.array(_PEAK))) * pq_signal(np.array(_PEAK)))
    return (mapped / _WHITE / (light / _WHITE)).astype(np.float32)


def _eetf(signal: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """BT.2390-8, section 5.4.1, steps 1 to 3, with black left where it is; signals are shares of the source's peak."""
    top = pq_signal(np.array(_WHITE)) / pq_signal(np.array(_PEAK))
    knee = 1.5 * top - 0.5
    t = (np.maximum(signal, knee) - knee) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * top
    return np.where(signal < knee, signal, curve)
