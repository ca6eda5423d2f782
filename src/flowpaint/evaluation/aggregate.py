"""What a benchmark says of its methods: averages with intervals, wins, and two methods compared over the same cases.

The unit of chance is the case: an interval says how the mean would move with other cases of the same kind, not with other
seeds of the same method.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import Measure
from .card import Card

Numbers = Sequence[float] | npt.NDArray[np.float64]

_DRAWS = 10_000
_BLOCK = 1_000  # draws at a time: memory stays small for large benchmarks
_EXACT = 16  # cases up to which every sign pattern is tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """One measure of one method over the cases that have a number for it; None where there are too few of them (`interval`).

    `wins` counts the cases it was best in, shared where several are equally good, out of `contests`, the cases in which
    another method has a number too. `lacking` cases have none, most often for `reason`.
    """

    measure: str
    method: str
    cases: int
    lacking: int = 0
    reason: str = ""
    mean: float | None = None
    median: float | None = None
    low: float | None = None  # of the 95 % interval of the mean
    high: float | None = None
    wins: float | None = None
    contests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`first` minus `second` in one measure, over the `cases` that both have a number for; `left_out` is how many lack one."""

    measure: str
    first: str
    second: str
    cases: int
    left_out: int
    difference: float | None = None  # mean over cases
    low: float | None = None  # of its 95 % interval
    high: float | None = None
    p: float | None = None  # two-sided, of the sign-flip test


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A benchmark in numbers. `values` are by case, method and measure; `name` says which cases these are (all, a group)."""

    name: str
    measures: Mapping[str, Measure]
    methods: tuple[str, ...]
    cases: tuple[str, ...]
    averages: tuple[Average, ...]
    pairs: tuple[Pair, ...] = ()
    values: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    def of(self, measure: str) -> tuple[Average, ...]:
        """The averages in one measure: the best mean first where better is known, otherwise in the methods' order."""
        rows = [one for one in self.averages if one.measure == measure]
        up = self.measures[measure].higher_is_better
        if up is None:
            return tuple(rows)
        sign = -1 if up else 1
        return tuple(sorted(rows, key=lambda one: math.inf if one.mean is None else sign * one.mean))

    def to_dict(self) -> dict[str, Any]:
        """The summary as values that JSON holds."""
        return asdict(self)


def summarise(results: Mapping[str, Mapping[str, Card]], *, name: str = "all cases", seed: int = 0) -> Summary:
    """The summary of `results`: cards by case and method. Numbers that are not finite count as lacking.

    Raises `InputError` where there is no card.
    """
    methods = tuple(dict.fromkeys(method for row in results.values() for method in row))
    if not methods:
        raise InputError(f"There are no results for {name!r}. Give at least one case with one result.")
    measures: dict[str, Measure] = {}
    for row in results.values():
        for card in row.values():
            measures = {**measures, **{one: it for one, it in card.measures.items() if one not in measures}}
    averages: list[Average] = []
    pairs: list[Pair] = []
    for measure in measures.values():
        numbers = {method: _numbers(results, method, measure.name) for method in methods}
        won = wins(numbers, measure.higher_is_better)
        for method in methods:
            averages.append(_average(results, method, measure.name, numbers=numbers, won=won, seed=seed))
        pairs += [
            compare(measure.name, (a, numbers[a]), (b, numbers[b]), cases=len(results), seed=seed)
            for a, b in combinations(methods, 2)
        ]
    return Summary(
        name=name,
        measures=measures,
        methods=methods,
        cases=tuple(results),
        averages=tuple(averages),
        pairs=tuple(pairs),
        values={case: {method: _finite(card) for method, card in row.items()} for case, row in results.items()},
    )


def _finite(card: Card) -> dict[str, float]:
    return {name: float(value) for name, value in card.values.items() if math.isfinite(value)}


def _numbers(results: Mapping[str, Mapping[str, Card]], method: str, measure: str) -> dict[str, float]:
    """What each case says of one method in one measure, where it says a number."""
    cards = {case: row[method] for case, row in results.items() if method in row}
    found = {case: card.values[measure] for case, card in cards.items() if measure in card.values}
    return {case: float(value) for case, value in found.items() if math.isfinite(value)}


def _average(
    results: Mapping[str, Mapping[str, Card]],
    method: str,
    measure: str,
    *,
    numbers: Mapping[str, Mapping[str, float]],
    won: Mapping[str, tuple[float, int]],
    seed: int,
) -> Average:
    mine = numbers[method]
    reasons = Counter(
        row[method].missing.get(measure, "no number") if method in row else "not run"
        for case, row in results.items()
        if case not in mine
    )
    values = list(mine.values())
    low, high = interval(values, seed=seed) or (None, None)
    return Average(
        measure=measure,
        method=method,
        cases=len(values),
        lacking=reasons.total(),
        reason=reasons.most_common(1)[0][0] if reasons else "",
        mean=float(np.mean(values)) if values else None,
        median=float(np.median(values)) if values else None,
        low=low,
        high=high,
        wins=won[method][0] if method in won else None,
        contests=won[method][1] if method in won else 0,
    )


