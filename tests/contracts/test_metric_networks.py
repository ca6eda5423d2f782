"""What every metric must do that looks through a network."""

import math
import pickle

import pytest
import torch

from flowpaint import seams
from flowpaint.errors import WeightsError
from flowpaint.moments import Case, Pass
from flowpaint.networks.vgg import AlexNet, Vgg16
from flowpaint.types import Clip
from flowpaint.weights import Policy, keeping
from tiny_networks import Means, save_clip, save_script, save_stack


@pytest.fixture(autouse=True)
def pickles():
    """PyTorch's files are what these networks are published as."""
    with keeping(Policy(allow_pickle=True)):
        yield


FILES = {
    "clip": lambda folder: save_clip(folder / "clip"),
    "lpips": lambda folder: save_stack(AlexNet, folder / "alexnet.pth"),
    "spat-con": lambda folder: save_stack(Vgg16, folder / "vgg16.pth"),
    "fid": lambda folder: save_script(Means(width=2048, squash=False), folder / "inception.pt"),
    "fvd": lambda folder: save_script(Means(width=400, squash=False), folder / "i3d.pt"),
    "inception-score": lambda folder: save_script(Means(width=7, squash=True), folder / "classes.pt"),
    "video-inception-score": lambda folder: save_script(Means(width=101, squash=False), folder / "c3d.pt"),
}


@pytest.fixture(scope="module", params=sorted(FILES))
def metric(request, tmp_path_factory):
    file = FILES[request.param](tmp_path_factory.mktemp("weights"))
    return seams.override(seams.build("metric", request.param), "extractor.weights", str(file))


def film(count, seed=0):
    return Clip.from_array(torch.rand(count, 3, 40, 48, generator=torch.Generator().manual_seed(seed)))


def judged(metric, case):
    tally = metric(case)
    for moment in Pass(flow=seams.build("flow", "dis", preset="ultrafast"))(case):
        tally.see(moment)
    return tally.score()


def full(count):
    return Case(source=film(count), result=film(count, 1), prompt="red cat", source_prompt="a dog")


@pytest.mark.slow
def test_every_measure_has_a_number_or_a_reason(metric):
    for case in (full(24), full(1), Case(source=film(3), result=film(3))):
        score = judged(metric, case)
        names = {one.name for one in metric.measures}
        assert set(score.values) | set(score.missing) == names and not set(score.values) & set(score.missing)
        assert all(math.isfinite(value) for value in score.values.values())
        assert all(math.isfinite(value) for row in score.series.values() for value in row.values())
        assert all(score.missing.values()) and set(score.series) <= names


def test_with_all_that_it_may_want_nothing_is_missing_and_its_network_is_named(metric):
    score = judged(metric, full(24))
    assert score.missing == {} and {"network", "weights", "sha256"} <= set(score.facts)


@pytest.mark.slow
def test_the_same_twice(metric):
    first, second = (judged(metric, full(24)) for _ in range(2))
    assert first.values == second.values and first.series == second.series


def test_nothing_seen_gives_no_number(metric):
    score = metric(full(2)).score()
    assert not score.values and set(score.missing) == {one.name for one in metric.measures}


def test_is_a_recipe(metric):
    assert seams.from_dict(seams.to_dict(metric)) == metric
    assert len(pickle.dumps(metric)) < 10_000 and isinstance(metric, seams.Metric)


@pytest.mark.parametrize("name", sorted(FILES))
def test_without_weights_it_says_so_before_a_frame_is_seen(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="=/path"):
        seams.build("metric", name)(full(2))


def test_measures_tell_what_they_are_and_no_two_are_alike():
    every = [one for name in seams.names("metric") for one in seams.build("metric", name).measures]
    assert len({one.name for one in every}) == len(every)
    assert all(one.title and one.source and one.higher_is_better in (True, False, None) for one in every)
