"""Articles become text: what a reader reads, what malformed markup costs, an excerpt of English Wikipedia."""

from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from ckl_bench.benchmarks.temporalwiki.languages import sentences
from ckl_bench.benchmarks.temporalwiki.wikitext import clean
from helpers.wikimedia import read

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
