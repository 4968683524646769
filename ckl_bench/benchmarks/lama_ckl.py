"""LAMA-ckl: the LAMA release, or the paper's published rows -> a benchmark directory (paper, section 4.1).

Follows the released pipeline: evidence is the longest masked sentence of a fact; two prompts; variant and invariant
relations; a pre-test of every candidate by each pre-test model decides which set a fact may join.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ckl_bench.benchmarks.building import building, built, described
from ckl_bench.benchmarks.format import AttentionDocument, Document, Probe, Stage, write_benchmark
from ckl_bench.benchmarks.lama_sources import FORMS, INVARIANT, Candidate, Form, read_lama, read_published
from ckl_bench.errors import CklError, UserError
from ckl_bench.progress import bar, log
from ckl_bench.storage.checkpoint import Keeper, Store
from ckl_bench.storage.json import sha256_json

CAPS = {"to_learn": {"P530": 130}, "attention": {"P530": 350}}
DEFAULTS: Mapping[str, Any] = {"epochs": 30, "batch_size": 64, "learning_rate": 1e-4}  # the paper's
VERSION = 1  # of saved pre-tests: another one starts anew
SLICE = 64  # prompts between two chances to save
Split = Literal["to_learn", "not_to_forget", "attention"]
Pretest = Callable[[Sequence[Probe]], Sequence[float]]


def eligible(candidate: Candidate, split: Split, form: Form, invariant: Set[str] = INVARIANT) -> bool:
    """The paper's selection rules, on pre-test accuracies; `invariant` are the relations that time does not change.

    not_to_forget: invariant, mean exactly 1 on the form in use. to_learn: variant, mean 0 on both forms.
    attention: mean under 0.5 on both forms (and, which the sampler sees to, not among to_learn).
    """
    if split == "not_to_forget":
        return candidate.fact.relation in invariant and candidate.mean(form) == 1
    means = (candidate.mean("descriptive"), candidate.mean("schematic"))
    if split == "to_learn":
        return candidate.fact.relation not in invariant and max(means) == 0
    return max(means) < 0.5


def _capped(candidates: Iterable[Candidate], caps: Mapping[str, int]) -> list[Candidate]:
    kept: list[Candidate] = []
    count: Counter[str] = Counter()
    for candidate in candidates:
        count[candidate.fact.relation] += 1
        if count[candidate.fact.relation] <= caps.get(candidate.fact.relation, len(count) + 10**9):
            kept.append(candidate)
    return kept


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The four disjoint sets of a LAMA-ckl benchmark."""

    to_learn: Sequence[Candidate]
    not_to_forget: Sequence[Candidate]
    attention: Sequence[Candidate]
    rehearsal: Sequence[Candidate]  # known facts that no probe asks for


def select(candidates: Sequence[Candidate], *, to_learn: int, not_to_forget: int, seed: int, form: Form) -> Selection:
    """Sample the probe sets and keep the rest apart from them: no subject-relation pair and no passage is shared.

    Raises UserError where fewer facts qualify than are asked for.
    """

    def sample(split: Split, count: int, caps: Mapping[str, int], option: str) -> list[Candidate]:
        pool = _capped((c for c in candidates if eligible(c, split, form)), caps)
        if not pool:
            raise UserError(f"{option} {count}: no fact qualifies; give a larger source or another --pretest-model")
        if len(pool) < count:
            raise UserError(f"{option} {count}: {len(pool)} facts qualify; give {option} at most {len(pool)}")
        return random.Random(seed).sample(pool, count)  # as the released pipeline: a fresh generator per set

    chosen = sample("to_learn", to_learn, CAPS["to_learn"], "--to-learn")
    kept = sample("not_to_forget", not_to_forget, {}, "--not-to-forget")
    probed = [*chosen, *kept]
    ids, passages = {c.id for c in probed}, {c.evidence for c in probed}
    pairs = {(c.fact.subject, c.fact.relation) for c in probed}
    apart = [
        c
        for c in candidates
        if c.id not in ids and c.evidence not in passages and (c.fact.subject, c.fact.relation) not in pairs
    ]
    return Selection(
        to_learn=chosen,
        not_to_forget=kept,
        attention=_capped((c for c in apart if eligible(c, "attention", form)), CAPS["attention"]),
        rehearsal=[c for c in apart if c.mean(form) == 1],
    )


def left_out(candidates: Sequence[Candidate], selection: Selection, form: Form) -> Counter[str]:
    """Why tested facts are in none of the sets, counted by reason."""
    probed = [*selection.to_learn, *selection.not_to_forget]
    placed = {c.id for c in [*probed, *selection.attention, *selection.rehearsal]}
    pairs, passages = {(c.fact.subject, c.fact.relation) for c in probed}, {c.evidence for c in probed}
    reasons: Counter[str] = Counter()
    for c in candidates:
        if c.id in placed:
            continue
        if (c.fact.subject, c.fact.relation) in pairs or c.evidence in passages:
            reasons["shares its passage, or subject and relation, with a probe"] += 1
        elif eligible(c, "attention", form):
            reasons["over its relation's cap"] += 1
        else:
            reasons["known in part: its pre-test accuracy fits no set"] += 1
    return reasons


def _probe(candidate: Candidate, form: Form) -> Probe:
    fact = candidate.fact
    return Probe(
        id=candidate.id, prompt=candidate.prompt(form), object=fact.object, subject=fact.subject, relation=fact.relation
    )


