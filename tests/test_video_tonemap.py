"""HDR to SDR: points that the standards give, and what a viewer may expect of any tone curve."""

import numpy as np
import pytest

from flowpaint.types import ColourTags
from flowpaint.video.tonemap import hlg_light, pq_light, pq_signal, to_sdr

PQ, HLG = ColourTags(matrix=9, primaries=9, transfer=16), ColourTags(matrix=9, primaries=9, transfer=18)


def test_pq_has_the_levels_of_the_standard() -> None:
    light = np.array([0.0, 100.0, 203.0, 1000.0, 10000.0])
    assert pq_signal(light) == pytest.approx([0.0, 0.508, 0.581, 0.752, 1.0], abs=6e-4)  # BT.2408, table 1
    assert pq_light(pq_signal(light)) == pytest.approx(light, abs=1e-6)


def test_hlg_has_the_levels_of_the_standard() -> None:
    assert hlg_light(np.array([0.0, 0.5, 0.75, 1.0])) == pytest.approx([0.0, 1 / 12, 0.265, 1.0], abs=1e-3)


def gray(signals: np.ndarray) -> np.ndarray:
    return np.repeat((signals * 65535).round().astype(np.uint16)[None, :, None], 3, axis=2)


@pytest.mark.parametrize("tags", [PQ, HLG])
def test_grays_stay_gray_in_order_and_fill_the_range(tags: ColourTags) -> None:
    mapped = to_sdr(gray(np.linspace(0, 1, 500)), tags)[0].astype(int)
    assert mapped.dtype == int and np.ptp(mapped, axis=1).max() <= 16  # of 65535: the rounding of the published matrix
    assert (np.diff(mapped[:, 1]) >= 0).all()
    assert mapped[0, 1] == 0 and mapped[-1, 1] == 65535


def test_shadows_keep_their_light_and_white_stays_bright() -> None:
    dark, white = to_sdr(gray(pq_signal(np.array([10.0, 203.0]))), PQ)[0, :, 1] / 65535
    assert dark**2.4 * 203 == pytest.approx(10, rel=0.02)  # below the knee nothing changes
    assert 0.75 < white < 0.95  # room is left for highlights


def test_both_curves_agree_on_diffuse_white() -> None:
    white = to_sdr(gray(np.array([0.75])), HLG)[0, 0] / 65535  # 203 cd/m2 on a display of 1000, BT.2408, table 1
    assert white == pytest.approx(to_sdr(gray(pq_signal(np.array([203.0]))), PQ)[0, 0] / 65535, abs=0.005)


def test_colours_of_bt709_come_out_as_they_went_in() -> None:
    red = np.array([0.6274, 0.0691, 0.0164]) * 20  # BT.709 red in BT.2020 primaries (BT.2087), 20 cd/m2
    mapped = to_sdr((pq_signal(red) * 65535).round().astype(np.uint16)[None, None], PQ)[0, 0] / 65535
    assert mapped[0] ** 2.4 * 203 == pytest.approx(20, rel=0.03)
    assert mapped[1:] ** 2.4 == pytest.approx([0, 0], abs=0.001)
