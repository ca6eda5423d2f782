"""Judging a small model on pictures it has not seen: the verdict counts, and asks the editor for what it says."""

import pytest
import torch

from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.evaluation.held_out import judge_looks, psnr, reconstruction, teachers
from tiny_training import quiet

LOOKS = ("sepia", "night", "neon")


@pytest.fixture
def picture():
    return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 1).repeat_interleave(8, 2)


def test_the_reconstruction_is_that_of_the_autoencoder(tiny_family, picture):
    model = LatentDiffusion(weights=tiny_family)
    (through,) = model.decode(model.encode(picture[None]))
    expected = 10 * torch.log10(1 / (through - picture).square().mean())
    assert reconstruction(model, picture) == pytest.approx(expected.item(), abs=1e-4)
    assert psnr(picture, picture) == pytest.approx(100.0)


@pytest.mark.parametrize("turn", [0, 1])
def test_teachers_edits_are_met_and_others_are_not(picture, turn):
    known = teachers(picture, LOOKS)
    asked = []

    def editor(image, edit, generator):
        asked.append((edit.prompt, generator.initial_seed()))
        assert torch.equal(image, picture)
        return known[LOOKS[(LOOKS.index(edit.prompt.removeprefix("in ")) + turn) % 3]]

    verdict = judge_looks(editor, {"a": picture, "b": picture}, LOOKS, prompt="in {look}", seed=5, progress=quiet)
    assert asked == [(f"in {look}", 5) for look in LOOKS] * 2
    assert verdict.share == (0.0 if turn else 1.0)
    assert verdict.nearest["b", "sepia"] == ("night" if turn else "sepia")
    assert verdict.hits("neon") == (0 if turn else 2)
    assert torch.equal(verdict.pictures["a", "neon"], known[LOOKS[(2 + turn) % 3]])
