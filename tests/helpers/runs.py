"""Records: of one short run, and of runs that never were, with scores given by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.learning.planned import Plan
from ckl_bench.records import Cost, Environment, EpochScores, Record, SetScores, StageScores
from ckl_bench.spec import Spec

TINY_RECORD = Path(__file__).parent.parent / "data" / "tiny-record.json"  # of a real run of the tiny model


@cache
def short_run() -> Record:
    """A real run of the tiny model on the embedded benchmark, whole but short, that may join a leaderboard."""
    from ckl_bench.learning.run import RunRequest, execute, plan_run

    run = execute(plan_run(RunRequest(method="oracle", model="tiny", epochs=1, settings=["lora.r=2"])))
    return run.model_copy(update={"environment": run.environment.model_copy(update={"commit": "0" * 40})})


_MADE: dict[str, Record] = {}


def make_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what makes a run again get what it gave the first time: for tests of what is done with it."""
    from ckl_bench.learning import run

    whole = run.execute

    def execute(plan: Plan) -> Record:
        if plan.spec.run_id not in _MADE:
            _MADE[plan.spec.run_id] = whole(plan)
        return _MADE[plan.spec.run_id]

    monkeypatch.setattr(run, "execute", execute)


def scores(values: list[float]) -> SetScores:
    mean = sum(values) / len(values)
    return SetScores(
        accuracy=mean,
        exact=0.0,
        nll=1.0,
        probe_accuracy=values,
        probe_nll=[1.0] * len(values),
        probe_guess=["?"] * len(values),
    )


def record(learned: list[list[float]], kept: list[list[float]], **changes: Any) -> Record:
    """A run whose per-probe accuracies after each epoch are given."""
    base: dict[str, Any] = {
        "method": "lora",
        "hyperparameters": {"lora": {"r": 16}},
        "benchmark": "made-up",
        "benchmark_kind": "lama-ckl",
        "benchmark_hash": "a" * 64,
        "model": "tiny",
        "model_revision": "seed:0",
        "seed": 0,
        "epochs": len(learned) - 1,
        "batch_size": 2,
        "learning_rate": 0.001,
        "max_tokens": 512,
        "tokenizer_hash": "c" * 64,
    }
    spec = Spec(**base | changes)
    epochs = [
        EpochScores(epoch=e, train_loss=None, sets={"to_learn": scores(a), "not_to_forget": scores(n)})
        for e, (a, n) in enumerate(zip(learned, kept, strict=True))
    ]
    ids = {
        "to_learn": [f"l{i}" for i in range(len(learned[0]))],
        "not_to_forget": [f"k{i}" for i in range(len(kept[0]))],
    }
    environment = Environment(
        ckl_bench="0", commit="c", python="3", packages={}, platform="p", device="d", threads=1, command=[], started="t"
    )
    cost = Cost(
        seconds={"train": 2.0, "score": 1.0},
        train_tokens=100,
        train_tokens_per_second=50.0,
        peak_memory_bytes=10**9,
        trainable_parameters=7,
        total_parameters=70,
    )
    stage = StageScores(name="facts", documents=2, probe_ids=ids, epochs=epochs)
    return Record(run_id=spec.run_id, status="done", spec=spec, environment=environment, cost=cost, stages=[stage])


LEARNED = [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [0.0, 1.0]]


KEPT = [[1.0, 1.0], [1.0, 1.0], [1.0, 0.5], [0.5, 0.0]]


Pair = tuple[float, float]  # NLL on unchanged, changed


def sets(pair: Pair) -> dict[str, SetScores]:
    return {
        name: SetScores(accuracy=0, exact=0, nll=nll, probe_accuracy=[0, 0], probe_nll=[nll, nll], probe_guess=["", ""])
        for name, nll in zip(("unchanged", "changed"), pair, strict=True)
    }


def sequence(before: list[Pair], after: dict[tuple[int, int], Pair], first: dict[int, Pair]) -> Record:
    """before[j]: base model on month j; after[i, j]: after month i on month j; first[j]: right before month j."""
    names = [f"m{j}" for j in range(len(before))]
    stages = [
        StageScores(
            name=names[j],
            documents=1,
            probe_ids={"unchanged": ["a", "b"], "changed": ["c", "d"]},
            epochs=[
                EpochScores(epoch=0, train_loss=None, sets=sets(first[j])),
                EpochScores(epoch=1, train_loss=1.0, sets=sets(after[j, j])),
            ],
            earlier={names[i]: sets(after[j, i]) for i in range(j)},
        )
        for j in range(len(before))
    ]
    plain = record([[0.0]], [[1.0]], benchmark_kind="temporalwiki")
    later = {names[j]: sets(before[j]) for j in range(1, len(before))}
    return Record.model_validate(plain.model_dump() | {"stages": [s.model_dump() for s in stages], "before": later})


THREE = sequence(
    before=[(5.0, 8.0), (5.0, 9.0), (5.0, 9.5)],
    first={0: (5.0, 8.0), 1: (5.2, 8.6), 2: (5.5, 9.7)},
    after={
        (0, 0): (5.1, 6.0),
        (1, 0): (5.4, 6.8),
        (1, 1): (5.3, 7.0),
        (2, 0): (6.0, 7.0),
        (2, 1): (5.9, 6.9),
        (2, 2): (4.5, 7.5),
    },
)
