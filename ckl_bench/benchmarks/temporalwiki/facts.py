"""A pair of snapshots -> which facts about its articles are changed or unchanged, with their labels and evidence.

A fact is changed where its statement did not hold in the old snapshot: not where a rank flipped, an item was merged
into another, or the article's item is another one. All statements that hold are compared, whatever their rank, after
redirects are followed, by item and by label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from ckl_bench.words import names

from .diffs import BATCH
from .joins import ranges, stream
from .shards import Pages, Row, Unit, run_step, table
from .texts import LEAST, chunks, refuse_text

FACTS = pa.schema(
    [("page", pa.int64())]
    + [(name, pa.string()) for name in ("subject_id", "subject", "relation", "object", "was", "kind")]
    + [(name, pa.int64()) for name in ("property", "object_id")]
)
CANDIDATES = pa.schema(
    [(n, pa.string()) for n in ("subject_id", "subject", "relation", "object", "was", "text")]
    + [(n, pa.int64()) for n in ("page", "property", "object_id")]
    + [("kind", pa.string()), ("revised", pa.bool_()), ("learned", pa.bool_())]
)
_ROWS = 20_000
_REDIRECTS = 4  # one after the other; Wikidata's bots leave chains of two for a day


def linked(entities: Sequence[Path], props: Sequence[Path], articles: Path | str) -> str:
    """The query of all (page, item id, label) of articles with an item: by sitelinks, or by `props`."""
    source = articles if isinstance(articles, str) else table(articles)
    if not props:
        by = f"{source} d JOIN {table(*entities)} e ON d.title = replace(e.title, '_', ' ')"
    else:
        by = f"{source} d JOIN {table(*props)} p USING (page) JOIN {table(*entities)} e USING (id)"
    return f"SELECT DISTINCT d.page, e.id, e.label FROM {by}"


def facts(
    connection: duckdb.DuckDBPyConnection,
    diff: Path,
    old: Sequence[Path],
    new: Sequence[Path],
    props: Sequence[Path],
    folder: Path,
) -> Path:
    """The facts about a diff's articles that hold in the new snapshot, by page; `was` is the object that one replaced.

    An object is replaced where a property of the subject had one (best) object before, has one now, and it is another.
    """

    def units(start: int) -> Iterator[Unit]:
        _compare(connection, diff, old, new, props)
        query = f"SELECT {', '.join(FACTS.names)} FROM facts ORDER BY page, property, object_id, subject_id"
        for batch in islice(stream(connection, query, _ROWS), start, None):
            yield pa.Table.from_batches([batch], schema=FACTS), {}

    return run_step(folder, FACTS, units)


def _compare(
    connection: duckdb.DuckDBPyConnection, diff: Path, old: Sequence[Path], new: Sequence[Path], props: Sequence[Path]
) -> None:
    def make(name: str, query: str) -> None:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    make("linked", linked(new, props, diff))
    make(
        "moved",
        f"""SELECT id, min(redirect) AS target FROM (
              SELECT id, redirect FROM {table(*new)} WHERE redirect IS NOT NULL
              UNION ALL SELECT id, redirect FROM {table(*old)} o WHERE redirect IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM {table(*new)} n WHERE n.id = o.id)) GROUP BY id""",
    )
    for _ in range(_REDIRECTS):
        make(
            "moved",
            "SELECT a.id, coalesce(b.target, a.target) AS target FROM moved a LEFT JOIN moved b ON a.target = b.id",
        )
    # The items that an article had before: the same ones, those merged into them, and what its title led to.
    make(
        "linked_old",
        f"""SELECT l.page, l.id FROM linked l
            UNION SELECT l.page, m.id FROM linked l JOIN moved m ON m.target = l.id
            UNION SELECT d.page, e.id FROM {table(diff)} d SEMI JOIN linked USING (page)
              JOIN {table(*old)} e ON d.title = replace(e.title, '_', ' ')""",
    )
    for name, source, links in (("held", new, "linked"), ("held_old", old, "linked_old")):
        make(
            name,
            f"""SELECT l.page, {"e.id, l.label AS subject," if name == "held" else ""} 
                  coalesce(CAST(substr(p.target, 2) AS BIGINT), c.property) AS property,
                  coalesce(CAST(substr(m.target, 2) AS BIGINT), c.object) AS object_id, bool_or(c.best) AS best
                FROM (SELECT id, unnest(claims) AS c FROM {table(*source)} SEMI JOIN {links} USING (id)) e
                JOIN {links} l USING (id) LEFT JOIN moved m ON m.id = 'Q' || c.object
                LEFT JOIN moved p ON p.id = 'P' || c.property GROUP BY ALL""",
        )
    make(
        "named",
        "SELECT 'Q' || object_id AS id FROM held UNION SELECT 'Q' || object_id FROM held_old "
        "UNION SELECT 'P' || property FROM held",
    )
    for name, source in (("labels", new), ("labels_old", old)):
        make(name, f"SELECT id, any_value(label) AS label FROM {table(*source)} SEMI JOIN named USING (id) GROUP BY id")
    make(
        "before",
        """SELECT h.page, h.property, h.object_id, h.best, coalesce(o.label, n.label) AS object
           FROM held_old h LEFT JOIN labels_old o ON o.id = 'Q' || h.object_id
           LEFT JOIN labels n ON n.id = 'Q' || h.object_id""",
    )
    make(
        "single",
        """SELECT page, property, min(object) AS was FROM before WHERE best
           GROUP BY ALL HAVING count(DISTINCT coalesce(object, 'Q' || object_id)) = 1""",
    )
    make(
        "alone",
        """SELECT page, property FROM held h LEFT JOIN labels v ON v.id = 'Q' || h.object_id WHERE best
           GROUP BY ALL HAVING count(DISTINCT coalesce(v.label, 'Q' || object_id)) = 1""",
    )
    make(
        "facts",
        """SELECT h.page, h.id AS subject_id, h.subject, p.label AS relation, v.label AS object,
             CASE WHEN same.page IS NULL AND alone.page IS NOT NULL THEN single.was END AS was,
             CASE WHEN same.page IS NULL THEN 'changed' ELSE 'unchanged' END AS kind, h.property, h.object_id
           FROM (SELECT * FROM held WHERE best) h
           LEFT JOIN labels p ON p.id = 'P' || h.property LEFT JOIN labels v ON v.id = 'Q' || h.object_id
           LEFT JOIN (
             SELECT DISTINCT h.page, h.property, h.object_id FROM held h LEFT JOIN labels v ON v.id = 'Q' || h.object_id
             JOIN before b ON b.page = h.page AND b.property = h.property
               AND (b.object_id = h.object_id OR b.object = v.label)) same
             ON same.page = h.page AND same.property = h.property AND same.object_id = h.object_id
           LEFT JOIN single ON single.page = h.page AND single.property = h.property
           LEFT JOIN alone ON alone.page = h.page AND alone.property = h.property""",
    )


def candidates(connection: duckdb.DuckDBPyConnection, diff: Path, found: Path, folder: Path) -> Path:
    """Facts with their evidence: `text` is the first changed (of a changed fact) or unchanged sentence that states it.

    It is NULL where there is none; `learned` says whether a document that is learned states it, too.
    """
    rows, texts = Pages(found), Pages(diff)
    pages = connection.execute(f"SELECT DISTINCT page FROM {table(found)} ORDER BY page").fetchnumpy()["page"]

    def units(start: int) -> Iterator[Unit]:
        for some in ranges(np.asarray(pages, dtype=np.int64), BATCH)[start:]:
            low, high = int(some[0]), int(some[-1])
            query = f"""SELECT f.*, d.revised, d.changed, d.unchanged
                        FROM {rows.within(low, high)} f JOIN {texts.within(low, high)} d USING (page)
                        ORDER BY f.page, f.property, f.object_id, f.subject_id"""
            yield _candidates([row for batch in stream(connection, query, 2000) for row in batch.to_pylist()])

    return run_step(folder, CANDIDATES, units)


def _candidates(rows: list[Row]) -> Unit:
    counts = {"facts_changed": 0, "facts_unchanged": 0}
    documents: dict[int, list[str]] = {}
    for row in rows:
        changed, unchanged = row.pop("changed"), row.pop("unchanged")
        page, name = row["page"], row["object"] or ""
        counts[f"facts_{row['kind']}"] += 1
        row["text"], row["learned"] = _first_naming(unchanged, name), True
        if row["kind"] == "changed":
            if page not in documents:
                documents[page] = [text for text in chunks(changed) if may_be_learned(text)]
            row["text"] = _first_naming(changed, name)
            row["learned"] = any(names(text, name) for text in documents[page])
    return pa.Table.from_pylist(rows, schema=CANDIDATES), counts


def _first_naming(texts: Iterable[str], name: str) -> str | None:
    return next((text for text in texts if names(text, name)), None)


def may_be_learned(text: str) -> bool:
    """Whether a text is a document where it states a probed fact: a short one is then, too."""
    return refuse_text(text) in (None, f"under {LEAST} characters")
