"""A sequence of months: what is scored when, the measures over it on hand-made scores, every method on it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ckl_bench.records import read_record
from ckl_bench.results.metrics import temporalwiki
from ckl_bench.stacks.plugins import origins
from conftest import Command
from helpers.runs import THREE, sequence


def test_the_measures_over_a_sequence_are_their_formulas() -> None:
    found = temporalwiki(THREE)
    assert [(m.name, m.unchanged, m.changed, m.avg) for m in found.months] == [
        ("m0", 5.1, 6.0, 5.55),
        ("m1", 5.3, 7.0, pytest.approx(6.15)),
        ("m2", 4.5, 7.5, 6.0),
    ]
    assert found.avg_nll == pytest.approx((5.55 + 6.15 + 6.0) / 3)
    assert found.before_avg_nll == pytest.approx((6.5 + 7.0 + 7.25) / 3)
    lost, gained = 1.0 + 0.9 + 0.0, 1.0 + 2.1 + 2.0  # unchanged of m2 improved: nothing lost there
    assert found.fuar == pytest.approx(lost / gained)
    assert found.backward_transfer == pytest.approx(((6.0 - 7.0) + (7.0 - 6.9)) / 2)
    assert found.forward_transfer == pytest.approx(((9.0 - 8.6) + (9.5 - 9.7)) / 2)
    assert found.forgetting == pytest.approx(((7.0 - 6.0) + (6.9 - 7.0)) / 2)


def test_what_needs_more_than_one_month_or_a_gain_is_missing() -> None:
    alone = temporalwiki(sequence([(5.0, 8.0)], {(0, 0): (6.0, 8.5)}, {0: (5.0, 8.0)}))
    assert (alone.fuar, alone.backward_transfer, alone.forward_transfer, alone.forgetting) == (None,) * 4
    assert alone.avg_nll == 7.25


RUN = ("run", "--model", "tiny", "--benchmark", "temporalwiki-mini", "--limit", 3, "--json")


def test_months_are_learned_in_order_and_earlier_ones_scored_again(command: Command, tmp_path: Path) -> None:
    result = command(*RUN, "--method", "finetune", "--lr", "3e-3", "--epochs", 3)
    assert result.code == 0, result.err
    record = json.loads(result.out)
    names = [stage["name"] for stage in record["stages"]]
    assert names == ["0201-0301", "0301-0401", "0401-0501"]
    assert list(record["before"]) == names[1:]
    assert [list(stage["earlier"]) for stage in record["stages"]] == [[], names[:1], names[:2]]
    before = record["before"][names[1]]
    assert record["stages"][1]["epochs"][0]["sets"] != before  # the first month was learned by then
    for later, stage in zip(record["stages"][1:], record["stages"], strict=False):
        assert later["earlier"][stage["name"]] != stage["epochs"][-1]["sets"]
    for stage in record["stages"]:
        nll = [epoch["sets"]["changed"]["nll"] for epoch in stage["epochs"]]
        assert nll[-1] < nll[0]
    table = pd.read_csv(tmp_path / "runs" / "temporalwiki.csv").iloc[0]
    measures = temporalwiki(read_record(tmp_path / "runs" / "records" / f"{record['run_id']}.json"))
    for month in measures.months:
        assert table[f"{month.name}_unchanged_nll"] == pytest.approx(month.unchanged, abs=1e-4)
        assert table[f"{month.name}_avg_nll"] == pytest.approx(month.avg, abs=1e-4)
        assert table[f"{month.name}_changed_perplexity"] == pytest.approx(math.exp(month.changed), rel=1e-4)
    assert table["fuar"] == pytest.approx(measures.fuar, abs=1e-4)
    columns = list(table.index)
    assert columns[:5] == ["method", "model", "benchmark", "seeds", "0201-0301_unchanged_nll"]
    assert columns[13:17] == ["avg_nll", "fuar", "backward_transfer", "forgetting"]


def test_the_table_fits_a_terminal(command: Command) -> None:
    result = command(*(part for part in RUN if part != "--json"), "--method", "lora")
    assert result.code == 0, result.err
    assert max(map(len, result.out.splitlines())) <= 80
    assert "temporalwiki-mini · tiny" in result.out


def test_learning_rate_zero_changes_nothing_in_any_month(command: Command) -> None:
    record: dict[str, Any] = json.loads(command(*RUN, "--method", "lora", "--lr", 0).out)
    first = record["stages"][0]["epochs"][0]["sets"]
    for stage in record["stages"]:
        base = record["before"].get(stage["name"], first)
        assert all(epoch["sets"] == base for epoch in stage["epochs"])
    for stage in record["stages"]:
        for name, scores in stage["earlier"].items():
            assert scores == record["before"].get(name, first)


STACKS = [  # of every method; that each one runs over months, stopped or not, is proven where runs go on
    "none",
    "taalm+kadapter+mixreview+recadam",
    "rho1+qlora+mixreview",
    "oracle+ewc+wiseft",
    "restate+finetune",
    "lora-null",
    "entity-tokens+lora",
    "random-tokens+lora",
    "no-tokens+lora",
]


@pytest.mark.parametrize("stack", STACKS)
def test_stacks_run_over_the_months(stack: str, command: Command, prepared: dict[str, list[str]]) -> None:
    sets = [word for name in stack.split("+") for word in prepared.get(name, ())]
    result = command(*RUN, "--method", stack, *sets)
    assert result.code == 0, result.err
    assert len(json.loads(result.out)["stages"]) == 3


def test_the_stacks_are_of_every_method() -> None:
    assert {name for stack in STACKS for name in stack.split("+")} == set(origins())
