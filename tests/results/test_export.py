"""Records in others' forms: checked against their schemas, and number by number against the record."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.records import Record, Retained, write_record
from conftest import Command
from helpers.runs import KEPT, LEARNED, THREE, record

SCHEMAS = Path(__file__).parent.parent / "data" / "every_eval_ever"  # as evaleval/every_eval_ever has them (MIT)
# https://github.com/huggingface/hub-docs/blob/main/eval_results.yaml
TEXT = {"type": "string", "minLength": 1}
EVAL_RESULTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["dataset", "value"],
        "additionalProperties": False,
        "properties": {
            "dataset": {
                "type": "object",
                "required": ["id", "task_id"],
                "additionalProperties": False,
                "properties": {"id": {**TEXT, "pattern": "^[^/]+/[^/]+$"}, "task_id": TEXT, "revision": TEXT},
            },
            "value": {"type": "number"},
            "verifyToken": TEXT,
            "date": {**TEXT, "pattern": r"^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d))?$"},
            "source": {
                "type": "object",
                "required": ["url"],
                "additionalProperties": False,
                "properties": {"url": TEXT, "name": TEXT, "user": TEXT, "org": TEXT},
            },
            "notes": TEXT,
        },
    },
}


def check(name: str, value: Any) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(value)


def dated(run: Record) -> Record:
    environment = run.environment.model_copy(update={"started": "2026-11-26T10:00:00+00:00"})
    return run.model_copy(update={"environment": environment})


def test_eval_results_are_what_the_hub_reads(command: Command, tmp_path: Path) -> None:
    runs = [dated(record(LEARNED, KEPT)), dated(THREE)]
    for run in runs:
        write_record(tmp_path / "runs", run)
    to = ("export", "--format", "eval-results", "--out", "models", "--source", "https://example.org/runs")
    done = command(*to, "--dataset", "me/made-up")
    assert done.code == 0, done.err
    one, months = (
        yaml.safe_load((tmp_path / "models" / run.run_id / ".eval_results" / "made-up.yaml").read_text())
        for run in runs
    )
    for entries in (one, months):
        jsonschema.validate(entries, EVAL_RESULTS)
        assert {e.dataset_id for e in parse_eval_result_entries(entries)} == {"me/made-up"}
    last = runs[0].stages[0].epochs[-1].sets
    assert {e["dataset"]["task_id"]: e["value"] for e in one} == {n: s.accuracy for n, s in last.items()}
    assert one[0]["date"] == "2026-11-26T10:00:00+00:00"
    assert one[0]["source"]["url"] == "https://example.org/runs"
    assert runs[0].run_id in one[0]["notes"]
    notes = {e["dataset"]["task_id"]: e["notes"] for e in months}  # of the model after the last month
    assert "NLL 8.0000 to 7.0000" in notes["m0.changed"]
    assert "NLL 9.0000 to 6.9000" in notes["m1.changed"]
    assert "NLL 9.5000 to 7.5000" in notes["m2.changed"]


def on(benchmark: Path, **more: Any) -> Record:
    """A run with scores given by hand on the probes of a benchmark that is there."""
    data = load_benchmark(str(benchmark))
    spec = {"benchmark": data.name, "benchmark_hash": data.hash}
    run = record([[0.0] * 5, [1.0, 0.5, 0.0, 1.0, 0.25]], [[1.0] * 5, [1.0, 1.0, 0.75, 0.0, 1.0]], **spec)
    ids = {name: [probe.id for probe in probes] for name, probes in data.stages[0].probes.items()}
    return run.model_copy(update={"stages": [run.stages[0].model_copy(update={"probe_ids": ids})], **more})


def test_every_eval_ever_keeps_its_schema_and_every_number(command: Command, small: Path, tmp_path: Path) -> None:
    retained = {
        "hellaswag": {"acc": Retained(before=0.4, after=0.3, after_stderr=0.01, higher_is_better=True, samples=9)}
    }
    run = on(small, retained=retained)
    write_record(tmp_path / "runs", run)
    to = ("export", "--format", "every-eval-ever", "--out", "eee", "--organization", "Us", "--benchmark", small)
    assert command(*to).code == 0
    (log,) = (tmp_path / "eee").glob("data/small/ckl-bench/*/*[!s].json")
    (samples,) = (tmp_path / "eee").rglob("*_samples.jsonl")
    found = json.loads(log.read_text())
    check("eval", found)
    detail = found["detailed_evaluation_results"]
    assert tmp_path / "eee" / detail["file_path"] == samples
    assert detail["checksum"] == sha256(samples.read_bytes()).hexdigest()
    sets, ids = run.stages[0].epochs[-1].sets, run.stages[0].probe_ids
    scores = {r["evaluation_result_id"]: r["score_details"]["score"] for r in found["evaluation_results"]}
    assert scores == {f"{n}/{m}": getattr(s, m) for n, s in sets.items() for m in ("accuracy", "exact", "nll")} | {
        "retained/hellaswag/acc": 0.3
    }
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert detail["total_rows"] == len(lines) == sum(map(len, ids.values()))
    for line in lines:
        check("instance_level_eval", line)
        assert line["evaluation_id"] == found["evaluation_id"]
        assert line["model_id"] == found["model_info"]["id"]
    for name, own in sets.items():
        mine = [line for line in lines if line["evaluation_result_id"] == f"{name}/accuracy"]
        assert [line["evaluation"]["score"] for line in mine] == own.probe_accuracy
        assert [line["output"]["raw"][0] for line in mine] == own.probe_guess
        texts = {p.id: (p.prompt, p.object) for p in load_benchmark(str(small)).stages[0].probes[name]}
        for line in mine:
            prompt, answer = texts[line["sample_id"]]
            assert line["input"]["reference"] == [answer]
            assert prompt.startswith(line["input"]["raw"] + answer)
    assert command(*to, "--dataset", "me/mini").code == 0  # a second export takes the place of the first
    (again,) = (tmp_path / "eee").glob("data/*/*/*/*[!s].json")
    check("eval", json.loads(again.read_text()))
    assert json.loads(again.read_text())["evaluation_results"][0]["source_data"]["hf_repo"] == "me/mini"


def test_a_benchmark_that_is_not_here_leaves_the_samples_out_and_says_so(command: Command, tmp_path: Path) -> None:
    write_record(tmp_path / "runs", THREE)
    done = command("export", "--format", "every-eval-ever", "--out", "eee")
    assert done.code == 0
    assert "is exported without its samples" in done.err
    (log,) = (tmp_path / "eee").rglob("*.json")
    found = json.loads(log.read_text())
    check("eval", found)
    assert "detailed_evaluation_results" not in found
    after = {r["evaluation_result_id"]: r["score_details"] for r in found["evaluation_results"]}
    assert after["m0.changed/nll"]["score"] == 7.0
    assert after["m0.changed/nll"]["details"]["before"] == "8.0"
    assert not list((tmp_path / "eee").rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "csv"), "--format csv: expected one of eval-results, every-eval-ever"),
        (("--format", "eval-results"), "give --dataset OWNER/NAME"),
        (("--format", "eval-results", "--dataset", "mini"), "--dataset mini: expected OWNER/NAME"),
        (("--format", "every-eval-ever"), "runs holds no record of a finished run"),
        (("--format", "every-eval-ever", "nothing.json"), "'nothing.json' names 0 records"),
        (("--format", "every-eval-ever", "failed.json"), "failed (out of tokens), so it has no scores to export"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    command: Command, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    failed = record(LEARNED, KEPT).model_copy(update={"status": "failed", "error": "out of tokens", "stages": []})
    write_record(tmp_path / "elsewhere", failed).rename(tmp_path / "failed.json")
    done = command("export", "--out", "out", *words)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "out").exists()
