"""What happens where a run runs: plan it, run it, tell of it."""

from __future__ import annotations

import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from types import FrameType

from ckl_bench.errors import OUT_OF_MEMORY, Busy, CklError, UserError, first_line, out_of_memory
from ckl_bench.events import EpochDone, RunStarted, StageStarted, StepDone, Watcher, Working
from ckl_bench.learning.environment import pick_device, pick_dtype
from ckl_bench.learning.line import measured
from ckl_bench.learning.run import RunRequest, plan_run
from ckl_bench.learning.trackers import tracker
from ckl_bench.records import Record, SetScores
from ckl_bench.results.output import run_once
from ckl_bench.running.heard import Heard, Tell
from ckl_bench.running.task import Task
from ckl_bench.storage.stops import on_stops, put_back

EVERY = 1.0  # seconds at least between two tellings within an epoch


def work(task: Task, tell: Tell) -> Heard:
    """Do a task in this process, from where its run was stopped; how it ended. The record is in the task's output.

    Signals that ask for a stop let the run save and end (`stopped`), as they do of `ckl-bench run`.
    """
    sys.argv[1:] = ["run", *words(task.request)]  # what the record says was typed
    try:
        with _stopping():
            if not task.folder.is_dir():
                raise UserError(
                    f"{socket.gethostname()} has no folder {task.folder}; sweep from one that all machines have"
                )
            os.chdir(task.folder)
            plan = plan_run(task.request)
            if plan.spec.run_id != task.run_id:
                raise UserError(
                    f"on {socket.gethostname()} run {task.run_id} would be {plan.spec.run_id}; give all machines the "
                    "same ckl-bench, methods, benchmark and model"
                )
            told = [tracker(name, task.output) for name in task.log_to]
            watchers = [Reporter(tell), *told]
            record, _ = run_once(task.output, plan, save_to=task.save_to, watchers=watchers, keep=task.keep)
    except KeyboardInterrupt:
        return Heard(state="stopped")
    except Busy as error:
        return Heard(state="busy", error=str(error))
    except CklError as error:
        return Heard(state="failed", error=str(error))
    except Exception as error:  # a run's own errors are in its record; this is the disk, memory, or a fault
        reason = OUT_OF_MEMORY if out_of_memory(error) else f"{type(error).__name__}: {first_line(error)}"
        return Heard(state="failed", error=reason)
    return ended(record)


def ended(record: Record) -> Heard:
    """How a run stands whose record this is."""
    if record.status == "failed":
        return Heard(state="failed", error=record.error or "")
    stage, last = record.stages[-1], record.stages[-1].epochs[-1]
    return Heard(
        state="done",
        stage=stage.name if len(record.stages) > 1 else "",
        epoch=last.epoch,
        epochs=last.epoch,
        measured=measured(last.sets),
        scores=_numbers(last.sets),
    )


def words(request: RunRequest) -> list[str]:
    """The options of `ckl-bench run` that ask for the same."""
    named = {"learning_rate": "lr", "settings": "set"}
    usual = {"device": pick_device("auto"), "dtype": pick_dtype("auto", request.device)}
    typed: list[str] = []
    for each in fields(request):
        value, option = getattr(request, each.name), f"--{named.get(each.name, each.name).replace('_', '-')}"
        if each.name == "retain" and value is not None:
            typed += [option, ",".join(value.tasks)]
            typed += ["--retain-limit", str(value.limit)] if value.limit is not None else []
            typed += ["--include-path", str(value.include_path)] if value.include_path is not None else []
        elif isinstance(value, bool):
            typed += [option] if value else []
        elif isinstance(value, Sequence) and not isinstance(value, str):
            typed += [word for item in value for word in (option, str(item))]
        elif value != usual.get(each.name, each.default):
            typed += [option, str(value)]
    return typed


@contextmanager
def _stopping() -> Iterator[None]:
    """Signals that ask for a stop raise KeyboardInterrupt where the run itself does not listen to them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = on_stops(stop)
    try:
        yield
    finally:
        put_back(before)


class Reporter(Watcher):
    """Tells how far a run is: at once of an epoch, every second at most of steps."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._stages, self._index, self._stage = 1, 0, ""
        self._epoch, self._epochs = 0, 0
        self._steps, self._done = 0, 0  # of the stage
        self._measured, self._scores = "", dict[str, dict[str, float]]()
        self._began: tuple[float, float] | None = None  # when, and which share of the run was done then
        self._last = 0.0

    def run_started(self, event: RunStarted) -> None:
        self._stages = len(event.stages)
        self._report()

    def stage_started(self, event: StageStarted) -> None:
        self._index, self._stage = event.index, event.name
        self._epoch, self._epochs = event.epoch - 1, event.epochs
        self._steps = self._done = 0

    def working(self, event: Working) -> None:
        if event.steps:
            self._steps, self._done = event.steps, event.done
            if self._began is None:
                self._began = time.monotonic(), self._share()

    def step_done(self, event: StepDone) -> None:
        self._done += 1
        if time.monotonic() - self._last > EVERY:
            self._report()

    def epoch_done(self, event: EpochDone) -> None:
        self._epoch, self._epochs, self._stage = event.epoch, event.epochs, event.stage
        self._measured, self._scores = measured(dict(event.sets)), _numbers(event.sets)
        self._report()

    def _share(self) -> float:
        """Which share of the run's steps is done, were all stages as long as this one."""
        return (self._index + (self._done / self._steps if self._steps else 0.0)) / self._stages

    def _left(self) -> float | None:
        if self._began is None or self._share() <= self._began[1]:
            return None
        start, before = self._began
        return (time.monotonic() - start) / (self._share() - before) * (1.0 - self._share())

    def _report(self) -> None:
        self._last = time.monotonic()
        self._tell(
            Heard(
                state="running",
                stage=self._stage if self._stages > 1 else "",
                epoch=self._epoch,
                epochs=self._epochs,
                measured=self._measured,
                scores=self._scores,
                left=self._left(),
            )
        )


def _numbers(sets: Mapping[str, SetScores]) -> dict[str, dict[str, float]]:
    return {
        name: {measure: value for measure in ("accuracy", "nll") if math.isfinite(value := getattr(scores, measure))}
        for name, scores in sets.items()
    }
