"""Forged scores are found where they break what scoring can give; honest ones never are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.models.find import find_model
from ckl_bench.records import read_record, read_records, write_record
from ckl_bench.results.plausible import implausible
from ckl_bench.results.start import unlike_the_base
from ckl_bench.scoring.engine import encode_probe
from ckl_bench.storage.files import leaderboards_dir
from conftest import Command, forge
from helpers.runs import short_run

Scores = dict[str, Any]


def rescored(scores: Scores, index: int | None = None, **values: float) -> None:
    """Give one probe (or all) other scores, with the means and `exact` that follow from them."""
    for name, value in values.items():
        listed = scores[f"probe_{name}"]
        scores[f"probe_{name}"] = [value if index in (None, i) else old for i, old in enumerate(listed)]
        scores[name] = sum(scores[f"probe_{name}"]) / len(listed)
    scores["exact"] = sum(value == 1 for value in scores["probe_accuracy"]) / len(scores["probe_accuracy"])


def last(record: dict[str, Any]) -> Scores:
    scores: Scores = record["stages"][0]["epochs"][-1]["sets"]["to_learn"]
    return scores


def true_text(index: int) -> str:
    """What a model guesses that has all tokens of a probe's object right."""
    tokenizer = find_model("tiny").tokenizer
    encoded = encode_probe(tokenizer, load_benchmark("lama-ckl-mini").stages[0].probes["to_learn"][index])
    return str(tokenizer.decode([encoded.ids[i] for i in encoded.objects]))


def every_accuracy(record: dict[str, Any]) -> None:
    for epoch in record["stages"][0]["epochs"]:
        for scores in epoch["sets"].values():
            rescored(scores, accuracy=0.99)


def raised(record: dict[str, Any]) -> None:
    rescored(last(record), 0, accuracy=1.0)


def lowered(record: dict[str, Any]) -> None:
    last(record)["probe_guess"][0] = true_text(0)
    rescored(last(record), 0, accuracy=0.0)


def surer(record: dict[str, Any]) -> None:
    rescored(last(record), 0, accuracy=0.0, nll=0.5)


def less_sure(record: dict[str, Any]) -> None:
    last(record)["probe_guess"][0] = true_text(0)
    rescored(last(record), 0, accuracy=1.0, nll=6.0)


def negative(record: dict[str, Any]) -> None:
    rescored(last(record), nll=-0.1)


def another_exact(record: dict[str, Any]) -> None:
    last(record)["exact"] = 0.5


def another_view(record: dict[str, Any]) -> None:
    epoch = record["stages"][0]["epochs"][-1]
    epoch["views"] = {"other": record["stages"][0]["epochs"][0]["sets"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (every_accuracy, "an accuracy of 0.99 is no number of right tokens over the object's"),
        (raised, "was guessed for"),
        (lowered, "was guessed for"),
        (surer, f"too low with 0 of {{}} tokens right (at least {math.log(2):.6f})"),
        (less_sure, f"too high with all tokens right (at most {math.log(257):.6f})"),
        (negative, "is below 0"),
        (another_exact, "exact is 0.500000, of its probes 0.000000"),
        (another_view, "its scores are those of none of its views"),
    ],
)
def test_a_forged_record_is_refused(
    change: Callable[[dict[str, Any]], None], words: str, command: Command, tmp_path: Path
) -> None:
    path = write_record(tmp_path, short_run())
    assert command("submit", path, "--output", tmp_path / "honest").code == 0
    forge(path, change)
    assert read_record(path)  # its means agree, so that reading it finds nothing
    result = command("submit", path, "--output", tmp_path / "board")
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        "error: 1 of 1 records cannot be submitted; nothing was written",
    )
    before, _, after = words.partition("{}")
    assert before in result.err, result.err
    assert after in result.err, result.err
    assert not (tmp_path / "board").exists()


def test_what_was_scored_before_training_is_what_other_runs_scored(command: Command, tmp_path: Path) -> None:
    run = short_run()
    board = tmp_path / "board"
    assert command("submit", write_record(tmp_path, run), "--output", board).code == 0
    spec = run.spec.model_copy(update={"seed": 7})
    other = run.model_copy(update={"spec": spec, "run_id": spec.run_id})

    def submitted(nll: float) -> Any:
        path = write_record(tmp_path, other)
        forge(path, lambda record: rescored(record["stages"][0]["epochs"][0]["sets"]["not_to_forget"], 3, nll=nll))
        return command("submit", path, "--output", board)

    for nll in (5.0, 6.5):  # which a model may well give
        result = submitted(nll)
        assert result.code == 2
        assert f"the NLL of 1 probes differs, the first is {nll:.6f}" in result.err
        assert f"in run {run.run_id}" in result.err
    scored = run.stages[0].epochs[0].sets["not_to_forget"].probe_nll[3]
    nearly = submitted(scored + 1e-4)  # another processor
    assert nearly.code == 0, nearly.err


def test_another_way_to_build_the_model_is_not_compared() -> None:
    run = short_run()
    value = run.model_dump()
    rescored(value["stages"][0]["epochs"][0]["sets"]["to_learn"], nll=4.0)

    def changed(**changes: Any) -> Any:
        spec = run.spec.model_copy(update=changes)
        return type(run).model_validate(value | {"spec": spec.model_dump(), "run_id": spec.run_id})

    assert unlike_the_base(changed(seed=3, epochs=9), [run])
    for method in ("kadapter", "lora-null", "lora-null+restate"):
        assert unlike_the_base(changed(hyperparameters={name: {} for name in method.split("+")}, method=method), [run])
    assert not unlike_the_base(changed(hyperparameters={"qlora": {}}, method="qlora"), [run])
    assert not unlike_the_base(changed(inputs={"method:mine": "a" * 64}), [run])
    assert not unlike_the_base(changed(model_revision="seed:1"), [run])


@pytest.mark.slow
@pytest.mark.usefixtures("users_cache")
def test_every_committed_record_is_plausible_and_a_flipped_probe_is_not() -> None:
    every = list(read_records(leaderboards_dir()))
    benchmarks = {name: load_benchmark(name) for name in {record.spec.benchmark for record in every}}
    records = [r for r in every if r.spec.benchmark_hash == benchmarks[r.spec.benchmark].hash]  # as it is now
    assert len(records) > 15
    models = {name: find_model(name) for name in {record.spec.model for record in records}}
    for record in records:
        about = benchmarks[record.spec.benchmark], models[record.spec.model]
        assert implausible(record, *about) + unlike_the_base(record, records) == []
    record = next(r for r in records if r.spec.method == "taalm+lora" and r.spec.benchmark_kind == "lama-ckl")
    about = benchmarks[record.spec.benchmark], models[record.spec.model]
    missed = []
    for name, ids in record.stages[0].probe_ids.items():
        for index in range(0, len(ids), 2):
            value = record.model_dump()
            scores = value["stages"][0]["epochs"][-1]["sets"][name]
            rescored(scores, index, accuracy=float(scores["probe_accuracy"][index] < 1))
            if not implausible(type(record).model_validate(value), *about):
                missed.append(scores["probe_accuracy"][index])
    # The text of an object may be cut into as many other tokens (" Hanoi"): then its guess may have none right.
    assert missed in ([], [0.0])
