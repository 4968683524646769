"""With --keep best-total the model of the best epoch is kept: as it was scored then, whatever interrupts the run."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from ckl_bench.learning.run import RunRequest
from ckl_bench.records import Record, read_record, read_records
from ckl_bench.running.grid import planned
from ckl_bench.running.work import work
from ckl_bench.storage.checkpoint import Keeper
from conftest import Command

EPOCHS = 6
RATES = {"kadapter": 3e-2, "finetune": 3e-3}  # at which some epoch between is the best
BEST = ("--keep", "best-total")


def run(method: str, small: Path) -> tuple[object, ...]:
    """The words of a run that keeps its model."""
    what = ("run", "--model", "tiny", "--benchmark", small, "--method", method, "--lr", RATES[method])
    return (*what, "--epochs", EPOCHS, "--save-model", "models")


def kept() -> tuple[Path, Record]:
    """The only folder of a kept model, and its run's record."""
    (folder,) = Path("models").iterdir()
    return folder, read_record(Path(f"runs/records/{folder.name}.json"))


def best_epoch(record: Record) -> int:
    """The first epoch with the highest sum of the two accuracies; in these tests neither the first nor the last."""
    sums = [e.sets["to_learn"].accuracy + e.sets["not_to_forget"].accuracy for e in record.stages[0].epochs]
    best = sums.index(max(sums))
    assert 0 < best < EPOCHS, sums
    return best


@pytest.mark.parametrize("method", RATES)
def test_the_kept_model_scores_as_its_epoch(method: str, command: Command, small: Path, tmp_path: Path) -> None:
    assert command(*run(method, small), *BEST).code == 0
    folder, record = kept()
    best = best_epoch(record)
    wanted, last = record.stages[0].epochs[best].sets, record.stages[0].epochs[-1].sets
    scored = command("score", "--model", folder, "--benchmark", small, "--output", "scored")
    assert scored.code == 0, scored.err
    (again,) = read_records(Path("scored"))
    for name, scores in again.stages[0].epochs[0].sets.items():
        assert scores.probe_accuracy == wanted[name].probe_accuracy
        assert scores.probe_nll == pytest.approx(wanted[name].probe_nll, abs=1e-5)
        assert scores.probe_nll != pytest.approx(last[name].probe_nll, abs=1e-3)
    card = (folder / "README.md").read_text()
    assert f"after epoch {best} of {EPOCHS}, the one with the best total" in card
    assert f"| {wanted['to_learn'].nll:.4f} |" in card
    assert f"| {last['to_learn'].nll:.4f} |" not in card


def test_a_run_that_is_stopped_again_and_again_keeps_the_same_bytes(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*run("kadapter", small), *BEST).code == 0
    folder, _ = kept()
    once, after, steps = hashes(folder), Keeper.after_step, count(1)

    def stop(keeper: Keeper, state: Any) -> None:
        if next(steps) % 4 == 0:
            signal.raise_signal(signal.SIGTERM)
        after(keeper, state)

    asked = (*run("kadapter", small), *BEST, "--output", "stopped")
    words = tuple("again" if word == "models" else word for word in asked)
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after_step", stop)
        codes = [command(*words).code for _ in range(3)]
        assert codes == [130, 130, 130]
        while codes[-1] == 130:
            codes.append(command(*words).code)
    assert codes[-1] == 0
    (other,) = Path("again").iterdir()
    assert hashes(other) == once
    assert [path.name for path in Path("stopped").iterdir()].count("checkpoints") == 0


def hashes(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_what_comes_too_late_is_one_line(command: Command, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = run("kadapter", small)
    after = Keeper.after_step

    def stop(keeper: Keeper, state: Any) -> None:
        if state()["epoch"] == EPOCHS:
            signal.raise_signal(signal.SIGTERM)
        after(keeper, state)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after_step", stop)
        assert command(*words).code == 130
    late = command(*words, *BEST)
    assert late.code == 2
    assert "begun without --keep best-total" in late.err
    assert command(*words).code == 0  # what was learned is still there
    _, record = kept()
    done = command(*words, *BEST)
    assert done.code == 2
    assert f"has its model of epoch {EPOCHS}, not {best_epoch(record)}; --fresh" in done.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--save-model", "models", "--keep", "first"), "--keep first: expected last or best-total"),
        (BEST, "give --save-model DIR too"),
        (("--save-model", "models", *BEST, "--benchmark", "temporalwiki-mini"), "is measured stage after stage"),
    ],
)
def test_what_cannot_be_kept_is_one_line(more: tuple[str, ...], said: str, command: Command, tmp_path: Path) -> None:
    result = command("run", "--model", "tiny", "--method", "lora", *more)
    assert result.code == 2
    assert said in result.err
    assert not Path("runs").exists()


def test_a_sweep_keeps_it_too_and_it_is_shared_with_its_own_scores(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ckl-bench"])  # which `work` writes anew
    rate = RATES["kadapter"]
    asked = RunRequest(method="kadapter", benchmark=str(small), model="tiny", epochs=EPOCHS, learning_rate=rate)
    (task,) = planned([asked], Path("runs"), Path("models"), keep_epoch="best-total")
    ended = work(task, lambda heard: None)
    assert ended.state == "done", ended.error
    folder, record = kept()
    best = best_epoch(record)
    assert json.loads((folder / "ckl-bench.json").read_text())["epoch"] == best
    shared = command("export", "--format", "eval-results", "--out", "models", "--dataset", "me/small")
    assert shared.code == 0, shared.err
    (file,) = folder.glob(".eval_results/*.yaml")
    values = {entry["dataset"]["task_id"]: entry["value"] for entry in yaml.safe_load(file.read_text())}
    accuracy = record.stages[0].epochs[best].sets["to_learn"].accuracy
    assert values["to_learn"] == pytest.approx(accuracy, abs=1e-6)
