"""Forms in which dumps of Wikidata come, and names that several items or properties have."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.temporalwiki.dumps import open_dump
from ckl_bench.benchmarks.temporalwiki.wikidata import lines, parse, texts
from ckl_bench.errors import UserError
from conftest import Command
from helpers.wikimedia import HEAD, claim, entity, entity_page, page, redirect_page, revision, write_json, write_xml

ROWS = [entity(f"Q{i}", {"mul": f"Place {i}"}) for i in (1, 2, 3)]
ONE, TWO, THREE = (json.dumps(row) for row in ROWS)


@pytest.mark.parametrize(
    "dump",
    [
        f"[\n{ONE},\n{TWO},\n{THREE}\n]\n",
        f"[\n{ONE},\n{TWO},\n{THREE},\n]\n",  # a comma too many
        f"\ufeff[\r\n{ONE},\r\n{TWO},\r\n{THREE}\r\n]\r\n",  # a byte order mark, lines that end as on Windows
        f"[{ONE},\n{TWO},\n{THREE}]",  # the brackets beside entities
        f"[{ONE}, {TWO},{THREE}]",  # all in one line
        f"{ONE}\n\n{TWO}\n{THREE}",  # no array at all
    ],
)
def test_an_array_is_read_however_its_lines_are_broken(dump: str) -> None:
    found = [text for _, block in lines(io.BytesIO(dump.encode()), "here") for _, text in texts(block)]
    assert [(parse(text, "here", "enwiki") or {})["id"] for text in found] == ["Q1", "Q2", "Q3"]


def test_what_is_neither_item_nor_property_is_passed_over() -> None:
    lexeme = {"type": "lexeme", "id": "L1", "lemmas": {"en": {"language": "en", "value": "a"}}, "claims": []}
    media = {"type": "mediainfo", "id": "M1", "labels": [], "statements": []}
    for other in (lexeme, media, {"id": "E1", "schemaText": ""}, {"entity": "L1", "redirect": "L2"}):
        assert parse(json.dumps(other), "here", "enwiki") is None
    with pytest.raises(UserError, match="not a Wikidata entity"):
        parse(b"[1]", "here", "enwiki")


@pytest.mark.parametrize("ending", ["xz", "zst", "7z"])
def test_a_packing_that_is_not_read_is_named(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"wikidata.json.{ending}"
    path.write_bytes(b"\xfd7zXZ\x00")
    with pytest.raises(UserError, match=rf"wikidata\.json\.{ending}: \.gz, \.bz2 and unpacked dumps are read, not"):
        open_dump(path)


def test_same_names_and_merged_properties(command: Command, tmp_path: Path) -> None:
    articles = {
        "Corby": ("A town.", "Its twin town Springfield has sent a choir this year to the town hall."),
        "Derby": ("Its river is the Ouse.", "A bridge was opened there in the last days of the year."),
        "Goole": ("Its patron is Saint Osyth.", "A fair is held there in the last days of the spring."),
    }
    before = {"Corby": {"P190": ["Q104"]}, "Derby": {"P206": ["Q111"]}, "Goole": {"P417": ["Q130"]}}
    after = {"Corby": {"P190": ["Q105", "Q106"]}, "Derby": {"P207": ["Q111"]}, "Goole": {"P417": ["Q132"]}}
    names = {"Q104": "Vire", "Q105": "Springfield", "Q106": "Springfield", "Q111": "Ouse", "Q132": "Saint Osyth"}
    names |= {"P190": "twin town", "P206": "river", "P207": "river", "P417": "patron"}
    given: list[object] = []
    for month, (date, held) in enumerate({"20231201": before, "20240101": after}.items()):
        rows = [entity(code, {"mul": name}) for code, name in names.items()]
        rows += [] if month else [entity("Q130", {"en": "St Osyth"})]
        pages = []
        for i, (title, (old, new)) in enumerate(articles.items(), 1):
            claims: Any = {code: [claim(target) for target in targets] for code, targets in held[title].items()}
            rows.append(entity(f"Q{i}", {"en": title}, title, **claims))
            pages.append(page(title, i, revision(10 * i + month, f"{title} is here. {old} {new if month else ''}")))
        given += ["--wikipedia", write_xml(tmp_path / f"enwiki-{date}-a.xml", pages), "--wikidata"]
        if not month:
            given.append(write_json(tmp_path / f"wikidata-{date}-all.json", rows))
            continue
        kept = [entity_page(n, row) for n, row in enumerate(rows, 1)]
        moved = [("Q130", "Q131"), ("Q131", "Q132"), ("P206", "P207")]  # a chain of two, and a property
        kept += [redirect_page(900 + n, *pair) for n, pair in enumerate(moved)]
        parts = [tmp_path / f"wikidatawiki-{date}-pages-articles{n}.xml-p{n}p{n}.gz" for n in (1, 2)]
        for part, some in zip(parts, (kept[:5], kept[5:]), strict=True):
            part.write_bytes(gzip.compress(f"{HEAD}{''.join(some)}</mediawiki>".encode()))
        given += [parts[0], "--wikidata", parts[1]]
    shares = ("--max-subject-share", 1, "--max-relation-share", 1)
    result = command("build", "temporalwiki", *given, *shares, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    (stage,) = load_benchmark(str(tmp_path / "out")).stages
    found = {kind: {(p.subject, p.relation, p.object, p.was) for p in probes} for kind, probes in stage.probes.items()}
    assert found == {
        # Two items of one name are one object, which replaces the one before.
        "changed": {("Corby", "P190", "Springfield", "Vire")},
        "unchanged": {("Derby", "P207", "Ouse", None), ("Goole", "P417", "Saint Osyth", None)},
    }
