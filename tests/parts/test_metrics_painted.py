"""Flicker and kept texture as metrics: what a frame is compared with, how often, and why there is no number."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpaint import seams
from flowpaint.errors import ConfigError, InputError
from flowpaint.moments import Case, Pass
from flowpaint.smoothing import gaussian
from flowpaint.types import Clip, to_raw

SIZE = (64, 96)


def pan(frames=8, seed=0):
    """A soft texture that moves a pixel a frame: [T, 3, H, W]."""
    wide = torch.rand(1, 1, SIZE[0], SIZE[1] + frames, generator=torch.Generator().manual_seed(seed))
    soft = gaussian(wide, 1.5)
    soft = (0.5 + 0.15 * (soft - soft.mean()) / soft.std()).clamp(0, 1)[0].repeat(3, 1, 1)
    return torch.stack([soft[..., index : index + SIZE[1]] for index in range(frames)])


def judged(name, case, **values):
    tally = seams.build("metric", name, **values)(case)
    for moment in Pass(flow=seams.build("flow", "dis"))(case):
        tally.see(moment)
    return tally.score()


def counted(frames):
    """A clip of `frames`, and the list of those that were read."""
    read = []
    whole = Clip.from_array(frames)

    def one(index):
        read.append(index)
        return whole.raw(index)

    return whole.with_frames(one), read


def test_a_square_wave_has_twice_its_amplitude_of_flicker():
    frames = pan()
    wave = frames + 4 / 255 * torch.tensor([(-1.0) ** index for index in range(8)])[:, None, None, None]
    found = judged("flicker", Case(source=Clip.from_array(frames), result=Clip.from_array(wave)))
    assert found.values["flicker"] == pytest.approx(8, abs=1)
    assert found.values["flicker_source"] < 2.5 and set(found.series["flicker"]) == set(range(1, 8))
    assert found.facts["flow"] == "dis, preset fast"


def test_the_flow_is_the_source_s():
    """A result that stands still while its source moves flickers; along its own flow it would not."""
    frames = pan()
    frozen = Case(source=Clip.from_array(frames), result=Clip.from_array(frames[:1].repeat(8, 1, 1, 1)))
    moving = Case(source=Clip.from_array(frames), result=Clip.from_array(frames))
    assert judged("flicker", frozen).values["flicker"] > 5 * judged("flicker", moving).values["flicker"]


def test_scaled_contrast_keeps_its_square_of_texture():
    frames = pan()
    paler = 0.5 + 0.6 * (frames - 0.5)
    case = Case(source=Clip.from_array(frames), result=Clip.from_array(paler), frame_by_frame=Clip.from_array(frames))
    found = judged("texture", case)
    for name in ("texture_kept_fast", "texture_kept_still"):
        assert found.values[name] == pytest.approx(0.36, abs=0.01)
        assert set(found.series[name]) == set(range(1, 8))
    same = Case(source=Clip.from_array(frames), result=Clip.from_array(frames), frame_by_frame=Clip.from_array(frames))
    assert set(judged("texture", same).values.values()) == {1.0}


def test_the_editor_is_asked_for_sampled_frames_only():
    frames = pan(30)
    alone, read = counted(frames)
    case = Case(source=Clip.from_array(frames), result=Clip.from_array(frames), frame_by_frame=alone, cuts=frozenset({4}))
    found = judged("texture", case, samples=5)
    assert sorted(read) == sorted(found.series["texture_kept_still"]) and len(read) == 5 and 4 not in read
    read.clear()
    assert len(judged("texture", case, samples=0).series["texture_kept_still"]) == 28 == len(read)


def test_inside_the_mask_alone():
    frames, mask = pan(), torch.zeros(1, 3, *SIZE)
    mask[..., :48] = 1
    result = 0.5 + 0.6 * (frames - 0.5)
    result[..., 70:] = 0.5
    clips = {"source": frames, "result": result, "frame_by_frame": frames, "mask": mask}
    case = Case(**{name: Clip.from_array(one) for name, one in clips.items()})
    kept = judged("texture", case).values
    assert kept["texture_kept_still"] == pytest.approx(0.36, abs=0.03)
    assert kept["texture_kept_fast"] == pytest.approx(0.36, abs=0.03)
    assert min(judged("texture", replace(case, mask=None)).values.values()) < 0.32


def test_reasons_say_what_to_do():
    frames = pan(3)
    bare = Case(source=Clip.from_array(frames), result=Clip.from_array(frames))
    assert all("--frame-by-frame" in why for why in judged("texture", bare).missing.values())
    one = Case(source=Clip.from_array(frames[:1]), result=Clip.from_array(frames[:1]))
    assert all("two frames" in why for name in ("texture", "flicker") for why in judged(name, one).missing.values())
    grey = Clip.from_array(torch.full((3, 3, *SIZE), 0.5))
    flat = judged("texture", Case(source=Clip.from_array(frames), result=grey, frame_by_frame=grey))
    assert "flat" in flat.missing["texture_kept_still"] and not flat.values
    still = Clip.from_array(frames[:1].repeat(3, 1, 1, 1))
    rest = judged("texture", Case(source=still, result=still, frame_by_frame=still))
    assert rest.values == {"texture_kept_still": 1.0} and "moves" in rest.missing["texture_kept_fast"]


def test_a_frame_by_frame_edit_fits_its_source():
    frames = Clip.from_array(pan(4))
    with pytest.raises(InputError, match="frame by frame 3"):
        Case(source=frames, result=frames, frame_by_frame=frames[0:3])
    with pytest.raises(InputError, match="frame by frame 1"):
        Case(source=frames, result=frames, frame_by_frame=frames[0:1])
    with pytest.raises(ConfigError, match="-1 frames"):
        seams.build("metric", "texture", samples=-1)


def test_depth_does_not_matter():
    frames = pan(4)
    deep, shallow = (Clip.from_array(np.stack([to_raw(one, bits) for one in frames])) for bits in (16, 8))
    values = [
        judged(name, Case(source=one, result=one, frame_by_frame=shallow)).values
        for name in ("flicker", "texture")
        for one in (deep, shallow)
    ]
    assert values[0] == pytest.approx(values[1], abs=0.1) and values[2] == pytest.approx(values[3], abs=0.01)
