"""What a row is worth beside doing nothing; who is ranked against whom; what tells rows apart."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import bootstrap

from ckl_bench.records import Record
from ckl_bench.results.leagues import labels, league, ranks
from ckl_bench.results.tables import rows, tables
from ckl_bench.results.terminal import BETTER, NEITHER, WORSE, leaderboard_table, verdict
from helpers.runs import KEPT, LEARNED, THREE, record

STILL = [[0.0, 0.0]] * 4, [[1.0, 1.0]] * 4  # a model that learns nothing


def table(*records: Record) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(tables(records)["lama-ckl.csv"]))


def row(*records: Record, method: str = "lora") -> Any:
    (found,) = (line for _, line in table(*records).iterrows() if line["method"] == method)
    return found


def test_gain_is_total_knowledge_over_that_of_the_untrained_model() -> None:
    run = record(LEARNED, KEPT)  # its own epoch 0: 0 learned, 1 kept
    assert row(run)["gain"] == pytest.approx(row(run)["total_knowledge"] - 1.0)
    uncertified = record([[0.5, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.5, 0.0]])  # knows half of both before
    assert row(uncertified)["gain"] == pytest.approx(1.0 + 0.25 - (0.25 + 0.5))


def test_gain_is_measured_against_the_row_that_does_nothing_where_there_is_one() -> None:
    quantised = record([[0.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]], method="qlora")  # has lost half already
    assert row(quantised, method="qlora")["gain"] == pytest.approx(0.5)
    still = record([[0.0, 0.0]] * 2, [[1.0, 1.0]] * 2, method="none")
    assert row(quantised, still, method="qlora")["gain"] == pytest.approx(0.0)
    assert row(quantised, still, method="none")["gain"] == 0
    elsewhere = record([[0.0, 0.0]] * 2, [[1.0, 1.0]] * 2, method="none", benchmark_hash="b" * 64)
    assert row(quantised, elsewhere, method="qlora")["gain"] == pytest.approx(0.5)


def test_the_interval_of_gain_is_that_of_the_sum_of_both_sets_differences() -> None:
    learned, kept = [float(i % 3 == 0) for i in range(60)], [float(i % 5 > 0) for i in range(50)]
    run = record([[0.0] * 60, learned], [[1.0] * 50, kept])
    (made,) = rows([run])
    found = bootstrap(
        (learned, [value - 1 for value in kept]),
        lambda a, b, axis: a.mean(axis=axis) + b.mean(axis=axis),
        n_resamples=9999,
        rng=1,
        method="BCa",
    ).confidence_interval
    assert (made["gain_low"], made["gain_high"]) == pytest.approx((found.low, found.high), abs=0.03)
    assert made["gain_low"] < made["gain"] < made["gain_high"]


def test_months_gain_is_the_fall_of_the_average_nll() -> None:
    (made,) = rows([THREE], "temporalwiki")
    assert made["gain"] == pytest.approx(made["before_avg_nll"] - made["avg_nll"])


def test_exact_is_the_share_of_whole_answers_at_the_tables_epoch() -> None:
    run = record([[0.0] * 4, [1.0, 0.5, 0.5, 1.0], [1.0, 0.0, 0.0, 0.0]], [[1.0] * 4, [1.0, 1.0, 0.5, 0.0], [0.0] * 4])
    value = run.model_dump()
    for epoch in value["stages"][0]["epochs"]:
        for scores in epoch["sets"].values():
            scores["exact"] = sum(a == 1 for a in scores["probe_accuracy"]) / len(scores["probe_accuracy"])
    found = row(Record.model_validate(value))
    assert (found["epoch"], found["top_exact"], found["nf_exact"]) == (1, 0.5, 0.5)
    assert found["top_exact_low"] <= 0.5 <= found["top_exact_high"]


def test_a_told_row_is_marked_and_takes_nobodys_rank() -> None:
    best = record([[0.0, 0.0], [1.0, 1.0]], [[1.0, 1.0]] * 2, method="cheat").model_copy(update={"told": True})
    oracle = record([[0.0, 0.0], [1.0, 0.5]], [[1.0, 1.0]] * 2, method="o", hyperparameters={"oracle": {}})
    honest = record([[0.0, 0.0], [0.5, 0.0]], [[1.0, 1.0]] * 2).model_copy(update={"told": False})
    found = table(best, oracle, honest).set_index("method")
    assert found["told"].to_dict() == {"cheat": True, "o": True, "lora": False}
    assert found["rank"].isna().to_dict() == {"cheat": True, "o": True, "lora": False}
    assert found.loc["lora", "rank"] == 1
    assert "cheat\\*" in tables([best, honest])["lama-ckl.md"]


@pytest.mark.parametrize("change", [{"epochs": 9}, {"limit": 2}, {"benchmark_hash": "b" * 64}, {"model_revision": "x"}])
def test_rows_of_other_epochs_or_of_a_limit_are_not_ranked_together(change: dict[str, Any]) -> None:
    one, other = record(LEARNED, KEPT), record(*STILL, **change)
    assert list(table(one, other)["rank"]) == [1, 1]
    assert league(rows([one])[0]) != league(rows([other])[0])
    assert tables([one, other])["lama-ckl.md"].count("\n## ") == 2


def test_other_rates_are_ranked_together_and_told_apart() -> None:
    same, other = record(LEARNED, KEPT), record(*STILL, learning_rate=5e-5, batch_size=4)
    usual = record(LEARNED, KEPT, method="x")
    made = rows([same, other, usual])
    assert sorted(row["rank"] for row in made) == [1, 1, 3]
    assert labels(made) == ["lora", "x", "lora@lr=5e-5,batch=4"]
    assert labels(rows([other])) == ["lora"]  # alone, it differs from nothing
    assert "lora@lr=5e-5,batch=4" in tables([same, other, usual])["lama-ckl.md"]
    idle = record(*STILL, method="none", learning_rate=5e-5, batch_size=4)  # which trains at no rate
    assert "none" in labels(rows([same, idle, usual]))


def test_ranks_leave_out_the_told() -> None:
    made = [{"told": told, "value": value} for told, value in ((False, 2.0), (True, 0.0), (False, 1.0), (False, 2.0))]
    assert ranks(made, lambda row: row["value"]) == [2, None, 1, 2]


GREEN, RED, DIM = 32, 31, 2


@pytest.mark.parametrize(
    ("low", "high", "mark", "look"), [(0.1, 0.3, BETTER, GREEN), (-0.3, -0.1, WORSE, RED), (-0.1, 0.1, NEITHER, DIM)]
)
def test_what_is_not_better_than_doing_nothing_looks_so(low: float, high: float, mark: str, look: int) -> None:
    (made,) = rows([record(LEARNED, KEPT)])
    made |= {"gain": (low + high) / 2, "gain_low": low, "gain_high": high}
    assert verdict(made) == mark
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(leaderboard_table("lama-ckl", [made], []))
    assert f"{made['gain']:+.3f}{mark}" in console.export_text()
    seen = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard")
    seen.print(leaderboard_table("lama-ckl", [made], []))
    assert f"\x1b[{look}m{made['gain']:+.3f}{mark}" in seen.file.getvalue()  # type: ignore[attr-defined]


def test_a_try_stands_apart_in_the_terminal_and_says_so() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(leaderboard_table("lama-ckl", rows([record(LEARNED, KEPT, limit=2)]), rows([record(*STILL)])))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "(a try)" in text
    assert "limit=2" in text
    of_rows = [number for number, line in enumerate(lines) if "lora" in line]
    assert any(not line.strip() for line in lines[of_rows[0] : of_rows[-1]])  # a gap between the leagues


def test_kl_is_the_mean_over_stages_and_seeds_and_missing_where_it_was_not_measured() -> None:
    run = record(LEARNED, KEPT)
    (stage,) = run.stages
    measured = [
        run.model_copy(
            update={
                "spec": (spec := run.spec.model_copy(update={"seed": seed})),
                "run_id": spec.run_id,
                "stages": [stage.model_copy(update={"divergence": {"documents": kl, "rehearsal": kl / 2}})],
            }
        )
        for seed, kl in ((0, 0.2), (1, 0.4))
    ]
    found = row(*measured)
    assert (found["kl_documents"], found["kl_rehearsal"]) == pytest.approx((0.3, 0.15))
    assert pd.isna(row(run)["kl_documents"])


def test_marks_are_explained_where_they_are_there() -> None:
    def shown(ours: list[Record], committed: list[Record]) -> str:
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(leaderboard_table("lama-ckl", rows(ours), rows(committed)))
        return console.export_text()

    none = record(*STILL, method="none")
    alone, beside = shown([record(LEARNED, KEPT), none], []), shown([record(LEARNED, KEPT)], [none])
    assert ">" not in alone
    assert "committed" not in alone
    assert "± over n seeds" not in alone
    assert "= learns nothing" in alone
    assert "--method none" not in alone + beside
    assert "--method none adds the row of what learns nothing" in shown([record(LEARNED, KEPT)], [])
    assert "> this output, the rest is committed" in beside
    assert "\n>  lora" in beside
