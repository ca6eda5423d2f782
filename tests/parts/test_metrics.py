"""Network-free metrics: closed forms, independent libraries, and the mistakes that published scripts made."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from skimage import metrics as judge

from flowpaint import seams
from flowpaint.moments import Case, Pass
from flowpaint.parts.metrics.pictures import ms_ssim, psnr, sharpness, ssim_map
from flowpaint.parts.metrics.steadiness import motion_boundary, seen_by_lai, warp_errors
from flowpaint.types import Clip, Flow

SIZE = (64, 80)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A flow that is known: the same everywhere."""

    x: float = 0.0
    y: float = 0.0

    def __call__(self, a, b):
        there = torch.tensor([self.x, self.y])[None, :, None, None].expand(1, 2, *a.shape[-2:]).clone()
        return Flow(vectors=there, visibility=torch.ones_like(there[:, :1]), reverse=-there)


def noise(seed=0, size=SIZE):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def clip(*frames):
    return Clip.from_array(torch.stack(frames))


def score(name, case, *, flow=None, **values):
    tally = seams.build("metric", name, **values)(case)
    for moment in Pass(flow=flow or Given())(case):
        tally.see(moment)
    return tally.score()


# ---------------------------------------------------------------------------------------------------------------- pictures


def test_psnr_of_a_constant_offset_is_its_closed_form():
    a = torch.full((1, 3, 8, 8), 0.25)
    assert psnr(a, a + 0.1) == pytest.approx(-20 * math.log10(0.1), abs=1e-4)
    assert psnr(a, a) == 100.0
    where = torch.zeros(1, 1, 8, 8)
    assert math.isnan(psnr(a, a + 0.1, where))
    where[..., :4] = 1
    half = a.clone()
    half[..., 4:] = 1.0
    assert psnr(a, half, where) == 100.0 and psnr(a, half, 1 - where) == pytest.approx(-20 * math.log10(0.75), abs=1e-4)


