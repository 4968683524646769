"""Try a stack on facts that none of lama-ckl-mini's probes asks for, and log what came of it.

python data/validate.py METHOD [--lr 5e-4] [--epochs 9] [--set restate.keep=4 ...]

The facts to learn and to keep are those of `choose_defaults.py`: 48 of the attention set of which the model knows
nothing, and what may be rehearsed. The solved pairs of this benchmark are the rest of the attention set, so that what
a method learns from them, and a file prepared with `--set apart=FOLDER`, has seen nothing of what is asked. It holds
nothing to rehearse: what may be rehearsed is asked for. Each finished run is a line of `data/validation.jsonl`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ckl_bench_data.choose_defaults import MODEL, WORK, held_out

from ckl_bench.benchmarks.format import load_benchmark, write_benchmark
from ckl_bench.learning.run import RunRequest, plan_run
from ckl_bench.results.output import run_once
from ckl_bench.storage.files import read_jsonl
from ckl_bench.storage.json import jsonl
from ckl_bench.storage.locks import turn
from ckl_bench.storage.writing import write_text

LOG = Path(__file__).with_name("validation.jsonl")


def validation() -> Path:
    """The benchmark, built once: what `choose_defaults` holds out, with the rest of the attention set as solved."""
    target: Path = WORK / "lama-ckl-validation"
    if not target.exists():
        held, embedded = load_benchmark(str(held_out())), load_benchmark("lama-ckl-mini")
        (stage,) = held.stages
        documents = {document.id for document in stage.documents}
        facts = {(p.subject, p.relation, p.object) for rows in stage.probes.values() for p in rows}
        rest = [
            row
            for row in embedded.attention
            if row.id not in documents and (row.fact.subject, row.fact.relation, row.fact.object) not in facts
        ]
        about = {"builder": Path(__file__).name, "defaults": held.manifest["defaults"]}
        write_benchmark(target, name=target.name, kind=held.kind, about=about, stages=held.stages, attention=rest)
    return target


def main() -> None:
    """Run one stack, and log it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="METHOD.FIELD=VALUE")
    given = parser.parse_args()
    request = RunRequest(
        method=given.method,
        benchmark=str(validation()),
        model=MODEL,
        seed=given.seed,
        epochs=given.epochs,
        learning_rate=given.lr,
        settings=given.settings,
    )
    record, _ = run_once(WORK, plan_run(request))
    assert record.status == "done", record.error
    assert record.cost is not None
    sets = [epoch.sets for epoch in record.stages[0].epochs]
    line: dict[str, Any] = {
        "stack": record.spec.method,
        "rate": given.lr,
        "seed": given.seed,
        "to_learn exact": [round(one["to_learn"].exact, 4) for one in sets],
        "to_learn accuracy": [round(one["to_learn"].accuracy, 4) for one in sets],
        "not_to_forget accuracy": [round(one["not_to_forget"].accuracy, 4) for one in sets],
        "not_to_forget nll": [round(one["not_to_forget"].nll, 4) for one in sets],
        "seconds": round(sum(record.cost.seconds.values())),
        "commit": record.environment.commit,
    }
    with turn(LOG):
        before = [row for _, row in read_jsonl(LOG)] if LOG.exists() else []
        write_text(LOG, jsonl([*before, line]))
    print(line)


if __name__ == "__main__":
    main()
