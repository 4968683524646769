"""Snapshots -> Parquet: the index of articles, the sentences of changed ones, Wikidata's entities, page properties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ckl_bench.errors import UserError

from . import wikidata
from .dumps import Page, blocks, groups, index_of, open_dump, ordered_map, pages, pages_of_block
from .shards import Unit, run_step
from .wikitext import clean, sentences

_GROUP = 32  # pages or entities a unit
_LINE = 64 << 20  # bytes of a line of SQL at most (a longer one is read in parts); MySQL writes one megabyte
ARTICLES = pa.schema([("page", pa.int64()), ("title", pa.string()), ("revision", pa.int64())])
TEXTS = pa.schema([("page", pa.int64()), ("title", pa.string()), ("sentences", pa.list_(pa.string()))])
_CLAIM = pa.struct([("property", pa.int64()), ("object", pa.int64())])
ENTITIES = pa.schema(
    [("id", pa.string()), ("label", pa.string()), ("title", pa.string()), ("claims", pa.list_(_CLAIM))]
)
PAGE_PROPS = pa.schema([("page", pa.int64()), ("id", pa.string())])


def read_articles(dump: Path, folder: Path, pool: Executor) -> Path:
    """Which articles a Wikipedia dump has (namespace 0, redirects dropped), and in which revision."""
    return run_step(folder, ARTICLES, partial(_units, dump, pool, _index_pages, None))


def read_texts(dump: Path, wanted: np.ndarray[Any, np.dtype[np.int64]], folder: Path, pool: Executor) -> Path:
    """The sentences of the wanted articles (sorted page ids), cleaned in parallel."""
    return run_step(folder, TEXTS, partial(_units, dump, pool, _clean_pages, wanted))


def _units(dump: Path, pool: Executor, work: Any, wanted: Any, start: int) -> Iterator[Unit]:
    index = index_of(dump)
    if index is not None:
        yield from ordered_map(pool, partial(_block, work, wanted), islice(blocks(dump, index), start, None))
        return
    with open_dump(dump, pool) as stream:
        every = groups(pages(stream, str(dump)), _GROUP)
        if wanted is None:  # nothing to clean: cheaper here than sent to another process
            yield from (work(group) for group in islice(every, start, None))
        else:
            chosen = (_chosen(group, wanted) for group in islice(every, start, None))
            yield from ordered_map(pool, work, chosen)


def _chosen(group: list[Page], wanted: Any) -> list[Page]:
    at = np.searchsorted(wanted, [page.id for page in group])
    return [page for page, i in zip(group, at, strict=True) if i < len(wanted) and wanted[i] == page.id]


def _block(work: Any, wanted: Any, block: tuple[Path, int, int]) -> Unit:
    found = pages_of_block(block)
    unit: Unit = work(found if wanted is None else _chosen(found, wanted))
    return unit


def _index_pages(group: list[Page]) -> Unit:
    rows, counts = [], {"pages": len(group), "other_namespaces": 0, "redirects": 0, "articles": 0}
    for page in group:
        if page.namespace != 0:
            counts["other_namespaces"] += 1
        elif page.redirect:
            counts["redirects"] += 1
        else:
            counts["articles"] += 1
            rows.append({"page": page.id, "title": page.title, "revision": page.revision})
    return rows, counts


def _clean_pages(group: list[Page]) -> Unit:
    rows, counts = [], {"cleaned": 0, "paragraphs_dropped": 0, "pages_with_paragraphs_dropped": 0}
    for page in group:
        text, dropped = clean(page.text)
        rows.append({"page": page.id, "title": page.title, "sentences": sentences(text)})
        counts["cleaned"] += 1
        counts["paragraphs_dropped"] += dropped
        counts["pages_with_paragraphs_dropped"] += dropped > 0
    return rows, counts


def read_entities(dump: Path, wiki: str, folder: Path, pool: Executor) -> Path:
    """Labels, sitelinks and truthy item statements of a Wikidata dump: JSON, or XML whose pages hold entity JSON."""
    is_xml = dump.name.removesuffix(".gz").removesuffix(".bz2").endswith(".xml")

    def units(start: int) -> Iterator[Unit]:
        with open_dump(dump, pool) as stream:
            texts: Iterator[tuple[str | bytes, str]]
            if is_xml:
                texts = ((page.text, f"{dump}, page {page.title}") for page in pages(stream, str(dump)))
            else:
                numbered = enumerate(wikidata.lines(stream, str(dump)), 1)
                texts = ((line, f"{dump}, entity {number}") for number, line in numbered)
            todo = islice(groups(texts, 8 * _GROUP), start, None)
            yield from ordered_map(pool, partial(_parse_entities, wiki), todo)

    return run_step(folder, ENTITIES, units)


def _parse_entities(wiki: str, group: list[tuple[str | bytes, str]]) -> Unit:
    rows = [row for text, where in group if (row := wikidata.parse(text, where, wiki)) is not None]
    return rows, {"entities": len(rows), "statements": sum(len(row["claims"]) for row in rows)}


_PROPERTY = re.compile(r"\((\d+),'wikibase_item','(Q\d+)'")


def read_page_props(path: Path, folder: Path) -> Path:
    """Page ids and their items from MediaWiki's `page_props.sql[.gz]`, read as text: nothing in it is executed."""

    def units(start: int) -> Iterator[Unit]:
        with open_dump(path) as stream:
            try:
                for line in islice(iter(partial(stream.readline, _LINE), b""), start, None):
                    found = _PROPERTY.findall(line.decode("utf-8", "replace"))
                    yield [{"page": int(page), "id": item} for page, item in found], {"page_items": len(found)}
            except (EOFError, OSError) as error:
                raise UserError(f"{path} is cut short or damaged ({error}); fetch it again") from error

    return run_step(folder, PAGE_PROPS, units)
