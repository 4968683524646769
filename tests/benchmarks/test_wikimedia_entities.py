"""Reading Wikidata: every form gives the same entities, the truthy statements, the items of pages."""

from __future__ import annotations

import bz2
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.temporalwiki.ingest import Reading, read_entities, read_page_props
from ckl_bench.benchmarks.temporalwiki.shards import batches, counts_of
from ckl_bench.benchmarks.temporalwiki.wikidata import parse
from ckl_bench.errors import UserError
from ckl_bench.storage.files import data_dir

SNAPSHOTS = data_dir() / "snapshots"
WIKIDATA = SNAPSHOTS / "wikidata-20240301.json.gz"


def test_an_array_that_is_not_closed_was_cut_short(tmp_path: Path) -> None:
    whole = gzip.decompress(WIKIDATA.read_bytes())
    (tmp_path / "cut.json").write_bytes(whole[: whole.rindex(b",\n") + 2])
    with ThreadPoolExecutor(2) as pool, pytest.raises(UserError, match=r"cut.json is cut short .*the array has no end"):
        read_entities(tmp_path / "cut.json", Reading(), tmp_path / "rows", pool)


def claim(target: int, rank: str = "normal", **snak: Any) -> dict[str, Any]:
    value = {"value": {"entity-type": "item", "id": f"Q{target}"}, "type": "wikibase-entityid"}
    return {"mainsnak": {"snaktype": "value", "property": "P1", "datavalue": value, **snak}, "rank": rank}


def test_truthy_statements_are_the_preferred_or_else_the_normal_ones() -> None:
    text = {"value": "a", "type": "string"}
    entity = {
        "id": "Q5",
        "labels": {"en": {"value": "five"}},
        "sitelinks": {"enwiki": {"title": "Five"}},
        "claims": {
            "P1": [claim(1), claim(2, "preferred"), claim(3, "deprecated"), claim(4, "preferred")],
            "P2": [claim(6), claim(7, "deprecated"), {"mainsnak": {"snaktype": "somevalue"}, "rank": "normal"}],
            "P3": [claim(8, datavalue=text)],
        },
    }
    row = parse(json.dumps(entity), "here", "enwiki")
    assert row is not None
    assert (row["label"], row["title"]) == ("five", "Five")
    best = [(c["property"], c["object"]) for c in row["claims"] if c["best"]]
    assert best == [(1, 2), (1, 4), (2, 6)]
    assert [c["object"] for c in row["claims"]] == [1, 2, 4, 6]  # the others still hold
    assert parse('{"id": "L1"}', "here", "enwiki") is None
    empty = parse('{"id": "Q1", "labels": [], "sitelinks": [], "claims": []}', "here", "enwiki")  # as XML dumps have it
    assert empty == {"id": "Q1", "label": None, "title": None, "redirect": None, "claims": []}
    for broken in (
        "{",
        "[]",
        '{"id": 3}',
        '{"id": "Q1", "claims": {"P1": [{}]}}',
        '{"id":"Q1","labels":{"en":{"value":3}}}',
    ):
        with pytest.raises(UserError, match="here: not a Wikidata entity"):
            parse(broken, "here", "enwiki")


def test_every_form_of_wikidata_gives_the_same_entities(tmp_path: Path) -> None:
    lines = gzip.decompress(WIKIDATA.read_bytes())
    entities = json.loads(lines)
    bodies = [
        f"<page><title>{e['id']}</title><ns>0</ns><id>{i}</id><revision><id>1</id><text>"
        for i, e in enumerate(entities)
    ]
    from xml.sax.saxutils import escape

    xml = "<mediawiki>" + "".join(
        f"{head}{escape(json.dumps(entity))}</text></revision></page>"
        for head, entity in zip(bodies, entities, strict=True)
    )
    (tmp_path / "a.json").write_bytes(lines)
    (tmp_path / "b.json.bz2").write_bytes(bz2.compress(lines))
    (tmp_path / "c.xml.bz2").write_bytes(bz2.compress((xml + "</mediawiki>").encode()))
    results = []
    with ThreadPoolExecutor(2) as pool:
        for path in (WIKIDATA, *sorted(tmp_path.glob("*.*"))):
            folder = read_entities(path, Reading(), tmp_path / f"rows-{path.name}", pool)
            results.append(([row for batch in batches(folder) for row in batch], counts_of(folder)))
    assert len(results[0][0]) == len(entities)
    assert all(result == results[0] for result in results)


def test_page_props_give_pages_their_items(tmp_path: Path) -> None:
    values = "(10,'wikibase_item','Q42',NULL),(10,'other','Q1',1),(11,'wikibase_item','Q7',NULL)"
    sql = f"INSERT INTO `page_props` VALUES {values};\n"
    (tmp_path / "p.sql.gz").write_bytes(gzip.compress(sql.encode()))
    folder = read_page_props(tmp_path / "p.sql.gz", tmp_path / "rows")
    assert [row for batch in batches(folder) for row in batch] == [{"page": 10, "id": "Q42"}, {"page": 11, "id": "Q7"}]
