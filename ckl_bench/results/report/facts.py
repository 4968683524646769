"""What became of every fact in a run: learned, kept, forgotten, never known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.catalogue import BENCHMARKS
from ckl_bench.benchmarks.format import Probe, load_benchmark
from ckl_bench.errors import UserError
from ckl_bench.records import Record

from .months import month_name

STATES = ("learned", "kept", "forgotten", "never known")


def fate(before: float, after: float) -> str:
    """A fact is known where all of its answer's tokens are right."""
    return STATES[(0 if after == 1 else 3) if before < 1 else (1 if after == 1 else 2)]


def probes_of(record: Record) -> dict[str, Probe]:
    """The probes of a record's benchmark by id, where it is embedded or a folder here, and unchanged; empty else."""
    name = record.spec.benchmark
    if name not in BENCHMARKS and (Path(name).name != name or not Path(name).is_dir()):
        return {}
    try:
        benchmark = load_benchmark(record.spec.benchmark)
    except UserError:
        return {}
    if benchmark.hash != record.spec.benchmark_hash:
        return {}
    return {probe.id: probe for stage in benchmark.stages for rows in stage.probes.values() for probe in rows}


def facts(record: Record, probes: Mapping[str, Probe]) -> Iterator[dict[str, Any]]:
    """Every probe of a run: what it asks, the model's guess before and after its stage, and its fate."""
    for stage in record.stages:
        first, last = stage.epochs[0].sets, stage.epochs[-1].sets
        for name, ids in stage.probe_ids.items():
            for i, own in enumerate(ids):
                probe = probes.get(own)
                before, after = (sets[name].probe_accuracy[i] for sets in (first, last))
                yield {
                    "set": f"{month_name(stage.name)} {name}" if len(record.stages) > 1 else name,
                    "relation": probe.relation if probe else "",
                    "prompt": probe.prompt if probe else own,
                    "answer": probe.object if probe else "",
                    "before": first[name].probe_guess[i],
                    "after": last[name].probe_guess[i],
                    "fate": fate(before, after),
                }
