"""The Python interface: the commands' work as functions, with objects and tables in place of lines.

Its names are those of `ckl_bench` itself (`from ckl_bench import run`), where each is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckl_bench.errors import CklError, UserError
from ckl_bench.events import EpochDone, RunDone, Watcher
from ckl_bench.learning.environment import pick_device, pick_dtype
from ckl_bench.learning.keep import require_epoch, require_keepable, require_trained, save_model
from ckl_bench.learning.planned import Plan
from ckl_bench.learning.run import RunRequest, execute, plan_run
from ckl_bench.learning.score import ScoreRequest, plan_score, score_model
from ckl_bench.learning.tasks import Retain as Retain
from ckl_bench.records import Record, read_record
from ckl_bench.results.output import run_once, score_once
from ckl_bench.running.grid import grid, planned
from ckl_bench.running.place import Place as Place
from ckl_bench.running.sweep import Board
from ckl_bench.running.sweep import sweep as carry_out

if TYPE_CHECKING:
    from torch import nn

OnEpoch = Callable[[EpochDone], object]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run: its record, and the model that has learned where it was learned in this process."""

    record: Record
    _done: RunDone | None = None
    _plan: Plan | None = None

    @property
    def model(self) -> nn.Module:
        """The model as the run left it; UserError where the record was there already, and no model is."""
        if self._done is None:
            raise UserError(
                f"run {self.record.run_id} was finished before, and its model is not in memory; run(..., fresh=True)"
            )
        model: nn.Module = self._done.model
        return model

    @property
    def tokenizer(self) -> Any:
        """The base model's tokenizer; UserError as for `model`."""
        assert self.model is not None
        assert self._done is not None
        return self._done.tokenizer

    def save(self, folder: str | Path) -> Path:
        """Keep the model in `folder/RUN-ID`, as `ckl-bench run --save-model` does; returns that folder.

        UserError as for `model`, where nothing was learned, and where it cannot be written.
        """
        model = self.model
        assert self._done is not None
        assert self._plan is not None
        require_trained(self._plan.stack)
        with self._done.as_scored():
            return save_model(model, self._plan, self.record, Path(folder))


class _Kept(Watcher):
    """Keeps what a run has learned, and tells a callback of every epoch."""

    vital = True

    def __init__(self, on_epoch: OnEpoch | None) -> None:
        self.on_epoch = on_epoch
        self.done: RunDone | None = None

    def epoch_done(self, event: EpochDone) -> None:
        if self.on_epoch is not None:
            self.on_epoch(event)

    def run_done(self, event: RunDone) -> None:
        self.done = event


def run(
    method: str,
    *,
    benchmark: str | Path = "lama-ckl-mini",
    model: str | Path = "smollm2-135m",
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    max_tokens: int = 512,
    limit: int | None = None,
    settings: Mapping[str, object] | Sequence[str] = (),
    methods_dir: Path | None = None,
    device: str = "auto",
    output: str | Path | None = None,
    fresh: bool = False,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    retain: Retain | None = None,
    on_epoch: OnEpoch | None = None,
    watchers: Sequence[Watcher] = (),
    save_to: str | Path | None = None,
    keep: str = "last",
) -> RunResult:
    """Run a method on a benchmark, as `ckl-bench run` does, and return the record with the model that has learned.

    `settings` are `{"lora.r": 64}` or `["lora.r=64"]`. With `output` the record and tables go there, and a run that is
    there already is not repeated (`fresh=True` does); without it nothing is written. `on_epoch` is called with every
    `EpochDone`, epoch 0 among them; an error that it raises fails the run. The model is kept in `save_to/RUN-ID`:
    that of the last epoch, or with `keep="best-total"` of the one with the best total, as `--keep` does.

    Raises UserError for what cannot be run, CklError where the run fails.
    """
    given = [f"{name}={value}" for name, value in settings.items()] if isinstance(settings, Mapping) else settings
    to = None if save_to is None else Path(save_to)
    require_epoch(keep, to)
    plan = plan_run(
        RunRequest(
            method=method,
            benchmark=str(benchmark),
            model=str(model),
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=lr,
            max_tokens=max_tokens,
            limit=limit,
            settings=list(given),
            methods_dir=methods_dir,
            device=pick_device(device),
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            retain=retain,
        )
    )
    if to is not None:
        require_keepable(to, plan, keep)
    kept = _Kept(on_epoch)
    if output is None:
        record = execute(plan, save_to=to, watchers=[kept, *watchers], keep=keep)
    else:
        record, _ = run_once(Path(output), plan, fresh=fresh, save_to=to, watchers=[kept, *watchers], keep=keep)
    if record.status == "failed":
        raise CklError(f"run {record.run_id} failed: {record.error}")
    done = kept.done
    return RunResult(record=record, _done=done, _plan=plan)


