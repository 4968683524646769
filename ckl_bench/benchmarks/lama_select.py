"""Which facts of LAMA join which set: the paper's rules on pre-test accuracies, and what keeps the sets apart."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from ckl_bench.benchmarks.lama_sources import INVARIANT, MIN_EVIDENCE, Candidate, Form
from ckl_bench.benchmarks.statements import Statements
from ckl_bench.errors import UserError

CAPS = {"to_learn": {"P530": 130}, "attention": {"P530": 350}}
Split = Literal["to_learn", "not_to_forget", "attention"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What may be chosen where a benchmark is built; the paper's values."""

    min_evidence: int = MIN_EVIDENCE  # characters; evidence must be longer
    invariant: Set[str] = INVARIANT  # relations that time does not change
    keep_stated: bool = False  # attention and rehearsal rows that state a probed fact in passing, too


PAPER = Rules()


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
    """The four disjoint sets of a LAMA-ckl benchmark, and how many rows state a probed fact in passing, by set."""

    to_learn: Sequence[Candidate]
    not_to_forget: Sequence[Candidate]
    attention: Sequence[Candidate]
    rehearsal: Sequence[Candidate]  # known facts that no probe asks for
    stating: Mapping[str, int] = field(default_factory=dict)


def select(
    candidates: Sequence[Candidate],
    *,
    to_learn: int,
    not_to_forget: int,
    seed: int,
    form: Form,
    rules: Rules = PAPER,
    refused: Mapping[str, int] | None = None,
) -> Selection:
    """Sample the probe sets and keep the rest apart from them: no subject-relation pair and no passage is shared.

    Nor does a passage of the rest state a probed fact in passing, by the tripwire's rule, unless it is to be kept.
    Raises UserError where fewer facts qualify than are asked for; it says by which rules (and `refused`) they fell.
    """

    def sample(split: Split, count: int, caps: Mapping[str, int], option: str) -> list[Candidate]:
        pool = _capped((c for c in candidates if eligible(c, split, form, rules.invariant)), caps)
        if len(pool) < count:
            why = fallen(candidates, split, form, rules, refused or {})
            if not pool:
                raise UserError(f"{option} {count}: no fact qualifies; {why}")
            raise UserError(f"{option} {count}: {len(pool)} facts qualify; give {option} at most {len(pool)}; {why}")
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
    sets = {
        "attention": [c for c in apart if eligible(c, "attention", form, rules.invariant)],
        "rehearsal": [c for c in apart if c.mean(form) == 1],
    }
    stating = {name: stating_probes(rows, probed) for name, rows in sets.items()}
    if not rules.keep_stated:
        sets = {name: [c for c in rows if c.id not in stating[name]] for name, rows in sets.items()}
    return Selection(
        to_learn=chosen,
        not_to_forget=kept,
        attention=_capped(sets["attention"], CAPS["attention"]),
        rehearsal=sets["rehearsal"],
        stating={name: len(ids) for name, ids in stating.items()},
    )


def stating_probes(rows: Iterable[Candidate], probed: Iterable[Candidate]) -> set[str]:
    """Ids of the rows whose passage states a probed fact, by the tripwire's rule."""
    asked = Statements(c.fact for c in probed)
    return {row.id for row in rows if asked.stated_in(row.evidence)}


def fallen(candidates: Sequence[Candidate], split: Split, form: Form, rules: Rules, refused: Mapping[str, int]) -> str:
    """In words: at which rule each fact fell that did not join a set."""
    reasons = Counter(refused)
    for c in candidates:
        invariant = c.fact.relation in rules.invariant
        if split == "not_to_forget" and not invariant:
            reasons["of a relation that changes (not among --invariant)"] += 1
        elif split == "not_to_forget" and c.mean(form) != 1:
            reasons[f"not wholly known to every --pretest-model in {form} form"] += 1
        elif split == "to_learn" and invariant:
            reasons["of a relation that does not change (--invariant)"] += 1
        elif split == "to_learn" and not eligible(c, split, form, rules.invariant):
            reasons["known in part to a --pretest-model"] += 1
    read = len(candidates) + sum(refused.values())
    told = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"of {read} facts read fell: {told or 'none'}"


def left_out(candidates: Sequence[Candidate], selection: Selection, form: Form, rules: Rules = PAPER) -> Counter[str]:
    """Why tested facts are in none of the sets, counted by reason."""
    probed = [*selection.to_learn, *selection.not_to_forget]
    placed = {c.id for c in [*probed, *selection.attention, *selection.rehearsal]}
    pairs, passages = {(c.fact.subject, c.fact.relation) for c in probed}, {c.evidence for c in probed}
    rest = [c for c in candidates if c.id not in placed]
    stating = set() if rules.keep_stated else stating_probes(rest, probed)
    reasons: Counter[str] = Counter()
    for c in rest:
        fits = eligible(c, "attention", form, rules.invariant)
        if (c.fact.subject, c.fact.relation) in pairs or c.evidence in passages:
            reasons["shares its passage, or subject and relation, with a probe"] += 1
        elif (fits or c.mean(form) == 1) and c.id in stating:
            reasons["states a probed fact in passing"] += 1
        elif fits:
            reasons["over its relation's cap"] += 1
        else:
            reasons["known in part: its pre-test accuracy fits no set"] += 1
    return reasons
