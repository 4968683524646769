"""Candidate facts -> probes: text filters, and caps so that no subject and no relation is too many of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from ckl_bench.benchmarks.format import Fact

from .facts import stream
from .shards import Row, table

Key = tuple[str, int, int]  # subject item, property, object item


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Shares of the probes that one subject and one relation may have, and how many probes a set has at most."""

    subject: float = 0.01
    relation: float = 0.05
    probes: int | None = None
    seed: int = 42


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Facts of one kind that passed, by page; and why the others did not."""

    facts: list[Row]
    refused: dict[str, int]

    @property
    def why(self) -> str:
        """The reasons and their numbers, in words."""
        return ", ".join(f"{number} {reason}" for reason, number in self.refused.items()) or "no candidate"


def key(row: Row) -> Key:
    """What makes a fact the same fact."""
    return row["subject_id"], row["property"], row["object_id"]


def fact(row: Row) -> Fact:
    """The fact of a row, as a benchmark has it: labels of subject and object, and the code of the property."""
    return Fact(subject=row["subject"], relation=f"P{row['property']}", object=row["object"])


def choose(
    connection: duckdb.DuckDBPyConnection,
    found: Path,
    kind: str,
    caps: Caps | None,
    reserved: Iterable[Key] = (),
) -> Chosen:
    """The facts of a kind that pass the filters, and the caps where they are given, sampled by the caps' seed.

    Filters (Jang et al. 2022): an English label on all three, the object in the text, at most five words, subject and
    object not inside one another, no duplicates; and none of `reserved`, facts that are used elsewhere.
    """
    taken = list(reserved)
    columns = {"subject_id": pa.string(), "property": pa.int64(), "object_id": pa.int64()}
    parts = list(zip(*taken, strict=True)) or [(), (), ()]
    arrays = [pa.array(part, type=t) for part, t in zip(parts, columns.values(), strict=True)]
    connection.register("reserved", pa.table(arrays, names=list(columns)))
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE judged AS
        SELECT c.*,
          md5('{caps.seed if caps else 0}:' || c.subject_id || ':' || c.property || ':' || c.object_id) AS draw,
          CASE WHEN coalesce(c.subject, '') = '' OR coalesce(c.relation, '') = '' OR coalesce(c.object, '') = ''
                 THEN 'no label'
               WHEN c.text IS NULL THEN 'object not in the text'
               WHEN len(string_split_regex(trim(c.object), '\\s+')) > 5 THEN 'object over five words'
               WHEN contains(lower(c.subject), lower(c.object)) OR contains(lower(c.object), lower(c.subject))
                 THEN 'subject and object overlap'
               WHEN r.subject_id IS NOT NULL THEN 'used elsewhere'
               WHEN row_number() OVER (PARTITION BY c.subject, c.relation, c.object
                                       ORDER BY c.subject_id, c.property, c.object_id) > 1 THEN 'duplicate'
          END AS reason
        FROM {table(found)} c LEFT JOIN reserved r USING (subject_id, property, object_id) WHERE c.kind = '{kind}'"""
    )
    rows = connection.execute(
        "SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason"
    ).fetchall()
    refused = {str(reason): int(number) for reason, number in rows}
    connection.execute("CREATE OR REPLACE TEMP TABLE kept AS SELECT * EXCLUDE reason FROM judged WHERE reason IS NULL")
    if caps is not None:
        refused |= _cap(connection, caps)
    query = "SELECT * EXCLUDE (draw, kind) FROM kept ORDER BY page, property, object_id"
    facts = [row for batch in stream(connection, query, 2000) for row in batch.to_pylist()]
    return Chosen(facts=facts, refused=refused)


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    ((number,),) = connection.execute("SELECT count(*) FROM kept").fetchall()
    return int(number)


def _cap(connection: duckdb.DuckDBPyConnection, caps: Caps) -> dict[str, int]:
    """Thin out `kept` until no subject and no relation has more than its share of what is left."""
    refused = {"subject over its share": 0, "relation over its share": 0}
    total = -1
    while total != _count(connection):
        total = _count(connection)
        for column, share, reason in (
            ("subject", caps.subject, "subject over its share"),
            ("relation", caps.relation, "relation over its share"),
        ):
            before = _count(connection)
            most = max(1, int(share * total))
            connection.execute(
                f"""CREATE OR REPLACE TEMP TABLE kept AS SELECT * FROM kept
                    QUALIFY row_number() OVER (PARTITION BY {column} ORDER BY draw) <= {most}"""
            )
            refused[reason] += before - _count(connection)
        if caps.probes is not None and _count(connection) > caps.probes:
            refused["not sampled"] = refused.get("not sampled", 0) + _count(connection) - caps.probes
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE kept AS SELECT * FROM kept ORDER BY draw LIMIT {caps.probes}"
            )
    return refused
