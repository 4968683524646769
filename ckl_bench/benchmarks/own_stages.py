"""What was read -> stages and φ's pairs: documents are cut into passages, questions join the stage of theirs."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ckl_bench.benchmarks.format import AttentionDocument, Benchmark, Document, Fact, Probe, Stage
from ckl_bench.benchmarks.own_documents import Text, passages
from ckl_bench.benchmarks.own_questions import ATTENTION, KEPT, TO_LEARN, Question
from ckl_bench.errors import UserError
from ckl_bench.words import names

# 03/2024, March 2024, Q1/24, Monday: words and numbers that stand in no order of time.
_MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?)"
)
_UNORDERED = re.compile(
    rf"\d{{1,2}}([./-])\d{{1,2}}\1\d{{2,4}}|\d{{1,2}}[./-]\d{{4}}|(\d+(st|nd|rd|th)?\W+)?{_MONTH}([^\w]+\d+)*"
    r"|(mon|tues|wednes|thurs|fri|satur|sun)day|(q|h|w|kw|cw|week|quarter|half)\W?\d{1,2}\W+\d\d",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


@dataclass(frozen=True, kw_only=True)
class Own:
    """The sources, read and checked: documents to learn by stage, those that train φ by id, and what is asked."""

    stages: Mapping[str, list[Text]]
    marked: Mapping[str, str]
    questions: Sequence[Question]
    keep: Sequence[Question]
    pairs: Benchmark | None = None  # whose solved pairs join those that are marked

    def speaks_of(self) -> Callable[[str], bool]:
        """Whether documents or questions have a subject in them: a fact about it is no other fact."""
        whole = "\n".join(text.text for rows in self.stages.values() for text in rows)
        whole += "\n".join(question.probe.prompt for question in self.questions)
        words = set(re.findall(r"\w+", whole))
        return lambda subject: set(re.findall(r"\w+", subject)) <= words and subject in whole


def in_order(texts: list[Text]) -> dict[str, list[Text]]:
    """The documents stage by stage: numbers in names by their size, ISO dates by their date.

    Raises UserError for dates whose order cannot be read from them.
    """
    names = list(dict.fromkeys(text.stage for text in texts))
    doubtful = [] if _versions(names) else names
    unclear = next((name for name in doubtful if _UNORDERED.fullmatch(name)), None) or _year_behind(names)
    if unclear is not None and len(names) > 1:
        raise UserError(
            f"stage '{unclear}': the order of such dates is not clear; write them as 2024-03, 2024-03-01 or 2024-Q1"
        )
    names.sort(key=_natural)
    return {name: [text for text in texts if text.stage == name] for name in names}


def _versions(names: list[str]) -> bool:
    """Whether names are versions (1.2.9, 1.2.30): one of them is no date, or they differ in their last number alone."""
    parts = [name.split(".") for name in names if re.fullmatch(r"\d+(\.\d+)+", name)]
    other = len(parts) == len(names) and not all(map(_UNORDERED.fullmatch, names))
    return other or (len(parts) == len(names) and len({tuple(part[:-1]) for part in parts}) == 1)


def _year_behind(names: list[str]) -> str | None:
    """A name whose year stands behind what differs (Q1 2025, Mai 2024): sorted by that, later years come first."""
    dated = [(name[: found.start()], found.group(), name) for name in names if (found := _YEAR.search(name))]
    before, years = {before for before, _, _ in dated}, {year for _, year, _ in dated}
    kinds = {re.sub(r"\d+", "", before) for before in before}
    clear = len(before) <= 1 or (len(kinds) == 1 and len(years) == 1)
    return None if clear else dated[-1][2]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which batch-10 comes behind batch-2; words come behind numbers."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(int(part), "") if part.isdecimal() and len(part) < 1000 else (sys.maxsize, part) for part in parts]


def slug(name: str) -> str:
    """A stage's name as a folder's."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or "stage"


