"""Sources of LAMA-ckl: the LAMA release's folder and the paper's published rows -> candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ckl_bench.benchmarks.format import Fact
from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_jsonl
from ckl_bench.words import names

PAPER_INVARIANT = (
    "P19,P20,P279,P37,P449,P47,P138,P364,P527,P176,P27,P407,P30,P178,P1376,P131,P1412,P17,P276,P937,"
    "P140,P103,P190,P1001,P495,P36,P740,P361"
)
INVARIANT = frozenset(PAPER_INVARIANT.split(","))
MIN_EVIDENCE = 200  # characters; evidence must be longer
MASK = "[MASK]"
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


def read_lama(folder: Path, min_evidence: int = MIN_EVIDENCE) -> tuple[list[Candidate], Counter[str]]:
    """Candidates of a LAMA release folder in a stable order, and the counts of refused facts by reason.

    Evidence is the longest masked sentence of a fact, which must be longer than `min_evidence` characters. The mask
    gives way to what the source says its text had there (`obj_surface`), so that the sentence reads as it was written.

    Raises UserError with file and line for a malformed row, a relation that relations.jsonl lacks, an empty source.
    """
    if not folder.is_dir():
        raise UserError(f"--lama {folder} is not a folder; expected relations.jsonl and TREx/P*.jsonl in it")
    relations = read_relations(folder / "relations.jsonl")
    files = sorted((folder / "TREx").glob("P*.jsonl"), key=lambda f: (len(f.stem), f.stem))
    candidates: list[Candidate] = []
    refused: Counter[str] = Counter()
    facts: set[Fact] = set()
    uuids: set[str] = set()
    total = 0
    for path in files:
        for number, row in read_jsonl(path):
            total += 1
            where = f"{path}:{number}"
            code = _text(row, "predicate_id", where)
            if code not in relations:
                raise UserError(f"{where}: relation {code} is not in {folder / 'relations.jsonl'}; add it there")
            label, template = relations[code]
            subject, obj = (_text(row, key, where).strip() for key in ("sub_label", "obj_label"))
            fact = Fact(subject=subject, relation=code, object=obj)
            evidences = row.get("evidences")
            if not isinstance(evidences, list) or not all(isinstance(e, dict) for e in evidences):
                raise UserError(f"{where}: expected a list 'evidences' of objects with 'masked_sentence'")
            uuid = _text(row, "uuid", where)
            masked, surface = _longest(evidences, fact.object, where)
            evidence = masked.replace(MASK, surface)
            rules = {  # in this order: the first that holds is why the row is refused
                "the same fact again": fact in facts,
                "the same uuid again": uuid in uuids,
                "an empty masked sentence": not all(_masked(e, where) for e in evidences),
                f"evidence of {min_evidence} characters or less": len(evidence) <= min_evidence,
                "object not in the evidence": not names(evidence, surface),
                "subject not in the evidence": fact.subject not in evidence,  # as the released pipeline looks for it
                f"no {MASK} in the masked sentence": MASK not in masked,
            }
            reason = next((reason for reason, holds in rules.items() if holds), None)
            if reason:
                refused[reason] += 1
                continue
            facts.add(fact)
            uuids.add(uuid)
            if surface != fact.object:
                fact = replace(fact, surface=surface)
            candidates.append(
                Candidate(
                    id=uuid,
                    fact=fact,
                    evidence=evidence,
                    descriptive=descriptive_prompt(template, fact.subject, fact.object),
                    schematic=schematic_prompt(fact.subject, label, fact.object),
                )
            )
    if not total:
        raise UserError(f"{folder}/TREx holds no facts; expected P*.jsonl files as in the LAMA release")
    return candidates, refused


def _longest(evidences: Sequence[Mapping[str, Any]], obj: str, where: str) -> tuple[str, str]:
    """The longest masked sentence of a fact, and what its text has for the mask: `obj` where that is not said."""
    longest = max(evidences, key=lambda evidence: len(_masked(evidence, where)), default={})
    surface = longest.get("obj_surface")
    if surface is not None and not isinstance(surface, str):
        raise UserError(f"{where}: expected a text 'obj_surface', found {surface!r}")
    return _masked(longest, where), (surface or "").strip() or obj


def _masked(evidence: Mapping[str, Any], where: str) -> str:
    """The masked sentence of one evidence; empty where there is none."""
    sentence = evidence.get("masked_sentence")
    if sentence is not None and not isinstance(sentence, str):
        raise UserError(f"{where}: expected a text 'masked_sentence', found {sentence!r}")
    return sentence if sentence and sentence.strip() else ""


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
