"""A month's candidates and texts -> the rows of a benchmark: probes, documents, φ's pairs, rehearsal; all streamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from ckl_bench.benchmarks.format import AttentionDocument, Document, Probe
from ckl_bench.benchmarks.lama_sources import schematic_prompt
from ckl_bench.words import names

from .facts import may_be_learned
from .joins import stream
from .select import Chosen, fact
from .shards import Row, batches
from .texts import chunks, refuse_text


@dataclass(frozen=True, kw_only=True)
class Month:
    """What a pair of snapshots gave."""

    name: str
    diff: Path
    found: Path
    counts: dict[str, Any] = field(default_factory=dict)


def probes(month: Month, chosen: Chosen) -> Iterator[Probe]:
    """The questions for chosen facts."""
    for row in chosen.rows():
        own = fact(row)
        yield Probe(
            id=f"{month.name}/Q{row['subject_id'][1:]}-P{row['property']}-Q{row['object_id']}",
            prompt=schematic_prompt(own.subject, row["relation"], own.object),
            object=own.object,
            subject=own.subject,
            relation=own.relation,
            was=row["was"],
        )


def _texts(month: Month, asked: Iterable[Row], counts: dict[str, Any]) -> Iterator[tuple[str, str, list[Row]]]:
    """(id, text, the asked facts that it states) of a month's changes that are worth reading; counts the others.

    A text too short to be read for itself is one that states an asked fact: the question has nothing else to go by.
    """
    refused: Counter[str] = counts.setdefault("documents_refused", Counter())
    counts |= {"documents": 0, "short_documents_kept": 0}
    by_page = groupby(asked, key=lambda row: row["page"])
    page, facts = next(by_page, (None, iter(())))
    for rows in batches(month.diff):
        for row in rows:
            while page is not None and page < row["page"]:
                page, facts = next(by_page, (None, iter(())))
            own = list(facts) if page == row["page"] else []
            for number, text in enumerate(chunks(row["changed"])):
                stated = [one for one in own if names(text, one["object"])]
                reason = refuse_text(text)
                if reason and not (stated and may_be_learned(text)):
                    refused[reason] += 1
                    continue
                counts["documents"] += 1
                counts["short_documents_kept"] += reason is not None
                yield f"{month.name}/{row['page']}-{number}", f"{row['title']}: {text}", stated


def documents(month: Month, changed: Chosen, counts: dict[str, Any]) -> Iterator[Document]:
    """A month's changes, each with the probed facts that it states."""
    for name, text, stated in _texts(month, changed.rows(), counts):
        facts = [fact(row) for row in stated]
        yield Document(id=name, text=text, fact=facts[0] if facts else None, more_facts=tuple(facts[1:]))


def attention(month: Month, changed: Chosen, counts: dict[str, Any]) -> Iterator[AttentionDocument]:
    """Every pair of a change and a changed fact that it states, with the question for it."""
    counts["attention_pairs"] = 0
    for name, text, stated in _texts(month, changed.rows(), counts):
        for row in stated:
            counts["attention_pairs"] += 1
            own = fact(row)
            prompt = schematic_prompt(own.subject, row["relation"], own.object)
            yield AttentionDocument(
                id=f"{name}-P{row['property']}-Q{row['object_id']}", text=text, fact=own, prompt=prompt
            )


def rehearsal(
    connection: duckdb.DuckDBPyConnection, known: Chosen, probed: Iterable[Chosen], counts: dict[str, Any]
) -> Iterator[Document]:
    """One sentence an article that states an unchanged fact and none that is probed in any month."""
    every = " UNION ALL ".join(f"SELECT page, subject_id, property, object_id, object FROM {c.table}" for c in probed)
    query = f"""SELECT k.*, p.objects FROM {known.table} k
                LEFT JOIN (SELECT page, list(DISTINCT object) AS objects FROM ({every}) GROUP BY page) p USING (page)
                ANTI JOIN ({every}) USING (subject_id, property, object_id)
                ORDER BY k.page, k.property, k.object_id, k.subject_id"""
    counts["rehearsal"] = 0
    last = None
    for batch in stream(connection.cursor(), query, 2000):
        for row in batch.to_pylist():
            if row["page"] != last and not any(names(row["text"], name) for name in row["objects"] or ()):
                last = row["page"]
                counts["rehearsal"] += 1
                name = f"rehearsal/Q{row['subject_id'][1:]}-P{row['property']}-Q{row['object_id']}"
                yield Document(id=name, text=f"{row['subject']}: {row['text']}", fact=fact(row))
