"""Runs that share everything but the seed -> one row of their kind of benchmark's table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

from ckl_bench.records import Record, SetScores, StageScores
from ckl_bench.results.differences import settings_of
from ckl_bench.results.intervals import bootstrap_interval
from ckl_bench.results.metrics import lama_ckl, part_sets, temporalwiki, told
from ckl_bench.spec import Spec

Row = dict[str, Any]

# Columns are only ever added at the end.
COST = ("trainable_parameters", "train_tokens", "seconds", "train_tokens_per_second", "peak_memory_mb")
# Of files made before the run, such as φ: what they took, and seconds with all of it, and with a share of it.
PREPARATION = ("prepare_tokens", "prepare_seconds", "seconds_and_prepare", "seconds_amortised")
_SETTINGS = ("epochs", "batch_size", "learning_rate", "limit")
# What it is worth beside doing nothing, whether the answers were told, and how far the model moved (nats a token).
_WORTH = ("gain", "gain_low", "gain_high", "told", "kl_documents", "kl_rehearsal", "max_tokens")
# What else tells runs apart, and how well other text is still predicted after the last stage (exp of NLL a token).
_TEXTS = ("rehearsal", "general")
_SINCE_SCHEMA_2 = (
    *("schema_version", "dtype", "tokenizer_hash"),
    *(f"ppl_{text}{when}" for text in _TEXTS for when in ("", "_before")),
)
LAMA_CKL_COLUMNS = [
    *("method", "model", "benchmark", "seeds", "top_acc", "top_acc_std", "epoch", "nf_acc", "nf_acc_std"),
    *("total_knowledge", "total_knowledge_std", "best_total", "learned_at_1pct", "forgetting"),
    *("final_to_learn", "final_not_to_forget"),
    *COST,
    *_SETTINGS,
    *("top_acc_low", "top_acc_high", "nf_acc_low", "nf_acc_high", "benchmark_hash", "model_revision", "run_ids"),
    *("rank", "source"),
    *PREPARATION,
    *("top_exact", "top_exact_low", "top_exact_high", "nf_exact", "nf_exact_low", "nf_exact_high"),
    *_WORTH,
    *("otherwise_acc", "otherwise_exact"),
    "reproduced",
    *_SINCE_SCHEMA_2,
]


def temporalwiki_columns(rows: Sequence[Row]) -> list[str]:
    """The columns of temporalwiki.csv: months come in the order in which they are first met."""
    months = list(dict.fromkeys(month for row in rows for month in row["months"]))
    per_month = [f"{m}_{part}_nll" for m in months for part in ("unchanged", "changed", "avg")]
    perplexities = [name.replace("_nll", "_perplexity") for name in per_month]
    return [
        *("method", "model", "benchmark", "seeds"),
        *per_month,
        *("avg_nll", "fuar", "backward_transfer", "forgetting"),
        *COST,
        *_SETTINGS,
        *("avg_nll_std", "forward_transfer", "before_avg_nll", "avg_nll_low", "avg_nll_high"),
        *perplexities,
        *("benchmark_hash", "model_revision", "run_ids", "rank", "source"),
        *PREPARATION,
        *_WORTH,
        "reproduced",
        *_SINCE_SCHEMA_2,
    ]


def in_months(row: Row) -> bool:
    """Whether a row is of stages learned in sequence, with the measures that TemporalWiki has."""
    return bool(row.get("months"))


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _at(group: Sequence[Record], name: str, epochs: Sequence[int], exact: bool = False) -> list[float]:
    """Per probe the accuracy at each run's epoch, averaged over seeds; or whether all of the answer was right."""
    runs = [
        next(e for e in record.stages[0].epochs if e.epoch == epoch).sets[name].probe_accuracy
        for record, epoch in zip(group, epochs, strict=True)
    ]
    return [mean(float(value == 1) if exact else value for value in values) for values in zip(*runs, strict=True)]


