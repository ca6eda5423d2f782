"""What every metric must do that needs no network."""

import math
import pickle

import pytest
import torch

from flowpaint import seams
from flowpaint.moments import Case, Pass
from flowpaint.types import Clip

NETWORKS = {"clip", "lpips", "spat-con", "fid", "fvd", "inception-score", "video-inception-score", "dover"}
SIZE = (176, 192)


@pytest.fixture(params=sorted(set(seams.names("metric")) - NETWORKS))
def metric(request):
    return seams.build("metric", request.param)


def frames(count, seed=0):
    return Clip.from_array(torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed)))


def judged(metric, case):
    tally = metric(case)
    for moment in Pass(flow=seams.build("flow", "dis", preset="ultrafast"))(case):
        tally.see(moment)
    return tally.score()


def masks(count):
    mask = torch.zeros(count, 3, *SIZE)
    mask[..., 40:90, 30:100] = 1
    return Clip.from_array(mask)


def full(count):
    more = {"mask": masks(count), "result_mask": masks(count), "reference": frames(count, 2), "frame_by_frame": frames(count, 3)}
    return Case(source=frames(count), result=frames(count, 1), seconds_per_frame=1.0, peak_memory=2**20, **more)


def test_every_measure_has_a_number_or_a_reason(metric):
    for case in (full(4), full(1), Case(source=frames(2), result=frames(2, 1))):
        score = judged(metric, case)
        names = {one.name for one in metric.measures}
        assert set(score.values) | set(score.missing) == names and not set(score.values) & set(score.missing)
        assert all(math.isfinite(value) for value in score.values.values())
        assert all(math.isfinite(value) for row in score.series.values() for value in row.values())
        assert all(reason for reason in score.missing.values()) and set(score.series) <= names


def test_with_all_that_it_may_want_nothing_is_missing(metric):
    assert judged(metric, full(4)).missing == {}


def test_measures_tell_what_they_are(metric):
    for one in metric.measures:
        assert one.title and one.source and one.higher_is_better in (True, False, None)


def test_no_two_metrics_give_a_measure_of_the_same_name():
    every = [one.name for name in seams.names("metric") if name not in NETWORKS for one in seams.build("metric", name).measures]
    assert len(every) == len(set(every))


def test_a_tally_is_fresh_each_time(metric):
    case = full(3)
    assert judged(metric, case).values == judged(metric, case).values


def test_nothing_seen_gives_no_number_but_what_was_recorded(metric):
    score = metric(full(2)).score()
    assert set(score.values) <= {"seconds_per_frame", "peak_memory"}


def test_is_a_recipe(metric):
    assert seams.from_dict(seams.to_dict(metric)) == metric
    assert len(pickle.dumps(metric)) < 10_000
