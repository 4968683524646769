"""Sources of LAMA-ckl: the LAMA release's folder and the paper's published rows -> candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ckl_bench.benchmarks.format import Fact
from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_jsonl

INVARIANT = frozenset(
    "P19 P20 P279 P37 P449 P47 P138 P364 P527 P176 P27 P407 P30 P178 P1376 P131 P1412 P17 P276 P937 "  # noqa: SIM905
    "P140 P103 P190 P1001 P495 P36 P740 P361".split()
)
MIN_EVIDENCE = 200  # characters; evidence must be longer
Form = Literal["descriptive", "schematic"]
FORMS: tuple[Form, Form] = ("descriptive", "schematic")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A fact with its evidence, its two prompts, and per form the pre-test accuracy of each pre-test model."""

    id: str
    fact: Fact
    evidence: str
    descriptive: str
    schematic: str
    scores: Mapping[Form, Sequence[float]] = field(default_factory=dict)

    @property
    def invariant(self) -> bool:
        """Whether the relation is one that time does not change."""
        return self.fact.relation in INVARIANT

    def prompt(self, form: Form) -> str:
        """The prompt of a form."""
        return self.descriptive if form == "descriptive" else self.schematic

    def mean(self, form: Form) -> float:
        """Mean pre-test accuracy on a form, over the pre-test models."""
        return sum(self.scores[form]) / len(self.scores[form])


def descriptive_prompt(template: str, subject: str, obj: str) -> str:
    """The relation's template with its [X] and [Y] filled in."""
    return template.replace("[X]", subject).replace("[Y]", obj)


def schematic_prompt(subject: str, label: str, obj: str) -> str:
    """The form without grammar, which TemporalWiki uses too."""
    return f"Guess the object. \n  subject is {subject} , relation is {label} , object is {obj}"


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: expected a non-empty text '{key}', found {value!r}")
    return value


def read_relations(path: Path) -> dict[str, tuple[str, str]]:
    """Code -> (label, template) from LAMA's relations.jsonl; UserError with file and line for a bad row."""
    relations = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        template = _text(row, "template", where)
        if "[X]" not in template or "[Y]" not in template:
            raise UserError(f"{where}: the template needs both [X] and [Y]: '{template}'")
        relations[_text(row, "relation", where)] = (_text(row, "label", where), template)
    if not relations:
        raise UserError(f"{path} holds no relations; expected LAMA's relations.jsonl")
    return relations


def read_lama(folder: Path) -> tuple[list[Candidate], Counter[str]]:
    """Candidates of a LAMA release folder in a stable order, and the counts of refused facts by reason.

    Raises UserError with file and line for a malformed row, a relation that relations.jsonl lacks, an empty source.
    """
    if not folder.is_dir():
        raise UserError(f"--lama {folder} is not a folder; expected relations.jsonl and TREx/P*.jsonl in it")
    relations = read_relations(folder / "relations.jsonl")
    files = sorted((folder / "TREx").glob("P*.jsonl"), key=lambda f: (len(f.stem), f.stem))
    candidates: list[Candidate] = []
    refused: Counter[str] = Counter()
    seen: set[Fact] = set()
    total = 0
    for path in files:
        for number, row in read_jsonl(path):
            total += 1
            where = f"{path}:{number}"
            code = _text(row, "predicate_id", where)
            if code not in relations:
                raise UserError(f"{where}: relation {code} is not in {folder / 'relations.jsonl'}; add it there")
            label, template = relations[code]
            fact = Fact(subject=_text(row, "sub_label", where), relation=code, object=_text(row, "obj_label", where))
            evidences = row.get("evidences")
            if not isinstance(evidences, list) or not all(isinstance(e, dict) for e in evidences):
                raise UserError(f"{where}: expected a list 'evidences' of objects with 'masked_sentence'")
            sentences = [_text(evidence, "masked_sentence", where) for evidence in evidences]
            masked = max(sentences, key=len, default="")
            evidence = masked.replace("[MASK]", fact.object)
            reason = _refusal(fact, evidence, fact in seen)
            if reason:
                refused[reason] += 1
                continue
            seen.add(fact)
            candidates.append(
                Candidate(
                    id=_text(row, "uuid", where),
                    fact=fact,
                    evidence=evidence,
                    descriptive=descriptive_prompt(template, fact.subject, fact.object),
                    schematic=schematic_prompt(fact.subject, label, fact.object),
                )
            )
    if not total:
        raise UserError(f"{folder}/TREx holds no facts; expected P*.jsonl files as in the LAMA release")
    return candidates, refused


def _refusal(fact: Fact, evidence: str, seen: bool) -> str | None:
    if seen:
        return "the same fact again"
    if len(evidence) <= MIN_EVIDENCE:
        return f"evidence of {MIN_EVIDENCE} characters or less"
    if fact.object not in evidence:
        return "object not in the evidence"
    if fact.subject not in evidence:
        return "subject not in the evidence"
    return None


def read_published(path: Path) -> list[Candidate]:
    """Candidates of one published file, with the pre-test scores of the paper's models.

    Raises UserError with file and line for a malformed row and for an empty file.
    """
    candidates = []
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        fact = Fact(
            subject=_text(row, "subject", where),
            relation=_text(row, "relation_code", where),
            object=_text(row, "object", where),
        )
        try:
            scores = {form: tuple(float(x) for x in row["scores"][form].values()) for form in FORMS}
            if not all(0 <= score <= 1 for values in scores.values() for score in values):
                raise ValueError("a score is not between 0 and 1")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{where}: expected 'scores' with a number per model for each of {FORMS}") from error
        candidates.append(
            Candidate(
                id=_text(row, "uuid", where),
                fact=fact,
                evidence=_text(row, "evidence", where),
                descriptive=_text(row, "task_descriptive", where),
                schematic=_text(row, "task_schematic", where),
                scores=scores,
            )
        )
    if not candidates:
        raise UserError(f"{path} is empty; expected one fact a line, as published with the paper")
    return candidates
