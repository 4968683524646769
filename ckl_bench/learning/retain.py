"""Is the model still good? Scores of other people's tasks before and after a run, by lm-evaluation-harness."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ckl_bench.encode import Tokenizer
from ckl_bench.errors import CklError, UserError, first_line, out_of_memory, unknown
from ckl_bench.learning.tasks import Retain
from ckl_bench.models.base import BaseModel
from ckl_bench.progress import log
from ckl_bench.records import Record, Retained
from ckl_bench.storage.files import cache_dir, read_sealed, sha256_file
from ckl_bench.storage.json import sealed, sha256_json
from ckl_bench.storage.writing import write_json

Scores = dict[str, dict[str, dict[str, Any]]]  # task -> metric -> value, stderr, higher_is_better, samples
_VERSION = 1
_BATCH = 8
_SEED = 1234  # lm-eval's own
_BOOTSTRAP = 1000  # resamples of a metric whose standard error has no formula


def check(asked: Retain) -> None:
    """UserError where lm-eval is not installed, and for a task that it has not."""
    if find_spec("lm_eval") is None:
        raise UserError("--retain needs lm-evaluation-harness: pip install 'ckl-bench[lm-eval]'")
    if asked.include_path is not None and not asked.include_path.is_dir():
        raise UserError(f"--include-path {asked.include_path}: expected a folder with YAML files of tasks")
    with _quiet():
        found = _manager(asked)
        wrong = next((task for task in asked.tasks if not found.match_tasks([task])), None)
    if wrong is not None:
        known = [name for name in found.all_tasks if not name.startswith(("mmlu_", "bbh_"))]
        close = unknown("task", wrong, known).args[0].split(" Known:")[0]
        raise UserError(f"--retain: {close}; expected names of lm-eval's tasks (lm-eval ls tasks) or of --include-path")


def measured_before(base: BaseModel, asked: Retain, dtype: str) -> Scores:
    """The base model's scores; measured once for a model's revision and dtype, and found again."""
    about = {
        "version": _VERSION,
        "lm_eval": version("lm_eval"),
        "model": base.revision,
        "tokenizer": base.tokenizer_hash,
        "dtype": dtype,
        "tasks": sorted(asked.tasks),
        "limit": asked.limit,
        "files": _hashes(asked.include_path),
    }
    path = cache_dir() / "retain" / f"{sha256_json(about)}.json"
    if path.is_file():
        with contextlib.suppress(UserError):  # a damaged one is measured again
            found: Scores = read_sealed(path)["scores"]
            return found
    scores = measured(base.load(), base.tokenizer, asked)
    write_json(path, sealed({"about": about, "scores": scores}))
    return scores


def _hashes(folder: Path | None) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files if folder}


def measured(model: nn.Module, tokenizer: Tokenizer, asked: Retain) -> Scores:
    """What lm-eval finds of a model as it stands: every number of every task, with its standard error where it has one.

    Leaves the random generators as they were. Raises CklError where a task cannot be read or asked.
    """
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    model.eval()
    try:
        with _quiet(), torch.random.fork_rng(), torch.no_grad():
            asker = HFLM(pretrained=_Face(model), tokenizer=tokenizer, batch_size=_BATCH, max_length=_longest(model))
            torch.manual_seed(_SEED)  # of tasks that draw when they generate
            loaded = _manager(asked).load(list(asked.tasks))
            for task in loaded["tasks"].values():  # as lm-eval's own command does where nothing else is asked
                if task.get_config("num_fewshot") is None:
                    task.set_config(key="num_fewshot", value=0)
                task.set_fewshot_seed(seed=_SEED)
            found = evaluate(
                lm=asker, task_dict=loaded, limit=asked.limit, bootstrap_iters=_BOOTSTRAP, log_samples=False
            )
    except Exception as error:  # its own, the hub's, or a network's
        if out_of_memory(error):
            raise
        raise CklError(f"--retain {','.join(asked.tasks)}: {type(error).__name__}: {first_line(error)}") from error
    scores = _read(found)
    if not scores:
        raise CklError(f"--retain {','.join(asked.tasks)}: lm-eval gave no number")
    return scores


def _read(found: Any) -> Scores:
    scores: Scores = {}
    for task, values in (found or {}).get("results", {}).items():
        for key, value in values.items():
            metric, _, sieve = key.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or not sieve:
                continue
            name = metric if sieve == "none" else f"{metric} ({sieve})"
            error = values.get(f"{metric}_stderr,{sieve}")
            counts = found.get("n-samples", {}).get(task, {})
            scores.setdefault(task, {})[name] = {
                "value": float(value),
                "stderr": float(error) if isinstance(error, int | float) else None,
                "higher_is_better": found.get("higher_is_better", {}).get(task, {}).get(metric),
                "samples": int(counts.get("effective", 0)),
            }
    return scores


def beside(before: Scores, after: Scores) -> dict[str, dict[str, Retained]]:
    """Both measurements as they go into a record."""
    return {
        task: {
            metric: Retained(
                before=before[task][metric]["value"],
                before_stderr=before[task][metric]["stderr"],
                after=value["value"],
                after_stderr=value["stderr"],
                higher_is_better=value["higher_is_better"],
                samples=value["samples"],
            )
            for metric, value in metrics.items()
            if metric in before.get(task, {})
        }
        for task, metrics in after.items()
    }


class _Face(nn.Module):
    """A model as lm-eval wants to see one: with a device and a configuration, whatever a method has built."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model
        self.config: Any = next(m.config for m in model.modules() if hasattr(m, "config"))

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.inner.parameters()).device

    def tie_weights(self) -> None:
        """Its weights are as they are."""

    def forward(self, input_ids: torch.Tensor) -> Any:
        """Every token is read; what stands to the right of a text is not seen by it."""
        return self.inner(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), use_cache=False)

    def generate(self, **options: Any) -> Any:
        """As the model generates, where it can."""
        if not hasattr(self.inner, "generate"):
            raise CklError(f"a {type(self.inner).__name__} cannot generate text; give tasks that compare answers")
        return self.inner.generate(**options)  # type: ignore[operator]


