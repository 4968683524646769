"""Candidate facts -> probes: text filters, and caps so that no subject and no relation is too many of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ckl_bench.benchmarks.format import Fact

from .joins import stream
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
    """Facts of one kind that passed, by page, in a table of the database; and why the others did not."""

    connection: duckdb.DuckDBPyConnection
    table: str
    number: int
    refused: dict[str, int]
    passed: int  # the filters, before the caps

    @property
    def facts(self) -> list[Row]:
        """All of them at once."""
        return list(self.rows())

    def rows(self) -> Iterator[Row]:
        """One after the other, ordered by page."""
        query = f"SELECT * EXCLUDE (draw, kind) FROM {self.table} ORDER BY page, property, object_id, subject_id"
        for batch in stream(self.connection.cursor(), query, 2000):
            yield from batch.to_pylist()

    def count(self, condition: str) -> int:
        """How many fulfil a condition on their columns."""
        return _count(self.connection, f"{self.table} WHERE {condition}")

    @property
    def why(self) -> str:
        """The reasons and their numbers, in words."""
        return ", ".join(f"{number} {reason}" for reason, number in self.refused.items()) or "no candidate"


def fact(row: Row) -> Fact:
    """The fact of a row, as a benchmark has it: labels of subject and object, and the code of the property."""
    return Fact(subject=row["subject"], relation=f"P{row['property']}", object=row["object"])


class Selection:
    """Chooses facts in a database; what is used once is not chosen again."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        connection.execute("CREATE TABLE used (subject_id VARCHAR, property BIGINT, object_id BIGINT)")

    def use(self, keys: Chosen | Iterable[Key]) -> None:
        """Take facts out of every choice from now on."""
        if isinstance(keys, Chosen):
            self._connection.execute(f"INSERT INTO used SELECT subject_id, property, object_id FROM {keys.table}")
        else:
            for key in keys:
                self._connection.execute("INSERT INTO used VALUES (?, ?, ?)", list(key))

    def choose(self, found: Path, kind: str, caps: Caps | None, name: str) -> Chosen:
        """The facts of a kind that pass the filters, and the caps where they are given, as the table `name`.

        Filters (Jang et al. 2022): a label on all three, the object in the text as whole words, at most five words,
        subject and object not inside one another; a document that is learned states it; not used elsewhere; no
        duplicates among those that pass all that.
        """
        run = self._connection.execute
        run(
            f"""CREATE OR REPLACE TEMP TABLE judged AS
            SELECT c.*,
              md5('{caps.seed if caps else 0}:' || c.subject_id || ':' || c.property || ':' || c.object_id) AS draw,
              CASE WHEN coalesce(c.subject, '') = '' OR coalesce(c.relation, '') = '' OR coalesce(c.object, '') = ''
                     THEN 'no label'
                   WHEN c.text IS NULL THEN 'object not in the text'
                   WHEN len(string_split_regex(trim(c.object), '\\s+')) > 5 THEN 'object over five words'
                   WHEN contains(lower(c.subject), lower(c.object)) OR contains(lower(c.object), lower(c.subject))
                     THEN 'subject and object overlap'
                   WHEN NOT c.learned THEN 'no document states it'
                   WHEN u.subject_id IS NOT NULL THEN 'used elsewhere'
              END AS reason
            FROM {table(found)} c LEFT JOIN (SELECT DISTINCT * FROM used) u USING (subject_id, property, object_id)
            WHERE c.kind = '{kind}'"""
        )
        rows = run("SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason")
        refused = {str(reason): int(number) for reason, number in rows.fetchall()}
        run(
            f"""CREATE OR REPLACE TABLE {name} AS SELECT * EXCLUDE reason FROM judged WHERE reason IS NULL
            QUALIFY row_number() OVER (PARTITION BY subject, relation, object
                                       ORDER BY subject_id, property, object_id, page) = 1"""
        )
        passed = _count(self._connection, name)
        again = _count(self._connection, "judged WHERE reason IS NULL") - passed
        run("DROP TABLE judged")
        if again:
            refused["duplicate"] = again
        if caps is not None:
            refused |= _cap(self._connection, caps, name)
        number = _count(self._connection, name)
        return Chosen(connection=self._connection, table=name, number=number, refused=refused, passed=passed)


def _count(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    ((number,),) = connection.execute(f"SELECT count(*) FROM {rows}").fetchall()
    return int(number)


def _cap(connection: duckdb.DuckDBPyConnection, caps: Caps, name: str) -> dict[str, int]:
    """Thin out a table until no subject and no relation has more than its share of what is left."""
    refused = {"subject over its share": 0, "relation over its share": 0}
    total = -1
    while total != _count(connection, name):
        total = _count(connection, name)
        for column, share, reason in (
            ("subject", caps.subject, "subject over its share"),
            ("relation", caps.relation, "relation over its share"),
        ):
            before = _count(connection, name)
            most = max(1, int(share * total))
            connection.execute(
                f"""CREATE OR REPLACE TABLE {name} AS SELECT * FROM {name}
                    QUALIFY row_number() OVER (PARTITION BY {column} ORDER BY draw) <= {most}"""
            )
            refused[reason] += before - _count(connection, name)
        if caps.probes is not None and _count(connection, name) > caps.probes:
            refused["not sampled"] = refused.get("not sampled", 0) + _count(connection, name) - caps.probes
            connection.execute(
                f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM {name} ORDER BY draw LIMIT {caps.probes}"
            )
    return refused
