"""Averages, wins, pairs: against brute force, closed forms, scipy, and the coverage that an interval promises."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from flowpaint.errors import InputError
from flowpaint.evaluation.aggregate import compare, interval, sign_flip, student_t, summarise, wilson, wins
from flowpaint.evaluation.card import Card
from flowpaint.types import Measure

UP = Measure(name="up", title="Up", unit="dB", higher_is_better=True, source="here")
DOWN = Measure(name="down", title="Down", unit="", higher_is_better=False, source="here")
NEITHER = Measure(name="neither", title="Neither", unit="", higher_is_better=None, source="here")


def card(label, missing=None, **values):
    measures = {one.name: one for one in (UP, DOWN, NEITHER)}
    return Card(label=label, frames=1, width=8, height=8, measures=measures, values=values, missing=missing or {})


# ------------------------------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_an_interval_covers_the_truth_as_often_as_it_says(draw):
    rng = np.random.default_rng(1)
    truth = {"normal": 0.0, "exponential": 1.0}[draw]
    found = [interval(getattr(rng, draw)(size=24), seed=trial) for trial in range(250)]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert (0.92 if draw == "normal" else 0.88) <= covered <= 0.985  # a skew costs any symmetric method some


def test_a_small_sample_has_the_width_of_student_not_of_the_plain_bootstrap():
    rng = np.random.default_rng(2)
    widths = []
    for _ in range(40):
        values = rng.normal(size=8)
        low, high = interval(values)
        widths.append((high - low) / (2 * stats.t.ppf(0.975, 7) * values.std(ddof=1) / math.sqrt(8)))
    assert np.mean(widths) == pytest.approx(1, abs=0.06)  # the plain percentiles: 0.77


def test_an_interval_moves_and_scales_with_the_values_and_is_the_same_again():
    values = np.random.default_rng(3).normal(size=12)
    low, high = interval(values)
    assert interval(3 * values + 5) == pytest.approx((3 * low + 5, 3 * high + 5))
    assert interval(values) == (low, high) != interval(values, seed=1)
    assert low < values.mean() < high
    assert interval([2.5] * 7) == (2.5, 2.5)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_too_few_cases_have_no_interval(n):
    assert interval(list(range(n))) is None


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 101])
def test_students_quantile(freedom):
    assert [student_t(q, freedom) for q in (0.6, 0.975)] == pytest.approx(stats.t.ppf([0.6, 0.975], freedom), rel=1e-9)


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 10), (10, 10), (512, 1000)])
def test_wilson(count, total):
    known = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert wilson(count, total) == pytest.approx((known.low, known.high), abs=1e-12)
    z = stats.norm.ppf(0.975)
    for end in wilson(count, total):  # what defines the ends: the share lies z standard errors of the end away
        assert (count / total - end) ** 2 == pytest.approx(z * z * end * (1 - end) / total, abs=1e-12)


@pytest.mark.parametrize(("count", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(count, total):
    with pytest.raises(ValueError, match="no share"):
        wilson(count, total)


# ------------------------------------------------------------------------------------------------------------ sign flip


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_the_exact_test_is_the_brute_force(n):
    for differences in (np.random.default_rng(n).normal(0.4, 1, size=n), np.round(np.random.default_rng(n).normal(size=n), 1)):
        seen = abs(sum(differences))
        sums = [
            abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in itertools.product((1, -1), repeat=n)
        ]
        assert sign_flip(differences) == np.mean([one >= seen - 1e-9 for one in sums])


def test_the_exact_test_is_scipys():
    values = np.random.default_rng(5).normal(0.5, 1, size=12)
    known = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(values) == pytest.approx(known.pvalue, abs=1e-12)


def test_random_signs_agree_with_students_test():
    values = np.random.default_rng(6).normal(size=60)
    values += 0.2 - values.mean()
    known = stats.ttest_1samp(values, 0).pvalue
    assert 0.01 < known < 0.2
    assert sign_flip(values) == pytest.approx(known, abs=0.012)
    assert sign_flip(values) == sign_flip(values)


def test_p_values():
    assert sign_flip([1.0] * 10) == 2 / 2**10
    assert sign_flip([0.0] * 4) == 1
    assert sign_flip([1.0] * 40, draws=999) == 1 / 1000  # never zero
    assert sign_flip([-2.0, -1.0, -3.0]) == sign_flip([2.0, 1.0, 3.0])
    with pytest.raises(ValueError, match="no differences"):
        sign_flip([])


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(7)
    found = [sign_flip(rng.normal(size=20), draws=1000, seed=trial) for trial in range(300)]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


# ----------------------------------------------------------------------------------------------------------------- wins


def test_ties_are_split_and_a_case_without_a_rival_is_no_contest():
    numbers = {"a": {"1": 3.0, "2": 5.0, "3": 1.0}, "b": {"1": 3.0, "2": 4.0}, "c": {"1": 2.0, "2": 5.0}}
    assert wins(numbers, True) == {"a": (1.0, 2), "b": (0.5, 2), "c": (0.5, 2)}
    assert wins(numbers, False) == {"a": (0.0, 2), "b": (1.0, 2), "c": (1.0, 2)}
    assert wins(numbers, None) == {}


def test_a_comparison_takes_the_cases_that_both_have():
    pair = compare("up", ("a", {"1": 3.0, "2": 5.0, "3": 9.0}), ("b", {"2": 4.0, "3": 6.0, "4": 0.0}), cases=5)
    assert (pair.difference, pair.cases, pair.left_out, pair.p, pair.low) == (2.0, 2, 3, 0.5, None)
    alone = compare("up", ("a", {"1": 3.0}), ("b", {"2": 4.0}), cases=2)
    assert (alone.difference, alone.cases, alone.left_out, alone.p) == (None, 0, 2, None)


# -------------------------------------------------------------------------------------------------------------- summary


@pytest.fixture
def results():
    rows = {
        f"c{i}": {"a": card("a", up=30.0 + i, down=i % 3, neither=1.0), "b": card("b", up=29.0 + i, down=1)} for i in range(8)
    }
    rows["c7"] = {"a": rows["c7"]["a"], "b": card("b", missing={"up": "needs weights"}, up=math.nan)}
    rows["c6"] = {"a": rows["c6"]["a"]}
    return rows


def test_a_summary_is_what_numpy_says(results):
    summary = summarise(results)
    assert summary.methods == ("a", "b")
    assert summary.cases == tuple(results)
    up = {one.method: one for one in summary.of("up")}
    assert (up["a"].mean, up["a"].median, up["a"].cases, up["a"].lacking) == (33.5, 33.5, 8, 0)
    assert (up["b"].mean, up["b"].cases, up["b"].lacking) == (np.mean(29.0 + np.arange(6)), 6, 2)
    assert (up["a"].wins, up["a"].contests, up["b"].wins) == (6.0, 6, 0.0)
    assert (up["a"].low, up["a"].high) == interval(30.0 + np.arange(8))
    assert up["b"].reason in ("needs weights", "not run")
    (pair,) = (one for one in summary.pairs if one.measure == "up")
    assert (pair.first, pair.second, pair.difference, pair.cases, pair.left_out, pair.p) == ("a", "b", 1.0, 6, 2, 2 / 2**6)
    assert "up" not in summary.values["c7"]["b"]


def test_the_median_is_no_mean():
    (one,) = (row for row in summarise({f"c{i}": {"a": card("a", up=float(i**2))} for i in range(5)}).of("up"))
    assert (one.mean, one.median, one.low) == (6.0, 4.0, None)


def test_the_best_is_first_where_better_is_known(results):
    summary = summarise(results)
    assert [one.method for one in summary.of("up")] == ["a", "b"]
    low = [one.mean for one in summary.of("down")]
    assert low == sorted(low)
    rows = summary.of("neither")
    assert [one.method for one in rows] == ["a", "b"]
    assert all(one.wins is None for one in rows)
    assert (rows[1].mean, rows[1].cases, rows[1].lacking) == (None, 0, 8)


def test_the_summary_is_the_same_again_and_fits_json(results):
    import json

    assert summarise(results) == summarise(results)
    assert json.loads(json.dumps(summarise(results).to_dict(), allow_nan=False))["methods"] == ["a", "b"]


def test_nothing_to_summarise_is_refused():
    with pytest.raises(InputError, match="no results"):
        summarise({"c": {}})