def test_psnr_and_ssim_are_those_of_scikit_image():
    a, b = noise(0), (noise(0) + 0.1 * noise(1)).clamp(0, 1)
    pair = [one.permute(1, 2, 0).double().numpy() for one in (a, b)]
    assert psnr(a[None], b[None]) == pytest.approx(judge.peak_signal_noise_ratio(*pair, data_range=1.0), abs=1e-4)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 2}
    _, full = judge.structural_similarity(*pair, **options, full=True)
    ours = ssim_map(a[None], b[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - full)[8:-8, 8:-8].max() < 1e-4


def test_ssim_of_constant_pictures_is_its_closed_form():
    a, b, floor = 0.2, 0.6, 0.01**2
    found = ssim_map(torch.full((1, 3, 32, 32), a), torch.full((1, 3, 32, 32), b))
    assert found.mean().item() == pytest.approx((2 * a * b + floor) / (a * a + b * b + floor), abs=1e-4)


def test_ms_ssim_needs_a_picture_large_enough():
    assert math.isnan(ms_ssim(noise()[None], noise()[None]))
    large = noise(0, (176, 176))[None]
    assert ms_ssim(large, large) == pytest.approx(1.0, abs=1e-5)
    assert ms_ssim(large, (large + 0.2 * noise(1, (176, 176))[None]) / 1.2) < 0.999


def test_what_is_inside_the_mask_does_not_count_outside():
    source, mask = noise(size=(192, 192)), torch.zeros(3, 192, 192)
    mask[:, 20:80, 20:90] = 1
    inside, outside = source.clone(), source.clone()
    inside[:, 20:80, 20:90], outside[:, 120:, 120:] = 0.0, 0.0
    masks = clip(mask)
    good = score("fidelity", Case(source=clip(source), result=clip(inside), mask=masks)).values
    assert good["psnr_outside"] == 100.0 and good["psnr"] < 20
    assert good["ssim_outside"] > 0.9999 > 0.99 > good["ssim"]
    assert good["ms_ssim_outside"] > 0.9999
    bad = score("fidelity", Case(source=clip(source), result=clip(outside), mask=masks)).values
    assert bad["psnr_outside"] < 20 and bad["ssim_outside"] < 0.95 and bad["ms_ssim_outside"] < 0.999
    same = score("identity", Case(source=clip(source), result=clip(inside), mask=masks)).values
    assert same == {"outside_change": 0.0, "outside_worst": 0.0}
    changed = score("identity", Case(source=clip(source), result=clip(outside), mask=masks)).values
    assert changed["outside_change"] > 5 and changed["outside_worst"] > 200


def test_a_mask_that_covers_all_leaves_nothing_outside():
    size = (176, 176)
    case = Case(source=clip(noise(0, size)), result=clip(noise(1, size)), mask=clip(torch.ones(3, *size)))
    for name in ("fidelity", "identity"):
        found = score(name, case)
        missing = {one: why for one, why in found.missing.items() if "outside" in one}
        assert missing and all("outside" in why for why in missing.values())
        assert not any("outside" in one for one in found.values)


def test_distance_in_lab_of_known_colours():
    grey, lighter = torch.full((3, *SIZE), 119 / 255), torch.full((3, *SIZE), 187 / 255)
    found = score("edit-strength", Case(source=clip(grey), result=clip(lighter))).values["edit_strength"]
    assert found == pytest.approx(75.8 - 50.03, abs=0.2)  # L* of these greys
    assert score("edit-strength", Case(source=clip(grey), result=clip(grey))).values["edit_strength"] < 1e-4


def test_sharpness_of_a_ramp_is_its_slope():
    ramp = torch.arange(80).expand(3, 64, 80)[None] / 255.0
    inner = ramp.mean() * 0 + torch.tensor(sharpness(ramp))
    assert inner.item() == pytest.approx(1.0, abs=0.03)  # the outermost columns see half the slope


def test_truth_counts_only_where_it_is_asked():
    source = [noise(0)] * 4
    truth = [noise(1)] * 4
    result = [noise(1), noise(2), noise(1), noise(2)]
    case = Case(source=clip(*source), result=clip(*result), reference=clip(*truth), reference_frames=frozenset({0, 2}))
    found = score("truth", case)
    assert found.values["psnr_true"] == 100.0 and set(found.series["psnr_true"]) == {0, 2}
    everywhere = Case(source=clip(*source), result=clip(*result), reference=clip(*truth))
    assert score("truth", everywhere).values["psnr_true"] < 60


# -------------------------------------------------------------------------------------------------------------- steadiness


def moving(x, y, frames=4, jitter=0.0):
    """A texture that goes (x, y) pixels a frame, cut from a larger one; with noise of deviation `jitter`."""
    large = noise(3, (120, 140))
    draw = torch.Generator().manual_seed(5)
    cut = [large[:, 40 - y * t : 40 - y * t + SIZE[0], 40 - x * t : 40 - x * t + SIZE[1]] for t in range(frames)]
    return [(one * 0.8 + 0.1 + jitter * torch.randn(one.shape, generator=draw)).clamp(0, 1) for one in cut]


def test_an_exact_translation_has_no_warp_error():
    frames = moving(2, -1)
    case = Case(source=clip(*frames), result=clip(*frames))
    found = score("warp-error", case, flow=Given(x=2.0, y=-1.0)).values
    for name in ("we_src", "we_src_all", "we_self", "we_floor", "we_src_l1"):
        assert found[name] < 1e-3
    assert 0.8 < found["we_coverage"] < (63 * 78) / (64 * 80) + 0.01, "what leaves the frame is not compared"
    for mutant in (Given(x=-2.0, y=1.0), Given(x=2.0, y=1.0), Given()):  # turned round, upside down, none
        assert score("warp-error", case, flow=mutant).values["we_src"] > 1000
    late = Case(source=clip(*frames), result=clip(*frames[1:], frames[-1]))  # off by one frame: only its own flow fits
    assert score("warp-error", late, flow=Given(x=2.0, y=-1.0)).values["we_src"] > 1000


def test_noise_gives_twice_its_variance():
    frames, sigma = moving(1, 0), 0.02
    noisy = moving(1, 0, jitter=sigma)
    found = score("warp-error", Case(source=clip(*frames), result=clip(*noisy)), flow=Given(x=1.0)).values
    assert found["we_src"] == pytest.approx(2 * sigma**2 * 1e5, rel=0.1)
    assert found["we_floor"] < 1e-6 and "we_ratio" not in found
    assert found["we_src_l1"] == pytest.approx(255 * sigma * 2 / math.sqrt(math.pi), rel=0.1)
    pixel = score("pixel-mse", Case(source=clip(*frames), result=clip(*noisy)), flow=Given(x=1.0)).values
    assert pixel["pixel_mse_all"] >= 2 * sigma**2 * 0.9


def test_dark_minus_light_does_not_wrap_round():
    """A published script subtracted unsigned 8-bit pictures: 10 - 20 was 246."""
    dark, light = torch.full((3, *SIZE), 10 / 255), torch.full((3, *SIZE), 20 / 255)
    found = score("warp-error", Case(source=clip(dark, dark), result=clip(dark, light))).values
    assert found["we_src_l1"] == pytest.approx(10.0, abs=1e-4)
    back = score("warp-error", Case(source=clip(dark, dark), result=clip(light, dark))).values
    assert back["we_src_l1"] == pytest.approx(10.0, abs=1e-4)


def test_only_what_both_frames_show_is_compared():
    """A square jumps over a still ground: where the flow does not return, and at its rim, nothing is compared."""
    ground = noise(7) * 0.5
    before, now = ground.clone(), ground.clone()
    before[:, 20:40, 20:40], now[:, 20:40, 32:52] = 1.0, 1.0
    there, back = torch.zeros(1, 2, *SIZE), torch.zeros(1, 2, *SIZE)
    there[:, 0, 20:40, 20:40], back[:, 0, 20:40, 32:52] = 12.0, -12.0
    flow = Flow(vectors=there, visibility=torch.ones(1, 1, *SIZE), reverse=back)
    seen = seen_by_lai(flow)
    assert seen[..., 21:39, 41:51].max() == 0, "covered by the square in the later frame"
    assert seen[..., 22:38, 22:38].min() == 1 and seen[..., 50:, :].min() == 1
    assert motion_boundary(there)[..., 20:40, 19].min() == 1 and motion_boundary(there)[..., 50:, :].max() == 0
    errors = warp_errors(before[None], now[None], flow)
    assert errors["mse"] < 1e-9 < 0.005 < errors["mse_all"]
    inverted = warp_errors(now[None], before[None], flow)
    assert inverted["mse"] > 0.005, "the flow and its mask belong to the earlier frame"


def test_a_square_wave_has_the_alternation_of_its_amplitude():
    frames = moving(1, 0, frames=8)
    wave = [one + 4 / 255 * (-1) ** t for t, one in enumerate(frames)]
    found = score("alternation", Case(source=clip(*frames), result=clip(*wave)), flow=Given(x=1.0))
    assert found.values["alternation"] == pytest.approx(4.0, abs=0.05)
    assert found.values["alternation_source"] < 0.3 and set(found.series["alternation"]) == set(range(2, 8))
    growing = [one + 4 / 255 * t for t, one in enumerate(frames)]
    steady = score("alternation", Case(source=clip(*frames), result=clip(*growing)), flow=Given(x=1.0))
    assert steady.values["alternation"] < 0.3


@pytest.mark.parametrize("name", ["alternation", "flicker"])
def test_a_cut_is_no_flicker(name):
    frames = [noise(0), noise(0), noise(0), noise(1), noise(1), noise(1)]
    here, cut = Case(source=clip(*frames), result=clip(*frames)), frozenset({3})
    there = Case(source=clip(*frames), result=clip(*frames), cuts=cut)
    assert score(name, there).values[name] < 1e-2 < 5 < score(name, here).values[name]
    assert score("warp-error", there).values["we_src"] < 1e-4 < 1000 < score("warp-error", here).values["we_src"]


def test_drift_of_a_known_gain():
    frames = [noise(0) * 0.5] * 5
    gained = [one + 2 / 255 * t for t, one in enumerate(frames)]
    gained[4] = gained[4] + 10 / 255
    found = score("colour-drift", Case(source=clip(*frames), result=clip(*gained)))
    assert found.series["drift_mean"][2] == pytest.approx(4.0, abs=0.01)
    assert found.values["drift_mean"] == pytest.approx((2 + 4 + 6 + 18) / 4, abs=0.01)
    assert found.values["seam_jump"] == pytest.approx(12.0, abs=0.01) and found.values["drift_mean_source"] == 0
    assert found.values["drift_spread"] < 0.05
    contrast = [one * (1 + 0.1 * t) for t, one in enumerate(frames)]
    spread = score("colour-drift", Case(source=clip(*frames), result=clip(*contrast)))
    deviation = 255 * frames[0].std(dim=(1, 2)).mean().item()
    assert spread.series["drift_spread"][3] == pytest.approx(0.3 * deviation, abs=0.1)


def test_shape_is_compared_by_overlap():
    frame, wanted, found = noise(), torch.zeros(3, *SIZE), torch.zeros(3, *SIZE)
    wanted[:, 10:30, 10:30], found[:, 10:30, 20:40] = 1, 1
    masks = {"mask": clip(wanted), "result_mask": clip(found)}
    case = Case(source=clip(frame), result=clip(frame), **masks)
    assert score("shape", case).values["shape_iou"] == pytest.approx(1 / 3)
    empty = Case(source=clip(frame), result=clip(frame), mask=clip(0 * wanted), result_mask=clip(0 * wanted))
    assert "no foreground" in score("shape", empty).missing["shape_iou"]
    assert "needs a mask" in score("shape", Case(source=clip(frame), result=clip(frame))).missing["shape_iou"]


def test_costs_are_those_that_were_recorded():
    case = Case(source=clip(noise()), result=clip(noise()), seconds_per_frame=0.25, peak_memory=3 * 2**20)
    assert score("cost", case).values == {"seconds_per_frame": 0.25, "peak_memory": 3.0}
    assert score("cost", Case(source=clip(noise()), result=clip(noise()))).missing.keys() == {"seconds_per_frame", "peak_memory"}


def test_a_black_video_and_a_still_one_have_no_ratios():
    black = [torch.zeros(3, *SIZE)] * 3
    found = score("warp-error", Case(source=clip(*black), result=clip(*black)))
    assert {"we_ratio", "motion_ratio"} <= found.missing.keys() and found.values["we_src"] == 0
    assert score("fidelity", Case(source=clip(*black), result=clip(*black))).values["psnr"] == 100.0
