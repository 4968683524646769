"""What a build asks is so: labels, ends and starts, ranks, merges, whole words, revisions; on two snapshots."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.format import Benchmark, load_benchmark
from ckl_bench.benchmarks.temporalwiki.sources import Sources
from conftest import Command
from helpers.wikimedia import (
    claim,
    entity,
    entity_page,
    page,
    redirect_page,
    revision,
    when,
    write_json,
    write_xml,
)

EN = "en"
# title: (text before, what is said in the new month beside it, claims before, claims after)
WORLD: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "Aldford": ("A town.", "Since the autumn its mayor is Ada Marsh, a teacher.", {}, {"P6": [claim("Q101")]}),
    "Bexley": (
        "Its mayor was Bo Pike for many years.",
        "The council then chose Cy Reed, a farmer, as its mayor.",
        {"P6": [claim("Q102")]},
        {"P6": [claim("Q102", P582=when("+2023-12-10T00:00:00Z")), claim("Q103")]},
    ),
    "Corby": (
        "Its first twin town is Vire.",
        "A second twin town, Wels, has sent a choir this year.",
        {"P190": [claim("Q104", "preferred"), claim("Q105")]},
        {"P190": [claim("Q104"), claim("Q105", "preferred")]},
    ),
    "Derby": (
        "A town.",
        "The painter Di Lund, who was born here, has come back to it.",
        {"P190": [claim("Q106")]},
        {"P190": [claim("Q107")]},
    ),
    "Exmouth": (
        "It has a town hall, Oak House.",
        "People of the town meet there to talk about the harbour.",
        {"P466": [claim("Q108")]},
        {"P466": [claim("Q109")]},
    ),
    "Frome": (
        "It lies in Kent.",
        "It lies in the middle of Kent, between two low hills.",
        {"P131": [claim("Q110")]},
        {"P131": [claim("Q110")]},
    ),
    "Goole": (
        "Its river is the Ouse.",
        "A bridge was opened there in the last days of the year.",
        {"P206": [claim("Q111", P582=when("+2024-00-00T00:00:00Z", 9))]},
        {"P206": [claim("Q111", P582=when("+2024-00-00T00:00:00Z", 9))]},
    ),
    "Hythe": (
        "A town.",
        "In spring Ed Vance, a lawyer, is to take over as its mayor.",
        {},
        {"P6": [claim("Q112", P580=when("+2024-03-01T00:00:00Z"))]},
    ),
    "Ipswich": (
        "A town.",
        "A Nigerian choir sang there for a whole week in the autumn.",
        {},
        {"P190": [claim("Q113")]},
    ),
    "Jarrow": ("It lies in the county of Kent.", "", {"P131": [claim("Q110")]}, {"P131": [claim("Q110")]}),
    "Kirkby": ("A town.", "Its mayor is Flo.", {}, {"P6": [claim("Q114")]}),
}
NAMES = {
    **{"Q102": "Bo Pike", "Q103": "Cy Reed", "Q104": "Vire", "Q105": "Wels", "Q106": "Di Lund", "Q107": "Di Lund"},
    **{"Q108": "Oak Hall", "Q109": "Oak House", "Q110": "Kent", "Q111": "Ouse", "Q112": "Ed Vance", "Q113": "Niger"},
    **{"Q114": "Flo", "P6": "mayor", "P190": "twin town", "P466": "occupant", "P131": "county", "P206": "river"},
}


def entities(month: int) -> list[dict[str, Any]]:
    """Wikidata of the world: Q1 and so on are its towns, of which Frome's is another item in the new month."""
    found = [entity(name, {EN: label}) for name, label in NAMES.items() if not (month and name in ("Q106", "Q108"))]
    found.append(entity("Q101", {"mul": "Ada Marsh", "de": "Ada von Marsh"}))
    for number, (title, row) in enumerate(WORLD.items(), 1):
        labels = {"mul": title} if title == "Aldford" else {EN: title}
        name = "Q600" if month and title == "Frome" else f"Q{number}"
        found.append(entity(name, labels, title, **(row[3] if month else row[2])))
    return found


