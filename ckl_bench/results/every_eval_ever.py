"""A run in the form of Every Eval Ever: one JSON file of scores, and one line a probe where the texts are known.

Schema: https://github.com/evaleval/every_eval_ever/tree/main/every_eval_ever/schemas, version 0.3.0
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from statistics import stdev
from typing import Any
from uuid import UUID

from ckl_bench.benchmarks.format import Probe
from ckl_bench.records import Record, Retained, SetScores
from ckl_bench.results.final import FinalScores, final_scores, started
from ckl_bench.storage.files import sha256_bytes
from ckl_bench.storage.json import json_text, jsonl, sha256_json

SCHEMA = "0.3.0"
_METRICS: Mapping[str, tuple[str, bool, float | str]] = {  # what it is, whether lower is better, the most it can be
    "accuracy": ("Share of the answer's tokens that are the model's first choice, mean over probes", False, 1.0),
    "exact": ("Share of probes with every token of the answer right", False, 1.0),
    "nll": ("Mean negative log-likelihood of the answer's tokens, nats, mean over probes", True, "Infinity"),
}


def every_eval_ever(
    record: Record,
    now: float,
    *,
    probes: Mapping[tuple[str, str, str], Probe] | None = None,
    dataset: str | None = None,
    organization: str = "unknown",
    source: str | None = None,
) -> dict[str, str]:
    """The files of a finished run, their texts by path: `data/BENCHMARK/ckl-bench/MODEL/UUID.json`.

    `now` is the time of the export, in seconds since 1970; `probes` are the benchmark's, by stage, set and id, for a
    file of samples beside it; `dataset` is the benchmark's id on a hub, `organization` who ran this, `source` their
    address. The UUID comes from the run's id, so that a second export replaces the first. UserError as `final_scores`.
    """
    scores, spec = final_scores(record), record.spec
    model = _plain(f"{spec.model.rsplit('/', 1)[-1]}-{spec.method}-{record.run_id}")
    folder = f"data/{_plain(spec.benchmark)}/ckl-bench/{model}"
    number = str(UUID(bytes=bytes.fromhex(sha256_json(record.run_id)[:32]), version=4))
    keys = {"evaluation_id": f"{spec.benchmark}/ckl-bench/{model}/{now:.3f}", "model_id": f"ckl-bench/{model}"}
    ran = started(record)
    log: dict[str, Any] = {
        "schema_version": SCHEMA,
        "evaluation_id": keys["evaluation_id"],
        **({"evaluation_timestamp": ran} if ran else {}),
        "retrieved_timestamp": f"{now:.3f}",
        "source_metadata": {
            "source_name": "ckl-bench",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            **({"source_organization_url": source} if source else {}),
            "evaluator_relationship": "first_party",  # who runs a method makes the model that is scored
            "additional_details": {"run_id": record.run_id},
        },
        "eval_library": {
            "name": "ckl_bench",
            "version": record.environment.ckl_bench,
            "additional_details": {"commit": record.environment.commit},
        },
        "model_info": _model(record, keys["model_id"]),
        "evaluation_results": [
            *(_result(record, one, metric, dataset) for one in scores for metric in _METRICS),
            *(
                _retained(record, task, name, number)
                for task, metrics in record.retained.items()
                for name, number in metrics.items()
            ),
        ],
    }
    files = {}
    if probes:
        text = jsonl(_samples(record, scores, probes, keys))
        path = f"{folder}/{number}_samples.jsonl"
        log["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": path,
            "hash_algorithm": "sha256",
            "checksum": sha256_bytes(text.encode()),
            "total_rows": text.count("\n"),
        }
        files[path] = text
    return {f"{folder}/{number}.json": json_text(log), **files}


def _plain(name: str) -> str:
    """A name as a part of a path that every system takes."""
    return re.sub(r"[^\w.+=-]+", "-", name).strip("-.") or "_"


def _model(record: Record, name: str) -> dict[str, Any]:
    spec = record.spec
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",  # a record does not say whether its model was shared
        "base_model": spec.model,
        "base_model_revision": spec.model_revision,
        "method": spec.method,
        "dtype": spec.dtype,
        **({"total_parameters": str(record.cost.total_parameters)} if record.cost else {}),
    }
    return {
        "name": f"{spec.model}, having learned {spec.benchmark} by {spec.method}",
        "id": name,
        "developer": "ckl-bench",
        "inference_engine": {
            "name": "transformers",
            "version": record.environment.packages.get("transformers", "unknown"),
        },
        "additional_details": details,
    }


def _result(record: Record, scores: FinalScores, metric: str, dataset: str | None) -> dict[str, Any]:
    spec, (what, lower, most) = record.spec, _METRICS[metric]
    about = {"hash": spec.benchmark_hash, "kind": spec.benchmark_kind, "stage": scores.stage, "set": scores.name}
    data: dict[str, Any] = {"dataset_name": spec.benchmark, "source_type": "other", "additional_details": about}
    if dataset:
        data |= {"source_type": "hf_dataset", "hf_repo": dataset, "samples_number": len(scores.probes)}
        about["split"] = scores.split
    return {
        "evaluation_result_id": f"{scores.split}/{metric}",
        "evaluation_name": f"{spec.benchmark}/{scores.split}",
        "source_data": data,
        "metric_config": {
            "evaluation_description": f"{what}, after the last epoch of the last stage",
            "metric_id": f"ckl_bench.{metric}",
            "metric_name": {"accuracy": "token accuracy", "exact": "exact answers", "nll": "NLL"}[metric],
            "metric_kind": {"exact": "accuracy"}.get(metric, metric),
            "metric_unit": "nats" if metric == "nll" else "proportion",
            "lower_is_better": lower,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": most,
        },
        "score_details": {
            "score": getattr(scores.after, metric),
            "details": {"before": repr(getattr(scores.before, metric))},
            "uncertainty": _uncertainty(_values(scores.after, metric)),
        },
        "generation_config": {
            "generation_args": {"execution_command": shlex.join(record.environment.command)},
            "additional_details": {
                "seed": str(spec.seed),
                "epochs": str(spec.epochs),
                "batch_size": str(spec.batch_size),
                "learning_rate": repr(spec.learning_rate),
                "limit": str(spec.limit or "none"),
            },
        },
    }


def _values(scores: SetScores, metric: str) -> Sequence[float]:
    if metric == "nll":
        return scores.probe_nll
    return scores.probe_accuracy if metric == "accuracy" else [float(v == 1) for v in scores.probe_accuracy]


def _uncertainty(values: Sequence[float]) -> dict[str, Any]:
    """The spread over probes, and the standard error of their mean."""
    if len(values) < 2:
        return {"num_samples": len(values)}
    spread = stdev(values)
    error = {"value": spread / len(values) ** 0.5, "method": "analytic"}
    return {"standard_error": error, "standard_deviation": spread, "num_samples": len(values)}


def _retained(record: Record, task: str, metric: str, found: Retained) -> dict[str, Any]:
    """A score of --retain: of a task that has nothing to do with the benchmark, by lm-evaluation-harness."""
    return {
        "evaluation_result_id": f"retained/{task}/{metric}",
        "evaluation_name": task,
        "source_data": {"dataset_name": task, "source_type": "other", "additional_details": {"library": "lm_eval"}},
        "metric_config": {
            "evaluation_description": f"{metric} of lm-evaluation-harness's task {task}, after the last epoch",
            "metric_id": metric,
            "metric_name": metric,
            "lower_is_better": found.higher_is_better is False,
        },
        "score_details": {
            "score": found.after,
            "details": {"before": repr(found.before)},
            "uncertainty": {
                **({"standard_error": {"value": found.after_stderr}} if found.after_stderr is not None else {}),
                "num_samples": found.samples,
            },
        },
    }


def _samples(
    record: Record, scores: Sequence[FinalScores], probes: Mapping[tuple[str, str, str], Probe], keys: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """A line a probe: what was asked, what the model would have said, and whether it is right."""
    for one in scores:
        found = zip(one.probes, one.after.probe_guess, one.after.probe_accuracy, one.after.probe_nll, strict=True)
        for number, (name, guess, accuracy, nll) in enumerate(found):
            probe = probes[one.stage, one.name, name]
            raw, reference = probe.prompt[: probe.prompt.rfind(probe.object)], [probe.object]
            yield {
                "schema_version": SCHEMA,
                **keys,
                "evaluation_name": f"{record.spec.benchmark}/{one.split}",
                "evaluation_result_id": f"{one.split}/accuracy",
                "sample_id": name,
                "sample_hash": sha256_json({"raw": raw, "reference": reference}),
                "interaction_type": "single_turn",
                "input": {"raw": raw, "reference": reference},
                "output": {"raw": [guess]},
                "answer_attribution": [
                    {
                        "turn_idx": 0,
                        "source": "output.raw",
                        "extracted_value": guess,
                        "extraction_method": "first choice at every token of the answer, the tokens before it given",
                        "is_terminal": True,
                    }
                ],
                "evaluation": {"score": accuracy, "is_correct": accuracy == 1},
                "metadata": {
                    "nll": repr(nll),
                    "score_before": repr(one.before.probe_accuracy[number]),
                    "subject": probe.subject,
                    "relation": probe.relation,
                },
            }
