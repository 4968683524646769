"""Synthetic snapshots of Wikipedia and Wikidata of any size: `python tests/perf/synthetic_months.py FOLDER ARTICLES`.

Of every ten articles four are revised in the second month, one of them with a fact that changed; every article has an
item with three facts, and as many items again are nothing but objects. Same size, same bytes.
"""

from __future__ import annotations

import bz2
import gzip
import json
import random
import sys
from pathlib import Path

DATES = ("20240101", "20240201")
HEAD = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo><dbname>enwiki</dbname></siteinfo>\n'
RELATIONS = {"P6": "head of government", "P131": "county", "P190": "twin town"}
WORDS = [
    "river",
    "market",
    "council",
    "harbour",
    "school",
    "bridge",
    "winter",
    "trade",
    "stone",
    "garden",
    "railway",
    "mill",
    "road",
    "song",
    "field",
    "north",
]
STREAM = 100  # pages a bzip2 stream, as Wikimedia packs them


def _text(number: int, month: int) -> str:
    draw = random.Random(number)
    said = [
        f"'''Town {number}''' lies in [[County {number % 97}]], where {' '.join(draw.choices(WORDS, k=9))} are known."
    ]
    for _ in range(8):
        said.append(f"The {' '.join(draw.choices(WORDS, k=12))}.<ref>{{{{cite|{draw.random()}}}}}</ref>")
    said.append(f"Its twin town is [[Place {number * 7 % 1000}]], a friend of old.")
    if month and number % 10 < 4:
        said.append(f"In the new month the {' '.join(draw.choices(WORDS, k=6))} came to be seen by everyone.")
    if month and number % 10 == 0:
        said.append(f"Since then its mayor has been [[Person {number}]], who had lived there for long.")
    return f"{{{{Infobox|name=Town {number}}}}}\n" + " ".join(said) + "\n[[Category:Towns]]"


def write_wikipedia(folder: Path, articles: int, month: int) -> Path:
    """A multistream dump of so many articles, without an index."""
    path = folder / f"enwiki-{DATES[month]}-pages-articles-multistream.xml.bz2"
    with open(path, "wb") as file:
        file.write(bz2.compress(HEAD.encode()))
        for start in range(1, articles + 1, STREAM):
            pages = []
            for number in range(start, min(start + STREAM, articles + 1)):
                revision = 10 * number + (month if number % 10 < 4 else 0)
                pages.append(
                    f"<page><title>Town {number}</title><ns>0</ns><id>{number}</id><revision><id>{revision}</id>"
                    f"<timestamp>2024-0{1 + month}-01T00:00:00Z</timestamp><model>wikitext</model>"
                    f"<text>{_text(number, month).replace('<', '&lt;').replace('>', '&gt;')}</text></revision></page>\n"
                )
            file.write(bz2.compress("".join(pages).encode(), 1))
        file.write(bz2.compress(b"</mediawiki>\n"))
    return path


def _entity(name: str, label: str, title: str = "", claims: dict[str, int] | None = None) -> str:
    found = {
        code: [
            {
                "mainsnak": {
                    "snaktype": "value",
                    "property": code,
                    "datavalue": {"value": {"entity-type": "item", "numeric-id": target, "id": f"Q{target}"}},
                },
                "rank": "normal",
                "references": [{"snaks": {"P248": [{"snaktype": "value", "hash": f"{target:040d}"}]}}],
            }
        ]
        for code, target in (claims or {}).items()
    }
    # As in the real dumps most of a line is what nobody here asks for.
    labels = {code: {"language": code, "value": label} for code in ("en", "de", "fr", "es", "it", "nl", "sv", "pl")}
    sites = {"enwiki": {"site": "enwiki", "title": title, "badges": []}} if title else {}
    about = {code: {"language": code, "value": f"{label}, as it is described"} for code in labels}
    kind = "item" if name[0] == "Q" else "property"
    row = {"type": kind, "id": name, "labels": labels, "descriptions": about, "claims": found, "sitelinks": sites}
    return json.dumps(row, separators=(",", ":"))


def write_wikidata(folder: Path, articles: int, month: int) -> Path:
    """A JSON dump: an item an article, another for its mayor, places and counties."""
    path = folder / f"wikidata-{DATES[month]}-all.json.gz"
    base = articles + 1
    with gzip.open(path, "wt", 1, encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(_entity(code, label) for code, label in RELATIONS.items()))
        for number in range(1000):
            file.write(",\n" + _entity(f"Q{base + number}", f"Place {number}"))
        for number in range(97):
            file.write(",\n" + _entity(f"Q{base + 1000 + number}", f"County {number}"))
        for number in range(1, articles + 1):
            claims = {"P131": base + 1000 + number % 97, "P190": base + number * 7 % 1000}
            if month and number % 10 == 0:
                claims["P6"] = base + 2000 + number
            file.write(",\n" + _entity(f"Q{number}", f"Town {number}", f"Town {number}", claims))
            file.write(",\n" + _entity(f"Q{base + 2000 + number}", f"Person {number}"))
        file.write("\n]\n")
    return path


def write(folder: Path, articles: int) -> list[str]:
    """Two months; returns the words of the command that name them."""
    wikipedia = [str(write_wikipedia(folder, articles, month)) for month in (0, 1)]
    return ["--wikipedia", *wikipedia, "--wikidata", *(str(write_wikidata(folder, articles, m)) for m in (0, 1))]


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    print(" ".join(write(Path(sys.argv[1]), int(sys.argv[2]))))
