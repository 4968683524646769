"""`--log-to`: a run's loss, scores and costs, told to a tracker of experiments while it runs."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ckl_bench.errors import UserError, unknown
from ckl_bench.events import EpochDone, RunDone, RunStarted, RunStopped, StepDone, Watcher
from ckl_bench.spec import Spec

PROJECT = "ckl-bench"
Ending = Literal["done", "failed", "stopped"]


class Tracker(Watcher):
    """A watcher that logs numbers by name and step; how, is the subclass's.

    Names: `loss` an optimizer step; `STAGE/SET/accuracy`, `STAGE/SET/nll` and `STAGE/loss` an epoch; `cost/...` at the
    end. The step is the optimizer steps of the run so far in this process, of all stages.
    """

    package = ""  # what has to be installed

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._steps, self._begun = 0, False

    def run_started(self, event: RunStarted) -> None:
        self._steps = 0
        self.open(event.spec)
        self._begun = True

    def step_done(self, event: StepDone) -> None:
        self._steps += 1
        self.log({"loss": event.loss}, self._steps)

    def epoch_done(self, event: EpochDone) -> None:
        values = {
            f"{event.stage}/{name}/{measure}": float(getattr(scores, measure))
            for name, scores in event.sets.items()
            for measure in ("accuracy", "exact", "nll")
        }
        values |= {} if event.loss is None else {f"{event.stage}/loss": event.loss}
        self.log({**values, f"{event.stage}/epoch": float(event.epoch)}, self._steps)

    def run_done(self, event: RunDone) -> None:
        if not self._begun:  # it failed while it was loaded
            return
        cost = event.record.cost
        if cost is not None:
            values = {f"cost/{phase}_seconds": seconds for phase, seconds in cost.seconds.items()}
            values |= {
                "cost/train_tokens": float(cost.train_tokens),
                "cost/train_tokens_per_second": cost.train_tokens_per_second,
                "cost/peak_memory_bytes": float(cost.peak_memory_bytes),
            }
            self.log(values, self._steps)
        self._end("failed" if event.record.status == "failed" else "done")

    def run_stopped(self, event: RunStopped) -> None:
        if self._begun:
            self._end("stopped")

    def _end(self, how: Ending) -> None:
        self._begun = False
        self.close(how)

    def open(self, spec: Spec) -> None:
        """Begin a run of the tracker, under the run's id."""
        raise NotImplementedError

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""
        raise NotImplementedError

    def close(self, how: Ending) -> None:
        """End the tracker's run; one that was stopped goes on as another."""
        raise NotImplementedError


def _name(spec: Spec) -> str:
    return f"{spec.method} {spec.benchmark} seed {spec.seed} {spec.run_id[:8]}"


class TensorBoard(Tracker):
    """Event files in `tensorboard/RUN_ID` of the output folder."""

    package = "tensorboard"

    def open(self, spec: Spec) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(self.folder / "tensorboard" / spec.run_id))  # type: ignore[no-untyped-call]
        self._writer.add_text("spec", spec.model_dump_json(indent=1))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, how: Ending) -> None:
        self._writer.close()


class Wandb(Tracker):
    """A run of the project `ckl-bench`; where it goes is what WANDB_MODE and WANDB_DIR say."""

    package = "wandb"

    def open(self, spec: Spec) -> None:
        self._run: Any = importlib.import_module("wandb").init(
            project=PROJECT, name=_name(spec), config=spec.model_dump(), dir=str(self.folder), reinit="finish_previous"
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, how: Ending) -> None:
        self._run.finish(exit_code=int(how != "done"))


class Mlflow(Tracker):
    """A run of the experiment `ckl-bench`; MLFLOW_TRACKING_URI says where, else `mlflow.db` of the output folder."""

    package = "mlflow"

    def open(self, spec: Spec) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            self._mlflow.set_tracking_uri(f"sqlite:///{(self.folder / 'mlflow.db').absolute()}")
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=_name(spec))
        for name, value in spec.model_dump().items():
            self._mlflow.log_param(name, str(value)[:500])

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self, how: Ending) -> None:
        self._mlflow.end_run(status={"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}[how])


class Trackio(Tracker):
    """A run of the project `ckl-bench` in trackio's local store; TRACKIO_DIR says where that is."""

    package = "trackio"

    def open(self, spec: Spec) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        self._trackio.init(project=PROJECT, name=_name(spec), config=spec.model_dump())

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self, how: Ending) -> None:
        self._trackio.finish()


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}


def tracker(name: str, folder: Path) -> Tracker:
    """The tracker of a name; UserError for another name, and where its package is not installed."""
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS, "Give --log-to one of these.")
    made = TRACKERS[name](folder)
    if importlib.util.find_spec(made.package) is None:
        raise UserError(f"--log-to {name}: the package {made.package} is not installed; pip install {made.package}")
    return made
