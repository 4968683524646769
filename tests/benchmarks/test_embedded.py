"""The embedded benchmark: its authored source, and that it is rebuilt from it to the hash."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.lama_sources import INVARIANT, read_lama
from ckl_bench.learning.run import RunRequest, plan_run
from ckl_bench.models.find import find_model
from ckl_bench.records import read_records
from ckl_bench.storage.files import data_dir, leaderboards_dir
from conftest import Command

TAALM_RATES = {"lora": 5e-4, "qlora": 5e-4, "kadapter": 1e-3, "finetune": 1e-4}


def test_the_source_holds_what_the_readme_promises() -> None:
    candidates, refused = read_lama(data_dir() / "facts")
    assert not refused
    assert len(candidates) >= 400
    codes = {c.fact.relation for c in candidates}
    assert len(codes) >= 15
    assert codes & INVARIANT
    assert codes - INVARIANT
    assert len({c.evidence for c in candidates}) == len({c.id for c in candidates}) == len(candidates)
    for c in candidates:
        assert c.evidence.count(c.fact.object) == 1, c.fact
        assert c.fact.object not in c.fact.subject


def test_passages_are_not_one_template() -> None:
    """Openings, lengths and the place of the object vary."""
    candidates, _ = read_lama(data_dir() / "facts")
    openings = Counter(" ".join(c.evidence.replace(c.fact.subject, "X").split()[:4]) for c in candidates)
    assert openings.most_common(1)[0][1] <= 6
    words = [len(c.evidence.split()) for c in candidates]
    assert max(words) - min(words) > 20
    places = [c.evidence.index(c.fact.object) / len(c.evidence) for c in candidates]
    assert 0.15 < sum(p < 0.5 for p in places) / len(places) < 0.85
    sentences = Counter(c.evidence.count(". ") + 1 for c in candidates)
    assert len([n for n, count in sentences.items() if count > 20]) >= 2


def test_the_built_benchmark_is_large_enough_and_disjoint() -> None:
    benchmark = load_benchmark("lama-ckl-mini")
    kept = benchmark.manifest["counts"]["kept"]
    assert kept["to_learn"] >= 60
    assert kept["not_to_forget"] >= 60
    assert kept["attention"] >= 200
    stage = benchmark.stages[0]
    probes = [*stage.probes["to_learn"], *stage.probes["not_to_forget"]]
    pairs = {(p.subject, p.relation) for p in probes}
    assert len(pairs) == len(probes)
    apart = [*benchmark.attention, *benchmark.rehearsal]
    assert not pairs & {(d.fact.subject, d.fact.relation) for d in apart if d.fact}
    assert not {d.text for d in stage.documents} & {d.text for d in apart}
    for document in [*stage.documents, *apart]:
        assert document.fact is not None


@pytest.mark.slow
@pytest.mark.usefixtures("users_cache")
def test_passages_are_forty_to_ninety_tokens_long() -> None:
    tokenizer = find_model("smollm2-135m").tokenizer
    lengths = [len(tokenizer(c.evidence)["input_ids"]) for c in read_lama(data_dir() / "facts")[0]]
    assert min(lengths) >= 40
    assert max(lengths) <= 90


@pytest.mark.slow
@pytest.mark.usefixtures("users_cache")
def test_the_builder_gives_the_committed_benchmark_to_the_hash(command: Command, tmp_path: Path) -> None:
    """The command that the manifest and the README name."""
    out = tmp_path / "lama-ckl-mini"
    result = command(
        *("build", "lama-ckl", "--lama", data_dir() / "facts", "--pretest-model", "smollm2-135m", "--out", out),
        *("--to-learn", 64, "--not-to-forget", 64, "--ask-otherwise", "--licence", "Apache-2.0"),
        *("--epochs", 9, "--batch-size", 8, "--lr", 2e-4, "--lr-of", "finetune=2e-5"),
        *(word for builder, rate in TAALM_RATES.items() for word in ("--lr-of", f"taalm+{builder}={rate}")),
    )
    assert result.code == 0, result.err
    built, committed = load_benchmark(str(out)), load_benchmark("lama-ckl-mini")
    assert built.manifest == committed.manifest
    assert built.hash == committed.hash


def test_the_shipped_phi_is_small_and_was_trained_on_this_benchmark_alone() -> None:
    path = data_dir() / "attention" / "smollm2-135m--lama-ckl-mini.safetensors"
    assert path.stat().st_size <= 5_000_000
    about = json.loads(path.with_suffix(".json").read_text())
    benchmark = load_benchmark("lama-ckl-mini")
    assert about["data_sha256"] == benchmark.manifest["files"]["attention/train.jsonl"]
    assert about["best_task_nll"] < about["baselines"]["uniform"]
    best = min((e["held_out"] for e in about["curve"] if "held_out" in e), key=lambda h: h["task_nll"])
    assert best["weight_on_object"] > 3 * best["weight_elsewhere"]


@pytest.mark.slow
@pytest.mark.usefixtures("users_cache")
def test_the_main_job_runs_on_the_real_model(command: Command) -> None:
    result = command("run", "--method", "taalm", "--limit", 4, "--epochs", 1, "--json")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    epochs = record["stages"][0]["epochs"]
    assert epochs[0]["sets"]["to_learn"]["accuracy"] == 0.0
    assert epochs[0]["sets"]["not_to_forget"]["accuracy"] == 1.0
    assert epochs[-1]["sets"]["to_learn"]["nll"] < epochs[0]["sets"]["to_learn"]["nll"]


@pytest.mark.slow
@pytest.mark.usefixtures("users_cache")
def test_the_committed_records_are_of_runs_that_the_command_would_plan_today() -> None:
    """A change that gives the same run another identity would orphan the committed rows."""
    committed = {record.run_id for record in read_records(leaderboards_dir())}
    for method in ("none", "taalm", "lora", "taalm+kadapter", "kadapter", "oracle", "finetune"):
        assert plan_run(RunRequest(method=method)).spec.run_id in committed