def wikipedia(path: Path, month: int) -> Path:
    """Its articles: some pages stand twice, or with their revisions in any order, and some are redirects."""
    made = []
    for number, (title, (before, added, _, _)) in enumerate(WORLD.items(), 1):
        old = revision(10 * number, f"'''{title}''' is a town. {before}", "2023-11-01T00:00:00Z")
        new = revision(10 * number + 1, f"'''{title}''' is a town. {before} {added}", "2023-12-20T00:00:00Z")
        if not (month and added):
            made.append(page(title, number, old))
        elif number % 3 == 0:
            made.append(page(title, number, new, old))
        elif number % 3 == 1:
            made += [page(title, number, new), page(title, number, old)]
        else:
            made.append(page(title, number, new))
    text = "#WEITERLEITUNG [[Aldford]]\nwhich is written here at a length that would make a document."
    made.append(page("Alford", 99, revision(990 + month, text)))
    return write_xml(path, made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two snapshots: Wikidata's is JSON first, then XML in two parts with what else stands in such dumps."""
    place = tmp_path_factory.mktemp("dumps")
    for month, date in enumerate(("20231201", "20240101")):
        wikipedia(place / f"enwiki-{date}-pages-articles.xml.bz2", month)
    write_json(place / "wikidata-20231201-all.json", entities(0))
    rows = [entity_page(number, row) for number, row in enumerate(entities(1), 1)]
    rows += [redirect_page(201, "Q108", "Q109"), redirect_page(202, "Q6", "Q600")]
    other = [
        page("Wikidata:Main Page", 301, revision(301, "'''Welcome'''"), namespace=4),
        page("Template:A", 302, revision(302, "<includeonly>x</includeonly>"), namespace=10),
        page("EntitySchema:E1", 303, revision(303, '{"id":"E1"}', model="EntitySchema"), namespace=640),
        page("Q999", 304, revision(304, "", model="wikibase-item", attributes=' deleted="deleted"')),
    ]
    write_xml(place / "wikidatawiki-20240101-pages-articles1.xml-p1p30.bz2", [other[0], *rows[:20], *other[1:]])
    write_xml(place / "wikidatawiki-20240101-pages-articles2.xml-p31p400.bz2", rows[20:])
    return place


@pytest.fixture(scope="module")
def built(folder: Path) -> Benchmark:
    """The benchmark of the world."""
    from ckl_bench.benchmarks.temporalwiki.build import build_from_dumps
    from ckl_bench.benchmarks.temporalwiki.select import Caps

    dumps = [sorted(folder.glob("enwiki-*")), sorted(folder.glob("wikidata*"))]
    out = folder.parent / f"{folder.name}-built"
    build_from_dumps(Sources(wikipedia=dumps[0], wikidata=dumps[1]), out, caps=Caps(subject=1, relation=1))
    return load_benchmark(str(out))


def facts(benchmark: Benchmark, kind: str) -> dict[tuple[str, str], str | None]:
    """(subject, object): what it replaced, of every probe of a set."""
    (stage,) = benchmark.stages
    return {(probe.subject, probe.object): probe.was for probe in stage.probes[kind]}


def test_changed_is_what_did_not_hold_before(built: Benchmark) -> None:
    assert facts(built, "changed") == {
        ("Aldford", "Ada Marsh"): None,
        ("Bexley", "Cy Reed"): "Bo Pike",
        ("Kirkby", "Flo"): None,
    }
    counts = built.manifest["counts"]["20231201-20240101"]
    assert (counts["changed_probes"]["updates"], counts["changed_probes"]["additions"]) == (1, 2)
    assert counts["changed_probes"]["refused"]["object not in the text"] == 1  # Niger, in Nigerian


def test_unchanged_is_what_holds_in_both(built: Benchmark) -> None:
    assert facts(built, "unchanged") == {
        ("Exmouth", "Oak House"): None,  # whose item was merged into another
        ("Frome", "Kent"): None,  # the article's own item was merged into another
        ("Goole", "Ouse"): None,  # what ends in 2024 has not ended when the year begins
        ("Jarrow", "Kent"): None,  # of an article that nobody revised
    }
    counts = built.manifest["counts"]["20231201-20240101"]["unchanged_probes"]
    assert (counts["of_revised_articles"], counts["of_unrevised_articles"]) == (3, 1)


def test_each_page_is_read_once_in_its_newest_revision(built: Benchmark) -> None:
    (stage,) = built.stages
    assert stage.name == "20231201-20240101"  # the whole dates, since the years differ
    assert len(stage.documents) == 10
    assert sorted(d.text for d in stage.documents) == sorted(
        f"{title}: {added}" for title, (_, added, _, _) in WORLD.items() if added
    )
    counts = built.manifest["counts"]["20231201-20240101"]
    assert counts["short_documents_kept"] == 1
    assert counts["wikidata"][1] | {"statements": 0} == {
        **{"entities": len(entities(1)), "statements": 0, "redirects": 2, "deleted_texts": 1, "other_pages": 3},
    }


def test_no_unrevised_article_is_read_where_none_is_asked_for(folder: Path, command: Command, tmp_path: Path) -> None:
    wikipedia, wikidata = sorted(folder.glob("enwiki-*")), sorted(folder.glob("wikidata*"))
    build = ("build", "temporalwiki", "--wikipedia", *wikipedia, "--wikidata", *wikidata, "--max-subject-share", 1)
    result = command(*build, "--max-relation-share", 1, "--unchanged-articles", 0, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    found = load_benchmark(str(tmp_path / "out"))
    assert ("Jarrow", "Kent") not in facts(found, "unchanged")
    refused = command(*build, "--unchanged-articles", -1, "--out", tmp_path / "other")
    assert refused.code == 2
    assert "--unchanged-articles -1: expected 0 or more" in refused.err


def test_a_set_that_the_shares_leave_little_of_is_said_aloud(folder: Path, command: Command, tmp_path: Path) -> None:
    dumps = []
    for month, date in enumerate(("20240101", "20240201")):
        towns = range(40)
        texts = [f"Town {i} is a town in Kent." + month * f" Its mayor is Person {i} of the harbour." for i in towns]
        made = [page(f"Town {i}", i + 1, revision(10 * i + month, text)) for i, text in enumerate(texts)]
        dumps.append(write_xml(tmp_path / f"enwiki-{date}-a.xml", made))
        rows = [entity("P6", {EN: "mayor"}), entity("P131", {EN: "county"}), entity("Q900", {EN: "Kent"})]
        rows += [entity(f"Q{100 + i}", {EN: f"Person {i}"}) for i in towns]
        for i in towns:
            claims: Any = {"P131": [claim("Q900")]} | ({"P6": [claim(f"Q{100 + i}")]} if month else {})
            rows.append(entity(f"Q{i + 1}", {EN: f"Town {i}"}, f"Town {i}", **claims))
        dumps.append(write_json(tmp_path / f"wikidata-{date}-all.json", rows))
    result = command(
        *("build", "temporalwiki", "--wikipedia", *dumps[::2], "--wikidata", *dumps[1::2], "--out", tmp_path / "out")
    )
    assert result.code == 0, result.err
    said = " ".join(result.err.split())
    assert "the shares leave 1 of 40 changed facts" in said
    assert "--max-relation-share 0.05" in said


@pytest.mark.slow
def test_a_build_on_ray_with_a_killed_worker_is_the_same_to_the_byte(
    folder: Path, built: Benchmark, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    from ckl_bench.benchmarks.temporalwiki import ingest
    from ckl_bench.benchmarks.temporalwiki.build import build_from_dumps
    from ckl_bench.benchmarks.temporalwiki.select import Caps

    real, marker = ingest._clean_pages, tmp_path / "killed"

    def clean_pages(*arguments: Any) -> Any:
        if not marker.exists():  # the worker of the first unit dies in the middle of it
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    dumps = [sorted(folder.glob("enwiki-*")), sorted(folder.glob("wikidata*"))]
    out = tmp_path / f"{folder.name}-built"
    ray.init(num_cpus=2, logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ingest, "_clean_pages", clean_pages)
            sources = Sources(wikipedia=dumps[0], wikidata=dumps[1])
            build_from_dumps(sources, out, caps=Caps(subject=1, relation=1), engine="ray")
    finally:
        ray.shutdown()
    assert int(marker.read_text()) != os.getpid()
    assert load_benchmark(str(out)).hash == built.hash


def test_an_engine_that_there_is_not_is_one_line(folder: Path, command: Command, tmp_path: Path) -> None:
    wikipedia, wikidata = sorted(folder.glob("enwiki-*")), sorted(folder.glob("wikidata*"))
    build = ("build", "temporalwiki", "--wikipedia", *wikipedia, "--wikidata", *wikidata, "--out", tmp_path / "out")
    result = command(*build, "--engine", "slurm")
    assert result.code == 2
    assert "--engine slurm: expected local or ray" in result.err
    assert not (tmp_path / "out").exists()
