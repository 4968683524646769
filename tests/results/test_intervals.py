"""BCa intervals: scipy's and the textbook's, their coverage beside the percentile interval's, and what has no width."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from ckl_bench.results.intervals import bootstrap_interval

SKEWED = np.random.default_rng(7).exponential(size=64).tolist()
RARE = [1.0] * 4 + [0.5] * 3 + [1 / 3] * 5 + [0.0] * 52


def textbook(sets: Sequence[Sequence[float]], resamples: int = 50_000) -> tuple[float, float]:
    """The sum of means' BCa interval, of draws of its own (Efron & Tibshirani 1993, eqs. 14.10, 14.14, 14.15)."""
    normal, draw = NormalDist(), np.random.default_rng(99)
    data = [np.array(values) for values in sets]
    drawn = sum(values[draw.integers(0, len(values), (resamples, len(values)))].mean(axis=1) for values in data)
    estimate = sum(values.mean() for values in data)
    below = np.mean(drawn < estimate - 1e-9) + np.mean(np.abs(drawn - estimate) < 1e-9) / 2
    z0 = normal.inv_cdf(float(below))
    cubes = squares = 0.0
    for values in data:
        left_out = np.array([np.delete(values, i).mean() for i in range(len(values))])
        influence = (len(values) - 1) * (left_out.mean() - left_out) / len(values)
        cubes, squares = cubes + np.sum(influence**3), squares + np.sum(influence**2)
    a = cubes / (6 * squares**1.5)
    ends = [z0 + (z0 + z) / (1 - a * (z0 + z)) for z in (normal.inv_cdf(0.025), normal.inv_cdf(0.975))]
    low, high = np.quantile(drawn, [normal.cdf(end) for end in ends])
    return float(low), float(high)


@pytest.mark.parametrize("values", [SKEWED, RARE, [0.0] * 63 + [1.0]])
def test_one_set_has_scipys_interval(values: list[float]) -> None:
    expected = stats.bootstrap(
        (values,), lambda x, axis: np.round(x.mean(axis=axis), 9), n_resamples=2000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((expected.low, expected.high), abs=1e-7)


@pytest.mark.parametrize("sets", [[SKEWED], [RARE], [SKEWED, [10 * x for x in RARE[:30]]]])
def test_the_interval_is_the_textbooks(sets: list[list[float]]) -> None:
    found = bootstrap_interval(*sets, total=True, resamples=50_000)
    width = found[1] - found[0]
    assert found == pytest.approx(textbook(sets), abs=0.025 * width)
    plain = np.quantile([np.random.default_rng(i).choice(sets[0], len(sets[0])).mean() for i in range(4000)], 0.975)
    assert len(sets) > 1 or found[1] > plain + 0.03 * width  # skewed to the right: it reaches further there


def test_it_covers_the_mean_of_rare_right_answers_more_often_than_the_percentile_interval() -> None:
    """64 probes of which few are answered, some by half: the percentile interval is too low, as its misses say."""
    draw = np.random.default_rng(11)
    truth, missed = 0.06 * 1.0 + 0.04 * 0.5, {"BCa": [0, 0], "percentile": [0, 0]}
    for _ in range(600):
        values = draw.choice([0.0, 0.5, 1.0], p=[0.9, 0.04, 0.06], size=64)
        found = bootstrap_interval(values.tolist(), resamples=1000)
        index = draw.integers(0, 64, (1000, 64))
        low, high = np.quantile(values[index].mean(axis=1), [0.025, 0.975])
        for name, ends in (("BCa", found), ("percentile", (low, high))):
            missed[name][0] += ends[1] < truth
            missed[name][1] += ends[0] > truth
    bca, percentile = missed["BCa"], missed["percentile"]
    assert sum(bca) <= sum(percentile)
    assert 0.93 <= 1 - sum(bca) / 600 <= 0.97
    assert abs(bca[0] - bca[1]) < abs(percentile[0] - percentile[1])  # too low and too high alike


def test_of_a_proportion_it_is_the_normal_interval() -> None:
    low, high = bootstrap_interval([1.0] * 250 + [0.0] * 750, resamples=4000)
    error = 1.96 * (0.25 * 0.75 / 1000) ** 0.5
    assert (low, high) == pytest.approx((0.25 - error, 0.25 + error), abs=3e-3)


def test_sets_weigh_the_same_and_a_sum_is_their_mean_times_their_number() -> None:
    low, high = bootstrap_interval([0.0, 1.0] * 50, [2.0] * 10)
    assert 1.1 < low < 1.25 < high < 1.4
    sets = (SKEWED, RARE, [0.5])
    assert bootstrap_interval(*sets, total=True) == pytest.approx([3 * end for end in bootstrap_interval(*sets)])
    shifted = bootstrap_interval([x - 5 for x in SKEWED], total=True)
    assert shifted == pytest.approx([end - 5 for end in bootstrap_interval(SKEWED)])


@pytest.mark.parametrize(
    ("sets", "total", "point"),
    [
        ([[0.1] * 7], False, 0.1),
        ([[0.0] * 64], False, 0.0),
        ([[0.3]], False, 0.3),
        ([[1.0] * 90, [3.0] * 10], False, 2.0),
        ([[1.0] * 90, [3.0]], True, 4.0),
    ],
)
def test_where_all_probes_agree_the_interval_is_one_point(sets: list[list[float]], total: bool, point: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_interval(*sets, total=total) == (point, point)


def test_a_set_of_one_probe_moves_the_interval_and_does_not_widen_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_interval(RARE, [2.0], total=True) == pytest.approx([x + 2 for x in bootstrap_interval(RARE)])
        low, high = bootstrap_interval([0.0, 1.0])  # of two probes there is little to say
    assert 0 <= low < high <= 1


def test_where_bca_has_no_end_the_percentile_interval_stands() -> None:
    values = [0.0] * 20 + [1e120] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bootstrap_interval(values)
    expected = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
    assert found == pytest.approx(tuple(expected.confidence_interval))


@pytest.mark.parametrize("sets", [[], [[]], [[1.0], []]])
def test_no_values_have_no_interval(sets: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(*sets)


def test_ten_thousand_probes_do_not_take_their_square_in_memory() -> None:
    values = np.random.default_rng(3).exponential(size=10_000).tolist()
    tracemalloc.start()
    low, high = bootstrap_interval(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    error = 1.96 * np.std(values) / 100
    assert (low, high) == pytest.approx((np.mean(values) - error, np.mean(values) + error), abs=0.25 * error)
    assert peak < 30e6
