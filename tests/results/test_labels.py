"""Rows that can be told apart: what differs stands in their labels, shortly, and a label finds its runs again."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ckl_bench.records import Record, Retained, write_record
from ckl_bench.results.differences import number
from ckl_bench.results.leagues import labels, unsaid
from ckl_bench.results.markdown import markdown_table
from ckl_bench.results.tables import rows
from ckl_bench.results.terminal import leaderboard_table
from conftest import Command
from helpers.plugin import PLUGIN
from helpers.runs import THREE, record
from helpers.terminal import ESCAPES

GOOD: tuple[list[list[float]], list[list[float]]] = [[0.0, 0.0], [1.0, 0.5]], [[1.0, 1.0]] * 2
SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": 2.5e-5}, "lora@lr=2.5e-5"),
    ({"batch_size": 16}, "lora@batch=16"),
    ({"max_tokens": 128}, "lora@max_tokens=128"),
    ({"dtype": "bfloat16"}, "lora@dtype=bfloat16"),
    ({"limit": 2}, "lora@limit=2"),
    ({"tokenizer_hash": "d" * 64}, "lora@tokenizer=dddddddd"),
    ({"tokenizer_hash": "c" * 15 + "d" * 49}, f"lora@tokenizer={'c' * 15}d"),
    ({"model_revision": "wheel:" + "e" * 30}, "lora@model=wheel:ee"),
    ({"benchmark_hash": "b" * 64}, "lora@benchmark=bbbbbbbb"),
    ({"hyperparameters": {"lora": {"r": 8}}}, "lora@lora.r=8"),  # of another version, whose default it was
    ({"inputs": {"method:lora": "f" * 64}}, "lora@method:lora=ffffffff"),  # of an edited plugin
    ({"inputs": {"attention": "f" * 64}}, "lora@attention=ffffffff"),
]


def run(seed: int = 0, **changes: Any) -> Record:
    return record(*GOOD, seed=seed, **changes)


@pytest.mark.parametrize(("change", "label"), SETTINGS)
def test_a_setting_in_which_rows_differ_is_in_a_label_that_compare_takes(
    change: dict[str, Any], label: str, command: Command, tmp_path: Path
) -> None:
    """The odd one of three rows says in what it differs, in Markdown and in the terminal, and is found by it."""
    runs = [run(), run(seed=1), run(method="ewc"), run(**change)]
    for item in runs:
        write_record(tmp_path / "runs", item)
    made = rows(runs)
    names = labels(made)
    assert len(set(names)) == 3, names
    assert label in names
    assert command("leaderboard", "--output", "runs").code == 0
    shared = change.keys() & {"limit", "model_revision", "benchmark_hash"}  # then their titles tell two tables apart
    text = (tmp_path / "runs" / "lama-ckl.md").read_text()
    assert text.count("\n## ") == 2 if shared else f"| {label} |" in text
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(leaderboard_table("lama-ckl", made, []))
    text = "".join(re.findall(r"^[> ]  ? *(\S*)", console.export_text(), re.M))  # the first words of its lines
    assert label in text or len(label) > 24
    where = ("--benchmark", "made-up", "--model", "tiny")
    found = command("compare", label, runs[-1].run_id, *where)
    assert found.code == 0, found.err
    assert "seed 0" in found.out
    other = command("compare", label, "ewc", *where)
    refused = {"limit", "model_revision", "benchmark_hash"} & change.keys()
    assert (other.code, other.err.count("\n")) == ((2, 1) if refused else (0, 0)), other.err


def test_other_epochs_stand_in_a_table_of_their_own_and_in_the_terminals_label() -> None:
    longer = record([*GOOD[0], GOOD[0][1]], [*GOOD[1], GOOD[1][1]])
    assert labels(rows([run(), run(method="ewc"), longer])) == ["ewc", "lora", "lora@epochs=2"]


def test_what_no_result_depends_on_makes_no_row_of_its_own(command: Command, small: Path) -> None:
    given = ("run", "--method", "lora", "--model", "tiny", "--benchmark", small, "--epochs", "1")
    assert command(*given).code == 0
    for more in (("--micro-batch", "1"), ("--score-batch-tokens", "64"), ("--checkpoint-activations",)):
        assert "seed 0 is done already" in command(*given, *more).err


def test_an_edited_plugin_is_told_from_what_it_was(command: Command, small: Path, tmp_path: Path) -> None:
    given = ("run", "--method", "half", "--model", "tiny", "--benchmark", small, "--epochs", "1")
    (tmp_path / "methods").mkdir()
    for text in (PLUGIN, PLUGIN.replace("0.5", "0.25")):
        (tmp_path / "methods" / "half.py").write_text(text.replace("share: float = 0.25", "share: float = 0.5") + "#")
        assert command(*given).code == 0
        (tmp_path / "methods" / "half.py").write_text(text + "# edited")
    shown = command(*given)
    assert len(set(re.findall(r"method:\s*half=([0-9a-f]{8})", shown.out))) == 2, shown.out


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((1e-3, "1e-3"), (5e-4, "5e-4"), (2.5e-5, "2.5e-5"), (0.01, "0.01"), (0.1, "0.1"), (1.0, "1"), (16.0, "16")),
        *((0.0, "0"), (-5e-4, "-5e-4"), (0.0001234567, "1.234567e-4"), (1e22, "1e22"), (float("inf"), "inf")),
    ],
)
def test_a_number_is_short_and_gives_itself_back(value: float, text: str) -> None:
    assert number(value) == text
    assert float(text) == value


def test_what_labels_leave_out_is_said_below() -> None:
    made = rows([run(), run(method="ewc"), run(method="rho1", learning_rate=5e-4, batch_size=4)])
    assert unsaid(made) == "lr=1e-3,batch=2"
    assert unsaid(made[:2]) == ""
    idle = run(method="none", learning_rate=0.5)  # which trains at no rate: it neither says one nor counts
    assert "none" in labels(rows([run(learning_rate=5e-4), idle]))
    assert unsaid(rows([run(learning_rate=5e-4), idle])) == ""


STACKS = [
    *("lora", "taalm+lora@lr=5e-4", "taalm+kadapter@lr=1e-3", "taalm+kadapter+mixreview+recadam(t0=32.0)"),
    *("lora+restate(statements=4,keep=8.0)", "restate(statements=8,keep=4.0)+lora", "rho1(keep=0.4)+lora"),
]


@pytest.mark.parametrize("kind", ["lama-ckl", "temporalwiki"])
def test_every_label_fits_a_terminal_and_breaks_only_between_parts(kind: str) -> None:
    made = []
    for number_, stack in enumerate(STACKS):
        method, _, rate = stack.partition("@lr=")
        base = run(seed=number_) if kind == "lama-ckl" else THREE
        update = {"method": method, "learning_rate": float(rate or 2e-4), "seed": number_}
        spec = base.spec.model_copy(update=update)
        made += rows([base.model_copy(update={"spec": spec, "run_id": spec.run_id})], kind)
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    console.print(leaderboard_table(kind, made[:1], made[1:]))
    assert isinstance(console.file, io.StringIO)
    lines = ESCAPES.sub("", console.file.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    names = [line[3:].split("  ")[0] for line in lines if line[3:4].isalpha()]
    short = kind == "temporalwiki"  # months leave less room for names
    assert {"lora", "lora+restate(…)" if short else "lora+restate(statements=4,keep=8.0)"} <= {*names}
    assert ("rho1(…)+lora" if short else "rho1(keep=0.4)+lora") in names
    assert "the CSV has them" in " ".join(lines)
    for line in lines:
        assert not re.match(r" {3,5}\S*=( |$)", line)  # no setting is cut in two


def test_settings_that_tell_are_not_left_out() -> None:
    made = rows(
        [run(method=f"lora+restate(statements={n},keep=8.0)", hyperparameters={"restate": {"n": n}}) for n in (4, 8)]
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(leaderboard_table("lama-ckl", made, []))
    text = re.sub(r"\s+", "", console.export_text())
    assert "…" not in text
    assert "statements=4,keep=8.0" in text.replace("lora+restate(", "")


def test_what_a_terminal_has_no_room_for_is_said() -> None:
    (row,) = rows([run()])
    row |= {"sets": ["a", "b", "c"], "a_accuracy": 0.5, "b_accuracy": 0.5, "c_accuracy": 0.5}
    assert "probe sets that are not shown: 1; the CSV has them" in str(leaderboard_table("own", [row], []).caption)
    row["sets"] = ["a", "b"]
    assert "not shown" not in str(leaderboard_table("own", [row], []).caption)


def test_other_tasks_are_averaged_over_runs_that_asked_as_many_samples() -> None:
    def asked(*samples: int) -> str:
        runs = []
        for seed, count in enumerate(samples):
            found = Retained(before=0.5, before_stderr=0.02, after=0.4, after_stderr=0.01, samples=count)
            runs.append(run(seed=seed).model_copy(update={"retained": {"own": {"acc": found}}}))
        return markdown_table("lama-ckl", rows(runs), [])

    assert "0.400 ± 0.010 (0.500 ± 0.020)" in asked(9, 9)
    assert "own acc" not in asked(9, 8)
