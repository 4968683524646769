"""A run as the hub's `.eval_results/*.yaml`: scores in a model's repository, tied to a benchmark's data set.

Form: https://github.com/huggingface/hub-docs/blob/main/eval_results.yaml
"""

from __future__ import annotations

from typing import Any

from ckl_bench.records import Record
from ckl_bench.results.final import FinalScores, final_scores, started

FOLDER = ".eval_results"


def eval_results(
    record: Record, dataset: str, source: str | None = None, epoch: int | None = None
) -> list[dict[str, Any]]:
    """An entry a probe set: the token accuracy of the model as the run left it, or as it was after `epoch`.

    `dataset` is the benchmark's id on the hub; a task is named as the split of `probes` there. `source` is the address
    of something that bears the scores out. UserError as `final_scores`.
    """
    when = started(record)
    return [
        {
            "dataset": {"id": dataset, "task_id": scores.split},
            "value": round(scores.after.accuracy, 6),
            **({"date": when} if when else {}),
            **({"source": {"url": source, "name": f"ckl-bench run {record.run_id}"}} if source else {}),
            "notes": _notes(record, scores, epoch),
        }
        for scores in final_scores(record, epoch)
    ]


def _notes(record: Record, scores: FinalScores, epoch: int | None) -> str:
    spec, before, after = record.spec, scores.before, scores.after
    cut = f", first {spec.limit} only" if spec.limit else ""
    when = "" if epoch is None else f", epoch {epoch} of {record.stages[-1].epochs[-1].epoch}"
    return (
        f"ckl-bench {record.environment.ckl_bench}: token accuracy on {len(scores.probes)} probes of {spec.benchmark} "
        f"({spec.benchmark_hash[:12]}{cut}) after {spec.method} on {spec.model}, seed {spec.seed}{when}; before "
        f"{before.accuracy:.4f}; exact {before.exact:.4f} to {after.exact:.4f}; NLL {before.nll:.4f} to "
        f"{after.nll:.4f} nats; run {record.run_id}"
    )


def eval_results_yaml(record: Record, dataset: str, source: str | None = None, epoch: int | None = None) -> str:
    """The file's text."""
    import yaml

    return str(
        yaml.safe_dump(eval_results(record, dataset, source, epoch), sort_keys=False, allow_unicode=True, width=120)
    )