def wins(numbers: Mapping[str, Mapping[str, float]], higher_is_better: bool | None) -> dict[str, tuple[float, int]]:
    """How often each method is best, and in how many cases it had a rival: `numbers` are by method and case.

    Methods that are equally good share the case. Empty where neither direction is better.
    """
    if higher_is_better is None:
        return {}
    won = {method: [0.0, 0] for method in numbers}
    for case in dict.fromkeys(case for row in numbers.values() for case in row):
        rivals = {method: row[case] for method, row in numbers.items() if case in row}
        if len(rivals) < 2:
            continue
        top = max(rivals.values()) if higher_is_better else min(rivals.values())
        best = [method for method, value in rivals.items() if math.isclose(value, top, rel_tol=1e-9)]
        for method in rivals:
            won[method][0] += (method in best) / len(best)
            won[method][1] += 1
    return {method: (float(count), int(contests)) for method, (count, contests) in won.items()}


def compare(
    measure: str, first: tuple[str, Mapping[str, float]], second: tuple[str, Mapping[str, float]], *, cases: int, seed: int = 0
) -> Pair:
    """The comparison of two methods, each a name and its numbers by case; `cases` is how many there are in all."""
    (one, mine), (two, theirs) = first, second
    differences = [mine[case] - theirs[case] for case in mine if case in theirs]
    low, high = interval(differences, seed=seed) or (None, None)
    return Pair(
        measure=measure,
        first=one,
        second=two,
        cases=len(differences),
        left_out=cases - len(differences),
        difference=float(np.mean(differences)) if differences else None,
        low=low,
        high=high,
        p=sign_flip(differences, seed=seed) if differences else None,
    )


# ----------------------------------------------------------------------------------------------------------- statistics


def interval(values: Numbers, *, level: float = 0.95, seed: int = 0) -> tuple[float, float] | None:
    """Low and high end of the interval of the mean of `values` [n] by the bootstrap, or None where n is too small for one.

    Percentiles of the means of 10,000 resamples (Efron 1979), taken further out for small n so that they cover as often as
    they say: the expanded percentile interval of Hesterberg, The American Statistician 69(4), 2015. Resampled means never
    leave the span of the values, which for n < 6 holds the middle in fewer than 95 % of draws: 1 - 2 / 2^n.
    """
    array = np.asarray(values, np.float64)
    n = len(array)
    if 2.0 ** (1 - n) > 1 - level:
        return None
    rng = np.random.default_rng(seed)
    means = np.concatenate([array[rng.integers(n, size=(_BLOCK, n))].mean(axis=1) for _ in range(_DRAWS // _BLOCK)])
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * student_t(0.5 + level / 2, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip(differences: Numbers, *, seed: int = 0, draws: int = 2 * _DRAWS) -> float:
    """The two-sided p-value of the mean of paired `differences` [n] where each could as well have the other sign.

    The share of sign patterns whose mean lies as far from zero (Fisher 1935): of all up to 16 cases, otherwise of random ones
    and the pattern seen, which keeps the test valid (Phipson & Smyth 2010). Raises `ValueError` for no differences.
    """
    array = np.asarray(differences, np.float64)
    n = len(array)
    if n == 0:
        raise ValueError("no differences to test")
    seen = abs(array.sum()) - 1e-12 * np.abs(array).sum()  # sums of the same numbers differ by rounding
    if n <= _EXACT:
        patterns = 1 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(patterns @ array) >= seen))
    rng = np.random.default_rng(seed)
    hits = 0
    for start in range(0, draws, _BLOCK):
        patterns = 1 - 2.0 * rng.integers(2, size=(min(_BLOCK, draws - start), n))
        hits += int(np.sum(np.abs(patterns @ array) >= seen))
    return (hits + 1) / (draws + 1)


def wilson(successes: float, total: float, *, level: float = 0.95) -> tuple[float, float]:
    """Low and high end of the interval of a share, `successes` of `total` (Wilson 1927). Raises `ValueError` for no total."""
    if not 0 <= successes <= total or total <= 0:
        raise ValueError(f"{successes} of {total} is no share")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def student_t(quantile: float, freedom: int) -> float:
    """The quantile (0.5..1) of Student's t with a whole number of degrees of freedom, by bisection of its distribution."""
    low, high = 0.0, 1.0
    while _inside(high, freedom) < 2 * quantile - 1:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < 2 * quantile - 1 else (low, middle)
    return (low + high) / 2


def _inside(t: float, freedom: int) -> float:
    """The chance that |T| < t: Abramowitz & Stegun 26.7.3 and 26.7.4."""
    theta = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(theta) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for step in range(2 + odd, freedom - 1, 2):
        term *= math.cos(theta) ** 2 * (step - 1) / step
        total += term
    return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
