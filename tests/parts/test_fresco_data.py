"""The stored tensors of tests/data/fresco in the project's conventions, for all tests of FRESCO; and that they are there."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from flowpaint.parts.consistency.ring import Ring

FOLDER = Path(__file__).resolve().parents[1] / "data" / "fresco"
FRAMES = 4
CASES = ("F1_zero", "F2_integer", "F3_quarter", "F4_zoom", "F5_leaving", "F6_smooth_blob")
SIZES = {8: (16, 24), 16: (8, 12), 32: (4, 6)}


@cache
def archive(name):
    with np.load(FOLDER / f"{name}.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


def array(file, name):
    found = archive(file)[name]
    if found.dtype == torch.float16:
        return found.float()
    return found.long() if found.dtype == torch.int16 else found


def frames(case=""):
    """[4, 3, 128, 192] in [0, 1]."""
    name = "frames_ties_rgb" if case.endswith("_ties") else "frames_rgb"
    return array("inputs", name).permute(0, 3, 1, 2).float() / 255


def flows(case):
    name = case.removesuffix("_ties")
    return array("inputs", f"flow_fwd_{name}"), array("inputs", f"flow_bwd_{name}")


def seen(kind, case):
    """[4, 1, 128, 192], 1 = seen."""
    return 1 - array("occlusion", f"occ_{kind}_{case}")[:, None].float()


def ring(case="F6_smooth_blob"):
    """The ring with the stored visibility, not computed again."""
    forward, backward = flows(case)
    return Ring(forward=forward, backward=backward, seen_forward=seen("full_fwd", case), seen_backward=seen("full_bwd", case))


def background():
    return array("inputs", "background_saliency")


def off(found, wanted):
    """The largest absolute difference."""
    assert found.shape == wanted.shape
    return (found - wanted).abs().max().item()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem)
def test_every_file_is_described_and_whole(path):
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text("utf-8")
    stored = archive(path.stem)
    assert stored
    assert all(torch.isfinite(one).all() for one in stored.values() if one.is_floating_point())


def test_the_inputs_are_what_the_conventions_say():
    assert frames().shape == (FRAMES, 3, 128, 192)
    assert flows("F6_smooth_blob")[0].shape == (FRAMES, 2, 128, 192)
    assert set(background().unique().mul(16).tolist()) <= set(range(17))
