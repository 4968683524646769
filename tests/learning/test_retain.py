"""`--retain`: other tasks before and after, by lm-evaluation-harness, with two tasks of our own and no network."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import ckl_bench
from ckl_bench import UserError
from ckl_bench.learning.retain import check, measured
from ckl_bench.learning.tasks import Retain, lacking, wanted
from ckl_bench.models.find import find_model
from ckl_bench.records import read_records
from ckl_bench.storage.files import cache_dir
from conftest import Command
from helpers.tasks.own_data import CHOICES, TEXTS

pytestmark = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")
TASKS = Path(__file__).parent.parent / "helpers" / "tasks"
BOTH = Retain(tasks=("own_choice", "own_text"), include_path=TASKS)


def nll(model: torch.nn.Module, tokenizer: object, before: str, text: str) -> float:
    """Nats of a text behind another, by the model's own logits."""
    ids = [tokenizer(part)["input_ids"] for part in (before, text)]  # type: ignore[operator]
    whole = torch.tensor([ids[0] + ids[1]])
    with torch.no_grad():
        logits = model(input_ids=whole).logits[0, :-1]
    return float(F.cross_entropy(logits[len(ids[0]) - 1 :], whole[0, len(ids[0]) :], reduction="sum"))


def test_the_numbers_are_those_of_the_model() -> None:
    base = find_model("tiny")
    model = base.load()
    found = measured(model, base.tokenizer, BOTH)
    right = [
        min(range(2), key=lambda i: nll(model, base.tokenizer, question, choices[i])) == label
        for question, choices, label in CHOICES
    ]
    assert found["own_choice"]["acc"]["value"] == pytest.approx(sum(right) / len(right))
    assert found["own_choice"]["acc"]["samples"] == len(CHOICES)
    assert found["own_choice"]["acc"]["stderr"] is not None
    total = sum(nll(model, base.tokenizer, "<eos>", text) for text in TEXTS)
    size = sum(len(text.encode()) for text in TEXTS)
    assert found["own_text"]["byte_perplexity"]["value"] == pytest.approx(math.exp(total / size), rel=1e-4)


@pytest.mark.parametrize("method", ["lora", pytest.param("kadapter", marks=pytest.mark.slow), "none"])
def test_before_and_after_go_into_record_table_and_page(
    method: str, command: Command, small: Path, tmp_path: Path
) -> None:
    words = ("run", "--method", method, "--benchmark", small, "--model", "tiny", "--lr", "1e-2")
    done = command(*words, "--retain", "own_choice,own_text", "--include-path", TASKS)
    assert done.code == 0, done.err
    (record,) = read_records(tmp_path / "runs")
    value = record.retained["own_text"]["byte_perplexity"]
    base = find_model("tiny")
    assert value.before == measured(base.load(), base.tokenizer, BOTH)["own_text"]["byte_perplexity"]["value"]
    assert (value.after == value.before) == (method == "none")
    table = pd.read_csv(tmp_path / "runs" / "lama-ckl.csv")
    assert table["retain_own_text_byte_perplexity"][0] == pytest.approx(value.after, abs=1e-4)
    assert table["retain_own_choice_acc_before_stderr"][0] == pytest.approx(
        record.retained["own_choice"]["acc"].before_stderr, abs=1e-4
    )
    assert "own_text byte_perplexity: " in done.err
    assert command("report", "--output", "runs").code == 0
    (page,) = tmp_path.glob("runs/*.html")
    text = page.read_text(encoding="utf-8")
    assert "Is the model still good?" in text
    assert f"{value.after:.3f} ({value.before:.3f})" in text


@pytest.mark.slow
def test_a_run_learns_the_same_with_it_and_without(command: Command, small: Path) -> None:
    words = ("run", "--method", "lora", "--benchmark", small, "--model", "tiny", "--json", "--fresh")
    plain = json.loads(command(*words).out)
    asked = json.loads(command(*words, "--retain", "own_choice", "--include-path", TASKS).out)
    assert (plain["run_id"], plain["weights_sha256"]) == (asked["run_id"], asked["weights_sha256"])
    assert plain["stages"] == asked["stages"]


@pytest.mark.parametrize("name", ["score", "sweep"])
def test_other_commands_ask_too(name: str, command: Command, small: Path, tmp_path: Path) -> None:
    words = [name, "--benchmark", small, "--model", "tiny", "--retain", "own_choice", "--include-path", TASKS]
    words += ["--method", "none", "--epochs", 1] if name == "sweep" else []
    done = command(*words, "--retain-limit", 3)
    assert done.code == 0, done.err
    (record,) = read_records(tmp_path / "runs")
    found = record.retained["own_choice"]["acc"]
    assert (found.samples, found.after) == (3, found.before)
    words[words.index("own_choice")] = "own_text"
    again = command(*words)
    assert again.code == 0, again.err
    assert "its record has no scores of own_text: --fresh" in again.err


def test_from_python_it_is_asked_for_by_the_same_words(small: Path) -> None:
    asked = ckl_bench.Retain(tasks=("own_choice",), limit=3, include_path=TASKS)
    record = ckl_bench.run("none", benchmark=small, model="tiny", epochs=1, retain=asked).record
    assert record.retained["own_choice"]["acc"].samples == 3
    assert lacking(record, asked) == []
    assert lacking(record, Retain(tasks=("own", "own_*", "other"))) == ["other"]


def test_what_was_measured_before_is_found_again(command: Command, small: Path) -> None:
    words = ["run", "--method", "none", "--benchmark", small, "--model", "tiny", "--retain-limit", 3]
    assert command(*words[:-2]).code == 0
    words += ["--retain", "own_choice", "--include-path", TASKS]
    found = command(*words)
    assert found.code == 0
    assert "has no scores of own_choice: --fresh (fresh=True) makes it anew; of a kept model ckl-bench" in found.err
    words += ["--fresh"]
    assert command(*words).code == 0
    kept = {path: path.stat().st_mtime_ns for path in (cache_dir() / "retain").iterdir()}
    assert command(*words).code == 0
    assert {path: path.stat().st_mtime_ns for path in (cache_dir() / "retain").iterdir()} == kept


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--retain", "own_choise", "--include-path", TASKS), "did you mean 'own_choice'?"),
        (("--retain", "own_choice,"), "expected TASK[,TASK...]"),
        (("--retain-limit", "3"), "--retain-limit belongs to --retain"),
        (("--include-path", TASKS), "--include-path belongs to --retain"),
        (("--retain", "own_choice", "--include-path", "nowhere"), "expected a folder with YAML files"),
    ],
)
def test_a_task_that_is_not_there_is_said_first(
    words: tuple[object, ...], says: str, command: Command, small: Path
) -> None:
    done = command("run", "--method", "lora", "--benchmark", small, "--model", "tiny", *words)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert says in done.err


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckl_bench.learning.retain.find_spec", lambda name: None)
    asked = wanted("hellaswag")
    assert asked is not None
    with pytest.raises(UserError, match=r"pip install 'ckl-bench\[lm-eval\]'"):
        check(asked)