def score(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    benchmark: str | Path = "lama-ckl-mini",
    limit: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    output: str | Path | None = None,
    fresh: bool = False,
    methods_dir: Path | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    retain: Retain | None = None,
    backend: str = "transformers",
    vllm: Mapping[str, object] | None = None,
) -> Record:
    """Score a model as it stands, as `ckl-bench score` does: its record has one entry of scores a stage.

    `model` is a name, a folder (a PEFT adapter or of `run --save-model` too), a GGUF file or a hub id; `adapter` a
    folder with what is put over it. With `output` the record and tables go there, and one that is there already is not
    made again (`fresh=True` does). With `backend="vllm"` vLLM scores, with its engine's arguments from `vllm`; a script
    that does so needs `if __name__ == "__main__":`, as vLLM starts processes.

    Raises UserError for what cannot be scored, CklError where the engine dies.
    """
    place = pick_device(device)
    plan = plan_score(
        ScoreRequest(
            model=str(model),
            adapter=None if adapter is None else Path(adapter),
            benchmark=str(benchmark),
            limit=limit,
            device=place,
            dtype=pick_dtype(dtype, place),
            methods_dir=methods_dir,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            retain=retain,
            backend=backend,
            vllm=dict(vllm or {}),
        )
    )
    return score_model(plan) if output is None else score_once(Path(output), plan, fresh=fresh)[0]


def sweep(
    method: str | Sequence[str],
    *,
    benchmark: str | Path | Sequence[str | Path] = "lama-ckl-mini",
    model: str | Path | Sequence[str | Path] = "smollm2-135m",
    seed: int | Sequence[int] = 0,
    epochs: int | Sequence[int] | None = None,
    batch_size: int | Sequence[int] | None = None,
    lr: float | Sequence[float] | None = None,
    settings: Mapping[str, object] | None = None,
    max_tokens: int = 512,
    limit: int | None = None,
    methods_dir: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    output: str | Path = "runs",
    save_to: str | Path | None = None,
    keep: str = "last",
    place: Place | None = None,
    retries: int = 0,
    retain: Retain | None = None,
) -> list[Record]:
    """Run every choice of the values given, each run in a process of its own, as `ckl-bench sweep` does; their records.

    Where several values of an argument are given, each is a run with each of the others'; `settings` are `{"lora.r":
    [8, 16]}`, for the methods that have this part. Records and tables go to `output`, and runs that are finished there
    are not repeated. Models are kept in `save_to` as by `run`. `place` says where they run (by default here, one after
    the other); `retries` how often one that fails is run again.

    Raises UserError for what cannot be run, before anything is; CklError where a run fails in the end.
    """
    require_epoch(keep, save_to)
    where = place or Place()
    found = pick_device(device)
    values = {
        "benchmark": [str(each) for each in _several(benchmark)],
        "model": [str(each) for each in _several(model)],
        "epochs": _several(epochs),
        "learning_rate": _several(lr),
        "batch_size": _several(batch_size),
        "seed": _several(seed),
    }
    choices = {key: [str(each) for each in _several(value)] for key, value in (settings or {}).items()}
    requests = grid(
        [str(each) for each in _several(method)],
        choices,
        values,
        methods_dir=methods_dir,
        max_tokens=max_tokens,
        limit=limit,
        device=found,
        dtype=pick_dtype(dtype, found),
        retain=retain,
    )
    to = Path(output)
    tasks = planned(requests, to, None if save_to is None else Path(save_to), keep_epoch=keep)
    runs = carry_out(tasks, to, lambda folder: where.make(folder, tasks), Board(), retries)
    failed = next((run for run in runs if run.state == "failed"), None)
    if failed is not None:
        raise CklError(f"{failed.task.name}: {failed.error}")
    return [read_record(to / "records" / f"{task.run_id}.json") for task in tasks]


def _several(value: Any) -> list[Any]:
    """The values of a list, or the one that is given."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
