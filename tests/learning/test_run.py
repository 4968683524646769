"""`ckl-bench run` from end to end on the tiny model."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ckl_bench.learning.environment import environment
from ckl_bench.records import read_record, read_records
from ckl_bench.scoring.sets import score_sets
from ckl_bench.storage.locks import locked
from conftest import RAISING, Command


def run(command: Command, small: Path, *more: object) -> Any:
    return command("run", "--model", "tiny", "--benchmark", small, *more)


@pytest.mark.parametrize("method", ["lora", "finetune", "oracle", "oracle+finetune"])
def test_every_method_leaves_a_record_and_a_row(method: str, command: Command, small: Path, tmp_path: Path) -> None:
    result = run(command, small, "--method", method)
    assert result.code == 0, result.err
    label = method if method in ("lora", "oracle+finetune", "finetune") else f"{method}+lora"
    assert label in result.out
    (path,) = (tmp_path / "runs" / "records").glob("*.json")
    record = read_record(path)
    assert (record.status, record.spec.method, record.spec.epochs, record.spec.batch_size) == ("done", label, 2, 2)
    assert [e.epoch for e in record.stages[0].epochs] == [0, 1, 2]
    assert record.stages[0].epochs[0].train_loss is None
    assert record.cost is not None
    per_epoch = sum(len(json.loads(x)["text"]) for x in (small / "stages/01-facts/documents.jsonl").open())
    assert record.cost.train_tokens == 2 * per_epoch  # one token a byte, and the texts are ASCII
    assert 0 < record.cost.trainable_parameters <= record.cost.total_parameters
    assert {"load", "weigh", "penalty", "train", "score"} <= record.cost.seconds.keys()
    table = pd.read_csv(tmp_path / "runs" / "lama-ckl.csv")
    assert list(table["method"]) == [label]
    assert list(table["run_ids"].astype(str)) == [record.run_id]


def test_training_changes_what_the_model_says(command: Command, small: Path) -> None:
    result = run(command, small, "--method", "finetune", "--lr", "3e-3", "--epochs", "20", "--json")
    epochs = json.loads(result.out)["stages"][0]["epochs"]
    first, last = epochs[0]["sets"]["to_learn"], epochs[-1]["sets"]["to_learn"]
    assert last["nll"] < first["nll"] - 1
    assert last["accuracy"] > first["accuracy"]
    assert epochs[-1]["train_loss"] < epochs[1]["train_loss"] - 1


def test_json_is_the_only_thing_on_stdout(command: Command, small: Path, tmp_path: Path) -> None:
    result = run(command, small, "--method", "lora", "--json", "--seed", "3", "--seed", "4")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["spec"]["seed"] for line in lines] == [3, 4]
    for line in lines:
        assert json.loads((tmp_path / "runs" / "records" / f"{line['run_id']}.json").read_text()) == line


def test_the_same_spec_gives_the_same_numbers_and_is_not_run_twice(
    command: Command, small: Path, tmp_path: Path
) -> None:
    one = json.loads(run(command, small, "--method", "lora", "--json").out)
    (path,) = (tmp_path / "runs" / "records").glob("*.json")
    before = path.stat().st_mtime_ns
    again = run(command, small, "--method", "lora")
    assert "is done already" in again.err
    assert "--fresh" in again.err
    assert path.stat().st_mtime_ns == before
    fresh = json.loads(run(command, small, "--method", "lora", "--json", "--fresh").out)
    assert fresh["stages"] == one["stages"]
    other = json.loads(run(command, small, "--method", "lora", "--json", "--seed", "1").out)
    assert other["stages"] != one["stages"]
    assert other["run_id"] != one["run_id"]


@pytest.mark.parametrize(("method", "times"), [("none", 1), ("lora", 3)])
def test_what_learns_nothing_is_scored_once(
    method: str, times: int, command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(1)
        return score_sets(*given, **more)

    monkeypatch.setattr("ckl_bench.learning.measures.score_sets", counted)
    epochs = json.loads(run(command, small, "--method", method, "--json").out)["stages"][0]["epochs"]
    assert len(calls) == times
    assert len(epochs) == 3
    assert (epochs[1]["sets"] == epochs[2]["sets"] == epochs[0]["sets"]) == (method == "none")


def test_a_learning_rate_of_zero_teaches_nothing(command: Command, small: Path) -> None:
    epochs = json.loads(run(command, small, "--method", "finetune", "--lr", "0", "--json").out)["stages"][0]["epochs"]
    assert epochs[0]["sets"] == epochs[1]["sets"] == epochs[2]["sets"]


def test_uniform_weights_are_plain_lora(command: Command, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "same.py").write_text(
        '"""All weights 7."""\nfrom dataclasses import dataclass\nfrom ckl_bench.method import Method\n'
        "@dataclass(frozen=True, kw_only=True)\nclass Same(Method):\n"
        "    def weigh(self, model, tokenizer, stage):\n        return lambda batch, nll: 7.0 + 0 * nll\n"
    )
    plain, same = (
        json.loads(run(command, small, "--method", m, "--methods-dir", folder, "--json").out)["stages"][0]["epochs"]
        for m in ("lora", "same")
    )
    for a, b in zip(plain, same, strict=True):
        assert a["sets"]["to_learn"]["nll"] == pytest.approx(b["sets"]["to_learn"]["nll"], abs=1e-4)


def test_limit_takes_the_first_documents_and_probes(command: Command, small: Path) -> None:
    record = json.loads(run(command, small, "--method", "lora", "--limit", "2", "--json").out)
    stage = record["stages"][0]
    assert stage["documents"] == 2
    assert {name: len(ids) for name, ids in stage["probe_ids"].items()} == {"to_learn": 2, "not_to_forget": 2}


def test_a_run_that_fails_is_recorded_and_does_not_take_the_others(
    command: Command, small: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "bad.py").write_text(
        '"""Fails at seed 1."""\nfrom dataclasses import dataclass\nfrom ckl_bench.method import Method\n'
        "@dataclass(frozen=True, kw_only=True)\nclass Bad(Method):\n"
        "    def weigh(self, model, tokenizer, stage):\n"
        "        return lambda batch, nll: nll * (float('nan') if stage.seed == 1 else 1.0)\n"
    )
    seeds = [x for seed in (0, 1, 2) for x in ("--seed", seed)]
    result = run(command, small, "--method", "bad", "--methods-dir", folder, *seeds)
    assert result.code == 1
    assert (
        "1 of 3 runs failed; seed 1: stage facts, epoch 1: the loss is nan at step 1; documents of the batch"
        in result.err
    )
    records = [read_record(p) for p in (tmp_path / "runs" / "records").glob("*.json")]
    assert sorted((r.spec.seed, r.status) for r in records) == [(0, "done"), (1, "failed"), (2, "done")]
    assert list(pd.read_csv(tmp_path / "runs" / "lama-ckl.csv")["seeds"]) == [2]


def test_the_record_holds_the_hash_of_a_plugins_file(command: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    file = tmp_path / "methods" / "mine.py"
    ids = []
    for comment in ("# one\n", "# two\n"):
        file.write_text(comment + RAISING.format("ValueError"))
        assert run(command, small, "--method", "mine").code == 1
        (record,) = (r for r in read_records(tmp_path / "runs") if r.run_id not in ids)
        assert record.spec.inputs == {"method:mine": hashlib.sha256(file.read_bytes()).hexdigest()}
        ids.append(record.run_id)
    assert len({*ids}) == 2


def test_a_second_start_of_a_run_in_progress_says_who_has_it(command: Command, small: Path, tmp_path: Path) -> None:
    done = json.loads(run(command, small, "--method", "lora", "--json").out)
    other = "--output", "elsewhere"
    with locked(tmp_path / "elsewhere" / "checkpoints" / f"{done['run_id']}.lock", "it"):
        result = run(command, small, "--method", "lora", *other)
    assert (result.code, result.err.count("error:")) == (2, 1)
    assert f"run {done['run_id']} in elsewhere is running already, by process {os.getpid()} on" in result.err
    assert run(command, small, "--method", "lora", *other).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "lora", "--model", "gpt-5"), "unknown model 'gpt-5'"),
        (("--method", "lora", "--benchmark", "lama-ckl-min"), "did you mean 'lama-ckl-mini'?"),
        (("--method", "lora", "--limit", "0"), "--limit 0: expected a whole number of at least 1"),
        (("--method", "lora", "--epochs", "9" * 20), "expected a whole number of at least 1, below 2^31"),
        (("--method", "lora", "--seed", "9" * 20), "expected a whole number of at least 0, below 2^63"),
        (("--method", "lora", "--seed", "-1"), "--seed -1: expected a whole number of at least 0"),
        (("--method", "lora", "--epochs", "0"), "--epochs 0: expected a whole number"),
        (("--method", "lora", "--lr", "-1"), "--lr -1.0: expected a number that is not negative"),
        (("--method", "lora", "--lr", "nan"), "--lr nan: expected"),
        (("--method", "lora", "--device", "tpu9"), "--device tpu9: not available here"),
        ((), "Missing option '--method'"),
        (("--method", "lora", "--sed", "1"), "No such option: --sed"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: tuple[str, ...], words: str, command: Command, tmp_path: Path
) -> None:
    result = command("run", *(() if "--model" in arguments else ("--model", "tiny")), *arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result.err
    assert words in result.err
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = command("run", "--method", "lora", "--model", "tiny", "--output", tmp_path / "file" / "runs")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "cannot write to the output folder" in result.err


def test_a_record_names_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["run", "--output", "/home/me/runs", "--set", "taalm.attention=/home/me/phi.safetensors", "--lr=1e-3"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ckl-bench", *typed])
    shown = ["run", "--output", "runs", "--set", "taalm.attention=phi.safetensors", "--lr=1e-3"]
    assert environment("cpu").command == ["ckl-bench", *shown]


def test_help_answers_without_torch() -> None:
    code = (
        "import sys\nfrom ckl_bench.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train-attention" in done.stdout


def test_no_word_of_a_help_text_is_taken_for_markup(command: Command) -> None:
    import typer

    from ckl_bench.cli.app import app

    def texts(found: Any) -> Iterator[str]:
        yield from (text for text in (found.help, *(getattr(p, "help", None) for p in found.params)) if text)
        for sub in getattr(found, "commands", {}).values():
            yield from texts(sub)

    assert len(found := list(texts(typer.main.get_command(app)))) > 50
    assert not [text for text in found if re.search(r"\[[a-z/#@]", text, re.IGNORECASE)]  # rich would drop it
    shown = command("run", "--help").out
    assert all(words in shown for words in ("(benchmark's", "--allow-pickle", "committed"))


def test_importing_the_package_does_nothing(tmp_path: Path) -> None:
    code = "import sys, ckl_bench; assert 'torch' not in sys.modules; print(ckl_bench.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"CKL_BENCH_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_lists_name_what_there_is(command: Command) -> None:
    assert {"finetune", "lora", "oracle", "taalm"} <= set(command("methods").out.split())
    assert {"tiny", "smollm2-135m"} <= set(command("models").out.split())
    assert "lama-ckl-mini" in command("benchmarks").out


def test_the_weights_of_some_tokens_are_in_the_record(command: Command, small: Path) -> None:
    stage = json.loads(run(command, small, "--method", "oracle", "--json").out)["stages"][0]
    assert len(stage["token_weights"]) == 4
    for shown in stage["token_weights"]:
        marked = "".join(t for t, w in zip(shown["tokens"][1:], shown["weights"], strict=True) if w)
        assert marked.startswith("ObjectP108x")
        assert set(shown["weights"]) == {0.0, 1.0}
    assert json.loads(run(command, small, "--method", "lora", "--json").out)["stages"][0]["token_weights"] == []
