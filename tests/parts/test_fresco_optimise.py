"""The feature optimisation: losses, gradients, steps and statistics against stored tensors, and against the plain Gram."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_fresco_data import CASES, array, background, off, ring
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowpaint.errors import ShapeError
from flowpaint.parts.consistency.background import smooth_features
from flowpaint.parts.consistency.losses import gram, spatial_loss, temporal_loss, unit_tokens
from flowpaint.parts.consistency.optimise import descend, objective, optimised, renormalised
from flowpaint.parts.consistency.ring import Ring
from flowpaint.parts.consistency.switches import SWITCHES, Switches

FILE = "feature_optimisation"
OFFICIAL = SWITCHES["official"]
TERMS = {
    "temporal": replace(OFFICIAL, spatial_weight=0.0),
    "spatial": replace(OFFICIAL, temporal_weight=0.0),
    "both": OFFICIAL,
}
LAYERS = range(4)


def setting(layer, term="both", case="F6_smooth_blob"):
    features = array(FILE, f"feature_up{layer}")
    source = unit_tokens(array(FILE, f"reference_feature_up{layer}"))
    return features, objective(ring(case).at(*features.shape[-2:]), source, TERMS[term])


def plain_gram_loss(features, source, norm):
    """As one would write it: both Gram matrices whole."""
    apart = gram(unit_tokens(features)) - gram(source)
    return apart.abs().mean() if norm == "l1" else apart.square().mean()


def value_and_slope(loss, features):
    at = features.clone().requires_grad_()
    value = loss(at)
    return value.detach(), torch.autograd.grad(value, at)[0]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("case", CASES)
def test_temporal_loss_starts_as_stored(layer, case):
    features, loss = setting(layer, "temporal", case)
    assert loss(features).item() == pytest.approx(array(FILE, f"loss_start_temporal_up{layer}_{case}").item(), rel=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("term", ["temporal", "spatial"])
def test_gradients_start_as_stored(layer, term):
    features, loss = setting(layer, term)
    wanted = array(FILE, f"gradient_start_up{layer}_{term}")
    _, found = value_and_slope(loss, features)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-8 + 1e-6 * wanted.abs().max().item())
    # Float64 tells which differences are rounding.
    near = ring().at(*features.shape[-2:]).to(features.double())
    source = unit_tokens(array(FILE, f"reference_feature_up{layer}").double())
    _, exact = value_and_slope(objective(near, source, TERMS[term]), features.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-8 + 1e-6 * wanted.abs().max().item())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("term", TERMS)
def test_steps_are_the_stored_ones(layer, term):
    features, loss = setting(layer, term)
    once, _ = descend(features, loss, iterations=1, lr=OFFICIAL.lr)
    _, slope = value_and_slope(loss, features)
    sure = slope.abs() >= 1e-5 * slope.abs().max()
    wanted = array(FILE, f"feature_up{layer}_{term}_iter1_before_adain")
    assert (once - wanted)[sure].abs().max() < 1e-3
    assert (once - wanted).abs().max() <= 2 * OFFICIAL.lr + 1e-3
    end, curve = descend(features, loss, iterations=OFFICIAL.iterations, lr=OFFICIAL.lr)
    stored = array(FILE, f"loss_curve_up{layer}_{term}")
    assert curve[0].item() == pytest.approx(stored[0].item(), rel=1e-5)
    torch.testing.assert_close(curve.double(), stored, rtol=3e-3, atol=0)
    wanted = array(FILE, f"feature_up{layer}_{term}_iter20_before_adain")
    apart = (end - wanted).abs()
    assert apart.mean() <= 5e-3 * wanted.std()
    assert (apart > 0.05).float().mean() <= 0.03


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("iterations", [1, 20])
def test_statistics_after_the_steps_are_the_stored_ones(layer, iterations):
    name = f"feature_up{layer}_both_iter{iterations}"
    like = array(FILE, f"feature_up{layer}")
    found = renormalised(array(FILE, f"{name}_before_adain"), like, eps=OFFICIAL.adain_eps)
    assert off(found, array(FILE, f"{name}_after_adain")) < 1e-5


def test_renormalised_in_both_compats():
    given = array("adain", "content"), array("adain", "style")
    official, paper = array("adain", "out_official_target_eps_1"), array("adain", "out_paper_target_eps_1e-5")
    assert off(renormalised(*given, eps=SWITCHES["official"].adain_eps), official) < 1e-6
    assert off(renormalised(*given, eps=SWITCHES["paper"].adain_eps), paper) < 1e-6
    assert off(renormalised(*given, eps=SWITCHES["paper"].adain_eps), official) > 0.1
    exact = renormalised(*(x.double() for x in given), eps=1.0)
    assert off(exact, official.double()) < 2e-6


def test_renormalised_has_the_statistics_it_should():
    given, like = torch.rand(2, 3, 8, 9, dtype=torch.float64), 3 * torch.rand(2, 3, 8, 9, dtype=torch.float64)
    found = renormalised(given, like, eps=0.0)
    torch.testing.assert_close(found.mean((2, 3)), like.mean((2, 3)))
    torch.testing.assert_close(found.std((2, 3)), like.std((2, 3)), rtol=1e-4, atol=0)
    one = renormalised(torch.full((1, 2, 1, 1), 5.0), torch.full((1, 2, 1, 1), 7.0), eps=1.0)
    assert one.tolist() == torch.full((1, 2, 1, 1), 7.0).tolist()  # one cell: its mean, not NaN


@pytest.mark.parametrize("norm", ["l1", "l2sq"])
@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("rows", [1, 7, 30, 100])
def test_spatial_loss_is_that_of_the_whole_gram(norm, channels, rows):
    generator = torch.Generator().manual_seed(channels)
    features, other = torch.randn(2, 3, channels, 5, 6, generator=generator, dtype=torch.float64)
    source = unit_tokens(other)
    value, slope = value_and_slope(lambda x: spatial_loss(x, source, norm=norm, rows=rows), features)
    wanted, exact = value_and_slope(lambda x: plain_gram_loss(x, source, norm), features)
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(slope, exact, rtol=1e-9, atol=1e-15)
    single, _ = value_and_slope(lambda x: spatial_loss(x, source.float(), norm=norm, rows=rows), features.float())
    assert single.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_squared_identity_holds_near_the_source():
    """Where it is used: after a few steps the difference is a small one of large numbers."""
    features = torch.randn(2, 16, 20, 20, generator=torch.Generator().manual_seed(0))
    source = unit_tokens(features + 0.02 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1)))
    found, slope = value_and_slope(lambda x: spatial_loss(x, source, norm="l2sq"), features)
    wanted, exact = value_and_slope(lambda x: plain_gram_loss(x, source.double(), "l2sq"), features.double())
    assert found.item() == pytest.approx(wanted.item(), rel=1e-3)
    assert (slope - exact).norm() < 1e-3 * exact.norm()


def test_gradients_scale_with_what_follows():
    features = torch.randn(1, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    source = unit_tokens(torch.randn(features.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    for norm in ("l1", "l2sq"):
        assert torch.autograd.gradcheck(
            lambda x, norm=norm: (3 * spatial_loss(x, source, norm=norm, rows=4)).square(), features.clone().requires_grad_()
        )


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        found = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *found])
        return result


@pytest.mark.parametrize("norm", ["l1", "l2sq"])
def test_no_gram_is_ever_held(norm):
    features = torch.randn(2, 8, 48, 48, generator=torch.Generator().manual_seed(0))
    source = unit_tokens(features.flip(0))
    with Largest() as largest:
        value_and_slope(lambda x: spatial_loss(x, source, norm=norm, rows=64), features)
    assert largest.elements <= max(64 * 48 * 48, features.numel())
    with Largest() as largest:
        value_and_slope(lambda x: plain_gram_loss(x, source, norm), features)
    assert largest.elements == 2 * (48 * 48) ** 2


def still(num_frames, height, width):
    zero = torch.zeros(num_frames, 2, height, width)
    return Ring(forward=zero, backward=zero, seen_forward=zero[:, :1] + 1, seen_backward=zero[:, :1] + 1)


def test_temporal_loss_counts_pairs_and_directions():
    level = torch.tensor([0.0, 1.0, 5.0])[:, None, None, None].expand(3, 2, 4, 6)
    at = still(3, 4, 6)
    assert temporal_loss(level, at).item() == pytest.approx(2 * (1 + 4 + 5) / 3)
    assert temporal_loss(level, at, cyclic=False).item() == pytest.approx(2 * (1 + 4) / 2)
    assert temporal_loss(level, at, both=False).item() == pytest.approx((1 + 4 + 5) / 3)
    at.seen_backward[1] = 0  # frame 2 does not see frame 1
    assert temporal_loss(level, at).item() == pytest.approx((2 * 1 + 4 + 2 * 5) / 3)
    # Two streams are not neighbours of one another.
    assert temporal_loss(torch.cat([level, level]), still(3, 4, 6)).item() == pytest.approx(20 / 3)


@pytest.mark.parametrize("num_frames", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 4)])
def test_short_batches_and_small_maps_work(num_frames, size):
    features = torch.randn(2 * num_frames, 3, *size, generator=torch.Generator().manual_seed(0))
    for switches in SWITCHES.values():
        found = optimised(
            features,
            still(num_frames, 8 * size[0], 8 * size[1]),
            unit_tokens(features.flip(0)),
            switches=switches,
            background=torch.ones(num_frames, 1, 9, 9),
        )
        assert found.shape == features.shape
        assert torch.isfinite(found).all()


def test_optimised_is_steps_then_statistics_then_background():
    features, loss = setting(2)
    source = unit_tokens(array(FILE, "reference_feature_up2"))
    moved, curve = descend(features, loss, iterations=20, lr=0.2)
    wanted = renormalised(moved, features, eps=1.0)
    kept = features.clone()
    assert torch.equal(optimised(features, ring(), source, switches=OFFICIAL), wanted)
    smoothed = smooth_features(wanted, ring(), background())
    assert torch.equal(optimised(features, ring(), source, switches=OFFICIAL, background=background()), smoothed)
    assert torch.equal(features, kept)
    assert curve[-1] < 0.5 * curve[0]
    assert not torch.equal(optimised(features, ring(), source, switches=SWITCHES["paper"]), wanted)


def test_gradients_are_found_where_the_caller_wants_none():
    features, _ = setting(1)
    source = unit_tokens(array(FILE, "reference_feature_up1"))
    wanted = optimised(features, ring(), source, switches=OFFICIAL)
    with torch.no_grad():
        assert torch.equal(optimised(features, ring(), source, switches=OFFICIAL), wanted)
    with torch.inference_mode():
        inside = optimised(features * 1, ring(), source * 1, switches=OFFICIAL, background=background() * 0)
    assert torch.equal(inside, wanted)
    assert not wanted.requires_grad


def test_without_losses_features_pass():
    features, _ = setting(0)
    off_switches = replace(OFFICIAL, temporal_weight=0.0)
    assert torch.equal(optimised(features, ring(), None, switches=off_switches), features)
    assert torch.equal(optimised(features, ring(), None, switches=replace(OFFICIAL, iterations=0)), features)
    half = optimised(features.half(), ring(), None, switches=OFFICIAL)
    assert half.dtype == torch.float16


def test_adam_takes_the_step_written_in_its_paper():
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found, curve = descend(start, lambda x: (x * torch.tensor([3.0, 1e-9])).sum(), iterations=2, lr=0.2)
    # A constant gradient g: every step is lr g / (|g| + 1e-8).
    steps = [2 * 0.2 * g / (g + 1e-8) for g in (3.0, 1e-9)]
    assert found.tolist() == pytest.approx([1 - steps[0], -2 - steps[1]], rel=1e-9)
    assert curve.tolist() == pytest.approx([3 - 2e-9, 3 * (1 - steps[0] / 2) + 1e-9 * (-2 - steps[1] / 2)])


def test_gram_of_unit_tokens():
    tokens = unit_tokens(torch.tensor([[3.0, 0.0], [4.0, 2.0]])[None, :, None])
    assert torch.allclose(gram(tokens)[0], torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    assert unit_tokens(torch.zeros(1, 3, 2, 2)).abs().max() == 0
    assert math.isclose(F.normalize(torch.ones(3), dim=0)[0].item(), 3**-0.5, rel_tol=1e-6)


def test_a_source_of_another_size_is_refused():
    with pytest.raises(ShapeError, match="source"):
        spatial_loss(torch.rand(1, 3, 4, 4), torch.rand(1, 15, 3))
    with pytest.raises(ShapeError, match="forward"):
        temporal_loss(torch.rand(4, 3, 4, 4), still(2, 8, 8))


def test_the_defaults_are_the_released_numbers():
    assert SWITCHES["official"] == Switches()
    assert (OFFICIAL.lr, OFFICIAL.iterations, OFFICIAL.spatial_weight, OFFICIAL.temporal_weight) == (0.2, 20, 100.0, 2.0)
    paper = SWITCHES["paper"]
    assert (paper.lr, paper.spatial_norm, paper.adain_eps, paper.cyclic_pairs) == (0.4, "l2sq", 1e-5, False)
    assert paper.spatial_weight / paper.temporal_weight == OFFICIAL.spatial_weight / OFFICIAL.temporal_weight