def _document(candidate: Candidate) -> Document:
    return Document(id=candidate.id, text=candidate.evidence, fact=candidate.fact)


def write_selection(
    target: Path, selection: Selection, *, form: Form, about: Mapping[str, Any], name: str, otherwise: bool = False
) -> str:
    """Write the benchmark directory of a selection; returns its hash.

    `otherwise` asks for the to-learn facts in the other prompt form too: who has learned a sentence fails there.
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
        attention=attention,
        rehearsal=[_document(c) for c in selection.rehearsal],
    )


def pretest(candidates: Sequence[Candidate], models: Mapping[str, Pretest], keeper: Keeper) -> list[Candidate]:
    """Every candidate with its accuracy by each model on both forms, going on from what `keeper` holds."""
    table: dict[str, list[float]] = keeper.load() or {}
    if table:
        log(f"going on behind {sum(map(len, table.values())):,} pre-tested prompts")
    for name, scorer in models.items():
        for form in FORMS:
            scores = table.setdefault(f"{form} {name}", [])
            with bar(f"pre-testing {name}, {form}", len(candidates), "probes") as advance:
                advance(len(scores))
                while len(scores) < len(candidates):
                    part = candidates[len(scores) : len(scores) + SLICE]
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


def build_from_lama(
    lama: Path,
    out: Path,
    *,
    models: Mapping[str, tuple[str, Pretest]],
    to_learn: int = 500,
    not_to_forget: int = 500,
    seed: int = 42,
    form: Form = "descriptive",
    otherwise: bool = False,
    licence: str = "CC-BY-NC-4.0",
    defaults: Mapping[str, Any] = DEFAULTS,
) -> dict[str, Any]:
    """LAMA release folder -> benchmark directory; `models` maps a name to (revision, scorer).

    Returns the manifest's counts (facts read, kept per set, refused by reason) and, beside them, `left_out`: tested
    facts that are in no set, by reason. Raises UserError as its parts do.
    """
    candidates, refused = read_lama(lama)
    files = [lama / "relations.jsonl", *sorted((lama / "TREx").glob("P*.jsonl"))]
    arguments: dict[str, Any] = {"to_learn": to_learn, "not_to_forget": not_to_forget, "seed": seed, "form": form}
    arguments |= {"ask_otherwise": True} if otherwise else {}
    sources = described(files, licence, lama)
    revisions = [{"name": name, "revision": revision} for name, (revision, _) in models.items()]
    about: dict[str, Any] = {
        "builder": {"command": "build lama-ckl --lama", "arguments": arguments},
        "sources": sources,
        "pretest_models": revisions,
        "defaults": dict(defaults),
    }
    # What pre-testing found depends on sources and models alone: another size of the sets can take it up too.
    store = Store(out.with_name(f"{out.name}.work"), sha256_json([VERSION, sources, revisions]))
    with building(out):
        counts = built(out, about)
        if counts is None:
            keeper = Keeper(store)
            with keeper.listening():
                tested = pretest(candidates, {name: scorer for name, (_, scorer) in models.items()}, keeper)
            selection = select(tested, to_learn=to_learn, not_to_forget=not_to_forget, seed=seed, form=form)
            counts = _counts(len(candidates) + sum(refused.values()), selection, refused)
            told = {**about, "counts": counts}
            write_selection(out, selection, form=form, about=told, name=out.name, otherwise=otherwise)
            counts = counts | {"left_out": dict(sorted(left_out(tested, selection, form).items()))}
        store.remove()
    return counts


def build_from_published(
    published: Path,
    out: Path,
    *,
    form: Form = "descriptive",
    otherwise: bool = False,
    defaults: Mapping[str, Any] = DEFAULTS,
) -> dict[str, Any]:
    """The paper's published files -> benchmark directory, row for row; returns the manifest's counts.

    `train_attention_traindata.jsonl` becomes the attention set where it is there; without it the benchmark has none.
    """
    names = ["variant.jsonl", f"invariant_{form}.jsonl", "train_attention_traindata.jsonl"]
    for name in names[:2]:
        if not (published / name).is_file():
            raise UserError(f"--published {published}: {name} is missing; expected {names[0]} and {names[1]}")
    present = [name for name in names if (published / name).is_file()]
    rows = {name: read_published(published / name) for name in present}
    selection = Selection(
        to_learn=rows[names[0]], not_to_forget=rows[names[1]], attention=rows.get(names[2], []), rehearsal=[]
    )
    counts = _counts(sum(map(len, rows.values())), selection, Counter())
    arguments = {"form": form} | ({"ask_otherwise": True} if otherwise else {})
    about: dict[str, Any] = {
        "builder": {"command": "build lama-ckl --published", "arguments": arguments},
        "sources": described([published / name for name in present], "CC-BY-NC-4.0"),
        "pretest_models": [{"name": "the paper's four (Llama2-7B, TinyLlama-1.1B, and K-Adapter versions)"}],
        "counts": counts,
        "defaults": dict(defaults),
    }
    with building(out):
        if built(out, about) is None:
            write_selection(out, selection, form=form, about=about, name=out.name, otherwise=otherwise)
    return counts


def _counts(facts: int, selection: Selection, refused: Mapping[str, int]) -> dict[str, Any]:
    sets = ("to_learn", "not_to_forget", "attention", "rehearsal")
    return {
        "facts": facts,
        "kept": {name: len(getattr(selection, name)) for name in sets},
        "refused": dict(sorted(refused.items())),
    }
