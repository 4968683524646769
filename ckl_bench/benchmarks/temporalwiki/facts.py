"""A pair of snapshots -> which sentences and which facts are new, changed or unchanged (joins in DuckDB, on disk)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from .shards import Row, Unit, run_step, table

DIFF = pa.schema(
    [
        ("page", pa.int64()),
        ("title", pa.string()),
        ("new_article", pa.bool_()),
        ("changed", pa.list_(pa.string())),
        ("unchanged", pa.list_(pa.string())),
    ]
)
CANDIDATES = pa.schema(
    [(n, pa.string()) for n in ("subject_id", "subject", "relation", "object", "text")]
    + [(n, pa.int64()) for n in ("page", "property", "object_id")]
    + [("kind", pa.string())]
)
_BATCH = 200  # pages a unit
Pages = np.ndarray[Any, np.dtype[np.int64]]


def connect(work: Path, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """DuckDB that spills to the work folder instead of growing beyond `memory_mb`."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{memory_mb}MB'")
    connection.execute("SET temp_directory = ?", [str(work / "spill")])
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET threads = 2")
    return connection


def stream(connection: duckdb.DuckDBPyConnection, query: str, size: int) -> Iterator[pa.RecordBatch]:
    """A query's rows, a batch at a time."""
    result: Any = connection.sql(query)
    read = result.to_arrow_reader if hasattr(result, "to_arrow_reader") else result.fetch_arrow_reader
    yield from read(size)


def changed_pages(connection: duckdb.DuckDBPyConnection, old: Path, new: Path) -> Pages:
    """Sorted ids of the articles that are new or have another revision."""
    query = f"""SELECT n.page FROM {table(new)} n LEFT JOIN {table(old)} o USING (page)
                WHERE o.page IS NULL OR o.revision <> n.revision ORDER BY n.page"""
    return np.asarray(connection.execute(query).fetchnumpy()["page"], dtype=np.int64)


def diff_texts(
    connection: duckdb.DuckDBPyConnection,
    old: Path,
    new: Path,
    changed: Pages,
    folder: Path,
) -> Path:
    """Of every changed article the sentences that are new or changed, and those that are not; new articles whole."""

    def units(start: int) -> Iterator[Unit]:
        for pages in _ranges(changed)[start:]:
            connection.register("wanted", pa.table({"page": pages}))
            within = f"BETWEEN {pages[0]} AND {pages[-1]}"
            query = f"""SELECT n.page, n.title, o.sentences AS old, n.sentences AS new
                        FROM (SELECT * FROM {table(new)} WHERE page {within}) n JOIN wanted USING (page)
                        LEFT JOIN (SELECT * FROM {table(old)} WHERE page {within}) o USING (page) ORDER BY n.page"""
            yield _diff([row for batch in stream(connection, query, _BATCH) for row in batch.to_pylist()])

    return run_step(folder, DIFF, units)


def _ranges(pages: Pages) -> list[Pages]:
    """Sorted page ids, a few at a time: texts are joined so many pages at once, however many there are.

    (A join and sort of whole texts is what DuckDB would rather hold in memory than spill.)
    """
    return [pages[start : start + _BATCH] for start in range(0, len(pages), _BATCH)]


def _diff(batch: list[Row]) -> Unit:
    rows = []
    for row in batch:
        before = set(row["old"] or ())
        rows.append(
            {
                "page": row["page"],
                "title": row["title"],
                "new_article": row["old"] is None,
                "changed": [sentence for sentence in row["new"] if sentence not in before],
                "unchanged": [sentence for sentence in row["new"] if sentence in before],
            }
        )
    fresh = sum(row["new_article"] for row in rows)
    touched = sum(bool(row["changed"]) for row in rows) - fresh
    same = len(rows) - fresh - touched
    return rows, {"articles_new": fresh, "articles_changed": touched, "articles_same_in_text": same}


def candidates(
    connection: duckdb.DuckDBPyConnection, diff: Path, old: Path, new: Path, props: Path | None, folder: Path
) -> Path:
    """Facts about a diff's articles, with labels: `changed` ones are in the new snapshot alone, `unchanged` in both.

    `text` is the first sentence (changed or unchanged, as the fact is) with the object; NULL where there is none.
    Articles find their item by the sitelinks in the entities, or by `props`.
    """
    if props is None:
        by = f"{table(diff)} d JOIN {table(new)} e ON d.title = replace(e.title, '_', ' ')"
    else:
        by = f"{table(diff)} d JOIN {table(props)} p USING (page) JOIN {table(new)} e USING (id)"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE linked AS SELECT DISTINCT d.page, e.id, e.label FROM {by}")
    for name, source in (("facts_new", new), ("facts_old", old)):
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE {name} AS
                SELECT DISTINCT l.page, e.id, l.label AS subject, c.property, c.object AS object_id
                FROM (SELECT id, unnest(claims) AS c FROM {table(source)} SEMI JOIN linked USING (id)) e
                JOIN linked l USING (id)"""
        )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE labels AS SELECT id, label FROM {table(new)}
            WHERE id IN (SELECT 'Q' || object_id FROM facts_new UNION SELECT 'P' || property FROM facts_new)"""
    )
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE facts AS
           SELECT n.*, CASE WHEN o.id IS NULL THEN 'changed' ELSE 'unchanged' END AS kind
           FROM facts_new n LEFT JOIN facts_old o USING (id, property, object_id)"""
    )
    found = connection.execute(
        f"SELECT page FROM {table(diff)} SEMI JOIN facts USING (page) ORDER BY page"
    ).fetchnumpy()

    def units(start: int) -> Iterator[Unit]:
        for pages in _ranges(np.asarray(found["page"], dtype=np.int64))[start:]:
            within = f"BETWEEN {pages[0]} AND {pages[-1]}"
            query = f"""
                SELECT f.id AS subject_id, f.subject, p.label AS relation, v.label AS object,
                       list_filter(CASE WHEN f.kind = 'changed' THEN d.changed ELSE d.unchanged END,
                                   lambda s: contains(s, v.label))[1] AS text,
                       f.page, f.property, f.object_id, f.kind
                FROM (SELECT * FROM facts WHERE page {within}) f
                JOIN (SELECT * FROM {table(diff)} WHERE page {within}) d USING (page)
                LEFT JOIN labels p ON p.id = 'P' || f.property LEFT JOIN labels v ON v.id = 'Q' || f.object_id
                ORDER BY f.page, f.property, f.object_id"""
            rows = [row for batch in stream(connection, query, 2000) for row in batch.to_pylist()]
            changed = sum(row["kind"] == "changed" for row in rows)
            yield rows, {"facts_changed": changed, "facts_unchanged": len(rows) - changed}

    return run_step(folder, CANDIDATES, units)
