"""Metrics on features: closed forms, brute force, independent libraries; then the parts, on tiny networks and chosen rows."""

import itertools
import math
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from flowpaint import seams
from flowpaint.errors import ConfigError, InputError, ShapeError, WeightsError
from flowpaint.moments import Case, Pass
from flowpaint.networks.vgg import AlexNet, Vgg16
from flowpaint.parts.features import AlexFeatures, ClipFeatures, I3dFeatures, VggFeatures
from flowpaint.parts.metrics.distribution import (
    FrechetClips,
    FrechetPictures,
    InceptionScore,
    VideoInceptionScore,
    as_probabilities,
    frechet_distance,
    frechet_of_moments,
    inception_score,
    kernel_distance,
    kernel_distance_of_subsets,
)
from flowpaint.parts.metrics.perceptual import (
    Lpips,
    SpatialConsistency,
    layout_distance,
    linear_heads,
    perceptual_distance,
)
from flowpaint.parts.metrics.quality import Dover, fragments, fused, read_answer, sampled_frames
from flowpaint.parts.metrics.text import (
    ClipAgreement,
    adjacent_consistency,
    clip_directions,
    clip_scores,
    frame_accuracy,
    pair_consistency,
)
from flowpaint.types import Clip, Origin
from flowpaint.weights import Policy, keeping, resolve
from tiny_networks import Means, save_clip, save_script, save_stack


@pytest.fixture(autouse=True)
def pickles():
    """PyTorch's files are what these networks are published as."""
    with keeping(Policy(allow_pickle=True)):
        yield


SIZE = (40, 48)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def film(count, seed=0, size=SIZE):
    return Clip.from_array(rand(count, 3, *size, seed=seed))


def colours(*greys):
    """A clip of flat frames, 8-bit grey levels."""
    return Clip.from_array(np.stack([np.full((*SIZE, 3), grey, np.uint8) for grey in greys]))


def judged(metric, case, frames=None):
    tally = metric(case)
    for moment in Pass(flow=seams.build("flow", "dis", preset="ultrafast"))(case, frames):
        tally.see(moment)
    return tally.score()


@dataclass(frozen=True)
class Chosen:
    """Rows that were chosen by the grey level of flat pictures, and by the words."""

    rows: dict
    words: dict = None

    def __call__(self, pictures):
        return torch.tensor([self.rows[round(one.mean().item() * 255)] for one in pictures.flatten(1)]).float()

    def text(self, prompts):
        return torch.tensor([self.words[prompt] for prompt in prompts]).float()

    def unread(self, prompt):
        return 0


# ------------------------------------------------------------------------------------------------------------ CLIP's angles


def test_cosines_are_those_of_the_angles():
    angle = math.radians(50)
    rows = torch.tensor([[1.0, 0.0], [0.0, 3.0], [math.cos(angle), math.sin(angle)], [-2.0, 0.0]])
    assert clip_scores(rows, torch.tensor([5.0, 0.0])).tolist() == pytest.approx([1, 0, math.cos(angle), -1], abs=1e-7)


def test_neighbours_and_pairs_differ_on_a_b_a_b():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 0.5]])
    assert adjacent_consistency(rows).tolist() == [0, 0, 0]
    assert pair_consistency(rows) == pytest.approx(1 / 3)


def test_pairs_are_those_of_a_double_loop_and_of_one_shot():
    rows = normal(7, 5)
    shots = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    cosine = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
    every = [(i, j) for i in range(7) for j in range(i + 1, 7)]
    assert pair_consistency(rows) == pytest.approx(np.mean([cosine[i, j] for i, j in every]))
    same = [(i, j) for i, j in every if shots[i] == shots[j]]
    assert len(same) == 6 and pair_consistency(rows, shots) == pytest.approx(np.mean([cosine[i, j] for i, j in same]))
    assert pair_consistency(rows[:1]) is None and len(adjacent_consistency(rows[:1])) == 0


def test_a_tie_is_a_success():
    rows = torch.tensor([[1.0, 1.0], [1.0, 0.9], [0.9, 1.0]])
    assert frame_accuracy(rows, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).tolist() == [1, 1, 0]


