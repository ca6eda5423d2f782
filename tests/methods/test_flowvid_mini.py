"""FlowVid with the weights that come along: the paper's ablation in small, and a command without any setting."""

import numpy as np
import pytest
import torch

import flowpaint
from flowpaint.api.choose import choose_method
from flowpaint.diffusion.repair import TrainedRepairer
from flowpaint.hints import Hinted, filled, hint
from flowpaint.methods.flowvid import FlowVid
from flowpaint.scenes import correspond, render, sample_scene
from flowpaint.seams import Run
from flowpaint.types import Edit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repairer():
    method, _ = choose_method("flowvid")
    assert isinstance(method, FlowVid)
    found = method._repairer(method.model, Run())
    assert isinstance(found, TrainedRepairer)
    return found


def told_of(seed, frames=8, size=(128, 128)):
    """A procedural scene that no training has seen, its first frame as it is, with its exact flow."""
    scene = sample_scene(seed, 0.5)
    times = [2.0 * number for number in range(frames)]
    source = torch.stack([render(scene, time, size).rgb for time in times]).clamp(0, 1)
    back = [correspond(scene, time, times[0], size) for time in times[1:]]
    warped, mask = hint(source[0], torch.cat([one.vectors for one in back]), torch.cat([one.visibility for one in back]))
    return Hinted(
        source=source, warped=filled(warped, mask, "spread"), mask=mask, anchors=source[:1], nearest=(0,) * frames,
        frames=tuple(range(frames)), edits=(Edit(),) * frames,
    )  # fmt: skip


def test_each_hint_brings_the_network_nearer_to_the_truth(repairer):
    """FlowVid, figure 6, in small: control only < + warped frame < + mask, and the whole at least as good."""
    errors = {}
    for name, heard in {"control": (), "warp": ("warp",), "mask": ("warp", "mask"), "all": ("warp", "first", "mask")}.items():
        alone = TrainedRepairer(model=repairer.model, pace=repairer.pace, pooling=repairer.pooling, heard=heard)
        errors[name] = [
            float((alone(told, Run()).pictures - told.source)[1:].square().mean())
            for told in map(told_of, range(920_000, 920_006))
        ]
    means = {name: float(np.mean(one)) for name, one in errors.items()}
    assert means["control"] > 1.5 * means["warp"] and means["warp"] > means["mask"] * 0.97, means
    assert means["all"] <= means["mask"] * 1.02, means


def test_a_look_is_carried_without_any_setting(tmp_path, textured_pan):
    clip = textured_pan.clip
    result = flowpaint.edit(clip, "sepia", method="flowvid", offline=True)
    path = result.save(tmp_path / "out.mp4")
    assert path.exists() and result.report["input"]["num_frames"] == len(clip)
    assert [one["name"] for one in result.report["weights"]][:2] and "mini-flowvid" in str(result.report["weights"])
    first = flowpaint.edit(clip, "sepia", method="analogy").frames.frame(0)
    assert (result.frames.frame(0) - first).abs().max() <= 1 / 255
