"""Reading dumps: every form of a dump gives the same pages and entities; broken ones are one clear line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.temporalwiki import cuts, dumps
from ckl_bench.benchmarks.temporalwiki.dumps import Page, open_dump, pages
from ckl_bench.benchmarks.temporalwiki.ingest import Reading, read_articles, read_entities, read_page_props
from ckl_bench.benchmarks.temporalwiki.languages import sentences
from ckl_bench.benchmarks.temporalwiki.multistream import blocks, index_of, pages_of_block
from ckl_bench.benchmarks.temporalwiki.shards import batches, counts_of, run_step
from ckl_bench.benchmarks.temporalwiki.wikidata import parse
from ckl_bench.benchmarks.temporalwiki.wikitext import clean
from ckl_bench.errors import UserError
from ckl_bench.storage.files import data_dir

SNAPSHOTS = data_dir() / "snapshots"
DUMP = SNAPSHOTS / "wiki-20240301-pages-articles-multistream.xml.bz2"
XML = bz2.decompress(DUMP.read_bytes())
WIKIDATA = SNAPSHOTS / "wikidata-20240301.json.gz"


def read(path: Path) -> list[Page]:
    with ThreadPoolExecutor(2) as pool, open_dump(path, pool) as stream:
        return list(pages(stream, str(path)))


def test_every_form_of_a_dump_gives_the_same_pages(tmp_path: Path) -> None:
    expected = read(DUMP)
    assert len(expected) == XML.count(b"<page>") > 150
    forms = {
        "plain.xml": XML,
        "one.xml.gz": gzip.compress(XML),
        "single.xml.bz2": bz2.compress(XML),
        "old.xml": XML.replace(b"export-0.11", b"export-0.10"),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == expected
    index = index_of(DUMP)
    assert index is not None
    by_block = [page for block in blocks(DUMP, index) for page in pages_of_block(block)]
    assert by_block == expected
    talk = [page for page in expected if page.namespace == 1]
    assert talk
    assert any(page.redirect for page in expected)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.xml", XML[:5000], "cut short or damaged after"),
        ("cut.xml.bz2", DUMP.read_bytes()[:9000], "cut short or damaged after"),
        ("cut.xml.gz", gzip.compress(XML)[:9000], "cut short or damaged after"),
        ("dtd.xml", b'<!DOCTYPE m [<!ENTITY a "b">]><mediawiki><page/></mediawiki>', "refused after 0 pages"),
        ("odd.xml", b"<mediawiki><page><title>a</title></page></mediawiki>", "damaged after 0 pages"),
        ("deep.xml", b"<mediawiki>" + b"<a>" * 100, "nested too deeply"),
        ("number.xml", XML.replace(b"<id>1</id>", b"<id>one</id>", 1), "damaged after 0 pages"),
    ],
)
def test_a_broken_dump_is_one_clear_line(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as raised:
        read(tmp_path / name)
    assert name in str(raised.value)


def damaged_magic(path: Path, stream: int) -> bytes:
    """A dump one of whose bzip2 streams does not begin as it should."""
    content = path.read_bytes()
    place = [found.start() for found in re.finditer(b"BZh91AY&SY", content)][stream]
    return content[:place] + b"X" + content[place + 1 :]


@pytest.mark.parametrize("stream", [1, -1])
@pytest.mark.parametrize("workers", [False, True])
def test_a_stream_that_is_not_one_is_not_passed_over(stream: int, workers: bool, tmp_path: Path) -> None:
    (tmp_path / "w.xml.bz2").write_bytes(damaged_magic(DUMP, stream))
    with (
        ThreadPoolExecutor(2) as pool,
        open_dump(tmp_path / "w.xml.bz2", pool if workers else None) as dump,
        pytest.raises((OSError, EOFError)),
    ):
        dump.read()


def test_what_would_fill_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "PAGE", 1 << 20)
    monkeypatch.setattr(dumps, "WHOLE", 1 << 20)
    bomb = bz2.compress(b"<mediawiki><page><title>" + b" " * (4 << 20))
    for name, content in (("one.xml.bz2", bomb), ("two.xml.bz2", 2 * bomb)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"after 0 pages \((1 MiB without a page|a stream is larger than 1 MiB)"):
            read(tmp_path / name)
    with pytest.raises(UserError, match="does not match its index at byte 0"):
        pages_of_block((tmp_path / "one.xml.bz2", 0, len(bomb)))
    assert read(DUMP)  # what is not larger than that goes on being read


def test_an_array_that_is_not_closed_was_cut_short(tmp_path: Path) -> None:
    whole = gzip.decompress(WIKIDATA.read_bytes())
    (tmp_path / "cut.json").write_bytes(whole[: whole.rindex(b",\n") + 2])
    with ThreadPoolExecutor(2) as pool, pytest.raises(UserError, match=r"cut.json is cut short .*the array has no end"):
        read_entities(tmp_path / "cut.json", Reading(), tmp_path / "rows", pool)


def test_pages_of_namespace_zero_are_indexed_with_what_redirects(tmp_path: Path) -> None:
    expected = [p for p in read(DUMP) if p.namespace == 0]
    with ThreadPoolExecutor(2) as pool:
        folder = read_articles(DUMP, tmp_path / "articles", pool)
    rows = [row for batch in batches(folder) for row in batch]
    assert [(r["page"], r["title"], r["revision"], r["redirect"]) for r in rows] == [
        (p.id, p.title, p.revision, p.redirect) for p in expected
    ]
    counts = counts_of(folder)
    assert counts["pages"] == counts["articles"] + counts["redirects"] + counts["other_namespaces"]


WIKITEXT = """{{Infobox person\n| name = Ada {{nowrap|Lovelace}}\n| image = [[File:a.jpg|thumb|x]]\n}}
[[File:Ada.jpg|thumb|Ada in [[1840]], by {{lang|fr|someone}}]]
'''Ada Lovelace''' ({{lang-fr|Ada}}, born {{convert|3|km}} off) wrote ''notes''<ref name="a">{{cite|b}}</ref> on the
[[Analytical Engine|engine]].<!-- really? --> See [http://a.b the page] and St. James, J. S. Bach too.

{| class="wikitable"
|-
| a || [[b]]
|}
== Works ==
* One [[item]]<ref>c</ref>
: Indented text
[[Category:People]] [[fr:Ada]]
{{DEFAULTSORT:Lovelace}} __NOTOC__
"""


def test_wikitext_becomes_what_a_reader_reads() -> None:
    text, dropped, _ = clean(WIKITEXT)
    assert dropped == 0
    assert text.split("\n") == [
        "Ada Lovelace (French: Ada, born 3 kilometres off) wrote notes on the",
        "engine. See the page and St. James, J. S. Bach too.",
        "One item",
        "Indented text",
    ]
    assert sentences(text) == [
        "Ada Lovelace (French: Ada, born 3 kilometres off) wrote notes on the",
        "engine.",
        "See the page and St. James, J. S. Bach too.",
        "One item",
        "Indented text",
    ]


@pytest.mark.parametrize(
    "broken", ["open {{template", "a [[link", "{| table\n| cell", "x ''' y", "<ref>open", "a</b> b"]
)
def test_malformed_markup_costs_its_paragraph(broken: str) -> None:
    text, dropped, _ = clean(f"A good line.\n\n{broken}\n\nAnother good line.")
    assert text.startswith("A good line.")
    assert not any(mark in text for mark in ("{{", "[[", "<", "'''", "{|"))
    assert "Another good line." in text or dropped


LEFTOVERS = ("{{", "}}", "[[", "]]", "<ref", "|-", "'''")


@pytest.mark.slow
def test_the_excerpt_of_english_wikipedia_parses_without_leftovers(reference: Path, tmp_path: Path) -> None:
    dump = reference / "wikipedia" / "enwiki-pages-articles-excerpt.xml.bz2"
    found = read(dump)
    raw = bz2.decompress(dump.read_bytes())
    assert len(found) == raw.count(b"<page>") == 206
    articles = [page for page in found if page.namespace == 0 and not page.redirect]
    affected = kept = 0
    for page in articles:
        text, dropped, _ = clean(page.text)
        affected += dropped > 0
        assert not [mark for mark in LEFTOVERS if mark in text], page.title
        assert len(text) > 300, page.title
        kept += len(text)
    print(f"{affected} of {len(articles)} articles lost a paragraph to markup that the parser left")
    assert affected <= 0.02 * len(articles)
    assert kept > 0.4 * sum(len(page.text) for page in articles)  # the rest are templates, references and tables


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


def test_a_stopped_step_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    import pyarrow as pa

    schema = pa.schema([("n", pa.int64())])
    asked: list[int] = []

    def units(start: int, stop: int | None = None) -> Any:
        for n in range(start, 25):
            if n == stop:
                raise KeyboardInterrupt
            asked.append(n)
            yield [{"n": 2 * n}, {"n": 2 * n + 1}], {"seen": 1}

    whole = run_step(tmp_path / "whole", schema, units, rows=6)
    for stop in (2, 9, 10, 23):
        with pytest.raises(KeyboardInterrupt):
            run_step(tmp_path / "parts", schema, lambda start, stop=stop: units(start, stop), rows=6)  # type: ignore[misc]
    asked.clear()
    parts = run_step(tmp_path / "parts", schema, units, rows=6)
    assert asked == list(range(21, 25))  # what was written is not done again
    rows = [[row["n"] for batch in batches(folder) for row in batch] for folder in (whole, parts)]
    assert rows[0] == rows[1] == list(range(50))
    assert counts_of(whole) == counts_of(parts) == {"seen": 25}


@pytest.mark.parametrize("size", [1 << 9, 1 << 13, 1 << 20])
def test_pages_cut_out_unparsed_are_those_of_the_whole(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "READ", size)
    assert [page for block in cuts.page_blocks(io.BytesIO(XML), "a") for page in block.pages()] == read(DUMP)
    (only,) = cuts.page_blocks(io.BytesIO(b"<mediawiki></mediawiki>"), "a")
    assert only.pages() == []
    for broken in (XML[:-20], XML[: len(XML) // 2], XML + b"<page>", b"<other>" + XML):
        with pytest.raises(UserError, match=r"a is cut short or damaged after \d+ pages"):
            list(cuts.page_blocks(io.BytesIO(broken), "a"))
    with pytest.raises(UserError, match="a is cut short or damaged after 0 pages"):
        [block.pages() for block in cuts.page_blocks(io.BytesIO(XML[:300]), "a")]


def test_threads_unpack_what_one_thread_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rapidgzip = pytest.importorskip("rapidgzip")
    monkeypatch.setattr(dumps, "_LARGE", 0)
    opened, path = [], tmp_path / "a.json.bz2"

    def opens(name: str, **more: Any) -> Any:
        opened.append(name)
        return real(name, **more)

    real = rapidgzip.open
    monkeypatch.setattr(rapidgzip, "open", opens)

    def unpacked() -> bytes:
        with ThreadPoolExecutor(1) as pool, open_dump(path, pool) as stream:
            return stream.read()

    content = b"".join(b"line %d of %d\n" % (n, n * n) for n in range(200_000))
    whole = bz2.compress(content, 1)
    path.write_bytes(whole)
    assert unpacked() == content
    assert opened == [str(path)]
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    for damaged in (whole[:-1], whole[:-8], whole[:middle], whole + b"more", flipped, b"no", b""):
        path.write_bytes(damaged)
        with pytest.raises((OSError, EOFError)):
            unpacked()
