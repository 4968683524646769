"""Metrics and tables on records made by hand, and the committed leaderboard against its records."""

from __future__ import annotations

import io
from pathlib import Path
from statistics import stdev
from typing import Any

import pandas as pd
import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.errors import UserError
from ckl_bench.records import Record, read_records, write_record
from ckl_bench.results.differences import UNTRAINED
from ckl_bench.results.leagues import leagues
from ckl_bench.results.metrics import lama_ckl
from ckl_bench.results.published import published_rows
from ckl_bench.results.rows import LAMA_CKL_COLUMNS
from ckl_bench.results.tables import first_difference, rows, tables, write_tables
from ckl_bench.storage.files import leaderboards_dir
from conftest import Command, forge
from helpers.runs import KEPT, LEARNED, record


def test_the_published_definition_takes_the_first_epoch_that_reaches_the_top() -> None:
    measures = lama_ckl(record(LEARNED, KEPT))
    assert (measures.top_acc, measures.epoch, measures.nf_acc, measures.total_knowledge) == (0.5, 2, 0.75, 1.25)
    assert (measures.best_total, measures.best_total_epoch) == (1.25, 1)
    assert measures.learned_at_1pct == 0.25
    assert measures.forgetting == 0.25
    assert (measures.final_to_learn, measures.final_not_to_forget) == (0.5, 0.25)


def test_seeds_share_a_row_with_their_mean_and_deviation() -> None:
    other = [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    table = tables([record(LEARNED, KEPT), record(other, KEPT, seed=1)])["lama-ckl.csv"]
    row = pd.read_csv(io.StringIO(table)).iloc[0]
    assert list(row.index) == LAMA_CKL_COLUMNS
    assert (row["seeds"], row["epoch"]) == (2, 1.5)
    assert row["top_acc"] == pytest.approx((0.5 + 1.0) / 2)
    assert row["top_acc_std"] == pytest.approx(stdev([0.5, 1.0]), abs=1e-4)
    assert row["total_knowledge"] == pytest.approx((1.25 + 2.0) / 2)
    assert row["top_acc_low"] <= row["top_acc"] <= row["top_acc_high"]
    assert row["seconds"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"benchmark_hash": "b" * 64},
        {"model_revision": "seed:1"},
        {"learning_rate": 0.01},
        {"limit": 2},
        {"inputs": {"attention": "f" * 64}},
        {"hyperparameters": {"lora": {"r": 8}}},
    ],
)
def test_runs_that_differ_in_more_than_their_seed_never_share_a_row(change: dict[str, Any]) -> None:
    table = tables([record(LEARNED, KEPT), record(LEARNED, KEPT, seed=1, **change)])["lama-ckl.csv"]
    assert list(pd.read_csv(io.StringIO(table))["seeds"]) == [1, 1]


def test_tables_do_not_depend_on_the_order_of_records_and_rank_by_total_knowledge() -> None:
    better = record([[0.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]], method="taalm+lora")
    records = [record(LEARNED, KEPT), better, record(LEARNED, KEPT, seed=5)]
    assert tables(records) == tables(records[::-1])
    table = pd.read_csv(io.StringIO(tables(records)["lama-ckl.csv"]))
    assert list(table["method"]) == ["taalm+lora", "lora"]


def test_failed_runs_make_no_row_and_formulas_are_defused() -> None:
    done = record(LEARNED, KEPT, method="=HYPERLINK(1)")
    failed = Record(
        run_id=record(LEARNED, KEPT).run_id,
        status="failed",
        error="e",
        spec=record(LEARNED, KEPT).spec,
        environment=done.environment,
    )
    lines = tables([done, failed])["lama-ckl.csv"].splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("'=HYPERLINK(1),")


def test_check_finds_a_changed_digit_in_a_table_or_a_record(tmp_path: Path, command: Command) -> None:
    path = write_record(tmp_path, record(LEARNED, KEPT))
    assert command("leaderboard", "--output", tmp_path).code == 0
    assert command("leaderboard", "--output", tmp_path, "--check").code == 0
    table = tmp_path / "lama-ckl.csv"
    text = table.read_text()
    table.write_text(text.replace("1.2500", "1.2600", 1))
    result = command("leaderboard", "--output", tmp_path, "--check")
    assert result.code == 1
    assert "lama-ckl.csv:2, from character " in result.err
    assert "1.2600," in result.err.split("the file says ")[1].split(", the records give ")[0]
    assert "1.2500," in result.err.split(", the records give ")[1]
    table.write_text(text)
    original = path.read_text()
    path.write_text(original.replace('"train_tokens": 100', '"train_tokens": 101'))
    result = command("leaderboard", "--output", tmp_path, "--check")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "is not as it was written" in result.err
    path.write_text(original)
    forge(path, lambda value: value["cost"].update(train_tokens=101))
    result = command("leaderboard", "--output", tmp_path, "--check")
    assert result.code == 1
    assert "the records give" in result.err
    path.write_text(original)
    forge(path, lambda value: value["spec"].update(seed=1))
    assert "is not the hash of the spec" in command("leaderboard", "--output", tmp_path, "--check").err
    path.write_text(original)
    forge(path, lambda value: value["stages"][0]["epochs"][1]["sets"]["to_learn"].update(accuracy=0.6))
    assert "a mean is not its probes'" in command("leaderboard", "--output", tmp_path, "--check").err
    path.write_text(original[:-20])
    assert "not valid JSON" in command("leaderboard", "--output", tmp_path).err


