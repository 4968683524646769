"""Reading dumps: every form of a dump gives the same pages; broken ones are one clear line; a stopped step goes on."""

from __future__ import annotations

import bz2
import gzip
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.temporalwiki import cuts, dumps
from ckl_bench.benchmarks.temporalwiki.dumps import open_dump
from ckl_bench.benchmarks.temporalwiki.ingest import read_articles
from ckl_bench.benchmarks.temporalwiki.multistream import blocks, index_of, pages_of_block
from ckl_bench.benchmarks.temporalwiki.shards import batches, counts_of, run_step
from ckl_bench.errors import UserError
from ckl_bench.storage.files import data_dir
from helpers.wikimedia import read

SNAPSHOTS = data_dir() / "snapshots"
DUMP = SNAPSHOTS / "wiki-20240301-pages-articles-multistream.xml.bz2"
XML = bz2.decompress(DUMP.read_bytes())


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
