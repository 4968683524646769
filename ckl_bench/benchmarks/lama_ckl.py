"""LAMA-ckl: the LAMA release, or the paper's published rows -> a benchmark directory (paper, section 4.1).

Follows the released pipeline: evidence is the longest masked sentence of a fact; two prompts; variant and invariant
relations; a pre-test of every candidate by each pre-test model decides which set a fact may join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.building import building, built, described
from ckl_bench.benchmarks.format import AttentionDocument, Document, Probe, Stage, write_benchmark
from ckl_bench.benchmarks.lama_select import PAPER, Rules, Selection, left_out, select, stating_probes
from ckl_bench.benchmarks.lama_sources import FORMS, INVARIANT, MIN_EVIDENCE, Candidate, Form, read_lama, read_published
from ckl_bench.benchmarks.pairs import apart_from, described_lender, joined, lender
from ckl_bench.errors import CklError, UserError
from ckl_bench.progress import bar, log
from ckl_bench.storage.checkpoint import Keeper, Store
from ckl_bench.storage.json import sha256_json

DEFAULTS: Mapping[str, Any] = {"epochs": 30, "batch_size": 64, "learning_rate": 1e-4}  # the paper's
VERSION = 2  # of saved pre-tests: another one starts anew
SLICE = 64  # prompts between two chances to save
TRANSFORMERS = "transformers"  # who runs a pre-test model, unless a manifest says so
Pretest = Callable[[Sequence[Probe]], Sequence[float]]


def _probe(candidate: Candidate, form: Form) -> Probe:
    fact = candidate.fact
    return Probe(
        id=candidate.id, prompt=candidate.prompt(form), object=fact.object, subject=fact.subject, relation=fact.relation
    )


def _document(candidate: Candidate) -> Document:
    return Document(id=candidate.id, text=candidate.evidence, fact=candidate.fact)


def write_selection(
    target: Path,
    selection: Selection,
    *,
    form: Form,
    about: Mapping[str, Any],
    name: str,
    otherwise: bool = False,
    lent: Sequence[AttentionDocument] = (),
    lent_by: str = "",
) -> str:
    """Write the benchmark directory of a selection; returns its hash.

    `otherwise` asks for the to-learn facts in the other prompt form too: who has learned a sentence fails there.
    Solved pairs that another benchmark, `lent_by`, has `lent` join its own.
    """
    probes = {
        "to_learn": [_probe(c, form) for c in selection.to_learn],
        "not_to_forget": [_probe(c, form) for c in selection.not_to_forget],
    }
    if otherwise:
        (other,) = (known for known in FORMS if known != form)
        probes["asked_otherwise"] = [_probe(c, other) for c in selection.to_learn]
    stage = Stage(name="facts", documents=[_document(c) for c in selection.to_learn], probes=probes)
    attention = [
        AttentionDocument(id=c.id, text=c.evidence, fact=c.fact, prompt=c.prompt(form)) for c in selection.attention
    ]
    return write_benchmark(
        target,
        name=name,
        kind="lama-ckl",
        about=about,
        stages=[stage],
        attention=joined(attention, lent, lent_by),
        rehearsal=[_document(c) for c in selection.rehearsal],
    )


def pretest(
    candidates: Sequence[Candidate], models: Mapping[str, Pretest], keeper: Keeper, at_once: int = SLICE
) -> list[Candidate]:
    """Every candidate with its accuracy by each model on both forms, going on from what `keeper` holds.

    A model is asked `at_once` prompts between two chances to save.
    """
    table: dict[str, list[float]] = keeper.load() or {}
    if table:
        log(f"going on behind {sum(map(len, table.values())):,} pre-tested prompts")
    for name, scorer in models.items():
        for form in FORMS:
            scores = table.setdefault(f"{form} {name}", [])
            with bar(f"pre-testing {name}, {form}", len(candidates), "probes") as advance:
                advance(len(scores))
                while len(scores) < len(candidates):
                    part = candidates[len(scores) : len(scores) + at_once]
                    with keeper.kept(lambda: table):
                        found = [float(score) for score in scorer([_probe(c, form) for c in part])]
                    if len(found) != len(part):
                        raise CklError(f"pre-test model {name} gave {len(found)} scores to {len(part)} prompts")
                    scores += found
                    advance(len(part))
                    keeper.after_step(lambda: table)
    return [
        replace(c, scores={form: tuple(table[f"{form} {name}"][i] for name in models) for form in FORMS})
        for i, c in enumerate(candidates)
    ]


def pretested_on(models: Mapping[str, tuple[str, Pretest]], backend: str = TRANSFORMERS) -> list[dict[str, str]]:
    """Who pre-tested, for the manifest: names, revisions, and the backend where it is not transformers."""
    by = {"backend": backend} if backend != TRANSFORMERS else {}
    return [{"name": name, "revision": revision, **by} for name, (revision, _) in models.items()]


def build_from_lama(
    lama: Path,
    out: Path,
    *,
    models: Mapping[str, tuple[str, Pretest]],
    at_once: int = SLICE,
    backend: str = TRANSFORMERS,
    to_learn: int = 500,
    not_to_forget: int = 500,
    seed: int = 42,
    form: Form = "descriptive",
    otherwise: bool = False,
    rules: Rules = PAPER,
    licence: str = "CC-BY-NC-4.0",
    defaults: Mapping[str, Any] = DEFAULTS,
) -> dict[str, Any]:
    """LAMA release folder -> benchmark directory; `models` maps a name to (revision, scorer).

    A scorer is given `at_once` prompts; `backend` is what runs the models, as the manifest is to say.
    Returns the manifest's counts (facts read, kept per set, refused by reason) and, beside them, `left_out`: tested
    facts that are in no set, by reason. Raises UserError as its parts do.
    """
    candidates, refused = read_lama(lama, rules.min_evidence)
    if not candidates:
        why = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
        raise UserError(f"--lama {lama}: no fact qualifies; refused: {why}")
    files = [lama / "relations.jsonl", *sorted((lama / "TREx").glob("P*.jsonl"))]
    arguments: dict[str, Any] = {"to_learn": to_learn, "not_to_forget": not_to_forget, "seed": seed, "form": form}
    arguments |= _told(otherwise, rules)
    sources = described(files, licence, lama)
    revisions = pretested_on(models, backend)
    about: dict[str, Any] = {
        "builder": {"command": "build lama-ckl --lama", "arguments": arguments},
        "sources": sources,
        "pretest_models": revisions,
        "defaults": dict(defaults),
    }
    # What pre-testing found depends on sources and models alone: another size of the sets can take it up too.
    store = Store(out.with_name(f"{out.name}.work"), sha256_json([VERSION, sources, revisions, rules.min_evidence]))
    with building(out):
        counts = built(out, about)
        if counts is None:
            keeper = Keeper(store)
            with keeper.listening():
                tested = pretest(candidates, {name: scorer for name, (_, scorer) in models.items()}, keeper, at_once)
            selection = select(
                tested,
                to_learn=to_learn,
                not_to_forget=not_to_forget,
                seed=seed,
                form=form,
                rules=rules,
                refused=refused,
            )
            counts = _counts(len(candidates) + sum(refused.values()), selection, refused, rules)
            told = {**about, "counts": counts}
            write_selection(out, selection, form=form, about=told, name=out.name, otherwise=otherwise)
            counts = counts | {"left_out": dict(sorted(left_out(tested, selection, form, rules).items()))}
            if rules.keep_stated:
                counts["kept_stated"] = dict(selection.stating)
        store.remove()
    return counts


def build_from_published(
    published: Path,
    out: Path,
    *,
    form: Form = "descriptive",
    otherwise: bool = False,
    rules: Rules = PAPER,
    pairs: str | None = None,
    defaults: Mapping[str, Any] = DEFAULTS,
) -> dict[str, Any]:
    """The paper's published files -> benchmark directory, row for row; returns the manifest's counts.

    Only attention rows that state a probed fact are left out and counted, unless they are to be kept.
    `train_attention_traindata.jsonl` becomes the attention set where it is there. Solved pairs of the benchmark `pairs`
    join it, but for those of a probed fact; without either the benchmark has none.
    """
    names = ["variant.jsonl", f"invariant_{form}.jsonl", "train_attention_traindata.jsonl"]
    for name in names[:2]:
        if not (published / name).is_file():
            raise UserError(f"--published {published}: {name} is missing; expected {names[0]} and {names[1]}")
    present = [name for name in names if (published / name).is_file()]
    rows = {name: read_published(published / name) for name in present}
    attention = rows.get(names[2], [])
    stating = stating_probes(attention, [*rows[names[0]], *rows[names[1]]])
    selection = Selection(
        to_learn=rows[names[0]],
        not_to_forget=rows[names[1]],
        attention=[c for c in attention if rules.keep_stated or c.id not in stating],
        rehearsal=[],
        stating={"attention": len(stating)},
    )
    counts = _counts(sum(map(len, rows.values())), selection, Counter(), rules)
    lent: list[AttentionDocument] = []
    lends = lender(pairs) if pairs is not None else None
    if lends is not None:
        lent = apart_from((c.fact for c in [*selection.to_learn, *selection.not_to_forget]), lends)
        counts["kept"]["attention"] += len(lent)
        counts["refused"]["solved pairs of a probed fact"] = len(lends.attention) - len(lent)
    arguments = {"form": form} | _told(otherwise, rules) | ({"pairs": pairs} if pairs is not None else {})
    about: dict[str, Any] = {
        "builder": {"command": "build lama-ckl --published", "arguments": arguments},
        "sources": described([published / name for name in present], "CC-BY-NC-4.0")
        + ([described_lender(lends)] if lends is not None else []),
        "pretest_models": [{"name": "the paper's four (Llama2-7B, TinyLlama-1.1B, and K-Adapter versions)"}],
        "counts": counts,
        "defaults": dict(defaults),
    }
    with building(out):
        if built(out, about) is None:
            by = lends.name if lends is not None else ""
            write_selection(
                out, selection, form=form, about=about, name=out.name, otherwise=otherwise, lent=lent, lent_by=by
            )
    return counts


def _told(otherwise: bool, rules: Rules) -> dict[str, Any]:
    """What a manifest says of settings that are not the paper's, and of the rule that the paper has not."""
    told: dict[str, Any] = {"ask_otherwise": True} if otherwise else {}
    if rules.min_evidence != MIN_EVIDENCE:
        told["min_evidence"] = rules.min_evidence
    if rules.invariant != INVARIANT:
        told["invariant"] = sorted(rules.invariant)
    return told if rules.keep_stated else {**told, "stated": "left out"}


def _counts(facts: int, selection: Selection, refused: Mapping[str, int], rules: Rules) -> dict[str, Any]:
    sets = ("to_learn", "not_to_forget", "attention", "rehearsal")
    counts: dict[str, Any] = {
        "facts": facts,
        "kept": {name: len(getattr(selection, name)) for name in sets},
        "refused": dict(sorted(refused.items())),
    }
    return counts if rules.keep_stated else {**counts, "stating_a_probed_fact": dict(selection.stating)}
