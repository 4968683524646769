"""Comparisons: textbook p-values and scipy's, their correction, and sentences that say which side is better."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ckl_bench.errors import UserError
from ckl_bench.records import write_record
from ckl_bench.results.compare import compare, holm, permutation_p
from conftest import Command
from helpers.runs import THREE, record


def test_all_of_ten_pairs_in_one_direction() -> None:
    assert permutation_p([1.0] * 10) == pytest.approx(2 / 2**10)
    assert permutation_p([0.3] * 10 + [0.0] * 50) == pytest.approx(2 / 2**10)  # ties say nothing


@pytest.mark.parametrize(("wins", "losses"), [(8, 1), (5, 5), (10, 2), (1, 0), (0, 0)])
def test_binary_outcomes_give_mcnemars_exact_p(wins: int, losses: int) -> None:
    n, k = wins + losses, min(wins, losses)
    expected = min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n) if n else 1.0
    assert permutation_p([1.0] * wins + [-1.0] * losses + [0.0] * 20) == pytest.approx(expected)


def test_the_fisher_pitman_example() -> None:
    """Darwin's maize (Fisher 1935): 15 pairs, two-sided randomisation p = 1726 / 32768."""
    differences = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert permutation_p([float(d) for d in differences]) == pytest.approx(1726 / 2**15)


def test_many_pairs_are_drawn_and_agree_with_the_exact_value() -> None:
    wins, losses = 30, 14
    exact = 2 * sum(comb(44, i) for i in range(losses + 1)) / 2**44
    assert permutation_p([1.0] * wins + [-1.0] * losses) == pytest.approx(exact, abs=2e-3)
    draw = random.Random(0)
    below = [permutation_p([draw.gauss(0, 1) for _ in range(30)], seed=i) < 0.2 for i in range(60)]
    assert 3 <= sum(below) <= 22  # about a fifth, where nothing differs


def scipys_p(sets: Sequence[Sequence[float]], resamples: int) -> float:
    """The same test by scipy: pairs (first, second) trade places, and the statistic sums the sets' mean differences."""
    differences = np.concatenate([np.asarray(values) for values in sets])
    ends = np.cumsum([len(values) for values in sets])

    def statistic(first: Any, second: Any, axis: int) -> Any:
        parts = np.split(np.moveaxis(first - second, axis, -1), ends[:-1], axis=-1)
        return sum(part.mean(axis=-1) for part in parts)

    other = np.random.default_rng(5).normal(size=len(differences))
    found = stats.permutation_test(
        (other + differences, other),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=2000,
        rng=np.random.default_rng(17),
    )
    return float(found.pvalue)


@pytest.mark.parametrize("sizes", [(9,), (5, 7), (1, 4, 8)])
@pytest.mark.parametrize("shift", [0.0, 0.6, 3.0])
def test_few_pairs_have_scipys_exact_p(sizes: tuple[int, ...], shift: float) -> None:
    draw = np.random.default_rng(len(sizes))
    sets = [(draw.exponential(size=n) - 1 + shift).tolist() for n in sizes]
    exact = scipys_p(sets, 2 ** sum(sizes))
    assert permutation_p(*sets) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("sizes", "shift"), [((64,), 0.25), ((40, 64), 0.1), ((30, 50, 20), 0.0)])
def test_many_pairs_have_scipys_p_within_the_error_of_both(sizes: tuple[int, ...], shift: float) -> None:
    draw = np.random.default_rng(sum(sizes))
    sets = [draw.normal(shift, 1, size=n).tolist() for n in sizes]
    ours, theirs = permutation_p(*sets), scipys_p(sets, 20_000)
    # scipy doubles the smaller tail, we count both
    error = (ours * (1 - ours) / 100_000 + 2 * theirs / 20_000) ** 0.5
    assert 1e-3 < theirs < 1
    assert abs(ours - theirs) < 4 * error


def test_holm_is_its_definition() -> None:
    """Holm 1979: step down through the sorted p, rejecting while p_(i) <= level / (m - i + 1)."""
    draw = random.Random(3)
    for _ in range(200):
        ps = [draw.random() ** 3 for _ in range(draw.randint(1, 6))]
        corrected = holm(ps)
        for level in (0.001, 0.01, 0.05, 0.2, *(c * f for c in corrected for f in (0.999, 1.001) if c < 0.99)):
            order, rejected = sorted(range(len(ps)), key=ps.__getitem__), set()
            for step, i in enumerate(order):
                if ps[i] > level / (len(ps) - step):
                    break
                rejected.add(i)
            assert {i for i, p in enumerate(corrected) if p <= level} == rejected
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    ps = sorted(draw.random() for _ in range(9))
    assert all(a <= b for a, b in pairwise(holm(ps)))


