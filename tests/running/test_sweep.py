"""Many runs: what a sweep means, what it refuses, and that its records are those of single runs whatever is killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from typer.main import get_command

from ckl_bench.cli.app import app
from ckl_bench.learning.run import RunRequest
from ckl_bench.running.grid import grid, planned, setting_choices
from ckl_bench.running.work import words
from conftest import Command
from helpers.sweeps import SLOW, Sweep, assert_same_records, assert_went_on
from helpers.terminal import frames, on_terminal


def test_settings_are_a_grid_of_those_methods_that_have_the_part() -> None:
    settings = setting_choices(["lora.r=2,4", "lora.alpha=8", "lora.r=8"])
    assert settings == {"lora.r": ["2", "4", "8"], "lora.alpha": ["8"]}
    found = grid(["lora", "none"], settings, {"model": ["tiny"], "seed": [0, 1], "epochs": [1, 2]})
    meant = {(r.method, r.seed, r.epochs, tuple(r.settings)) for r in found}
    of_lora = {("lora", s, e, (f"lora.r={r}", "lora.alpha=8")) for s in (0, 1) for e in (1, 2) for r in (2, 4, 8)}
    assert meant == of_lora | {("none", s, e, ()) for s in (0, 1) for e in (1, 2)}
    assert len(found) == len(meant)


def test_a_run_that_is_asked_for_twice_is_one_task(small: Path, tmp_path: Path) -> None:
    asked = [
        RunRequest(method=m, model="tiny", benchmark=str(small), seed=s) for m in ("lora", "lora") for s in (0, 1, 0)
    ]
    tasks = planned(
        [*asked, RunRequest(method="lora", model="tiny", benchmark=str(small), settings=["lora.r=16"])], tmp_path
    )
    assert [task.name for task in tasks] == ["lora seed=0", "lora seed=1"]  # 16 is what lora.r is anyway
    assert len({task.run_id for task in tasks}) == 2


def test_the_words_of_a_run_ask_for_the_same() -> None:
    request = RunRequest(
        method="lora+ewc",
        model="tiny",
        seed=3,
        epochs=2,
        learning_rate=1e-3,
        limit=5,
        settings=["lora.r=2", "ewc.strength=3"],
    )
    found = get_command(app).commands["run"].make_context("run", words(request)).params  # type: ignore[attr-defined]
    assert (found["method"], found["model"], found["seed"], found["epochs"]) == ("lora+ewc", "tiny", [3], 2)
    assert (found["lr"], found["limit"], found["settings"]) == (1e-3, 5, ["lora.r=2", "ewc.strength=3"])
    assert found["batch_size"] is None
    assert not found["allow_pickle"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--method lora --method lorra", "unknown method 'lorra'"),
        ("--method lora --set lora.rr=1,2", "unknown setting of lora 'rr'"),
        ("--method lora --set ewc.strength=1", "unknown method in --set 'ewc'"),
        ("--method lora --set lora.r=8,", "expected values between commas"),
        ("--method lora --set lora.r=8,x", "--set lora.r=x: expected"),
        ("--method lora --model tiny --benchmark nowhere", "nowhere"),
        ("--method lora --model tiny --model nothing-like-it", "nothing-like-it"),
        ("--method lora --lr 1e-3 --lr -1", "--lr -1.0: expected a number that is not negative"),
        ("--method lora --epochs 0", "--epochs 0: expected a whole number of at least 1"),
        ("--method lora --jobs 0", "--jobs 0: expected a whole number of at least 1"),
        ("--method lora --retries -1", "--retries -1: expected"),
        ("--method lora --executor cloud", "unknown executor 'cloud'"),
        ("--method lora --cpus 0", "--cpus 0: expected a whole number of at least 1"),
        ("--config no.toml", "--config no.toml: No such file"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_runs(
    given: str, said: str, command: Command, tmp_path: Path
) -> None:
    result = command("sweep", *given.split())
    assert (result.code, result.out) == (2, "")
    assert said in result.err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_a_file_says_what_runs_and_what_is_typed_wins(command: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(
        f'method = ["lora", "none"]\nseed = [0, 1]\nmodel = "tiny"\nbenchmark = "{small}"\nepochs = [1, 2]\njobs = 2\n'
        "[set]\nlora.r = [2, 4]\n"
    )
    result = command("sweep", "--config", "sweep.toml", "--epochs", 3, "--dry-run")
    assert result.code == 0, result.err
    lines = sorted(line.split("  ", 2)[2] for line in result.out.splitlines())
    assert lines == [f"lora(r={r}) seed={seed}" for r in (2, 4) for seed in (0, 1)] + ["none seed=0", "none seed=1"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_three_runs_of_which_one_is_killed(command: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "slow.py").write_text(SLOW)
    run = ("--method", "slow+finetune", "--model", "tiny", "--benchmark", small, "--limit", 5, "--epochs", 2)
    common, seeds = (*run, "--set", "slow.pause=0.2"), ("--seed", 0, "--seed", 1, "--seed", 2)
    sweep = Sweep(*seeds, "--jobs", 2, *common, cwd=tmp_path)
    killed, states, most, left = "", dict[str, list[str]](), 0, list[float]()
    for line in sweep.lines():
        states.setdefault(line["run"], []).append(line["state"])
        most = max(most, sum(seen[-1] == "running" for seen in states.values()))
        if line["state"] == "running" and "scores" in line and "seconds_left" in line:
            assert line["scores"].keys() == {"to_learn", "not_to_forget"}
            left.append(line["seconds_left"])
        if not killed and line["state"] == "running" and line["epoch"] == 1:
            killed = line["run"]
            sweep.children()[killed].send_signal(signal.SIGKILL)
    code, said = sweep.end()
    assert code == 0, said
    assert most == 2
    assert left
    assert all(seconds >= 0 for seconds in left)
    assert {run: seen[-1] for run, seen in states.items()} == dict.fromkeys(states, "done")
    assert {run: seen.count("done") for run, seen in states.items()} == dict.fromkeys(states, 1)
    assert states[killed].count("waiting") == 2  # at the start, and when it was lost
    assert_went_on(tmp_path, killed, states)
    assert not list(tmp_path.glob("runs/checkpoints"))
    alone = command("run", *seeds, *common, "--output", "single")
    assert alone.code == 0, alone.err
    assert_same_records(tmp_path / "runs", tmp_path / "single", 3)
    again = command("sweep", "--seed", 0, "--seed", 1, *common)
    assert again.code == 0
    assert again.out.strip().endswith("2 of 2 runs are done; records: runs/records")


@pytest.mark.slow
def test_a_terminal_shows_one_table(small: Path, tmp_path: Path) -> None:
    words = ("--method", "none", "--method", "lora", "--model", "tiny", "--limit", 2, "--epochs", 1)
    code, out, got = on_terminal("sweep", *words, "--benchmark", small, cwd=tmp_path)
    assert code == 0, got
    seen = [text.split() for text in frames(got)]
    assert ["run", "state", "epoch", "scores", "left"] in seen
    assert ["none", "seed=0", "waiting"] in seen
    assert any(row[:3] == ["lora", "seed=0", "running"] for row in seen)
    last = seen[-4:]  # header, two runs, count: what stays
    for row, method in zip(last[1:3], ("none", "lora"), strict=True):
        assert row[:5] == [method, "seed=0", "done", "1/1", "learn"]
    assert last[3] == ["2", "of", "2", "done"]
    assert "2 of 2 runs are done" in out


@pytest.mark.slow
def test_a_stop_saves_all_runs_and_the_same_command_goes_on(command: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "slow.py").write_text(SLOW)
    runs = ("--method", "slow+finetune", "--seed", 0, "--seed", 1, "--jobs", 2, "--epochs", 4)
    words = (*runs, "--set", "slow.pause=0.5")
    both = ("--model", "tiny", "--benchmark", small, "--limit", 5)
    sweep = Sweep(*words, *both, cwd=tmp_path)
    last, asked = {}, False
    for line in sweep.lines():
        last[line["run"]] = line["state"]
        if not asked and line["state"] == "running" and line["epoch"] >= 1:
            sweep.process.send_signal(signal.SIGINT)
            asked = True
    code, said = sweep.end()
    assert code == 130, said
    again_by = "error: interrupted; run the same command again to go on: ckl-bench sweep --json"
    assert said.splitlines()[-1].startswith(again_by)
    assert list(last.values()) == ["stopped", "stopped"]
    assert any((tmp_path / "runs" / "checkpoints").rglob("state.json"))
    again = command("sweep", "--json", *words, *both)
    assert again.code == 0, again.err
    told = map(json.loads, again.out.splitlines())
    assert {line["run"]: line["state"] for line in told} == dict.fromkeys(last, "done")
    assert len(list((tmp_path / "runs" / "records").iterdir())) == 2


@pytest.mark.slow
def test_a_run_that_fails_is_tried_again_as_asked_and_leaves_the_others(
    command: Command, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "methods").mkdir()
    bad = SLOW.replace("class Slow", "class Bad").replace("time.sleep(self.pause)", "raise ValueError('no way')")
    (tmp_path / "methods" / "bad.py").write_text(bad)
    words = ("--method", "bad", "--method", "none", "--model", "tiny", "--benchmark", small, "--retries", 1)
    result = command("sweep", *words)
    assert result.code == 1
    assert result.err.count("again: bad+lora seed=0: ValueError: no way") == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("error: 1 of 2 runs failed; bad+lora seed=0: ValueError: no way")
    states = {json.loads(path.read_text())["status"] for path in (tmp_path / "runs" / "records").iterdir()}
    assert states == {"done", "failed"}
    assert "1 of 2 runs are done" in result.out
