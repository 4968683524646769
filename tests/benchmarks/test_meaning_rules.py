"""What a dump states, rule by rule: when a statement holds, whose label is read, whole names, what is passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.temporalwiki.dumps import Page, pages
from ckl_bench.benchmarks.temporalwiki.sources import Sources, language_of
from ckl_bench.benchmarks.temporalwiki.wikidata import parse, skipped
from ckl_bench.words import names
from conftest import Command
from helpers.wikimedia import claim, entity, page, revision, when, write_json, write_xml


@pytest.mark.parametrize(
    ("starts", "ends", "expected"),
    [
        ([], [], True),
        (["+2000-01-01T00:00:00Z"], [], True),
        ([], ["+2024-01-31T00:00:00Z"], False),
        ([], ["+2024-02-01T00:00:00Z"], True),  # the day itself
        ([], [("+2024-01-00T00:00:00Z", 10)], False),
        ([], [("+2024-02-00T00:00:00Z", 10)], True),
        ([], [("+2023-00-00T00:00:00Z", 9)], False),
        ([], [("+2024-01-01T00:00:00Z", 9)], True),
        ([], [("+2010-00-00T00:00:00Z", 8)], False),
        ([], [("+2020-00-00T00:00:00Z", 8)], True),
        (["-0044-03-15T00:00:00Z"], [("+1900-00-00T00:00:00Z", 7)], False),
        (["+2024-02-02T00:00:00Z"], [], False),
        ([("+2024-02-00T00:00:00Z", 10)], [], True),
        (["+1990-01-01T00:00:00Z", "+2000-01-01T00:00:00Z"], ["+1995-01-01T00:00:00Z"], True),  # a second term
        (["+1990-01-01T00:00:00Z"], ["+1995-01-01T00:00:00Z", "+2001-01-01T00:00:00Z"], False),
        ([], ["somevalue"], False),  # it has ended, nobody knows when
        ([], ["novalue"], True),
        (["somevalue"], [], True),
    ],
)
def test_a_statement_holds_from_its_start_to_its_end(starts: list[Any], ends: list[Any], expected: bool) -> None:
    def snak(time: Any) -> dict[str, Any]:
        if time in ("somevalue", "novalue"):
            return {"snaktype": time}
        return when(*time) if isinstance(time, tuple) else when(time)

    qualifiers = {"P580": [snak(t) for t in starts], "P582": [snak(t) for t in ends]}
    statement = claim("Q2")
    statement["qualifiers"] = {code: snaks for code, snaks in qualifiers.items() if snaks}
    row = parse(json.dumps(entity("Q1", {}, P1=[statement])), "here", "enwiki", date=(2024, 2, 1))
    assert row is not None
    assert bool(row["claims"]) is expected


def test_labels_are_those_of_the_language_or_of_all() -> None:
    def label(labels: dict[str, str], language: str) -> Any:
        sources = Sources(wikipedia=[], wikidata=[], language=language)
        row = parse(json.dumps(entity("Q1", labels)), "here", "dewiki", sources.languages)
        return row and row["label"]

    assert label({"en": "Munich", "de": "München", "mul": "M"}, "de") == "München"
    assert label({"en": "Munich", "mul": "M"}, "de") == "M"
    assert label({"de": "München", "mul": "M"}, "de-at") == "München"
    assert label({"en": "Munich"}, "de") is None  # a German probe has no English part
    assert Sources(wikipedia=[], wikidata=[], wiki="dewiki").languages == ("de", "mul")
    named = [language_of(wiki) for wiki in ("enwiki", "simplewiki", "zh_yuewiki", "nowiki")]
    assert named == ["en", "en", "yue", "nb"]


def test_german_dumps_make_a_german_benchmark(command: Command, tmp_path: Path) -> None:
    dumps = []
    for month, date in enumerate(("20240101", "20240201")):
        text = "Bonn liegt am Rhein." + month * " Seit Januar ist Ada von Marsh die neue Leiterin der ganzen Stadt."
        dumps.append(write_xml(tmp_path / f"dewiki-{date}-a.xml", [page("Bonn", 1, revision(month, text))]))
        rows = [
            entity("P6", {"de": "Leiterin", "en": "head"}),
            entity("P206", {"mul": "Gewässer"}),
            entity("P190", {"en": "twin town"}),
            entity("Q101", {"mul": "Ada Marsh", "de": "Ada von Marsh"}),
            entity("Q102", {"mul": "Rhein", "en": "Rhine"}),
        ]
        claims: Any = {"P206": [claim("Q102")], "P190": [claim("Q102")]} | ({"P6": [claim("Q101")]} if month else {})
        rows.append(entity("Q1", {"de": "Bonn"}, "Bonn", "dewiki", **claims))
        dumps.append(write_json(tmp_path / f"wikidata-{date}-all.json", rows))
    result = command(
        *("build", "temporalwiki", "--wikipedia", *dumps[::2], "--wikidata", *dumps[1::2], "--out", tmp_path / "out"),
        *("--language", "de", "--max-subject-share", 1, "--max-relation-share", 1),
    )
    assert result.code == 0, result.err
    benchmark = load_benchmark(str(tmp_path / "out"))
    (stage,) = benchmark.stages
    assert stage.name == "0101-0201"
    assert [p.prompt for kind in stage.probes.values() for p in kind] == [
        "Guess the object. \n  subject is Bonn , relation is Leiterin , object is Ada von Marsh",
        "Guess the object. \n  subject is Bonn , relation is Gewässer , object is Rhein",
    ]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("a Nigerian", "Niger", False),
        ("Niger, and", "Niger", True),
        ("a female, a male", "male", True),
        ("Romania and Oman", "Oman", True),
        ("Müllers", "Müller", False),
        ("(Yahoo!)", "Yahoo!", True),
        ("C# is", "C#", True),
        ("re\u0301sume\u0301", "re", False),  # an accent belongs to its letter
        ("anything", "", False),
    ],
)
def test_names_are_whole_words(text: str, name: str, expected: bool) -> None:
    assert names(text, name) is expected


@pytest.mark.parametrize(
    ("text", "redirect"),
    [
        ("#REDIRECT [[A]]", True),
        ("\n #redirect: [[A|b]] {{R from move}}", True),
        ("#WEITERLEITUNG[[A]]", True),
        ("#REDIRECCIÓN [[A]]", True),
        ("#перенаправление [[A]]", True),
        ("#転送 [[A]]", True),
        ("#تحويل [[A]]", True),
        ("# [[A]] is first in a list", False),
        ("See #REDIRECT [[A]]", False),
        ("#1 [[A]]", False),
    ],
)
def test_a_redirect_is_one_in_any_language(text: str, redirect: bool, tmp_path: Path) -> None:
    with open(write_xml(tmp_path / "a.xml", [page("B", 1, revision(1, text))]), "rb") as stream:
        (found,) = pages(stream, "a.xml")
    assert found.redirect is redirect


def test_a_hidden_revision_is_passed_over(tmp_path: Path) -> None:
    hidden = revision(3, "", "2024-01-03T00:00:00Z", attributes=' deleted="deleted"')
    made = page("B", 1, revision(1, "one", "2024-01-01T00:00:00Z"), hidden, revision(2, "two", "2024-01-02T00:00:00Z"))
    with open(write_xml(tmp_path / "a.xml", [made]), "rb") as stream:
        (found,) = pages(stream, "a.xml")
    assert (found.revision, found.text) == (2, "two")


@pytest.mark.parametrize(
    ("namespace", "model", "text", "reason"),
    [
        (0, "wikibase-item", "{}", None),
        (120, "wikibase-property", "{}", None),
        (120, "wikibase-item", "{}", None),  # other Wikibases have items there
        (0, "", "{}", None),
        (0, "wikibase-item", "no entity", None),  # damage: the reader of entities says so
        (0, "wikibase-item", " ", "deleted_texts"),
        (0, "wikitext", "A page", "other_pages"),
        (4, "wikitext", "{}", "other_pages"),
        (0, "json", "{}", None),
        (146, "wikibase-lexeme", "{}", "other_pages"),
        (640, "EntitySchema", "{}", "other_pages"),
    ],
)
def test_only_items_and_properties_are_read(namespace: int, model: str, text: str, reason: str | None) -> None:
    made = Page(id=1, title="Q1", namespace=namespace, revision=1, redirect=False, text=text, model=model)
    assert skipped(made) == reason
