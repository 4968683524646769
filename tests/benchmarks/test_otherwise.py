"""The same facts asked in the other prompt form: a third set of probes, in the record, the table and the comparison."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.lama_ckl import build_from_lama
from conftest import Command, knows_first_capitals


@pytest.fixture
def asked(lama: Path, tmp_path: Path) -> Path:
    models = {"known": ("test", knows_first_capitals)}
    defaults = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3}
    out = tmp_path / "asked"
    build_from_lama(lama, out, models=models, to_learn=5, not_to_forget=5, defaults=defaults, otherwise=True)
    return out


def test_the_facts_are_the_same_and_the_prompts_are_not(asked: Path, small: Path) -> None:
    probes = load_benchmark(str(asked)).stages[0].probes
    assert list(probes) == ["to_learn", "not_to_forget", "asked_otherwise"]
    plain = load_benchmark(str(small)).stages[0].probes
    assert [list(plain[name]) for name in plain] == [list(probes[name]) for name in plain]
    for one, other in zip(probes["to_learn"], probes["asked_otherwise"], strict=True):
        assert (one.id, one.subject, one.relation, one.object) == (
            other.id,
            other.subject,
            other.relation,
            other.object,
        )
        assert one.prompt != other.prompt
        assert other.prompt.startswith("Guess the object.")


def test_the_third_set_is_in_the_record_and_the_tables_and_total_knowledge_is_of_two(
    asked: Path, command: Command, tmp_path: Path
) -> None:
    run = ("run", "--model", "tiny", "--benchmark", asked, "--lr", "1e-2", "--method")
    record = json.loads(command(*run, "lora", "--json").out)
    assert command(*run, "finetune").code == 0
    with open(tmp_path / "runs" / "lama-ckl.csv", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["method"] == "lora")
    epochs = record["stages"][0]["epochs"]
    at = epochs[int(float(row["epoch"]))]["sets"]
    assert float(row["otherwise_acc"]) == pytest.approx(at["asked_otherwise"]["accuracy"], abs=1e-4)
    assert float(row["otherwise_exact"]) == pytest.approx(at["asked_otherwise"]["exact"], abs=1e-4)
    total = at["to_learn"]["accuracy"] + at["not_to_forget"]["accuracy"]
    assert float(row["total_knowledge"]) == pytest.approx(total, abs=1e-4)
    assert "asked otherwise" in (tmp_path / "runs" / "lama-ckl.md").read_text()
    compared = command("compare", "lora", "finetune", "--benchmark", asked, "--model", "tiny")
    assert "asked_otherwise accuracy" in compared.out
    (line,) = (line for line in compared.out.splitlines() if "total knowledge" in line)
    assert f"{total:.3f} against" in line


def test_the_command_asks_otherwise(command: Command, tmp_path: Path, reference: Path) -> None:
    published = shutil.copytree(reference / "lama_ckl", tmp_path / "published")
    shutil.copy(published / "invariant_descriptive.jsonl", published / "invariant_schematic.jsonl")
    result = command("build", "lama-ckl", "--published", published, "--out", "both", "--ask-otherwise")
    assert result.code == 0, result.err
    assert command("build", "lama-ckl", "--published", published, "--out", "schematic", "--form", "schematic").code == 0
    stage, other = (load_benchmark(str(tmp_path / name)).stages[0] for name in ("both", "schematic"))
    assert list(stage.probes["asked_otherwise"]) == list(other.probes["to_learn"])
