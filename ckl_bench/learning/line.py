"""What the line on the terminal says of a run: which seed, which stage and epoch, and what was measured last."""

from __future__ import annotations

from ckl_bench.events import EpochDone, RunStarted, StageStarted, StepDone, Watcher, Working
from ckl_bench.progress import GAP, Line, shortened
from ckl_bench.scoring.sets import Scores

STAGE = 12  # columns of a stage's name at most


class Shown(Watcher):
    """A run's line: `seed 2/3  epoch 4/8  loss 1.23  learn 0.21 keep 0.83`, as far as it is known.

    A stage's name is shown where there are several; of stages that are read once no epoch is counted.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._place, self._several, self._stage = "", False, ""
        self._epoch, self._epochs = 0, 0  # no stage has begun
        self._loss: float | None = None
        self._scores = ""

    def run_started(self, event: RunStarted) -> None:
        self._place, self._several = event.place, len(event.stages) > 1

    def working(self, event: Working) -> None:
        if event.steps:
            self._line.begin(event.steps, event.done)
        elif event.what == "done":
            self._line.begin(0)
        self._show("" if event.steps or event.what == "done" else event.what)
        self._line.draw()

    def stage_started(self, event: StageStarted) -> None:
        self._stage = event.name if self._several else ""
        self._epoch, self._epochs, self._loss, self._scores = 0, event.epochs, None, ""

    def step_done(self, event: StepDone) -> None:
        self._epoch, self._loss = event.epoch, event.loss
        self._line.advance(1)
        self._show()

    def epoch_done(self, event: EpochDone) -> None:
        # What is shown until the first step of the next one.
        self._epoch = min(event.epoch + 1, event.epochs)
        self._loss, self._scores = event.loss, measured(dict(event.sets))
        self._show()

    def _show(self, doing: str = "") -> None:
        counted = self._epochs > 1 or (self._epochs and not self._stage)
        epoch = f"epoch {self._epoch}/{self._epochs}" if counted else ""
        loss = self._loss
        lost = "" if loss is None else f"loss {loss:.2f}" if abs(loss) < 1000 else f"loss {loss:.0e}"
        what = [doing] if doing else [lost, self._scores]
        self._line.status = GAP.join(filter(None, [self._place, shortened(self._stage, STAGE), epoch, *what]))


def measured(scores: Scores) -> str:
    """Accuracy on what is to be learned and kept; of a month, as in tables, the NLL of changed/unchanged facts."""
    if "to_learn" in scores:
        return f"learn {scores['to_learn'].accuracy:.2f} keep {scores['not_to_forget'].accuracy:.2f}"
    return "NLL " + "/".join(f"{scores[name].nll:.2f}" for name in sorted(scores))
