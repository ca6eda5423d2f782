"""FRESCO's effect with learned weights: key frames of `mini` agree more with both of its parts than with either, or none."""

from dataclasses import replace

import pytest
import torch

from flowpaint.api.choose import choose_method
from flowpaint.methods.fresco import Translation
from flowpaint.scenes import correspond, render, sample_scene
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit
from flowpaint.warp import warp

SIZE, TIMES = (256, 256), (0.0, 4.0, 8.0, 12.0)
PARTS = {
    "none": {"attention": "none", "optimise": False},
    "attention": {"attention": "all", "optimise": False},
    "features": {"attention": "none", "optimise": True},
    "both": {"attention": "all", "optimise": True},
}


def apart(pictures, scene):
    """The mean squared difference of neighbours, aligned by the scene's own motion, where both see the same."""
    errors = []
    for number in range(len(TIMES) - 1):
        there = correspond(scene, TIMES[number], TIMES[number + 1], SIZE)
        error = (warp(pictures[number + 1 : number + 2], there.vectors) - pictures[number : number + 1]).square()
        errors.append((error * there.visibility).sum() / (3 * there.visibility.sum()))
    return torch.stack(errors).mean().item()


@pytest.mark.slow
def test_both_parts_bind_more_than_either():
    scene = sample_scene(3, 0.3)
    clip = Clip.from_array(torch.stack([render(scene, time, SIZE).rgb for time in TIMES]).clamp(0, 1))
    method, _ = choose_method("fresco", settings=["model.weights=mini", "consistency.background=false", "num_steps=12"])
    found, strengths = {}, {}
    for name, parts in PARTS.items():
        run = Run(seed=1)
        chosen = replace(method, consistency=replace(method.consistency, **parts))
        work = Translation(chosen, clip, list(range(len(TIMES))), Edit(prompt="in the style of van gogh"), run)
        pictures = torch.stack([work.picture(index) for index in range(len(TIMES))])
        found[name] = apart(pictures, scene)
        strengths[name] = (pictures - clip.frames).abs().mean().item()
    assert found["both"] < min(found["attention"], found["features"]) < max(found["attention"], found["features"]) < found["none"]
    assert found["both"] < 0.9 * found["none"]
    assert strengths["both"] == pytest.approx(strengths["none"], rel=0.1), "steadier, not paler"