def _less(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def lama_ckl_row(group: Sequence[Record], users: Mapping[str, int], untrained: Sequence[Record] = ()) -> Row:
    """The row of runs that share everything but the seed: means over seeds, and their standard deviations.

    `users` counts the table's runs by the hash of every prepared file that they read. `gain` is Total Knowledge minus
    that of the `untrained` model's runs, or, where there are none, of the runs' own epoch 0. A model that was
    scored only has no epoch 0 to compare with: without such runs it has no gain.
    """
    measures = [lama_ckl(record) for record in group]
    columns = {key: [getattr(m, key) for m in measures] for key in asdict(measures[0])}
    epochs = columns["epoch"]
    row = {key: None if None in values else mean(values) for key, values in columns.items()}
    alone = group[0].spec.scored_only
    before = untrained or group
    moved = []
    for short, name in (("top", "to_learn"), ("nf", "not_to_forget")):
        after, start = _at(group, name, epochs), _at(before, name, [0] * len(before))
        moved.append(_less(after, start))
        for measure, values in ((f"{short}_acc", after), (f"{short}_exact", _at(group, name, epochs, exact=True))):
            row[f"{measure}_low"], row[f"{measure}_high"] = bootstrap_interval(values)
    if alone:  # nothing is known of it before
        row |= {"forgetting": None, "learned_at_1pct": None}
    return {
        **row,
        **{f"{key}_std": _spread(columns[key]) for key in ("top_acc", "nf_acc", "total_knowledge")},
        **({} if alone and not untrained else _gain(sum(map(mean, moved)), bootstrap_interval(*moved, total=True))),
        **_common(group, users),
    }


def temporalwiki_row(group: Sequence[Record], users: Mapping[str, int], untrained: Sequence[Record] = ()) -> Row:
    """The row of runs that share everything but the seed; `months` names its stages.

    Means over seeds; a measure that one of the runs lacks (FUAR without any gain) is missing from the row. `gain` is by
    how much the average NLL lies under that of the `untrained` model's runs, or of the runs' own base model.
    """
    measures = [temporalwiki(record) for record in group]
    row: Row = {"months": [month.name for month in measures[0].months]}
    for i, month in enumerate(row["months"]):
        for part in ("unchanged", "changed", "avg"):
            value = mean(getattr(m.months[i], part) for m in measures)
            row |= {f"{month}_{part}_nll": value, f"{month}_{part}_perplexity": math.exp(min(value, 700.0))}
    for name in ("avg_nll", "before_avg_nll", "fuar", "backward_transfer", "forward_transfer", "forgetting"):
        values = [getattr(m, name) for m in measures]
        row[name] = None if any(value is None for value in values) else mean(values)
    after, before = _probes_after_their_month(group), _probes_before(untrained or group)
    fallen = [_less(old, new) for old, new in zip(before, after, strict=True)]
    low, high = bootstrap_interval(*after)
    if group[0].spec.scored_only:  # nothing is known of it before
        row["before_avg_nll"] = None
    return {
        **row,
        "avg_nll_std": _spread([m.avg_nll for m in measures]),
        "avg_nll_low": low,
        "avg_nll_high": high,
        **(
            {}
            if group[0].spec.scored_only and not untrained
            else _gain(mean(map(mean, fallen)), bootstrap_interval(*fallen))
        ),
        **_common(group, users),
    }


def _gain(worth: float, interval: tuple[float, float]) -> Row:
    return {"gain": worth, "gain_low": interval[0], "gain_high": interval[1]}


def _parts(record: Record, stage: StageScores) -> list[str]:
    """The stage's sets that the measures of a sequence are made of, in its own order."""
    return [name for name in stage.probe_ids if name in part_sets(record).values()]


def _probes_after_their_month(group: Sequence[Record]) -> list[list[float]]:
    """Of every set of every month the probes' NLL after that month, averaged over seeds probe by probe."""
    sets = []
    for stages in zip(*(record.stages for record in group), strict=True):
        for name in _parts(group[0], stages[0]):
            runs = [stage.epochs[-1].sets[name].probe_nll for stage in stages]
            sets.append([mean(values) for values in zip(*runs, strict=True)])
    return sets


def _probes_before(group: Sequence[Record]) -> list[list[float]]:
    """The same of the base model, before the first month."""
    sets = []
    for index, stages in enumerate(zip(*(record.stages for record in group), strict=True)):
        for name in _parts(group[0], stages[0]):
            runs = [before_training(record, index)[name].probe_nll for record in group]
            sets.append([mean(values) for values in zip(*runs, strict=True)])
    return sets


def before_training(record: Record, index: int) -> Mapping[str, SetScores]:
    """A stage's sets by the base model; of a model that was scored only, its only scores."""
    stage = record.stages[index]
    return stage.epochs[0].sets if index == 0 or record.spec.scored_only else record.before[stage.name]


def prepared_files(record: Record) -> list[str]:
    """Hashes of the files of a run that took work of their own to make."""
    spent = record.cost.preparations if record.cost is not None else []
    return [record.spec.inputs[item.input] for item in spent if item.input in record.spec.inputs]


def _preparation(group: Sequence[Record], users: Mapping[str, int]) -> Row:
    """What files made before the runs took, whole and shared by all runs that read them; empty where there are none."""
    spent = [
        (item, users[record.spec.inputs[item.input]])
        for record in group[:1]
        for item in (record.cost.preparations if record.cost else [])
        if item.input in record.spec.inputs
    ]
    if not spent:
        return {}
    seconds = mean(sum(record.cost.seconds.values()) for record in group if record.cost is not None)
    return {
        "prepare_tokens": sum(item.tokens for item, _ in spent),
        "prepare_seconds": round(sum(item.seconds for item, _ in spent)),
        "seconds_and_prepare": round(seconds + sum(item.seconds for item, _ in spent)),
        "seconds_amortised": round(seconds + sum(item.seconds / count for item, count in spent)),
    }


def _common(group: Sequence[Record], users: Mapping[str, int]) -> Row:
    """What every kind of row has: who ran on what, how, at what cost."""
    spec: Spec = group[0].spec
    costs = [record.cost for record in group if record.cost is not None]
    learned = not spec.scored_only
    return {
        "method": spec.method,
        "scored_only": spec.scored_only,
        "model": spec.model,
        "benchmark": spec.benchmark,
        "seeds": len(group),
        "trainable_parameters": costs[0].trainable_parameters,
        "train_tokens": round(mean(cost.train_tokens for cost in costs)),
        "seconds": round(mean(sum(cost.seconds.values()) for cost in costs)),
        "train_tokens_per_second": round(mean(cost.train_tokens_per_second for cost in costs)),
        "peak_memory_mb": round(max(cost.peak_memory_bytes for cost in costs) / 1e6),
        "epochs": spec.epochs,
        "batch_size": spec.batch_size if learned else None,
        "learning_rate": spec.learning_rate if learned else None,
        "limit": spec.limit,
        "benchmark_hash": spec.benchmark_hash[:16],
        "model_revision": spec.model_revision[:32],
        "run_ids": " ".join(record.run_id for record in group),
        "told": any(map(told, group)),
        "max_tokens": spec.max_tokens if learned else None,
        "schema_version": spec.schema_version,
        "dtype": spec.dtype,
        "tokenizer_hash": spec.tokenizer_hash[:16] or None,
        "settings": settings_of(spec),
        **_divergence(group),
        **_perplexity(group),
        **_retained(group),
        **_preparation(group, users),
    }


def _divergence(group: Sequence[Record]) -> Row:
    """Mean KL to the base model after the last epochs, over stages and seeds; empty where a run did not measure it."""
    found: Row = {}
    for name in ("documents", "rehearsal"):
        values = [stage.divergence.get(name) for record in group for stage in record.stages]
        if None not in values:
            found[f"kl_{name}"] = mean(value for value in values if value is not None)
    return found


def _retained(group: Sequence[Record]) -> Row:
    """Mean scores on other tasks before and after the runs; of a number that not all have of as many samples, none.

    The standard error of the mean over seeds is that of one run: the samples are the same.
    """
    every = [{(t, m): v for t, ms in record.retained.items() for m, v in ms.items()} for record in group]
    found: Row = {}
    for key in every[0]:
        if all(key in own and own[key].samples == every[0][key].samples for own in every):
            values = [own[key] for own in every]
            name = f"retain_{key[0]}_{key[1]}"
            for column, field in ((name, "after"), (f"{name}_before", "before")):
                found[column] = mean(getattr(value, field) for value in values)
                errors = [getattr(value, f"{field}_stderr") for value in values]
                found[f"{column}_stderr"] = None if None in errors else mean(errors)
    return found


def retained_columns(rows: Sequence[Row]) -> list[str]:
    """The columns of other tasks that any row has: of each number after, before, and both standard errors."""
    return list(dict.fromkeys(name for row in rows for name in row if name.startswith("retain_")))


def _perplexity(group: Sequence[Record]) -> Row:
    """Mean perplexity of other text before and after the runs, over seeds; empty where a run did not measure it."""
    found: Row = {}
    for text in _TEXTS:
        values = [record.stages[-1].perplexity.get(text) for record in group]
        if None not in values:
            found[f"ppl_{text}"] = mean(value.after for value in values if value is not None)
            found[f"ppl_{text}_before"] = mean(value.before for value in values if value is not None)
    return found
