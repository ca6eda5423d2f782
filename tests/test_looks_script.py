"""The benchmark of looks: its measures, its tables, and that an interrupted run makes nothing twice."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flowpaint import video
from flowpaint.smoothing import gaussian
from flowpaint.types import Clip

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def looks(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_looks

    return bench_looks


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import looks_tables

    return looks_tables


def pan(frames=12, contrast=lambda _: 1.0):
    """A soft texture that moves a pixel a frame at 4 frames a second, each frame with a contrast of its own."""
    wide = gaussian(torch.rand(1, 3, 64, 96 + frames, generator=torch.Generator().manual_seed(1)), 1.5)[0]
    soft = 0.1 * (wide - wide.mean()) / wide.std()
    pictures = [(0.5 + contrast(index) * soft[..., index : index + 96]).clamp(0, 1) for index in range(frames)]
    return Clip.from_array(torch.stack(pictures), 4)


def test_what_keeps_everything_has_no_drift(looks):
    found = looks.measured(pan(), pan(), pan())
    assert found["texture_fast"] == found["texture_still"] == found["sharpness_kept"] == found["texture_still_drift"] == 1.0
    assert found["flicker"] < 3


def test_a_fading_texture_drifts(looks):
    """Contrast falls from 1 to 0.5: the last second (frames 8 to 11) has a known part of the first one's (1 to 4) energy."""
    fading = pan(contrast=lambda index: 1 - 0.5 * index / 11)
    energy = [(1 - 0.5 * index / 11) ** 2 for index in range(12)]
    found = looks.measured(pan(), pan(), fading)
    assert found["texture_fast_drift"] == pytest.approx(np.mean(energy[8:]) / np.mean(energy[1:5]), rel=0.02)
    assert found["texture_still"] == pytest.approx(np.mean(energy[1:]), rel=0.02)
    assert "texture_fast_drift" not in looks.measured(pan(6), pan(6), pan(6)), "two seconds have no drift"


def test_a_case_is_made_once(looks, tables, tmp_path, monkeypatch, capsys):
    video.write(pan(), tmp_path / "bigbuckbunny.mkv", encoding=video.Encoding(codec="ffv1"))
    made = []
    monkeypatch.setattr(looks, "edited", lambda case, variant, _: made.append(variant) or case.source)
    monkeypatch.setattr(sys, "argv", ["bench", "--clips", str(tmp_path), "--folder", str(tmp_path / "out"), "--only", "bunny",
                                      "--looks", "oil", "--size", "48", "--lossless", "--sheet", "--frames", "10"])  # fmt: skip
    looks.main()
    assert made == ["frame by frame", "old", "new"]
    assert (tmp_path / "out" / "bunny_oil_48_10.png").exists()
    rows = tables.Row.read(tmp_path / "out" / "looks_lossless.csv")
    assert [row.variant for row in rows.values()] == ["source", "frame by frame", "old", "new"]
    assert all(row.numbers["texture_fast"] == 1.0 for row in rows.values())
    looks.main()
    assert made == ["frame by frame", "old", "new"], "a second run reads what is there"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--again", "new"])
    looks.main()
    assert made == ["frame by frame", "old", "new", "new"]
    assert len(tables.Row.read(tmp_path / "out" / "looks_lossless.csv")) == 4, "of equal keys the last one counts"
    assert "| bunny |" in capsys.readouterr().out


def test_a_clip_is_played_forwards_and_backwards(looks, tmp_path):
    video.write(pan(4), tmp_path / "boxer.mkv", encoding=video.Encoding(codec="ffv1"))
    options = type("Options", (), {"size": 0, "frames": 9, "long": True})
    clip, whole = looks.source_of(tmp_path, "boxer", options), pan(4)
    order = [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert all((clip.raw(index) == whole.raw(place)).all() for index, place in enumerate(order)) and len(clip) == 9


def test_floors_name_the_worst(tables, capsys):
    def rows(clip, old, new, fast):
        values = {"source": (1.0, 1.0), "frame by frame": (20.0, 1.0), "old": (old, 0.8), "new": (new, fast)}
        return [
            tables.Row(
                clip, "oil", "256", "50", variant, numbers={"flicker": flicker, "texture_fast": kept, "texture_still": kept}
            )
            for variant, (flicker, kept) in values.items()
        ]

    tables.report([*rows("wolf", 10.0, 5.0, 0.9), *rows("boxer", 4.0, 3.0, 0.6)], ["old", "new"], long=False)
    said = capsys.readouterr().out
    assert "flicker over old's, at most 0.60: 1 of 2, mean 0.62, worst 0.75 (boxer, oil)" in said
    assert "texture fast, at least 0.75: 1 of 2, mean 0.75, worst 0.60 (boxer, oil)" in said
    assert "| all | 1.0 | 20.0 | 7.0 | 0.80 / 0.80" in said
