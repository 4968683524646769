"""The plans of the committed leaderboard: what `make records` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.benchmarks.catalogue import BENCHMARKS
from ckl_bench.cli.config import read_options
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


def test_no_run_is_planned_twice() -> None:
    every = [
        (run["benchmark"][0], make_stack(run["method"][0], run.get("set", [])).label)
        for plan in PLANS
        for run in read_options(plan, ("benchmark", "method", "seed", "set"))
    ]
    assert len(every) == len(set(every)) > 25
