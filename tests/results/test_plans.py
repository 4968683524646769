"""The plans of the committed leaderboard: what `make records` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.benchmarks.catalogue import BENCHMARKS
from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.cli.config import read_options
from ckl_bench.records import read_records
from ckl_bench.stacks.stack import make_stack
from ckl_bench.storage.files import leaderboards_dir

PLANS = sorted((leaderboards_dir() / "plans").glob("*.toml"))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
def test_a_plan_is_of_stacks_that_there_are(plan: Path) -> None:
    runs = read_options(plan, ("benchmark", "method", "seed", "set"))
    assert runs
    for run in runs:
        assert run["benchmark"][0] in BENCHMARKS
        assert make_stack(run["method"][0], run.get("set", [])).parts


def test_every_planned_run_has_its_record_and_every_record_is_planned() -> None:
    """Of benchmarks as they are now; a plan without seeds is of seed 0."""
    planned = {
        (run["benchmark"][0], make_stack(run["method"][0], run.get("set", [])).label, int(seed))
        for plan in PLANS
        for run in read_options(plan, ("benchmark", "method", "seed", "set"))
        for seed in run.get("seed", ["0"])
    }
    now = {name: load_benchmark(name).hash for name in BENCHMARKS}
    recorded = {
        (record.spec.benchmark, record.spec.method, record.spec.seed)
        for record in read_records(leaderboards_dir())
        if record.spec.benchmark_hash == now.get(record.spec.benchmark)
    }
    assert planned == recorded


def test_no_run_is_planned_twice() -> None:
    every = [
        (run["benchmark"][0], make_stack(run["method"][0], run.get("set", [])).label)
        for plan in PLANS
        for run in read_options(plan, ("benchmark", "method", "seed", "set"))
    ]
    assert len(every) == len(set(every)) > 25