def test_scale_changes_no_cosine():
    rows, text = normal(5, 4), normal(4, seed=1)
    scales = torch.tensor([0.1, 2, 30, 1, 7])[:, None]
    assert torch.allclose(clip_scores(rows, text), clip_scores(rows * scales, 9 * text))
    assert torch.allclose(adjacent_consistency(rows), adjacent_consistency(rows * scales))
    assert pair_consistency(rows) == pytest.approx(pair_consistency(rows * scales))
    turned = clip_directions(rows, -rows.flip(1), text, text.flip(0))
    assert torch.allclose(turned, clip_directions(rows * scales, -rows.flip(1), 2 * text, 3 * text.flip(0)))


def test_direction_compares_what_moved_with_what_was_said():
    east, north, up = torch.eye(3)
    said = (north, east)  # from the source's word to the target's
    assert clip_directions(north[None], east[None], *said).item() == pytest.approx(1)
    assert clip_directions(east[None], north[None], *said).item() == pytest.approx(-1)
    assert clip_directions(up[None], east[None], *said).item() == pytest.approx(0.5)
    assert clip_directions(east[None], east[None], *said).isnan().all()
    assert clip_directions(north[None], east[None], up, up).isnan().all()


# ------------------------------------------------------------------------------------------------------------- distributions


def test_frechet_of_diagonal_gaussians_is_its_closed_form():
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 4.0, 1.0])
    means = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.5, 1.0, 0.0])
    truth = (means[0] - means[1]).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_of_moments(means[0], a.diag(), means[1], b.diag()) == pytest.approx(truth.item())
    x, y = normal(40_000, 3) * a.sqrt() + means[0], normal(40_000, 3, seed=1) * b.sqrt() + means[1]
    assert frechet_distance(x, y) == pytest.approx(truth.item(), rel=0.02)


def test_frechet_of_one_dimension():
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [5.0 + 6.0]])
    assert frechet_distance(a, b) == pytest.approx((8 - 1) ** 2 + (math.sqrt(18) - math.sqrt(2)) ** 2)


@pytest.mark.parametrize("samples, dimensions", [((50, 60), 6), ((7, 5), 16), ((40, 6), 12), ((16, 17), 16)])
def test_frechet_is_that_of_scipys_root(samples, dimensions):
    mix = normal(dimensions, dimensions, seed=3)
    a, b = normal(samples[0], dimensions) @ mix, normal(samples[1], dimensions, seed=1) + 0.5
    first, second = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    # A little on the diagonal: the root of a singular matrix is beyond what sqrtm can do.
    small = 1e-7 * np.eye(dimensions)
    root = scipy.linalg.sqrtm((first + small) @ (second + small)).real
    truth = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(first + second - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(truth, rel=2e-3)
    moments = a.mean(0), torch.from_numpy(first), b.mean(0), torch.from_numpy(second)
    assert frechet_distance(a, b) == pytest.approx(frechet_of_moments(*moments), rel=1e-5)


def test_frechet_keeps_what_it_should():
    a, b = normal(30, 8), normal(25, 8, seed=1) * 2 + 1
    turn = torch.linalg.qr(normal(8, 8, seed=2)).Q
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(a @ turn, b @ turn))
    for rows in (a, a[:4], a.float()):
        assert 0 <= frechet_distance(rows, rows) < 1e-5
    with pytest.raises(ShapeError, match="no covariance"):
        frechet_distance(a[:1], b)


def test_frechet_is_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    extractor = Flat()
    judge = FrechetInceptionDistance(feature=extractor, input_img_size=(3, 8, 8))
    a, b = ((rand(40, 3, 8, 8, seed=seed) ** (1 + seed) * 255).byte() for seed in (0, 1))
    judge.update(a, real=True)
    judge.update(b, real=False)
    assert frechet_distance(extractor(a), extractor(b)) == pytest.approx(judge.compute().item(), rel=1e-3)


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features:UserWarning")
def test_kernel_distance_is_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    extractor = Flat()
    judge = KernelInceptionDistance(feature=extractor, subsets=1, subset_size=20)
    a, b = ((rand(20, 3, 8, 8, seed=seed) ** (1 + seed) * 255).byte() for seed in (0, 1))
    judge.update(a, real=True)
    judge.update(b, real=False)
    assert kernel_distance(extractor(a), extractor(b)) == pytest.approx(judge.compute()[0].item(), rel=1e-4)


class Flat(torch.nn.Module):
    """8-bit pictures times a fixed matrix: [N, 6]."""

    num_features = 6

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", normal(192, 6).float())

    def forward(self, pictures):
        return pictures.float().flatten(1) / 255 @ self.matrix


