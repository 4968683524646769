"""Options from a file and from presets: the command line wins, a list means several runs, a mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.cli.config import read_options
from ckl_bench.errors import UserError
from conftest import Command

NAMES = ("epochs", "batch-size", "seed", "set", "fresh", "method")


def specs(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(file.read_text())["spec"] for file in (folder / "runs" / "records").glob("*.json")]
    return sorted(found, key=lambda spec: (spec["method"], spec["seed"]))


def test_lists_are_multiplied_and_tables_are_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        'method = ["lora", "oracle+lora", "lora"]\nbatch_size = 4\nfresh = true\nseed = [1, 2]\n'
        '[set]\nlora.r = [2, 4]\n"lora.dropout" = 0.1\n[set.oracle]\nx = false\n'
    )
    runs = read_options(file, NAMES)
    assert len(runs) == 4
    assert runs[1] == {
        "method": ["lora"],
        "batch-size": ["4"],
        "fresh": [],
        "seed": ["1", "2"],
        "set": ["lora.r=4", "lora.dropout=0.1", "oracle.x=false"],
    }
    file.write_text('set = ["lora.r=2", "lora.alpha=1"]\nfresh = false\n')
    assert read_options(file, NAMES) == [{"set": ["lora.r=2", "lora.alpha=1"]}]
    file.write_text("")
    assert read_options(file, NAMES) == [{}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "unknown option in .*'epoch'; did you mean 'epochs'"),
        ("epochs = []", "epochs is an empty list"),
        ("epochs = [[1]]", "epochs = .*expected a text, a number"),
        ("epochs = 2026-01-01", "epochs = .*expected a text, a number"),
        ("epochs = nan", "epochs = nan"),
        ("set = 3", "set = 3: expected a table"),
        ("batch-size = 1\nbatch_size = 2", "batch_size is given twice"),
        ("epochs 3", "give a TOML file of options"),
        ("[set]\nlora.r = []", "set.lora.r is an empty list"),
    ],
)
def test_a_file_that_means_nothing_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_options(tmp_path / "a.toml", NAMES)
    with pytest.raises(UserError, match="No such file"):
        read_options(tmp_path / "b.toml", NAMES)
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbfepochs = 3\r\n")  # as Windows' editors write it
    assert read_options(tmp_path / "marked.toml", NAMES) == [{"epochs": ["3"]}]
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"c\.toml"):
        read_options(tmp_path / "c.toml", NAMES)


def test_what_is_typed_wins_over_the_file_and_the_file_over_the_preset(
    command: Command, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.toml").write_text(
        f'method = ["lora", "oracle"]\nmodel = "tiny"\nbenchmark = "{small}"\nlimit = 2\nepochs = 3\nseed = [1, 2]\n'
        'preset = "paper"\nmax_tokens = 32\n[set]\nlora.r = 2\nlora.alpha = 3\n'
    )
    result = command("run", "--config", "a.toml", "--epochs", 1, "--set", "lora.alpha=4", "--seed", 5)
    assert result.code == 0, result.err
    found = specs(tmp_path)
    assert [(spec["method"].split("(")[0], spec["seed"]) for spec in found] == [("lora", 5), ("oracle+lora", 5)]
    for spec in found:
        assert (spec["epochs"], spec["batch_size"], spec["learning_rate"]) == (1, 64, 1e-4)
        assert spec["hyperparameters"]["lora"] == {"r": 2, "alpha": 4.0, "dropout": 0.1}
    again = command("run", "--config=a.toml", "--epochs", 1, "--set", "lora.alpha=4", "--seed", 5, "--json")
    assert again.err.count("is done already") == 2
    assert len(again.out.splitlines()) == 2


def test_the_paper_is_two_short_commands(command: Command, small: Path, tmp_path: Path) -> None:
    common = ("--preset", "paper", "--model", "tiny", "--benchmark", small)
    run = command("run", *common, "--method", "random-tokens+qlora", "--limit", 1, "--epochs", 1, "--max-tokens", 16)
    assert run.code == 0, run.err
    (spec,) = specs(tmp_path)
    assert spec["hyperparameters"]["qlora"] == {"r": 64, "alpha": 16.0, "dropout": 0.1}
    few = [x for setting in ("steps=1", "held_out=1", "limit=3", "batch_size=2") for x in ("--set", setting)]
    made = command("train-attention", *common, "--out", "phi.safetensors", *few)
    assert made.code == 0, made.err
    settings = json.loads((tmp_path / "phi.json").read_text())["settings"]
    assert {name: settings[name] for name in ("batch_size", "lr", "inner_lr", "inner_r", "nf4")} == {
        "batch_size": 2,  # typed
        "lr": 2e-4,
        "inner_lr": 2e-4,
        "inner_r": 64,
        "nf4": True,
    }


def test_all_runs_of_a_file_are_checked_before_the_first_begins(command: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f'method = ["none", "nothing"]\nmodel = "tiny"\nbenchmark = "{small}"\n')
    result = command("run", "--config", "a.toml")
    assert (result.code, result.out) == (2, "")
    assert "unknown method 'nothing'" in result.err
    assert not (tmp_path / "runs").exists()
    (tmp_path / "b.toml").write_text(f'seed = [1, 2]\nmodel = "tiny"\nbenchmark = "{small}"\nout = "phi.safetensors"\n')
    result = command("train-attention", "--config", "b.toml")
    assert result.code == 2
    assert "several trainings of the file would write phi.safetensors" in result.err


def test_each_training_of_a_file_writes_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('out = "phi-{seed}-{inner_r}{x}.safetensors"\nseed = [1, 2]\n[set]\ninner_r = [4, 8]\n')
    outs = [run["out"] for run in read_options(file, ("out", "seed", "set"), ("set",))]
    assert outs == [[f"phi-{seed}-{r}{{x}}.safetensors"] for seed in (1, 2) for r in (4, 8)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run --method lora --preset papr", "unknown preset 'papr'; did you mean 'paper'?"),
        ("run --config a --config b", "--config is given twice (a, b)"),
        ("train-attention --config none.toml", "--config none.toml: No such file"),
    ],
)
def test_mistakes_are_one_line(words: str, said: str, command: Command) -> None:
    result = command(*words.split())
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err


def test_help_names_both(command: Command) -> None:
    for name in ("run", "train-attention"):
        shown = command(name, "--help").out
        assert "--config" in shown
        assert "--preset" in shown
