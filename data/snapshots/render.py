"""articles.jsonl -> five monthly snapshots as Wikimedia publishes them: `python data/snapshots/render.py [FOLDER]`.

articles.jsonl is what a person edits: one article a line, with the sentences and facts of its first snapshot and the
events that change them. The dumps made of it are real in form: MediaWiki XML in multistream bzip2 with its index, whose
pages have templates, links, references, tables, files, comments and other namespaces beside them; and Wikidata JSON,
whose statements keep past values, with the day on which they ended, behind preferred ones. Item ids are our own. Same
input, same bytes.

kinds.jsonl has articles more, each with one of the things that a reader of dumps can get wrong: `mul` names items whose
label stands under that code only, `merged` an object whose item is another one from a snapshot on, `preferred` which of
two values has the better rank from when on; a page may stand `twice`, the older revision behind the newer, and a
`redirect` be one by its text alone. Their items are numbered behind all others, so that those keep their numbers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
DATES = ("20240101", "20240201", "20240301", "20240401", "20240501")
STREAM = 40  # pages a bzip2 stream; Wikimedia has 100
Article = dict[str, Any]
Fact = tuple[str, str, str]
HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo><sitename>Snapshots</sitename><dbname>enwiki</dbname><generator>ckl-bench</generator>
    <namespaces><namespace key="0" case="first-letter" /><namespace key="1" case="first-letter">Talk</namespace>
      <namespace key="10" case="first-letter">Template</namespace></namespaces></siteinfo>
"""


def state(article: Article, snapshot: int) -> tuple[list[str], list[Fact], list[tuple[Fact, str]]]:
    """Sentences, facts that hold, and facts that held before, with their ends, of an article at a snapshot."""
    text, facts, past = list(article["text"]), [tuple(f) for f in article["facts"]], []
    for event in article["events"]:
        if event["month"] > snapshot:
            break
        if event["at"] is None:
            text.append(event["text"])
        else:
            text[event["at"]] = event["text"]
        for fact in map(tuple, event["drop"]):
            facts.remove(fact)
            past.append((fact, f"+2024-{event['month']:02d}-15T00:00:00Z"))
        facts += map(tuple, event["add"])
    return text, facts, past


def touched(number: int, snapshot: int) -> int:
    """How often a page was edited without a change to its text, as happens every day."""
    return sum((number + month) % 7 == 0 for month in range(1, snapshot + 1))


def wikitext(article: Article, number: int, snapshot: int) -> str:
    """A page as an editor sees it."""
    text, facts, _ = state(article, snapshot)
    rows = "\n".join(f"| {label.replace(' ', '_')} = [[{obj}]]" for _, label, obj in facts)
    shown = []
    for i, sentence in enumerate(text):
        mark = ""
        if i % 2 == number % 2:
            cite = f"{{{{cite web |url=https://example.org/{number}/{i} |title=Page {i} |access-date=1 May 2023}}}}"
            mark = f'<ref name="r{i}">{cite}</ref>'
        elif i == 3:
            mark = "{{efn|As of the latest report.}}<!-- keep this in order -->"
        shown.append(sentence + mark)
    picture = (
        f"[[File:View {number}.jpg|thumb|upright=1.2|A view, see [[{article['title']}]]]]\n" if number % 3 == 0 else ""
    )
    facts_table = "\n|-\n".join(f"| {label} || [[{obj}]]" for _, label, obj in facts[:3])
    table = f'{{| class="wikitable"\n! Item !! Value\n|-\n{facts_table}\n|}}\n\n' if number % 4 == 0 else ""
    checked = "<!-- checked -->" * touched(number, snapshot)
    return (
        f"{{{{Short description|Article {number}}}}}\n{{{{Use dmy dates|date=May 2023}}}}{checked}\n"
        f"{{{{Infobox\n| name = {article['title']}\n{rows}\n}}}}\n{picture}{' '.join(shown[:2])}\n\n"
        f"== Details ==\n{' '.join(shown[2:])}\n\n{table}== See also ==\n* {{{{portal|Facts}}}}\n\n"
        f"== References ==\n{{{{reflist}}}}\n\n[[Category:Articles with a history]]\n"
    )


def page(title: str, namespace: int, number: int, revision: int, text: str, redirect: str = "") -> str:
    """A page in the export format."""
    to = f'    <redirect title="{escape(redirect)}" />\n' if redirect else ""
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n{to}"
        f"    <revision>\n      <id>{revision}</id>\n      <timestamp>2023-05-01T00:00:00Z</timestamp>\n"
        f"      <contributor><username>Editor</username><id>1</id></contributor>\n      <model>wikitext</model>\n"
        f'      <format>text/x-wiki</format>\n      <text xml:space="preserve">{escape(text)}</text>\n'
        f"    </revision>\n  </page>\n"
    )


