"""Who watches a run: what is told, in which order, and that a broken watcher takes nothing with it."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ckl_bench import run
from ckl_bench.events import EpochDone, RunDone, RunStarted, RunStopped, StageStarted, StepDone, Watcher, Working
from ckl_bench.learning.trackers import TRACKERS, tracker
from ckl_bench.records import read_records
from conftest import RAISING, Command


class Noting(Watcher):
    """Writes down all that it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def run_started(self, event: RunStarted) -> None:
        self.seen.append(event)

    def working(self, event: Working) -> None:
        self.seen.append(event)

    def stage_started(self, event: StageStarted) -> None:
        self.seen.append(event)

    def step_done(self, event: StepDone) -> None:
        self.seen.append(event)

    def epoch_done(self, event: EpochDone) -> None:
        self.seen.append(event)

    def run_done(self, event: RunDone) -> None:
        self.seen.append(event)

    def run_stopped(self, event: RunStopped) -> None:
        self.seen.append(event)


def test_a_run_tells_what_happens_in_its_order(small: Path) -> None:
    noting = Noting()
    result = run("lora", benchmark=small, model="tiny", epochs=2, watchers=[noting])
    kinds = [type(event).__name__ for event in noting.seen if not isinstance(event, Working)]
    steps = ["StepDone"] * 3  # five documents, two a step
    assert kinds == ["RunStarted", "StageStarted", "EpochDone", *2 * [*steps, "EpochDone"], "RunDone"]
    learning = next(event for event in noting.seen if isinstance(event, Working) and event.steps)
    assert (learning.steps, learning.done) == (6, 0)
    doing = [event.what for event in noting.seen if isinstance(event, Working)]
    assert doing[-2:] == ["done", "measuring perplexity"]  # which takes its time: the line says what goes on
    done = [event for event in noting.seen if isinstance(event, EpochDone)]
    last = [event for event in noting.seen if isinstance(event, StepDone) and event.epoch == 2][-1]
    assert done[-1].loss == last.loss == result.record.stages[0].epochs[-1].train_loss
    assert result.record.cost is not None
    assert done[-1].tokens == result.record.cost.train_tokens
    assert noting.seen[-1].record == result.record


def test_watching_changes_nothing(small: Path) -> None:
    plain, watched = (run("lora", benchmark=small, model="tiny", watchers=w).record for w in ([], [Noting()]))
    assert plain.weights_sha256 == watched.weights_sha256
    assert plain.stages == watched.stages


def test_a_broken_watcher_is_noted_once_and_told_no_more(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Noting):
        def step_done(self, event: StepDone) -> None:
            raise ConnectionError("the server is gone")

    broken, whole = Broken(), Noting()
    result = run("lora", benchmark=small, model="tiny", watchers=[broken, whole])
    assert result.record.status == "done"
    said = [line for line in capsys.readouterr().err.splitlines() if "Broken" in line]
    assert said == ["note: Broken failed at step_done (the server is gone); the run goes on without it"]
    assert isinstance(whole.seen[-1], RunDone)
    assert not any(isinstance(event, EpochDone) and event.epoch for event in broken.seen)


def test_a_watcher_that_broke_is_not_told_of_the_end(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Noting):
        def step_done(self, event: StepDone) -> None:
            raise ConnectionError("the server is gone")

        def run_done(self, event: RunDone) -> None:
            raise ConnectionError("still gone")

    run("lora", benchmark=small, model="tiny", watchers=[Broken()])
    assert capsys.readouterr().err.count("Broken failed") == 1