class Assembly:
    """Stages and φ's pairs, made of documents that are cut and questions that belong to them."""

    def __init__(self, read: Own, length: Callable[[str], int], most: int) -> None:
        self.read, self.length, self.most = read, length, most
        self.by_document: dict[str | None, list[Question]] = {}
        for question in read.questions:
            self.by_document.setdefault(question.document, []).append(question)
        self.sets = {q.set for q in read.questions} - {ATTENTION}
        self.texts = {text.id: text.text for rows in read.stages.values() for text in rows}

    def stage(self, name: str, kept: Sequence[Probe]) -> Stage:
        """Documents in passages, each with the facts that are asked and stand in it; the probe sets.

        Raises UserError for a document that has the name of another one's passage.
        """
        texts = self.read.stages[name]
        documents = [part for text in texts for part in self._cut(text)]
        twice = next((i for i, count in Counter(d.id for d in documents).items() if count > 1), None)
        if twice is not None:
            raise UserError(f"document '{twice}' is called as a passage of '{twice.rpartition('#')[0]}' is; rename it")
        own = [q for text in texts for q in self.by_document.get(text.id, ())]
        own += self.by_document.get(None, []) if len(self.read.stages) == 1 else []
        place = {id(q): number for number, q in enumerate(self.read.questions)}
        own.sort(key=lambda q: place[id(q)])
        # Where every question is of a set with a name of its own, all of them together are what is to be learned.
        learned = [q.probe for q in own if q.set == TO_LEARN or TO_LEARN not in self.sets]
        sets = {TO_LEARN: learned, KEPT: list(kept)}
        for question in own:
            if question.set != TO_LEARN:
                sets.setdefault(question.set, []).append(question.probe)
        return Stage(name=slug(name), documents=documents, probes=sets)

    def _cut(self, text: Text) -> list[Document]:
        parts = passages(text.text, self.most, self.length)
        made = []
        for number, part in enumerate(parts, 1):
            facts = list(dict.fromkeys(_fact(q) for q in self.by_document.get(text.id, ()) if states(part, q)))
            name = text.id if len(parts) == 1 else f"{text.id}#{number}"
            made.append(Document(id=name, text=part, fact=facts[0] if facts else None, more_facts=tuple(facts[1:])))
        return made

    def attention(self) -> list[AttentionDocument]:
        """A passage with the answer for every question that is marked to train φ."""
        made = []
        for question in self.read.questions:
            if question.set == ATTENTION:
                text = self.read.marked[question.document or ""]
                part = next((p for p in passages(text, self.most, self.length) if states(p, question)), None)
                if part is None:
                    raise not_there(question)
                made.append(
                    AttentionDocument(
                        id=question.probe.id, text=part, fact=_fact(question), prompt=question.probe.prompt
                    )
                )
        return made

    def others(self, kept: Sequence[Probe]) -> tuple[list[AttentionDocument], int]:
        """Solved pairs of the other benchmark that have nothing to do with what is asked here, and how many have."""
        rows = self.read.pairs.attention if self.read.pairs else []
        speaks_of, asked = self.read.speaks_of(), [probe.prompt for probe in kept]
        found = [
            row
            for row in rows
            if not speaks_of(row.fact.subject)
            and not any(names(prompt, row.fact.subject) and names(prompt, row.fact.object) for prompt in asked)
        ]
        return found, len(rows) - len(found)

    def notes(self, unknown: int, kept: int) -> dict[str, int]:
        """What its maker may want to mend: counts by what was noticed; empty where there is nothing."""
        absent = unstated(self.read.questions, self.texts)
        found = {
            "answers not in their document": len(absent),
            "facts to keep that the model does not know": unknown if kept else 0,
            "documents that no question asks about": len(self.texts.keys() - self.by_document.keys()),
        }
        return {name: count for name, count in found.items() if count}


def _fact(question: Question) -> Fact:
    probe = question.probe
    return Fact(subject=probe.subject, relation=probe.relation, object=probe.object)


def not_there(question: Question) -> UserError:
    """The error for a pair that trains φ, whose answer no passage of its document has."""
    return UserError(
        f"{question.where}: the answer '{question.probe.object[:60]}' is nowhere in document '{question.document}', so "
        "φ cannot learn to find it there; correct one of them"
    )


def unstated(questions: Sequence[Question], texts: Mapping[str, str]) -> list[str]:
    """Where the questions stand whose answer is nowhere in their document, of those about `texts`."""
    return [q.where for q in questions if q.document in texts and not states(texts[q.document or ""], q)]


def states(text: str, question: Question) -> bool:
    """Whether a text has the answer as whole words, though a line ends in it, or its signs are written otherwise."""
    return names(text, question.probe.object)