def _longest(model: nn.Module) -> int:
    config: Any = next(m.config for m in model.modules() if hasattr(m, "config"))
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 2048)


@cache
def _manager(asked: Retain) -> Any:
    """Where tasks are found: in a folder alone where it has them all, since to look through lm-eval's takes long."""
    from lm_eval.tasks import TaskManager

    if asked.include_path is None:
        return TaskManager()
    own = TaskManager(include_path=str(asked.include_path), include_defaults=False)
    if all(own.match_tasks([task]) for task in asked.tasks):
        return own
    return TaskManager(include_path=str(asked.include_path))


class _Nowhere(io.StringIO):
    """Takes what is written; the progress line goes on beside it."""

    def __init__(self, real: object) -> None:
        super().__init__()
        self.rich_proxied_file = getattr(real, "rich_proxied_file", real)  # where rich's console writes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What lm-eval prints would stand between a run's own lines; its processes would outnumber ours."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "evaluate", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(_Nowhere(sys.stderr)):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]


def lines(retained: Mapping[str, Mapping[str, Retained]]) -> list[str]:
    """A line a number: before, after, and whether the difference is more than two of its standard errors."""
    said = []
    for task, metrics in retained.items():
        for metric, value in metrics.items():
            said.append(f"{task} {metric}: {_number(value.before, value.before_stderr)} before, ")
            said[-1] += f"{_number(value.after, value.after_stderr)} after"
    return said


def _number(value: float, error: float | None) -> str:
    return f"{value:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def tell(record: Record) -> None:
    """Say whether the model is still good: of a run, how it predicts general English; its scores on other tasks."""
    english = record.stages[-1].perplexity.get("general")
    if english is not None and english.after != english.before:
        log(f"general English: perplexity {english.before:.1f} before, {english.after:.1f} after")
    for text in lines(record.retained):
        log(text)
