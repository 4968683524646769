"""TemporalWiki's published files: they import as they are, and the probes alone make a benchmark for scoring."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from ckl_bench.benchmarks.format import load_benchmark
from conftest import Command


def published(folder: Path, name: str, count: int = 6) -> None:
    for kind in ("changed", "unchanged"):
        facts = [{"subject": f"{kind} {name} {i}", "relation": "is in", "object": f"Place{i}"} for i in range(count)]
        (folder / f"{name}_{kind}.jsonl").write_text("".join(json.dumps(f) + "\n" for f in [*facts, facts[0]]))


def diffset(folder: Path, name: str, texts: list[str]) -> None:
    with open(folder / f"{name.replace('-', '')}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "text"], *([i, text] for i, text in enumerate(texts))])


def test_published_files_import_as_they_are(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    good = "On the first day, the council of the town moved to a larger hall, it said."
    for name in ("1001-1101", "0901-1001"):
        published(source, name)
        diffset(source, name, [good, "short", "nan", "1 2 3 4 5 " * 20])
    result = command("build", "temporalwiki", "--published", source, "--out", tmp_path / "twiki")
    assert result.code == 0, result.err
    benchmark = load_benchmark(str(tmp_path / "twiki"))
    assert [stage.name for stage in benchmark.stages] == ["0901-1001", "1001-1101"]
    assert [d.text for d in benchmark.stages[0].documents] == [good]
    assert [p.object for p in benchmark.stages[0].probes["changed"]] == [f"Place{i}" for i in range(6)]
    refused = benchmark.manifest["counts"]["0901-1001"]["documents_refused"]
    assert refused == {"under 50 characters": 1, "nan": 1, "mostly not letters": 1}
    run = command("run", "--method", "lora", "--model", "tiny", "--benchmark", tmp_path / "twiki", "--json")
    assert run.code == 0, run.err
    (source / "0901-1001_changed.jsonl").unlink()
    (source / "0901-1001_unchanged.jsonl").unlink()
    refused = command("build", "temporalwiki", "--published", source, "--out", tmp_path / "other")
    assert refused.code == 2
    assert "has no probes" in refused.err


def test_the_published_probes_make_a_benchmark_for_scoring(command: Command, reference: Path, tmp_path: Path) -> None:
    result = command("build", "temporalwiki", "--published", reference / "temporalwiki", "--out", tmp_path / "twiki")
    assert result.code == 2
    assert "there is no diffset for 0901-1001" in result.err
    source = ("--published", reference / "temporalwiki", "--score-only")
    result = command("build", "temporalwiki", *source, "--out", tmp_path / "twiki")
    assert result.code == 0, result.err
    benchmark = load_benchmark(str(tmp_path / "twiki"))
    for stage in benchmark.stages:
        for kind, probes in stage.probes.items():
            lines = (reference / "temporalwiki" / f"{stage.name}_{kind}.jsonl").read_text().splitlines()
            unique = {tuple(json.loads(line)[k] for k in ("subject", "relation", "object")) for line in lines}
            assert {(p.subject, p.relation, p.object) for p in probes} == {u for u in unique if u[2].strip()}
        assert len(stage.documents) == 0
    run = ("run", "--model", "tiny", "--benchmark", tmp_path / "twiki", "--limit", 5, "--json", "--method")
    silent = command(*run, "lora")
    assert silent.code == 2
    assert "stage '0901-1001' has no documents" in silent.err
    scored = json.loads(command(*run, "none").out)
    assert scored["cost"]["train_tokens"] == 0
    assert [len(stage["epochs"]) for stage in scored["stages"]] == [2, 2]
