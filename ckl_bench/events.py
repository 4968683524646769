"""What happens in a run, told to whoever watches it: run, stage, epoch, step.

A watcher is a `Watcher` with the methods that it needs. The progress line, `run(on_epoch=...)` of the Python interface
and `--log-to` are watchers. All are told in the process of the run, one after the other, while it waits; nothing that
they return goes into the run.

    run_started                       once
      working                         what goes on outside of learning: loading, scoring, weighing tokens, preparing
      stage_started                   once a stage
        epoch_done                    epoch 0 is the model before it learns, then once an epoch
          step_done                   once an optimizer step, before the epoch_done of its epoch
    run_done                          once: the record, and of a run that reached its end the model
    run_stopped                       in its place, where the run was asked to stop; it may go on later
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from ckl_bench.errors import first_line
from ckl_bench.progress import log
from ckl_bench.records import Record, SetScores
from ckl_bench.spec import Spec


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """A run begins, or goes on where it was stopped; `place` says which of several it is (`seed 2/3`)."""

    spec: Spec
    stages: Sequence[str]
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Working:
    """What goes on; `learning` has the optimizer `steps` of the stage and how many of them are `done` already."""

    what: str
    steps: int = 0
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class StageStarted:
    """A stage begins, or goes on behind epoch `epoch` - 1."""

    name: str
    index: int
    documents: int
    epochs: int
    epoch: int = 1


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """An optimizer step: the mean loss of its epoch so far (nats), tokens read in it."""

    stage: str
    epoch: int
    step: int
    loss: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """An epoch: its mean loss (none at epoch 0), the scores of every probe set, seconds of the run so far by phase."""

    stage: str
    index: int  # of the stage, from 0
    epoch: int
    epochs: int
    loss: float | None
    sets: Mapping[str, SetScores]
    seconds: Mapping[str, float]
    tokens: int  # read in training so far


@dataclass(frozen=True, kw_only=True)
class RunDone:
    """A run ends; `model` and `tokenizer` are there where it reached its end."""

    record: Record
    model: Any = None
    tokenizer: Any = None
    as_scored: Callable[[], AbstractContextManager[object]] = nullcontext  # in it, the model is what its scores are of


@dataclass(frozen=True, kw_only=True)
class RunStopped:
    """A run ends before its end, without a record: it was asked to stop, or one of its processes is gone."""

    spec: Spec


class Watcher:
    """Whoever watches a run; the methods do nothing, so that one may have only those that it needs.

    An error in a method of one that is `vital` fails the run; another's is noted, and it is told no more.
    """

    vital = False

    def run_started(self, event: RunStarted) -> None:
        """A run begins."""

    def working(self, event: Working) -> None:
        """Something other than learning goes on."""

    def stage_started(self, event: StageStarted) -> None:
        """A stage begins."""

    def step_done(self, event: StepDone) -> None:
        """A step was made."""

    def epoch_done(self, event: EpochDone) -> None:
        """An epoch was learned and scored."""

    def run_done(self, event: RunDone) -> None:
        """A run ended."""

    def run_stopped(self, event: RunStopped) -> None:
        """A run was stopped; what it had learned is saved where it has a store."""


class Watchers(Watcher):
    """Several watchers as one, whose errors are those of the vital ones."""

    vital = True

    def __init__(self, each: Iterable[Watcher] = ()) -> None:
        self._each = list(each)

    def run_started(self, event: RunStarted) -> None:
        self._tell("run_started", event)

    def working(self, event: Working) -> None:
        self._tell("working", event)

    def stage_started(self, event: StageStarted) -> None:
        self._tell("stage_started", event)

    def step_done(self, event: StepDone) -> None:
        self._tell("step_done", event)

    def epoch_done(self, event: EpochDone) -> None:
        self._tell("epoch_done", event)

    def run_done(self, event: RunDone) -> None:
        self._tell("run_done", event)

    def run_stopped(self, event: RunStopped) -> None:
        self._tell("run_stopped", event)

    def _tell(self, what: str, event: object) -> None:
        for watcher in list(self._each):
            try:
                getattr(watcher, what)(event)
            except Exception as error:  # a watcher is anyone's code, or talks to a server
                if watcher.vital:
                    raise
                self._each.remove(watcher)
                name = type(watcher).__name__
                log(f"note: {name} failed at {what} ({first_line(error)}); the run goes on without it")