def test_kernel_distance_is_a_double_loop():
    a, b = normal(6, 4), normal(5, 4, seed=1) + 0.3

    def kernel(x, y):
        return (float(x @ y) / 4 + 1) ** 3

    alone = sum(kernel(a[i], a[j]) for i in range(6) for j in range(6) if i != j) / 30
    other = sum(kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / 20
    mixed = sum(kernel(x, y) for x in a for y in b) / 30
    assert kernel_distance(a, b) == pytest.approx(alone + other - 2 * mixed)
    with pytest.raises(ShapeError):
        kernel_distance(a[:1], b)


def test_kernel_distance_is_unbiased_where_frechet_is_not():
    found = [kernel_distance(normal(20, 16, seed=2 * i), normal(20, 16, seed=2 * i + 1)) for i in range(200)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error and min(found) < 0
    assert frechet_distance(normal(20, 64), normal(20, 64, seed=1)) > 50


def test_subsets_are_used_where_there_are_more_and_are_the_same_each_time():
    a, b = normal(40, 4), normal(40, 4, seed=1) + 0.5
    assert kernel_distance_of_subsets(a, b, subsets=3, size=40) == kernel_distance(a, b)
    some = [kernel_distance_of_subsets(a, b, subsets=50, size=20, seed=seed) for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2] != kernel_distance(a, b)
    assert some[0] == pytest.approx(kernel_distance(a, b), rel=0.3)


@pytest.mark.parametrize("classes", [2, 5])
def test_inception_score_is_1_or_the_number_of_classes(classes):
    assert inception_score(torch.full((8, classes), 1 / classes))[0] == pytest.approx(1)
    assert inception_score(torch.eye(classes).repeat(3, 1))[0] == pytest.approx(classes)
    assert inception_score(torch.eye(classes)[:1].repeat(6, 1))[0] == pytest.approx(1)


def test_inception_score_of_splits():
    rows = torch.eye(2).repeat_interleave(4, dim=0)  # four of one class, then four of the other
    assert inception_score(rows)[0] == pytest.approx(2)
    assert inception_score(rows, 2) == pytest.approx((1, 0))
    mean, deviation = inception_score(torch.cat([rows[:4], rows[::2]]), 2)
    assert (mean, deviation) == pytest.approx((1.5, 0.5))
    for splits in (0, 9):
        with pytest.raises(ShapeError):
            inception_score(rows, splits)


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features:UserWarning", "ignore:std:UserWarning")
def test_inception_score_is_torchmetrics():
    from torchmetrics.image.inception import InceptionScore as Judge

    judge = Judge(feature=Flat(), splits=1)
    pictures = (rand(30, 3, 8, 8) * 255).byte()
    judge.update(pictures)
    found = inception_score(as_probabilities(Flat()(pictures), "logits"))
    assert found[0] == pytest.approx(judge.compute()[0].item(), rel=1e-4)


def test_what_is_no_probability_is_refused():
    with pytest.raises(InputError, match="outputs=logits"):
        as_probabilities(torch.tensor([[0.2, 0.7]]), "probabilities")
    with pytest.raises(InputError):
        as_probabilities(torch.tensor([[1.5, -0.5]]), "probabilities")
    assert as_probabilities(torch.tensor([[0.0, 0.0]]), "logits").tolist() == [[0.5, 0.5]]


# -------------------------------------------------------------------------------------------------------------- feature maps


def test_lpips_is_a_plain_loop():
    a, b = ([rand(2, 3, 2, 2, seed=s), rand(2, 2, 1, 1, seed=s + 9)] for s in (1, 2))
    heads = [rand(3, seed=5), rand(2, seed=6)]
    truth = [0.0, 0.0]
    for n in range(2):
        for layer, head in enumerate(heads):
            height, width = a[layer].shape[-2:]
            for y in range(height):
                for x in range(width):
                    one, other = a[layer][n, :, y, x], b[layer][n, :, y, x]
                    difference = one / one.norm() - other / other.norm()
                    truth[n] += float((head * difference**2).sum()) / (height * width)
    assert perceptual_distance(a, b, heads).tolist() == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("name, kind, part", [("alexnet", AlexNet, AlexFeatures), ("vgg16", Vgg16, VggFeatures)])
def test_lpips_is_torchmetrics_on_the_same_network(name, kind, part, tmp_path, monkeypatch):
    from torchmetrics.functional.image import lpips as theirs

    file = save_stack(kind, tmp_path / "stack.pth")
    stack = kind()
    stack.fill(torch.load(file, weights_only=True))
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_: stack.features)
    heads = linear_heads(resolve(f"lpips-{name}"), pinned=True)
    judge = theirs._LPIPS(pretrained=False, pnet_rand=True, net={"alexnet": "alex", "vgg16": "vgg"}[name])
    judge.load_state_dict({f"lin{i}.model.1.weight": head[None, :, None, None] for i, head in enumerate(heads)}, strict=False)
    a, b = film(3, 1), film(3, 2)
    score = judged(Lpips(extractor=part(weights=str(file))), Case(source=a, result=b))
    with torch.inference_mode():
        truth = judge(b.frames, a.frames, normalize=True).flatten().tolist()
    assert list(score.series["lpips"].values()) == pytest.approx(truth, rel=1e-4) and min(truth) > 0
    assert score.values["lpips"] == pytest.approx(np.mean(truth), rel=1e-4)
    assert score.facts["heads_sha256"] and score.facts["network"] == kind.title


def test_lpips_is_0_on_equals_and_grows_with_noise(tmp_path):
    metric = Lpips(extractor=AlexFeatures(weights=str(save_stack(AlexNet, tmp_path / "alex.pth"))))
    source = film(1)
    found = []
    for strength in (0, 0.05, 0.2, 0.6):
        noisy = (source.frames + strength * (rand(1, 3, *SIZE, seed=4) - 0.5)).clamp(0, 1)
        found.append(judged(metric, Case(source=source, result=Clip.from_array(noisy))).values["lpips"])
    assert found[0] == 0 and found == sorted(found) and found[1] > 0


def test_lpips_refuses_heads_of_another_network(tmp_path):
    file = save_stack(AlexNet, tmp_path / "alex.pth")
    metric = Lpips(extractor=AlexFeatures(weights=str(file)), heads=str(resolve("lpips-vgg16")))
    with pytest.raises(WeightsError, match="heads of"):
        judged(metric, Case(source=film(1), result=film(1, 1)))
    with pytest.raises(WeightsError, match=r"lacks lin0\.model\.1\.weight"):
        replace(metric, heads=str(file))(Case(source=film(1), result=film(1, 1)))
    with pytest.raises(WeightsError, match="no file /no/heads"):
        replace(metric, heads="/no/heads.pth")(Case(source=film(1), result=film(1, 1)))


def test_layout_distance_is_that_of_all_pairs_of_places():
    a, b = rand(2, 5, 4, 3, seed=1), rand(2, 5, 4, 3, seed=2)
    unit = [torch.nn.functional.normalize(maps.flatten(2), dim=1) for maps in (a, b)]
    grams = [one.mT @ one for one in unit]
    truth = (grams[0] - grams[1]).square().mean(dim=(1, 2))
    assert torch.allclose(layout_distance(a, b), truth, rtol=1e-5) and truth.min() > 0.001


def test_layout_distance_keeps_what_it_should():
    a, b = rand(1, 6, 5, 4, seed=1), rand(1, 6, 5, 4, seed=2)
    truth = layout_distance(a, b)
    assert layout_distance(a, a).item() == 0
    assert torch.allclose(layout_distance(a * rand(1, 1, 5, 4, seed=3).add(0.1), 7 * b), truth, rtol=1e-5)
    turn = torch.linalg.qr(normal(6, 6)).Q.float()
    assert torch.allclose(layout_distance(torch.einsum("dc,nchw->ndhw", turn, a), b), truth, rtol=1e-4)
    shuffled = a.flatten(2)[..., torch.randperm(20, generator=torch.Generator().manual_seed(1))].view_as(a)
    assert layout_distance(a, shuffled).item() > 1e-3


def test_layout_is_measured_on_the_layer_that_is_named(tmp_path):
    extractor = VggFeatures(weights=str(save_stack(Vgg16, tmp_path / "vgg.pth")))
    case = Case(source=film(2), result=film(2, 1))
    for layer in ("relu3_1", "relu1_1"):
        score = judged(SpatialConsistency(extractor=extractor, layer=layer), case)
        maps = [extractor.maps(clip.frames, [layer])[0] for clip in (case.result, case.source)]
        assert list(score.series["spat_con"].values()) == pytest.approx(layout_distance(*maps).tolist(), rel=1e-3)
        assert score.facts["layer"] == layer
    assert judged(SpatialConsistency(extractor=extractor), Case(source=film(2), result=film(2))).values["spat_con"] == 0


@pytest.mark.parametrize("metric, name", [(Lpips, "lpips"), (SpatialConsistency, "spat_con")])
def test_pictures_too_small_are_missing(metric, name, tmp_path):
    kind, part = (AlexNet, AlexFeatures) if metric is Lpips else (Vgg16, VggFeatures)
    built = metric(extractor=part(weights=str(save_stack(kind, tmp_path / "stack.pth"))))
    score = judged(built, Case(source=film(2, size=(12, 40)), result=film(2, 1, size=(12, 40))))
    assert "pixels a side" in score.missing[name] and not score.values


# ------------------------------------------------------------------------------------------------------------ CLIP as a part

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def angles(**words):
    rows = {0: EAST, 255: NORTH, 128: [math.cos(1), math.sin(1)]}
    return ClipAgreement(extractor=Chosen(rows, words))


def test_clip_agreement_of_chosen_angles():
    metric = angles(target=NORTH, origin=EAST)
    case = Case(source=colours(0, 0, 0), result=colours(255, 128, 0), prompt="target", source_prompt="origin")
    score = judged(metric, case)
    assert score.series["clip_score"] == pytest.approx({0: 1, 1: math.sin(1), 2: 0}, abs=1e-6)
    assert score.values["clip_score"] == pytest.approx((1 + math.sin(1)) / 3)
    assert score.series["tem_con"] == pytest.approx({1: math.sin(1), 2: math.cos(1)})
    assert score.values["frame_consistency"] == pytest.approx((math.sin(1) + math.cos(1)) / 3)
    assert score.values["fram_acc"] == pytest.approx(2 / 3)
    moved = np.array([math.cos(1) - 1, math.sin(1)])
    told = moved @ np.array([-1, 1]) / np.linalg.norm(moved) / math.sqrt(2)
    assert score.series["clip_direction"] == pytest.approx({0: 1, 1: told})  # frame 2 did not move
    assert not score.missing and score.facts["frames"] == 3


def test_without_words_their_measures_are_missing_and_the_others_are_not():
    metric = angles(target=NORTH, origin=EAST)
    case = Case(source=colours(0, 0), result=colours(255, 0))
    score = judged(metric, case)
    assert set(score.missing) == {"clip_score", "fram_acc", "clip_direction"}
    assert all(reason == "needs a prompt" for reason in score.missing.values())
    assert score.values == {"tem_con": 0, "frame_consistency": 0}
    score = judged(metric, replace(case, prompt="target"))
    assert set(score.missing) == {"fram_acc", "clip_direction"} and score.values["clip_score"] == pytest.approx(0.5)
    assert all("describes the source" in reason for reason in score.missing.values())


def test_one_frame_has_no_neighbours():
    score = judged(angles(target=NORTH), Case(source=colours(0), result=colours(255), prompt="target"))
    assert score.values == {"clip_score": 1}
    assert "two frames" in score.missing["tem_con"] and "two frames" in score.missing["frame_consistency"]


def test_nothing_is_compared_across_cuts():
    source = colours(0, 0, 0, 0)
    case = Case(source=source, result=colours(0, 0, 255, 255), cuts=frozenset({2}))
    score = judged(angles(), case)
    assert score.values["tem_con"] == 1 and set(score.series["tem_con"]) == {1, 3} and score.values["frame_consistency"] == 1
    assert judged(angles(), replace(case, cuts=frozenset())).values["tem_con"] == pytest.approx(2 / 3)
    alone = judged(angles(), replace(case, cuts=frozenset({1, 2, 3})))
    assert set(alone.missing) >= {"tem_con", "frame_consistency"}


def test_frames_that_are_left_out_are_no_neighbours():
    case = Case(source=colours(0, 0, 0, 0, 0), result=colours(0, 0, 255, 255, 0))
    assert set(judged(angles(), case, frames={0, 1, 4}).series["tem_con"]) == {1}


def test_an_unchanged_result_has_no_direction():
    clip = colours(0, 255)
    case = Case(source=clip, result=clip, prompt="target", source_prompt="origin")
    score = judged(angles(target=NORTH, origin=EAST), case)
    assert "equals the source" in score.missing["clip_direction"] and "clip_direction" not in score.series


def test_clip_itself_through_the_same_door(tmp_path):
    extractor = ClipFeatures(weights=str(save_clip(tmp_path / "clip")))
    source, result = film(11), film(11, 1)  # more frames than wait at a time
    case = Case(source=source, result=result, prompt="red cat", source_prompt="a dog")
    score = judged(ClipAgreement(extractor=extractor), case)
    assert not score.missing and not score.warnings
    rows, words = extractor(result.frames), extractor.text(["red cat", "a dog"])
    assert score.values["clip_score"] == pytest.approx(clip_scores(rows, words[0]).mean().item(), rel=1e-4)
    truth = clip_directions(rows, extractor(source.frames), *words).mean().item()
    assert score.values["clip_direction"] == pytest.approx(truth, rel=1e-3, abs=1e-5)
    assert score.facts["weights"] == "model.safetensors" and len(score.facts["sha256"]) == 12
    long = judged(ClipAgreement(extractor=extractor), replace(case, prompt="red " * 30))
    assert long.warnings == ("The last 8 tokens of the prompt are beyond what the network reads. Shorten it.",)


def test_an_extractor_must_do_what_is_asked_of_it():
    for metric, extractor in ((ClipAgreement, "vgg16"), (Lpips, "clip"), (SpatialConsistency, "inception")):
        with pytest.raises(ConfigError, match="another extractor"):
            metric(extractor=seams.build("extractor", extractor))


# ---------------------------------------------------------------------------------------------------- distributions as parts


class Mean:
    """Three numbers of a picture, or of a clip: the means of its channels."""

    def __call__(self, pictures):
        return pictures.mean(dim=(-2, -1)).flatten(1, -2).mean(dim=1) if pictures.ndim == 5 else pictures.mean(dim=(-2, -1))


class Time:
    """Of a clip: the grey of its first and last frames, in 8-bit levels."""

    def __call__(self, clips):
        return torch.stack([clips[:, 0].mean(dim=(1, 2, 3)), clips[:, -1].mean(dim=(1, 2, 3))], dim=1) * 255


def test_fid_and_kid_are_of_source_and_result_frames():
    source, result = film(9), Clip.from_array(film(9, 1).frames * 0.5)
    score = judged(FrechetPictures(extractor=Mean()), Case(source=source, result=result))
    a, b = Mean()(source.frames), Mean()(result.frames)
    assert score.values["fid"] == pytest.approx(frechet_distance(a, b), rel=1e-4) and score.values["fid"] > 0.1
    assert score.values["kid"] == pytest.approx(kernel_distance(a, b), rel=1e-4)
    assert score.facts["samples"] == 9 and score.facts["dimensions"] == 3 and not score.warnings
    same = judged(FrechetPictures(extractor=Mean()), Case(source=source, result=source))
    assert same.values["fid"] < 1e-9 and same.values["kid"] < 0


def test_few_frames_are_warned_of():
    score = judged(FrechetPictures(extractor=Mean()), Case(source=film(3), result=film(3, 1)))
    assert score.warnings[0].startswith("3 samples, 3 dimensions: FID")
    assert set(score.values) == {"fid", "kid"}
    one = judged(FrechetPictures(extractor=Mean()), Case(source=film(1), result=film(1)))
    assert set(one.missing) == {"fid", "kid"} and "two frames" in one.missing["fid"]


def test_windows_start_every_stride_and_stay_inside_shots():
    seen = []

    class Noted(Time):
        def __call__(self, clips):
            assert clips.shape[:2] == (1, 10)
            seen.append([round(value) for value in super().__call__(clips)[0].tolist()])
            return super().__call__(clips)

    case = Case(source=colours(*range(40)), result=colours(*range(40)))
    judged(FrechetClips(extractor=Noted(), frames=10, stride=7), case)
    assert seen[::2] == seen[1::2] == [[0, 9], [7, 16], [14, 23], [21, 30], [28, 37]]
    seen.clear()
    judged(FrechetClips(extractor=Noted(), frames=10, stride=12), case)
    assert seen[::2] == [[0, 9], [12, 21], [24, 33]]
    seen.clear()
    judged(FrechetClips(extractor=Noted(), frames=10, stride=7), replace(case, cuts=frozenset({12, 20})))
    assert seen[::2] == [[0, 9], [20, 29], [27, 36]]


def test_fvd_and_kvd_are_those_of_the_windows():
    source, result = colours(*range(30)), colours(*range(0, 60, 2))
    score = judged(FrechetClips(extractor=Time(), frames=16, stride=4), Case(source=source, result=result))
    starts = torch.tensor([0.0, 4, 8, 12])
    a = torch.stack([starts, starts + 15], dim=1)
    assert score.values["fvd"] == pytest.approx(frechet_distance(a, 2 * a), rel=1e-3)
    assert score.values["kvd"] == pytest.approx(kernel_distance(a, 2 * a), rel=1e-3)
    assert score.facts == {"network": "Time", "samples": 4, "dimensions": 2, "window": 16, "stride": 4}


@pytest.mark.parametrize("count, reason", [(9, "needs 10 frames, got 9"), (16, "16 frames hold 1"), (23, "23 frames hold 1")])
def test_too_few_frames_for_fvd_are_missing(count, reason):
    case = Case(source=film(count, size=(8, 8)), result=film(count, 1, size=(8, 8)))
    score = judged(FrechetClips(extractor=Mean()), case)
    assert set(score.missing) == {"fvd", "kvd"} and reason in score.missing["fvd"]


def test_few_windows_are_warned_of(tmp_path):
    extractor = I3dFeatures(weights=str(save_script(Means(width=400, squash=False), tmp_path / "i3d.pt")))
    score = judged(FrechetClips(extractor=extractor), Case(source=film(24), result=film(24, 1)))
    assert score.warnings[0].startswith("2 samples, 400 dimensions: FVD") and set(score.values) == {"fvd", "kvd"}
    assert score.facts["weights"] == "i3d.pt" and score.facts["size"] == 224


def test_held_pictures_are_as_small_as_the_network_takes_them(tmp_path):
    file = str(save_script(Means(width=400, squash=False), tmp_path / "i3d.pt"))
    tally = FrechetClips(extractor=I3dFeatures(weights=file, size=8))(Case(source=film(3), result=film(3)))
    for moment in Pass(flow=None)(Case(source=film(3), result=film(3))):
        tally.see(moment)
    assert {tuple(one.shape) for one in tally._source._window} == {(1, 3, 8, 8)}


def test_inception_scores_of_frames_and_of_windows():
    rows = {0: [1.0, 0.0, 0.0], 1: [0.0, 1.0, 0.0], 2: [0.0, 0.0, 1.0]}
    three = colours(0, 1, 2, 0, 1, 2)
    score = judged(InceptionScore(extractor=Chosen(rows)), Case(source=three, result=three))
    assert score.values["inception_score"] == pytest.approx(3) and not score.warnings
    score = judged(InceptionScore(extractor=Chosen(rows), splits=2), Case(source=three, result=colours(0, 0, 0, 0, 1, 2)))
    assert score.values["inception_score"] == pytest.approx(2) and score.facts["deviation"] == pytest.approx(1)
    few = judged(InceptionScore(extractor=Chosen(rows)), Case(source=colours(0, 0), result=colours(0, 1)))
    assert few.warnings[0].startswith("2 samples, 3 dimensions")
    none = judged(InceptionScore(extractor=Chosen(rows)), Case(source=colours(0), result=colours(0)))
    assert none.missing == {"inception_score": "needs 2 frames, got 1"}

    class Doubled:
        def __call__(self, clips):
            return torch.tensor([[100.0, 0.0] if clip.mean() < 0.5 else [0.0, 100.0] for clip in clips])

    result = colours(*[0] * 4, *[255] * 4)
    metric = VideoInceptionScore(extractor=Doubled(), frames=4, stride=4)
    assert judged(metric, Case(source=result, result=result)).values["video_inception_score"] == pytest.approx(2)
    short = judged(replace(metric, frames=6), Case(source=result, result=result))
    assert short.missing == {"video_inception_score": "needs 2 windows of 6 frames, got 1"}


def test_values_that_make_no_sense_are_refused():
    for wrong in (
        lambda: FrechetClips(frames=9),
        lambda: FrechetClips(stride=0),
        lambda: FrechetPictures(subset_size=1),
        lambda: InceptionScore(splits=0),
        lambda: VideoInceptionScore(stride=0),
    ):
        with pytest.raises(ConfigError):
            wrong()


# --------------------------------------------------------------------------------------------------------------------- dover


def test_fusion_of_chosen_answers():
    assert fused(0.1107, -0.08285) == pytest.approx(0.5)
    assert fused(0.1107 + 0.07355 / 0.6104, -0.08285) == pytest.approx(1 / (1 + math.exp(-1)))
    assert fused(0.1107, -0.08285 - 0.03774 / 0.3896) == pytest.approx(1 / (1 + math.e))
    assert fused(-1e6, -1e6) == 0 and fused(1e6, 1e6) == 1


def test_sampled_frames_are_inside_and_spread():
    runs = sampled_frames(200)
    assert [run[0] for run in runs] == [0, 68, 137] and runs[-1][-1] == 199
    assert all(len(run) == 32 and {b - a for a, b in itertools.pairwise(run)} == {2} for run in runs)
    short = sampled_frames(10, clips=2)
    assert short[0] == short[1] == [(2 * step) % 10 for step in range(32)]
    assert sampled_frames(100, clips=1)[0][0] == 0


def test_fragments_lie_one_in_each_cell():
    corners = fragments(300, 500)
    assert len(corners) == 49 and corners == fragments(300, 500) != fragments(300, 500, seed=1)
    for index, (y, x) in enumerate(corners):
        row, column = divmod(index, 7)
        assert 300 * row // 7 <= y and y + 32 <= 300 * (row + 1) // 7
        assert 500 * column // 7 <= x and x + 32 <= 500 * (column + 1) // 7
    assert fragments(224, 224) == [(32 * row, 32 * column) for row in range(7) for column in range(7)]
    with pytest.raises(ConfigError, match="no room"):
        fragments(223, 400)


def on_disk(path, whole=True):
    clip = film(2)
    more = {"height": clip.height, "width": clip.width, "origin": Origin(path=path, whole=whole)}
    return Clip(clip.raw, times=[Fraction(0), Fraction(1)], end=Fraction(2), **more)


def scorer(tmp_path, body):
    program = tmp_path / "scorer.py"
    program.write_text(f"import sys\npath = sys.argv[-1]\n{body}\n")
    return f"{sys.executable} {program}"


def dover(tmp_path, body, **more):
    case = Case(source=film(2), result=on_disk(tmp_path / "result.mp4"))
    return judged(Dover(scorer=scorer(tmp_path, body), **more), case)


def test_an_external_scorer_is_given_the_file_and_read(tmp_path):
    path = str(tmp_path / "result.mp4")
    told = dover(tmp_path, f"assert path == {path!r}; print('loading'); print('{{\"technical\": 0.2, \"aesthetic\": -0.1}}')")
    assert told.values == {"dover": pytest.approx(fused(0.2, -0.1)), "dover_technical": 0.2, "dover_aesthetic": -0.1}
    assert told.facts == {"scorer": Path(sys.executable).name}
    number = dover(tmp_path, "print(0.625)")
    assert number.values == {"dover": 0.625} and set(number.missing) == {"dover_technical", "dover_aesthetic"}


def test_a_scorer_that_fails_leaves_the_reason(tmp_path):
    for body, reason in (
        ("sys.exit('no weights')", "ended with code 1: no weights"),
        ("print('fine')", "neither a number nor JSON"),
        ("print('nan')", "neither a number nor JSON|answer is nan"),
        ("print('NaN')", "answer is NaN"),
        ("pass", "neither a number nor JSON"),
        ("print('[1]')", "neither a number nor JSON"),
    ):
        score = dover(tmp_path, body)
        assert not score.values and not score.facts
        assert set(score.missing) == {"dover", "dover_technical", "dover_aesthetic"}
        assert any(part in score.missing["dover"] for part in reason.split("|")), score.missing["dover"]
    assert "timed out" in dover(tmp_path, "import time; time.sleep(30)", seconds=0.5).missing["dover"]
    assert read_answer('{"technical": 1}').startswith("the scorer's last line")


def test_without_a_scorer_or_a_file_dover_is_missing(tmp_path):
    case = Case(source=film(2), result=film(2, 1))
    assert "non-commercial" in judged(Dover(), case).missing["dover"]
    command = scorer(tmp_path, "print(1)")
    assert "reads files" in judged(Dover(scorer=command), case).missing["dover"]
    part = replace(case, result=on_disk(tmp_path / "film.mp4", whole=False))
    assert "part of one" in judged(Dover(scorer=command), part).missing["dover"]
    with pytest.raises(ConfigError, match="no program 'no-such-program'"):
        Dover(scorer="no-such-program --fast")