class Stopping(Watcher):
    """Ctrl-C behind the first epoch."""

    def epoch_done(self, event: EpochDone) -> None:
        if event.epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "closes"),
    [
        ("wandb", ("finish", {"exit_code": 1})),
        ("mlflow", ("end_run", {"status": "KILLED"})),
        ("trackio", ("finish", ())),
    ],
)
def test_a_run_that_is_stopped_tells_so(
    name: str, closes: tuple[str, Any], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, noting = _fake(name, monkeypatch), Noting()
    with pytest.raises(KeyboardInterrupt):
        run("lora", benchmark=small, model="tiny", watchers=[noting, tracker(name, tmp_path), Stopping()])
    assert isinstance(noting.seen[-1], RunStopped)
    assert noting.seen[-1].spec == next(event.spec for event in noting.seen if isinstance(event, RunStarted))
    assert calls[-1] == closes


def test_a_tracker_of_a_run_that_never_began_is_left_alone(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = _fake("mlflow", monkeypatch)

    def no_stage(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ckl_bench.learning.run.learn_stages", no_stage)
    with pytest.raises(KeyboardInterrupt):
        run("lora", benchmark=small, model="tiny", watchers=[tracker("mlflow", tmp_path)])
    assert not calls
    assert "failed at" not in capsys.readouterr().err


def test_a_run_that_fails_tells_so(command: Command, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = _fake("wandb", monkeypatch)
    Path("methods").mkdir()
    Path("methods/bad.py").write_text(RAISING.format("ValueError('no')"))
    done = command("run", "--method", "bad", "--benchmark", small, "--model", "tiny", "--log-to", "wandb")
    assert done.code == 1
    assert tracker[-1] == ("finish", {"exit_code": 1})


class _Recorder:
    """Stands for a tracker's module or run: writes down every call."""

    def __init__(self, calls: list[tuple[str, Any]]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **more: Any) -> _Recorder:
            self._calls.append((name, more or args))
            if name == "log" or name == "log_metrics":
                self._calls[-1] = (name, (args[0], more.get("step")))
            return self

        return call


def _fake(package: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    calls: list[tuple[str, Any]] = []
    recorder = _Recorder(calls)
    module = types.ModuleType(package)

    def of_module(name: str) -> Any:
        if name.startswith("__"):  # who looks whether the package is there, and what file it is
            raise AttributeError(name)
        return getattr(recorder, name)

    module.__getattr__ = of_module  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, package, module)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: module if name == package else real(name, *a))
    return calls


@pytest.mark.parametrize(
    ("name", "opens", "logs", "closes"),
    [
        ("wandb", "init", "log", ("finish", {"exit_code": 0})),
        ("mlflow", "start_run", "log_metrics", ("end_run", {"status": "FINISHED"})),
        ("trackio", "init", "log", ("finish", ())),
    ],
)
def test_a_tracker_gets_losses_scores_and_costs(
    name: str,
    opens: str,
    logs: str,
    closes: tuple[str, Any],
    command: Command,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    calls = _fake(name, monkeypatch)
    done = command("run", "--method", "lora", "--benchmark", small, "--model", "tiny", "--log-to", name)
    assert done.code == 0, done.err
    assert "goes on without" not in done.err
    (record,) = read_records(tmp_path / "runs")
    assert opens in [call for call, _ in calls]
    logged = [values for call, values in calls if call == logs]
    losses = [(step, values["loss"]) for values, step in logged if "loss" in values]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    scores = [values["facts/to_learn/nll"] for values, _ in logged if "facts/to_learn/nll" in values]
    assert scores == [epoch.sets["to_learn"].nll for epoch in record.stages[0].epochs]
    assert record.cost is not None
    assert logged[-1][0]["cost/train_tokens"] == record.cost.train_tokens
    assert calls[-1] == closes


def test_tensorboard_gets_what_the_record_has(command: Command, small: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("run", "--method", "lora", "--benchmark", small, "--model", "tiny", "--log-to", "tensorboard")
    assert command(*words).code == 0
    (record,) = read_records(tmp_path / "runs")
    events = EventAccumulator(str(tmp_path / "runs" / "tensorboard" / record.run_id))
    events.Reload()
    read = [item.value for item in events.Scalars("facts/to_learn/accuracy")]
    assert read == pytest.approx([epoch.sets["to_learn"].accuracy for epoch in record.stages[0].epochs])
    assert len(events.Scalars("loss")) == 6


def test_a_tracker_that_is_not_there_is_said_before_anything_runs(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in TRACKERS else real(name, *a))
    words = ("run", "--method", "lora", "--benchmark", small, "--model", "tiny", "--log-to")
    for name in TRACKERS:
        done = command(*words, name)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"pip install {name}" in done.err
    unknown = command(*words, "tensorbord")
    assert unknown.code == 2
    assert "did you mean 'tensorboard'?" in unknown.err