def test_two_stacks_are_paired_by_probe_and_seed(command: Command, tmp_path: Path) -> None:
    n = 12
    weak = [record([[0.0] * n, [0.0] * n], [[1.0] * n, [1.0] * n], seed=s) for s in (0, 1)]
    strong = [
        record([[0.0] * n, [1.0] * n], [[1.0] * n, [1.0] * (n - 1) + [0.0]], method="taalm+lora", seed=s)
        for s in (1, 2)
    ]
    found, seeds = compare(strong, weak)
    assert seeds == [1]
    learned, kept, total = found
    assert (learned.first, learned.second) == (1.0, 0.0)
    alone = [2 / 2**n, 1.0, permutation_p([1.0] * n, [0.0] * (n - 1) + [-1.0])]
    assert [c.p for c in found] == pytest.approx(holm(alone))  # all three lines are one family
    assert learned.p == pytest.approx(3 * 2 / 2**n)
    assert (kept.p, kept.probes) == (1.0, n)
    assert total.first - total.second == pytest.approx(1 - 1 / n)
    for item in [*weak, *strong]:
        write_record(tmp_path / "runs", item)
    run = ("compare", "taalm", "lora", "--benchmark", "made-up", "--model", "tiny")
    result = command(*run)
    assert result.code == 0, result.err
    assert (
        "to_learn accuracy: 1.000 against 0.000 (+1.000; corrected p = 0.0015 over 12 probes): more than chance, taalm"
        in result.out
    )
    head = result.out.splitlines()[0]
    assert head == "taalm+lora against lora on made-up, seed 1; p corrected for 3 comparisons (Holm):"
    assert (
        "not_to_forget accuracy: 0.917 against 1.000 (-0.083; corrected p = 1.0000 over 12 probes): no more than"
        in result.out
    )
    swapped = command("compare", "lora", strong[0].run_id[:8], *run[3:])
    assert "more than chance, taalm+lora is better" in swapped.out
    missing = command("compare", "taalm", "rho1", *run[3:])
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "unknown stack or run 'rho1'" in missing.err


def test_what_cannot_be_paired_is_refused() -> None:
    one = record([[0.0]], [[1.0]])
    with pytest.raises(UserError, match="none in common"):
        compare([one], [record([[0.0]], [[1.0]], seed=3)])
    with pytest.raises(UserError, match="different benchmark hash"):
        compare([one], [record([[0.0]], [[1.0]], benchmark_hash="b" * 64)])


def test_months_are_compared_by_nll_where_lower_is_better() -> None:
    found, _ = compare([THREE], [THREE])
    assert [c.measure for c in found] == ["unchanged NLL", "changed NLL", "average NLL"]
    assert all(c.p == 1.0 and c.lower_is_better for c in found)
    assert found[2].first == pytest.approx((found[0].first + found[1].first) / 2)


def test_the_committed_records_say_that_taalm_beats_lora(command: Command) -> None:
    result = command("compare", "taalm", "lora")
    assert result.code == 0
    lines = result.out.splitlines()
    assert "seeds 0, 1" in lines[0]
    said = {line.split(":")[0].strip(): line for line in lines[1:]}
    for measure in ("to_learn accuracy", "asked_otherwise accuracy", "total knowledge"):
        assert said[measure].endswith("more than chance, taalm+lora is better."), said[measure]


def test_of_a_rebuilt_benchmark_what_it_is_now_is_compared(command: Command) -> None:
    """The committed leaderboard has rows of the benchmark as it was before, too."""
    found = command("compare", "taalm", "lora", "--benchmark", "temporalwiki-mini")
    assert found.code == 0, found.err
    older = command("compare", "taalm@schema=1", "lora@schema=1", "--benchmark", "temporalwiki-mini")
    assert older.code == 0, older.err
    assert found.out != older.out


def test_runs_of_another_model_are_named(command: Command, tmp_path: Path) -> None:
    write_record(tmp_path / "runs", record([[0.0], [1.0]], [[1.0], [1.0]], benchmark="mine"))
    for typed in (("compare", "lora", "none"), ("show", "lora")):
        result = command(*typed, "--benchmark", "mine")
        assert result.code == 2
        assert "there are no runs of smollm2-135m on mine; there are for --benchmark mine --model tiny" in result.err
