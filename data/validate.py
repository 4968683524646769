"""Try a stack on facts that none of lama-ckl-mini's probes asks for, and log what came of it.

python data/validate.py METHOD [--lr 5e-4] [--epochs 9] [--set restate.keep=4 ...]

The facts to learn and to keep are those of `choose_defaults.py`: 48 of the attention set of which the model knows
nothing, and what may be rehearsed. The solved pairs of this benchmark are the rest of the attention set, so that what
a method learns from them, and a file prepared with `--set apart=FOLDER`, has seen nothing of what is asked. It holds
nothing to rehearse: what may be rehearsed is asked for. Known facts are few; so that forgetting is seen before it has
taken one of them, a set more asks what the model said of other names before (`said`); another asks for the facts to
learn in the other form of LAMA-ckl. Each finished run is a line of `data/validation.jsonl`.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ckl_bench_data.choose_defaults import MODEL, WORK, held_out

from ckl_bench.benchmarks.format import Benchmark, Probe, load_benchmark, write_benchmark
from ckl_bench.benchmarks.lama_sources import read_lama
from ckl_bench.encode import by_length, pad
from ckl_bench.learning.run import RunRequest, plan_run
from ckl_bench.models.find import find_model
from ckl_bench.models.head import forward, logits_of
from ckl_bench.results.output import run_once
from ckl_bench.storage.files import data_dir, read_jsonl
from ckl_bench.storage.json import jsonl
from ckl_bench.storage.locks import turn
from ckl_bench.storage.writing import write_text
from ckl_bench_methods.restate.forms import Form, forms_of, names
from ckl_bench_methods.restate.replay import continued

LOG = Path(__file__).with_name("validation.jsonl")
DRAWN, OF_A_FORM, CONTINUED, SAID = 5000, 24, 400, 256  # questions: drawn, of one form, answered, asked
_WORD = re.compile(r"\s+(?:the |a )?([A-Z]\w+|\w{4,})(?=\W)")


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
        more = {"asked_otherwise": asked_otherwise(stage.probes["to_learn"]), "said": said(embedded, forms_of(rest))}
        asked = replace(stage, probes={**stage.probes, **more})
        about = {"builder": Path(__file__).name, "defaults": held.manifest["defaults"]}
        write_benchmark(target, name=target.name, kind=held.kind, about=about, stages=[asked], attention=rest)
    return target


def asked_otherwise(probes: Sequence[Probe]) -> list[Probe]:
    """The same facts in the schematic form of their relation."""
    candidates, _ = read_lama(data_dir() / "facts")
    other = {(c.fact.subject, c.fact.relation, c.fact.object): c.schematic for c in candidates}
    return [replace(p, prompt=other[p.subject, p.relation, p.object]) for p in probes]


@torch.no_grad()
def said(embedded: Benchmark, forms: Sequence[Form]) -> list[Probe]:
    """What the model says of names in embedded documents that are neither solved nor asked about, where it is surest.

    No name is a subject of a probe.
    """
    probes = [p for stage in embedded.stages for rows in stage.probes.values() for p in rows]
    facts, solved = {(p.subject, p.relation, p.object) for p in probes}, {row.id for row in embedded.attention}
    candidates, _ = read_lama(data_dir() / "facts")
    texts = [
        c.evidence
        for c in candidates
        if c.id not in solved and (c.fact.subject, c.fact.relation, c.fact.object) not in facts
    ]
    known = sorted({name for text in texts for name in names(text)} - {p.subject for p in probes})
    draw = random.Random(1)
    drawn = list(dict.fromkeys(draw.choice(forms).about(draw.choice(known)) for _ in range(DRAWN)))
    form_of = {form.about(name): form for form in forms for name in known}
    base = find_model(MODEL)
    model = base.load().eval()
    ids = base.tokenizer(drawn, verbose=False)["input_ids"]
    sure: dict[int, float] = {}
    for places in by_length([len(row) for row in ids], 1024):
        rows, mask = pad([ids[i] for i in places])
        last = torch.arange(len(rows)) * rows.shape[1] + mask.sum(1) - 1
        likely = logits_of(forward(model, rows, mask), last).log_softmax(-1).amax(-1)
        sure.update(zip(places, likely.tolist(), strict=True))
    chosen: list[int] = []
    seen: Counter[Form] = Counter()
    for i in sorted(sure, key=lambda i: (-sure[i], i)):
        if seen[form_of[drawn[i]]] < OF_A_FORM and len(chosen) < CONTINUED:
            seen[form_of[drawn[i]]] += 1
            chosen.append(i)
    answers = {
        tuple(row[:length]): base.tokenizer.decode(row[length:])
        for (row, length), _ in continued(model, [ids[i] for i in chosen], 5)
    }
    found: list[Probe] = []
    for i in chosen:
        answer = answers[tuple(ids[i])]
        word = _WORD.match(answer)
        if word and len(found) < SAID:
            given = answer[: word.end()].strip()
            found.append(Probe(id=f"said-{len(found)}", prompt=f"{drawn[i]} {given} .", object=given))
    return found


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
        "asked_otherwise accuracy": [round(one["asked_otherwise"].accuracy, 4) for one in sets],
        "said exact": [round(one["said"].exact, 4) for one in sets],
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
