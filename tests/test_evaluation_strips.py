"""Pictures of a verdict: the right frames, side by side, with an error map that is dark where nothing is wrong."""

import torch

from flowpaint import seams
from flowpaint.evaluation.judge import judge
from flowpaint.evaluation.strips import error_of, heat, strips, worst
from flowpaint.moments import Case, Pass
from flowpaint.types import Clip
from flowpaint.warp import resize

SIZE = (48, 72)
THROUGH = Pass(flow=seams.build("flow", "dis", preset="ultrafast"))


def still(count):
    texture = resize(torch.rand(1, 3, 12, 18, generator=torch.Generator().manual_seed(2)), *SIZE)[0]
    return torch.stack([0.2 + 0.6 * texture] * count)


def case_with_flashes(*frames, count=30):
    result = still(count)
    for frame in frames:
        result[frame] += 0.2
    return Case(source=Clip.from_array(still(count)), result=Clip.from_array(result))


def card_of(case):
    return judge(case, {"warp-error": seams.build("metric", "warp-error", own=False)}, through=THROUGH, label="it")


def test_the_worst_moments_are_those_that_flash_and_lie_apart():
    case = case_with_flashes(8, 20)
    found = worst(case, card_of(case), through=THROUGH)
    assert {one.frame for one in found[:2]} <= {8, 9, 20, 21} and abs(found[0].frame - found[1].frame) > 5
    assert len(found) == 3 and found[0].value >= found[1].value > 10 * found[2].value
    assert found[0].label == "it" and found[0].measure == "we_src" and found[0].time == card_of(case).times[found[0].frame]


def test_one_frame_has_no_worst_moment():
    case = case_with_flashes(count=1)
    assert worst(case, card_of(case), through=THROUGH) == ()


def test_the_error_map_shows_what_changed():
    case = case_with_flashes(3, count=5)
    errors = {one.index: error_of(one).mean().item() for one in THROUGH(case)}
    assert errors[0] == 0 and errors[1] < 0.01 < 0.15 < errors[3] < 0.21 and errors[4] > 0.15


def test_heat_grows_paler():
    ramp = torch.linspace(0, 0.3, 40).reshape(1, 1, 1, 40)
    colours = heat(ramp)
    light = colours.mean(dim=1).flatten()
    assert colours.shape == (1, 3, 1, 40) and colours.min() >= 0 and colours.max() <= 1
    assert (light[1:] - light[:-1]).min() > -1e-6 and light[0] < 0.1 < 0.7 < light[-1]


def test_strips_show_source_and_results_at_spread_moments():
    case = case_with_flashes(2, count=12)
    found = strips({"one": case, "two": case}, moments=4)
    assert [one.caption.split("frame ")[1].split(" ")[0] for one in found] == ["1", "4", "7", "10"]
    height, width, _ = found[0].picture.shape
    assert 120 <= height <= 480 and abs(width - 3 * height * SIZE[1] / SIZE[0] - 12) < 4
    assert found[0].caption.startswith("source | one | two")
    assert len(strips({"one": case_with_flashes(count=1)})) == 1