def write_wikipedia(articles: list[Article], snapshot: int, folder: Path) -> None:
    """The multistream dump of a snapshot, and its index."""
    written: list[tuple[str, str, int]] = []
    for number, article in enumerate(articles, 1):
        if article["since"] > snapshot:
            continue
        edits = sum(event["month"] <= snapshot for event in article["events"]) + touched(number, snapshot)
        title = article["title"]
        last = 1000 * number + edits
        written.append((page(title, 0, number, last, wikitext(article, number, snapshot)), title, number))
        if article.get("twice") and snapshot:
            older = page(title, 0, number, last - 1, wikitext(article, number, snapshot - 1))
            written.append((older, title, number))
        if "redirect" in article:
            text = f"#REDIRECT [[{title}]]\n\n{{{{R from alternative spelling of the name of a place}}}}"
            written.append(
                (page(article["redirect"], 0, 30_000 + number, 1, text), article["redirect"], 30_000 + number)
            )
        if number % 10 == 0:
            talk = page(f"Talk:{title}", 1, 10_000 + number, 1, "{{WikiProject}} Is this [[right]]?")
            written.append((talk, f"Talk:{title}", 10_000 + number))
        if number % 15 == 0:
            other = page(f"{title} (other name)", 0, 20_000 + number, 1, f"#REDIRECT [[{title}]]", title)
            written.append((other, f"{title} (other name)", 20_000 + number))
    name = f"wiki-{DATES[snapshot]}-pages-articles-multistream"
    packed, index = io.BytesIO(), []
    packed.write(bz2.compress(HEAD.encode()))
    for start in range(0, len(written), STREAM):
        part = written[start : start + STREAM]
        index += [f"{packed.tell()}:{number}:{title}" for _, title, number in part]
        packed.write(bz2.compress("".join(text for text, _, _ in part).encode()))
    packed.write(bz2.compress(b"</mediawiki>\n"))
    (folder / f"{name}.xml.bz2").write_bytes(packed.getvalue())
    (folder / f"{name}-index.txt.bz2").write_bytes(bz2.compress(("\n".join(index) + "\n").encode()))


def statement(item: str, obj: str, rank: str, end: str = "") -> dict[str, Any]:
    """A statement whose value is an item, and which has ended where an end is given."""
    value = {"entity-type": "item", "numeric-id": int(obj[1:]), "id": obj}
    snak = {"snaktype": "value", "property": item, "datavalue": {"value": value, "type": "wikibase-entityid"}}
    if not end:
        return {"mainsnak": snak, "type": "statement", "rank": rank}
    time = {"value": {"time": end, "precision": 11}, "type": "time"}
    ended = {"P582": [{"snaktype": "value", "property": "P582", "datavalue": time}]}
    return {"mainsnak": snak, "type": "statement", "rank": rank, "qualifiers": ended}


def entity(
    name: str, kind: str, label: str, claims: dict[str, Any], title: str = "", codes: tuple[str, ...] = ("en", "de")
) -> dict[str, Any]:
    """An entity as the JSON dump has it."""
    links = {"enwiki": {"site": "enwiki", "title": title, "badges": []}} if title else {}
    labels = {code: {"language": code, "value": label} for code in codes}
    return {"type": kind, "id": name, "labels": labels, "claims": claims, "sitelinks": links}


def write_wikidata(articles: list[Article], snapshot: int, folder: Path) -> None:
    """The JSON dump of a snapshot: items of articles and of their objects, and properties."""
    items: dict[str, str] = {}
    every = []
    for some in ([a for a in articles if not a.get("kind")], [a for a in articles if a.get("kind")]):
        for article in some:
            items.setdefault(article["title"], f"Q{900_000_001 + len(items)}")
        own = [f for a in some for f in [*a["facts"], *(f for e in a["events"] for f in e["add"])]]
        for _, _, obj in own:
            items.setdefault(obj, f"Q{900_000_001 + len(items)}")
        every += own
    merged = {label: at for article in articles for label, at in article.get("merged", {}).items()}
    items |= {label: f"Q{910_000_000 + i}" for i, (label, at) in enumerate(merged.items(), 1) if at <= snapshot}
    mul = {label for article in articles for label in article.get("mul", ())}
    rows = [entity(code, "property", label, {}) for code, label in sorted({(f[0], f[1]) for f in every})]
    titles = set()
    for article in articles:
        titles.add(article["title"])
        if article["since"] > snapshot:
            continue
        _, facts, past = state(article, snapshot)
        claims: dict[str, Any] = {}
        ranked = [tuple(f) for at, f in sorted(article.get("preferred", {}).items()) if int(at) <= snapshot]
        for code in sorted({f[0] for f in facts}):
            before = [(f, end) for f, end in past if f[0] == code and f not in facts]
            claims[code] = [
                statement(code, items[f[2]], "preferred" if before or (code, f[2]) in ranked[-1:] else "normal")
                for f in facts
                if f[0] == code
            ]
            claims[code] += [statement(code, items[f[2]], "normal", end) for f, end in before]
        unknown = {"mainsnak": {"snaktype": "somevalue", "property": "P18"}, "type": "statement", "rank": "normal"}
        claims["P18"] = [unknown]
        label = re.sub(r" \([^)]*\)$", "", article["title"])
        codes = ("mul",) if label in mul else ("en", "de")
        rows.append(entity(items[article["title"]], "item", label, claims, article["title"], codes))
    for label, name in items.items():
        if label not in titles:
            rows.append(entity(name, "item", label, {}, codes=("mul",) if label in mul else ("en", "de")))
    text = "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows) + "\n]\n"
    (folder / f"wikidata-{DATES[snapshot]}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def render(folder: Path = HERE) -> None:
    """Write all snapshots into `folder`."""
    articles = [json.loads(line) for line in (HERE / "articles.jsonl").read_text(encoding="utf-8").splitlines()]
    more = [json.loads(line) for line in (HERE / "kinds.jsonl").read_text(encoding="utf-8").splitlines()]
    articles += [article | {"kind": True} for article in more]
    for snapshot in range(len(DATES)):
        write_wikipedia(articles, snapshot, folder)
        write_wikidata(articles, snapshot, folder)


if __name__ == "__main__":
    render(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
