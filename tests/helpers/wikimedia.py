"""Small dumps of Wikipedia and Wikidata, as a test describes them, and the pages that are read from one."""

from __future__ import annotations

import bz2
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ckl_bench.benchmarks.temporalwiki.dumps import Page, open_dump, pages

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">
  <siteinfo><dbname>wiki</dbname></siteinfo>
"""


def revision(number: int, text: str, stamp: str = "", model: str = "wikitext", attributes: str = "") -> str:
    """A revision in the export format."""
    made = f"<timestamp>{stamp}</timestamp>" if stamp else ""
    return (
        f"<revision><id>{number}</id>{made}<model>{model}</model>"
        f'<text xml:space="preserve"{attributes}>{escape(text)}</text></revision>'
    )


def page(title: str, number: int, *revisions: str, namespace: int = 0, more: str = "") -> str:
    """A page in the export format."""
    head = f"<page><title>{escape(title)}</title><ns>{namespace}</ns><id>{number}</id>{more}"
    return f"{head}{''.join(revisions)}</page>\n"


def write_xml(path: Path, pages: Iterable[str]) -> Path:
    """A dump of pages, packed where its name says so."""
    text = f"{HEAD}{''.join(pages)}</mediawiki>\n".encode()
    path.write_bytes(bz2.compress(text) if path.suffix == ".bz2" else text)
    return path


def claim(target: str, rank: str = "normal", **qualifiers: Any) -> dict[str, Any]:
    """A statement whose value is an item; qualifiers are times, as `when` makes them, or whole snaks."""
    value = {"entity-type": "item", "numeric-id": int(target[1:]), "id": target}
    snak = {"snaktype": "value", "datavalue": {"value": value, "type": "wikibase-entityid"}}
    found = {"mainsnak": snak, "type": "statement", "rank": rank}
    return found | ({"qualifiers": {code: [snak] for code, snak in qualifiers.items()}} if qualifiers else {})


def when(time: str, precision: int = 11) -> dict[str, Any]:
    """A time, to the day (11), month (10) or year (9)."""
    return {"snaktype": "value", "datavalue": {"value": {"time": time, "precision": precision}, "type": "time"}}


def entity(
    name: str, labels: Mapping[str, str], title: str = "", site: str = "enwiki", **claims: Any
) -> dict[str, Any]:
    """An item or property."""
    return {
        "type": "item" if name[0] == "Q" else "property",
        "id": name,
        "labels": {code: {"language": code, "value": label} for code, label in labels.items()},
        "claims": claims,
        "sitelinks": {site: {"site": site, "title": title}} if title else {},
    }


def write_json(path: Path, entities: Iterable[Mapping[str, Any]]) -> Path:
    """A JSON dump: an array with an entity a line."""
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in entities) + "\n]\n", encoding="utf-8")
    return path


def entity_page(number: int, row: Mapping[str, Any], model: str = "") -> str:
    """An entity as a page of Wikidata's XML dump."""
    kind = "item" if row["id"][0] == "Q" else "property"
    title = row["id"] if kind == "item" else f"Property:{row['id']}"
    made = revision(number, json.dumps(row), model=model or f"wikibase-{kind}")
    return page(title, number, made, namespace=0 if kind == "item" else 120)


def redirect_page(number: int, name: str, target: str) -> str:
    """A merged item as a page of Wikidata's XML dump."""
    text = json.dumps({"entity": name, "redirect": target})
    made = revision(number, text, model="wikibase-item")
    return page(name, number, made, more=f'<redirect title="{target}" />')


def read(path: Path) -> list[Page]:
    """Every page of a dump."""
    with ThreadPoolExecutor(2) as pool, open_dump(path, pool) as stream:
        return list(pages(stream, str(path)))
