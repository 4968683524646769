"""Records -> tables: one row per stack, model, benchmark hash and settings; a pure function of the records."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd

from ckl_bench.files import write_text
from ckl_bench.metrics import bootstrap_interval, lama_ckl
from ckl_bench.records import Record, Spec

Row = dict[str, Any]

# Columns are only ever added at the end.
LAMA_CKL_COLUMNS = [
    *("method", "model", "benchmark", "seeds", "top_acc", "top_acc_std", "epoch", "nf_acc", "nf_acc_std"),
    *("total_knowledge", "total_knowledge_std", "best_total", "learned_at_1pct", "forgetting"),
    *("final_to_learn", "final_not_to_forget"),
    *("trainable_parameters", "train_tokens", "seconds", "train_tokens_per_second", "peak_memory_mb"),
    *("epochs", "batch_size", "learning_rate", "limit"),
    *("top_acc_low", "top_acc_high", "nf_acc_low", "nf_acc_high", "benchmark_hash", "model_revision", "run_ids"),
]


def groups(records: Iterable[Record]) -> list[list[Record]]:
    """Finished runs that differ in nothing but their seed, together; failed ones are left out."""
    by_settings: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "done":
            by_settings.setdefault(record.spec.settings, []).append(record)
    return [sorted(group, key=lambda r: r.spec.seed) for group in by_settings.values()]


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _probe_interval(group: Sequence[Record], name: str, epochs: Sequence[int]) -> tuple[float, float]:
    """Interval over probes of the accuracy at each run's epoch, averaged over seeds probe by probe."""
    runs = [
        next(e for e in record.stages[0].epochs if e.epoch == epoch).sets[name].probe_accuracy
        for record, epoch in zip(group, epochs, strict=True)
    ]
    return bootstrap_interval([mean(values) for values in zip(*runs, strict=True)])


def lama_ckl_row(group: Sequence[Record]) -> Row:
    """The row of runs that share everything but the seed: means over seeds, and their standard deviations."""
    spec = group[0].spec
    measures = [lama_ckl(record) for record in group]
    columns = {key: [getattr(m, key) for m in measures] for key in asdict(measures[0])}
    epochs = columns["epoch"]
    top_low, top_high = _probe_interval(group, "to_learn", epochs)
    kept_low, kept_high = _probe_interval(group, "not_to_forget", epochs)
    row: Row = {key: mean(values) for key, values in columns.items()}
    return row | {
        "method": spec.method,
        "model": spec.model,
        "benchmark": spec.benchmark,
        "seeds": len(group),
        **{f"{key}_std": _spread(columns[key]) for key in ("top_acc", "nf_acc", "total_knowledge")},
        **_cost(group),
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "learning_rate": spec.learning_rate,
        "limit": spec.limit,
        "top_acc_low": top_low,
        "top_acc_high": top_high,
        "nf_acc_low": kept_low,
        "nf_acc_high": kept_high,
        **_identity(spec),
        "run_ids": " ".join(record.run_id for record in group),
    }


def _identity(spec: Spec) -> Row:
    return {"benchmark_hash": spec.benchmark_hash[:16], "model_revision": spec.model_revision[:32]}


def _cost(group: Sequence[Record]) -> Row:
    costs = [record.cost for record in group if record.cost is not None]
    return {
        "trainable_parameters": costs[0].trainable_parameters,
        "train_tokens": round(mean(cost.train_tokens for cost in costs)),
        "seconds": round(mean(sum(cost.seconds.values()) for cost in costs)),
        "train_tokens_per_second": round(mean(cost.train_tokens_per_second for cost in costs)),
        "peak_memory_mb": round(max(cost.peak_memory_bytes for cost in costs) / 1e6),
    }


TABLES: dict[str, tuple[str, list[str], Callable[[Sequence[Record]], Row]]] = {
    "lama-ckl": ("lama-ckl.csv", LAMA_CKL_COLUMNS, lama_ckl_row),
}


def rows(records: Iterable[Record], kind: str = "lama-ckl") -> list[Row]:
    """The rows of a kind of benchmark: by benchmark and model, then the most Total Knowledge first."""
    _, _, make = TABLES[kind]
    made = [make(group) for group in groups(records) if group[0].spec.benchmark_kind == kind]
    return sorted(
        made,
        key=lambda r: (
            r["benchmark"],
            r["benchmark_hash"],
            r["model"],
            r["model_revision"],
            -round(r["total_knowledge"], 4),
            r["method"],
            r["run_ids"],
        ),
    )


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula is defused with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def csv_tables(records: Iterable[Record]) -> dict[str, str]:
    """File name -> CSV text, for every kind of benchmark that has a finished run."""
    done = list(records)
    tables = {}
    for kind, (file, columns, _) in TABLES.items():
        made = rows(done, kind)
        if made:
            frame = pd.DataFrame([[_cell(row[c]) for c in columns] for row in made], columns=columns)
            frame["epoch"] = frame["epoch"].round(2)
            text = io.StringIO()
            frame.to_csv(text, index=False, float_format=_number, lineterminator="\n")
            tables[file] = text.getvalue()
    return tables


def _number(value: Any) -> str:
    """Four decimals, or three significant digits for what is smaller than that (learning rates)."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}"


def write_tables(folder: Path, records: Iterable[Record]) -> list[Path]:
    """Write every table of the records into `folder`; returns the files."""
    paths = []
    for name, text in csv_tables(records).items():
        write_text(folder / name, text)
        paths.append(folder / name)
    return paths


def first_difference(folder: Path, records: Iterable[Record]) -> str | None:
    """The first place where a CSV in `folder` is not what the records give, in a sentence; None where all agree."""
    expected = csv_tables(records)
    for name in sorted({*expected, *(file for file, _, _ in TABLES.values() if (folder / file).exists())}):
        path = folder / name
        have = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        want = expected.get(name, "").splitlines()
        for number in range(max(len(have), len(want))):
            left = have[number] if number < len(have) else "(nothing)"
            right = want[number] if number < len(want) else "(nothing)"
            if left != right:
                return f"{path}:{number + 1}: the file says {left!r}, the records give {right!r}"
    return None
