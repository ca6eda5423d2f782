"""Judging a small model on pictures it has not seen: the edit is SDEdit as any method does it, the verdict counts."""

import pytest
import torch

from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.evaluation import held_out
from flowpaint.evaluation.held_out import Trial, edited, judge_looks, psnr, reconstruction, teachers
from tiny_training import CONTROL, exported, quiet, started

TRIAL = Trial(num_steps=4, strength=0.5)


@pytest.fixture(scope="module")
def family(tiny_latents, tiny_family, tmp_path_factory):
    return exported(started({**CONTROL, "base": tiny_family}, tiny_latents, tmp_path_factory.mktemp("control"), steps=1))


@pytest.fixture
def picture():
    return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 1).repeat_interleave(8, 2)


@pytest.mark.slow
def test_edits_are_made_for_each_prompt_and_repeat(family, picture):
    model = LatentDiffusion(weights=str(family), controlnets=(str(family / "controlnet"),))
    found = edited(model, picture, ["neon", "sepia", "neon"], TRIAL)
    assert found.shape == (3, 3, 64, 64) and torch.allclose(found[0], found[2], atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    assert torch.equal(found, edited(model, picture, ["neon", "sepia", "neon"], TRIAL))


def test_no_steps_give_the_reconstruction(tiny_family, picture):
    model = LatentDiffusion(weights=tiny_family)
    (found,) = edited(model, picture, ["neon"], Trial(num_steps=4, strength=0.0))
    assert psnr(found, picture) == pytest.approx(reconstruction(model, picture), abs=0.01)


def test_teachers_edits_are_met_and_others_are_not(tiny_family, picture, monkeypatch):
    model, looks = LatentDiffusion(weights=tiny_family), ("sepia", "night", "neon")
    known = torch.stack(list(teachers(picture, looks).values()))
    monkeypatch.setattr(held_out, "edited", lambda *_: known)
    assert judge_looks(model, {"a": picture}, looks, TRIAL, progress=quiet).share == 1.0
    monkeypatch.setattr(held_out, "edited", lambda *_: known.roll(1, 0))
    verdict = judge_looks(model, {"a": picture}, looks, TRIAL, progress=quiet)
    assert verdict.share == 0.0 and verdict.nearest["a", "sepia"] == "neon"