def test_the_committed_tables_are_what_the_committed_records_give() -> None:
    records = list(read_committed())
    assert records
    assert first_difference(leaderboards_dir(), records) is None
    assert all(r.status == "done" and r.spec.limit is None for r in records)
    assert not any("+changes" in r.environment.commit for r in records)


@pytest.mark.parametrize("kind", ["lama-ckl", "temporalwiki"])
def test_every_committed_league_has_a_row_of_the_model_that_learns_nothing(kind: str) -> None:
    made = leagues(rows(read_committed(), kind))
    assert len(made) >= 2
    for members in made:
        (still,) = (row for row in members if row["method"] == UNTRAINED)
        assert (still["gain"], still["kl_documents"]) == (0, 0)


def test_on_the_committed_records_taalm_knows_more_and_forgets_less_than_lora_on_every_seed() -> None:
    mini = load_benchmark("lama-ckl-mini")
    by_method: dict[str, dict[int, Any]] = {}
    for item in read_committed():
        if item.spec.benchmark_hash == mini.hash:
            by_method.setdefault(item.spec.method, {})[item.spec.seed] = lama_ckl(item)
    taalm, lora = by_method["taalm+lora"], by_method["lora"]
    assert len(taalm.keys() & lora.keys()) > 1
    assert by_method["oracle+lora"]
    assert by_method["finetune"]
    for seed in taalm.keys() & lora.keys():
        assert taalm[seed].total_knowledge > lora[seed].total_knowledge
        assert taalm[seed].nf_acc > lora[seed].nf_acc


def read_committed() -> Any:
    from ckl_bench.records import read_records

    return read_records(leaderboards_dir())


def test_tables_written_twice_do_not_change_a_byte(tmp_path: Path) -> None:
    records = [record(LEARNED, KEPT), record(LEARNED, KEPT, seed=2)]
    paths = write_tables(tmp_path, records)
    assert [path.name for path in paths] == ["lama-ckl.csv", "lama-ckl.md"]
    before = [path.read_bytes() for path in paths]
    write_tables(tmp_path, records)
    assert [path.read_bytes() for path in paths] == before


def test_ranks_count_within_a_league_and_ties_share_one() -> None:
    def run(top: float, **changes: Any) -> Record:
        return record([[0.0, 0.0], [top, top]], [[1.0, 1.0], [1.0, 1.0]], **changes)

    best, one, two = run(0.9, method="a"), run(0.5, method="b"), run(0.5, method="c")
    last, other = run(0.1, method="d"), run(0.3, method="e", benchmark_hash="b" * 64)
    table = pd.read_csv(io.StringIO(tables([last, other, two, best, one])["lama-ckl.csv"]))
    assert dict(zip(table["method"], table["rank"], strict=True)) == {"a": 1, "b": 2, "c": 2, "d": 4, "e": 1}


def test_published_rows_are_shown_apart_and_never_ranked(tmp_path: Path) -> None:
    (tmp_path / "published.toml").write_bytes((leaderboards_dir() / "published.toml").read_bytes())
    write_tables(tmp_path, [record(LEARNED, KEPT)])
    table = pd.read_csv(tmp_path / "lama-ckl.csv")
    assert list(table["source"]) == ["measured"] + ["published"] * 11
    assert table["rank"].notna().sum() == 1
    measured, published = (tmp_path / "lama-ckl.md").read_text().split("## Published")
    assert "TAALM (QLoRA) | 0.429 | 4 | 0.898 | 1.327" in published
    assert "QLoRA" not in measured


def test_published_rows_are_the_papers(reference: Path) -> None:
    for name, kind in (("lama_ckl_llama2_7b", "lama-ckl"), ("temporalwiki", "temporalwiki")):
        ours = published_rows(leaderboards_dir(), kind)
        theirs = pd.read_csv(reference / "paper" / f"{name}.csv", dtype={"period": str})
        if kind == "lama-ckl":
            assert [[r[c] for c in theirs.columns] for r in ours] == theirs.to_numpy().tolist()
        else:
            months = {"0910": "0901-1001", "1011": "1001-1101", "1112": "1101-1201"}
            by_method = {row["method"]: row for row in ours}
            for _, line in theirs.iterrows():
                month, row = months[line["period"]], by_method[line["method"]]
                assert row[f"{month}_unchanged_nll"] == line["unchanged_nll"]
                assert row[f"{month}_changed_nll"] == line["changed_nll"]


def test_markdown_marks_the_row_that_learns_nothing() -> None:
    still = record([[0.0, 0.0]] * 4, [[1.0, 1.0]] * 4, method="none")
    text = tables([record(LEARNED, KEPT), still])["lama-ckl.md"]
    assert [line.split(" | ")[1] for line in text.splitlines() if "| = " in line] == ["= *none*"]
    assert "= learns nothing" in text


def test_markdown_means_nothing_but_text() -> None:
    text = tables([record(LEARNED, KEPT, method="a|b<script>")])["lama-ckl.md"]
    assert "a\\|b&lt;script>" in text


def test_records_that_name_something_are_found_whatever_stands_in_the_name(tmp_path: Path) -> None:
    names = ["plain", 'a "quoted\\ name"', "línea\n", "a"]
    for name in names:
        write_record(tmp_path, record(LEARNED, KEPT, model_revision=name))
    (tmp_path / "records" / "ffff.json").write_text("neither of them, nor a record")
    for name in names:
        assert [found.spec.model_revision for found in read_records(tmp_path, naming=["a" * 64, name])] == [name]
    assert list(read_records(tmp_path, naming=["b" * 64])) == []
    with pytest.raises(UserError, match="not valid JSON"):
        list(read_records(tmp_path))
