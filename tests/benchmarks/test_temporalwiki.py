"""TemporalWiki: the builder against what its authors wrote, the filters on made-up facts, the published files."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.temporalwiki.facts import CANDIDATES
from ckl_bench.benchmarks.temporalwiki.joins import connect
from ckl_bench.benchmarks.temporalwiki.select import Caps, Chosen, Selection
from ckl_bench.benchmarks.temporalwiki.shards import run_step
from ckl_bench.benchmarks.temporalwiki.texts import MOST, chunks, refuse_text
from ckl_bench.storage.files import data_dir
from conftest import Command

SNAPSHOTS = data_dir() / "snapshots"
DUMPS = [sorted(SNAPSHOTS.glob("wiki-*-multistream.xml.bz2")), sorted(SNAPSHOTS.glob("wikidata-*.json.gz"))]
MINI = ("--max-subject-share", 0.02, "--max-relation-share", 0.1, "--max-probes", 120)
MINI_RUNS = ("--licence", "Apache-2.0", "--batch-size", 4, "--lr", 5e-4)


def build(command: Command, out: Path, months: slice, *more: object) -> Any:
    wikipedia, wikidata = (dumps[months] for dumps in DUMPS)
    return command("build", "temporalwiki", "--wikipedia", *wikipedia, "--wikidata", *wikidata, "--out", out, *more)


def test_the_embedded_benchmark_is_what_its_sources_give(command: Command, tmp_path: Path) -> None:
    sys.path.insert(0, str(SNAPSHOTS))
    from render import render  # type: ignore[import-not-found]

    (tmp_path / "rendered").mkdir()
    render(tmp_path / "rendered")
    for path in (tmp_path / "rendered").iterdir():
        assert path.read_bytes() == (SNAPSHOTS / path.name).read_bytes()
    result = build(command, tmp_path / "temporalwiki-mini", slice(None), *MINI, *MINI_RUNS)
    assert result.code == 0, result.err
    assert load_benchmark(str(tmp_path / "temporalwiki-mini")).hash == load_benchmark("temporalwiki-mini").hash
    assert not (tmp_path / "temporalwiki-mini.work").exists()


def truth() -> dict[str, list[set[tuple[str, str, str]]]]:
    """subject -> its facts at every snapshot, from the authors' own lines."""
    facts: dict[str, list[set[tuple[str, str, str]]]] = {}
    for line in "".join(
        (SNAPSHOTS / f"{name}.jsonl").read_text("utf-8") for name in ("articles", "kinds")
    ).splitlines():
        article = json.loads(line)
        subject = article["title"].removesuffix(" (aircraft carrier)")
        now = {tuple(fact) for fact in article["facts"]}
        states = []
        for snapshot in range(5):
            for event in article["events"]:
                if event["month"] == snapshot:
                    now = (now - {tuple(f) for f in event["drop"]}) | {tuple(f) for f in event["add"]}
            states.append({(subject, f[0], f[2]) for f in now} if snapshot >= article["since"] else set())
        facts[subject] = states
    return facts


def test_probes_are_what_changed_and_what_did_not() -> None:
    facts, benchmark = truth(), load_benchmark("temporalwiki-mini")
    assert [stage.name for stage in benchmark.stages] == ["0201-0301", "0301-0401", "0401-0501"]
    for month, stage in enumerate(benchmark.stages, 2):
        sets = {name: {(p.subject, p.relation, p.object) for p in rows} for name, rows in stage.probes.items()}
        assert len(sets["changed"]) == len(stage.probes["changed"]) >= 40
        assert len(sets["unchanged"]) == len(stage.probes["unchanged"]) >= 100
        for fact in sets["changed"]:
            assert fact in facts[fact[0]][month] - facts[fact[0]][month - 1]
        for fact in sets["unchanged"]:
            assert fact in facts[fact[0]][month] & facts[fact[0]][month - 1]
        texts = {d.text.split(":")[0]: d.text for d in stage.documents}
        assert all(fact[2] in texts[next(t for t in texts if t.startswith(fact[0]))] for fact in sets["changed"])
        told = {(f.subject, f.relation, f.object) for d in stage.documents for f in d.facts}
        assert told == sets["changed"]  # the oracle is told of every probed change, and of nothing else


def test_the_embedded_benchmark_has_the_kinds_that_readers_of_dumps_get_wrong() -> None:
    stages = load_benchmark("temporalwiki-mini").stages
    changed = [{(p.subject, p.object): p.was for p in stage.probes["changed"]} for stage in stages]
    # An end and a label under `mul` alone, of the object and of the subject; two terms one after the other.
    assert changed[0][("Ghent", "Mathias De Clercq")] == "Daniël Termont"
    assert [changed[i].get(("Tromsø", name)) for i, name in ((0, "Kristin Røymo"), (2, "Gunnar Wilhelmsen"))] == [
        *("Jens Johan Hjort", "Kristin Røymo"),
    ]
    assert changed[1][("Turku", "Minna Arve")] is None  # an addition
    assert changed[1][("Juventus FC", "Serie A")] == "Serie B"  # back where it had been: that had ended
    every = {pair for facts in changed for pair in facts}
    # A merged item, a rank that flipped, an object inside another word.
    assert not every & {("Turku", "Aarhus"), ("Bologna", "Coventry"), ("Bologna", "Leipzig"), ("Sohar", "Oman")}
    texts = {d.text for stage in stages for d in stage.documents}
    assert "Tromsø: Its mayor is Gunnar Wilhelmsen." in texts  # short, but asked
    assert any(text.startswith("Bologna: The twinning with Coventry is the one") for text in texts)
    assert not any(text.startswith("Suhar") for text in texts)  # a redirect by its text alone


def test_phis_facts_and_rehearsal_are_apart_from_every_probe() -> None:
    benchmark = load_benchmark("temporalwiki-mini")
    probed = {(p.subject, p.relation, p.object) for s in benchmark.stages for rows in s.probes.values() for p in rows}
    trained = {(d.fact.subject, d.fact.relation, d.fact.object) for d in benchmark.attention}
    assert len(benchmark.attention) > 100
    assert not trained & probed
    assert all(d.fact.object in d.text and d.prompt.endswith(d.fact.object) for d in benchmark.attention)
    learned = {d.text for s in benchmark.stages for d in s.documents}
    assert not {d.text for d in benchmark.attention} & learned
    assert len(benchmark.rehearsal) > 50
    for document in benchmark.rehearsal:
        assert document.fact is not None
        assert (document.fact.subject, document.fact.relation, document.fact.object) not in probed
        stated = [p for p in probed if p[0] == document.fact.subject and p[2] in document.text]
        assert not stated, (document, stated)


def test_two_snapshots_give_one_stage_and_no_attention(command: Command, tmp_path: Path) -> None:
    assert build(command, tmp_path / "two", slice(0, 2), *MINI).code == 0
    two = load_benchmark(str(tmp_path / "two"))
    assert [stage.name for stage in two.stages] == ["0101-0201"]
    assert len(two.attention) == 0
    assert build(command, tmp_path / "none", slice(0, 3), *MINI, "--attention-months", 0).code == 0
    assert [s.name for s in load_benchmark(str(tmp_path / "none")).stages] == ["0101-0201", "0201-0301"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--wikipedia", DUMPS[0][0], "--wikidata", DUMPS[1][0]], "two snapshots or more"),
        (["--wikipedia", *DUMPS[0][:2], "--wikidata", DUMPS[1][0]], "has 2 snapshots and --wikidata 1"),
        (["--wikipedia", *DUMPS[0][:2], "--wikidata", DUMPS[1][0], "nowhere.json"], "there is no file nowhere.json"),
        (["--wikipedia", *DUMPS[0][:2], "--wikidata", *DUMPS[1][:2], "--attention-months", 1], "expected 0 to 0"),
        (["--wikipedia", *DUMPS[0][:2], "--wikidata", *DUMPS[0][1:3]], "not a Wikidata dump: no entity"),
        (["--wikipedia", *DUMPS[1][:2], "--wikidata", *DUMPS[1][:2]], "cut short or damaged after 0 pages"),
        (["--wikipedia", DUMPS[0][0], DUMPS[0][0], "--wikidata", *DUMPS[1][:2]], "is given twice"),
        (["--wikipedia", *reversed(DUMPS[0][:2]), "--wikidata", *DUMPS[1][:2]], "give the oldest first"),
        (["--wikipedia", *DUMPS[0][:2], "--wikidata", *DUMPS[1][:2], "--language", "d e"], "expected a code"),
        (["--max-subject-share", 0], "expected a share above 0"),
        ([], "give --wikipedia OLD NEW"),
    ],
)
def test_mistakes_are_one_line(arguments: list[object], words: str, command: Command, tmp_path: Path) -> None:
    result = command("build", "temporalwiki", "--out", tmp_path / "out", *arguments)
    errors = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert (result.code, len(errors)) == (2, 1), result.err
    assert words in errors[0]
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def rows(*facts: tuple[str, str, str], text: str | None = "x") -> list[dict[str, Any]]:
    labels = {label: i for i, label in enumerate(dict.fromkeys(part for fact in facts for part in fact))}
    return [
        {
            "subject_id": f"Q{labels[s]}",
            "subject": s,
            "relation": r,
            "object": o,
            "text": None if text is None else o,
            "page": i,
            "property": labels[r],
            "object_id": labels[o],
            "kind": "changed",
            "was": None,
            "revised": True,
            "learned": True,
        }
        for i, (s, r, o) in enumerate(facts)
    ]


def test_every_filter_refuses_what_it_should_and_says_so(tmp_path: Path) -> None:
    good = rows(("Ada", "field", "mathematics"), ("Bo", "born in", "the city of New York"), ("Cy", "works for", "Ico"))
    bad = {
        "object over five words": rows(("A", "b", "one two three four five six")),
        "subject and object overlap": rows(("New York City", "in", "new york"), ("Bern", "in", "Canton of Bern")),
        "object not in the text": rows(("D", "in", "E"), text=None),
        "no label": [row | {"object": None} for row in rows(("F", "in", "G"))],
        "no document states it": [row | {"learned": False} for row in rows(("J", "in", "K"))],
        "duplicate": [row | {"subject_id": "Q77"} for row in rows(("Ada", "field", "mathematics"))],
        "used elsewhere": [row | {"subject_id": "Q99"} for row in rows(("H", "in", "I"))],
    }
    # A fact that another filter refuses is no original of which the next were a duplicate.
    twins = rows(("L", "in", "M"))
    bad["object not in the text"] += [twins[0] | {"text": None, "subject_id": "Q1"}]
    good += [twins[0] | {"subject_id": "Q2"}]
    every = [*good, *(row for group in bad.values() for row in group)]
    folder = run_step(tmp_path / "facts", CANDIDATES, lambda start: iter([(every, {})]))
    selection, (taken,) = Selection(connect(tmp_path, 200)), bad["used elsewhere"]
    selection.use([(taken["subject_id"], taken["property"], taken["object_id"])])
    chosen = selection.choose(folder, "changed", None, "found")
    assert sorted(row["subject"] for row in chosen.facts) == ["Ada", "Bo", "Cy", "L"]
    assert chosen.refused == {reason: len(group) for reason, group in bad.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_no_subject_and_no_relation_is_over_its_share(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    facts = {(f"s{int(draw.expovariate(0.05))}", f"r{int(draw.expovariate(0.1))}", f"o{i}") for i in range(3000)}
    folder = run_step(tmp_path / "facts", CANDIDATES, lambda start: iter([(rows(*sorted(facts)), {})]))
    selection = Selection(connect(tmp_path, 200))

    def choose(name: str, **more: Any) -> Chosen:
        return selection.choose(
            folder, "changed", Caps(**{"subject": 0.02, "relation": 0.06, "seed": seed} | more), name
        )

    kept = choose("kept")
    total = len(kept.facts)
    assert total > 300
    for column, share in (("subject", 0.02), ("relation", 0.06)):
        ((_, most),) = Counter(row[column] for row in kept.facts).most_common(1)
        assert most <= share * total
    assert sum(kept.refused.values()) + total == len(facts)
    again, other = choose("again"), choose("other", seed=seed + 1)
    assert again.facts == kept.facts
    assert other.facts != kept.facts
    assert len(choose("few", probes=100).facts) <= 100


def test_documents_are_whole_sentences_of_bounded_length() -> None:
    sentences = [f"Sentence {i} says that {'very ' * (i % 7)}little happened." for i in range(200)]
    texts = list(chunks(sentences))
    assert " ".join(texts) == " ".join(sentences)
    assert max(map(len, texts)) <= MOST
    assert len(texts) > 3
    assert list(chunks(["x" * (MOST + 5)])) == ["x" * (MOST + 5)]
    assert refuse_text("short") == "under 50 characters"
    assert refuse_text(" nan ") == "nan"
    assert refuse_text("12 345 678 " * 9) == "mostly not letters"
    assert refuse_text("A sentence that is long enough to be worth learning from.") is None


def published(folder: Path, name: str, count: int = 6) -> None:
    for kind in ("changed", "unchanged"):
        facts = [{"subject": f"{kind} {name} {i}", "relation": "is in", "object": f"Place{i}"} for i in range(count)]
        (folder / f"{name}_{kind}.jsonl").write_text("".join(json.dumps(f) + "\n" for f in [*facts, facts[0]]))


def diffset(folder: Path, name: str, texts: list[str]) -> None:
    with open(folder / f"{name.replace('-', '')}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "text"], *([i, text] for i, text in enumerate(texts))])


def test_published_files_import_as_they_are(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    good = "On the first day, the council of the town moved to a larger hall, it said."
    for name in ("1001-1101", "0901-1001"):
        published(source, name)
        diffset(source, name, [good, "short", "nan", "1 2 3 4 5 " * 20])
    result = command("build", "temporalwiki", "--published", source, "--out", tmp_path / "twiki")
    assert result.code == 0, result.err
    benchmark = load_benchmark(str(tmp_path / "twiki"))
    assert [stage.name for stage in benchmark.stages] == ["0901-1001", "1001-1101"]
    assert [d.text for d in benchmark.stages[0].documents] == [good]
    assert [p.object for p in benchmark.stages[0].probes["changed"]] == [f"Place{i}" for i in range(6)]
    refused = benchmark.manifest["counts"]["0901-1001"]["documents_refused"]
    assert refused == {"under 50 characters": 1, "nan": 1, "mostly not letters": 1}
    run = command("run", "--method", "lora", "--model", "tiny", "--benchmark", tmp_path / "twiki", "--json")
    assert run.code == 0, run.err
    (source / "0901-1001_changed.jsonl").unlink()
    (source / "0901-1001_unchanged.jsonl").unlink()
    refused = command("build", "temporalwiki", "--published", source, "--out", tmp_path / "other")
    assert refused.code == 2
    assert "has no probes" in refused.err


def test_the_published_probes_make_a_benchmark_for_scoring(command: Command, reference: Path, tmp_path: Path) -> None:
    result = command("build", "temporalwiki", "--published", reference / "temporalwiki", "--out", tmp_path / "twiki")
    assert result.code == 2
    assert "there is no diffset for 0901-1001" in result.err
    source = ("--published", reference / "temporalwiki", "--score-only")
    result = command("build", "temporalwiki", *source, "--out", tmp_path / "twiki")
    assert result.code == 0, result.err
    benchmark = load_benchmark(str(tmp_path / "twiki"))
    for stage in benchmark.stages:
        for kind, probes in stage.probes.items():
            lines = (reference / "temporalwiki" / f"{stage.name}_{kind}.jsonl").read_text().splitlines()
            unique = {tuple(json.loads(line)[k] for k in ("subject", "relation", "object")) for line in lines}
            assert {(p.subject, p.relation, p.object) for p in probes} == {u for u in unique if u[2].strip()}
        assert len(stage.documents) == 0
    run = ("run", "--model", "tiny", "--benchmark", tmp_path / "twiki", "--limit", 5, "--json", "--method")
    silent = command(*run, "lora")
    assert silent.code == 2
    assert "stage '0901-1001' has no documents" in silent.err
    scored = json.loads(command(*run, "none").out)
    assert scored["cost"]["train_tokens"] == 0
    assert [len(stage["epochs"]) for stage in scored["stages"]] == [2, 2]


@pytest.mark.slow
def test_a_killed_build_goes_on_and_gives_the_same_benchmark(tmp_path: Path) -> None:
    arguments = ["build", "temporalwiki", "--wikipedia", *map(str, DUMPS[0]), "--wikidata", *map(str, DUMPS[1])]
    arguments += [*map(str, MINI), *map(str, MINI_RUNS), "--out", str(tmp_path / "temporalwiki-mini")]
    command = [sys.executable, "-c", "from ckl_bench.cli.app import main; main()", *arguments]
    log = tmp_path / "log"
    finished = []
    for steps in (2, 8, 14, None):  # of 31 steps so many are done when the build is killed
        with open(log, "a") as file:
            child = subprocess.Popen(command, stderr=file, stdout=file, start_new_session=True)
            while steps and child.poll() is None and len(list(tmp_path.glob("*.work/*/*/done"))) < steps:
                time.sleep(0.005)
            if steps:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                finished.append(len(list(tmp_path.glob("*.work/*/*/done"))))
            else:
                assert child.wait() == 0, log.read_text()
    assert 2 <= finished[0] <= finished[1] <= finished[2]
    uninterrupted = load_benchmark("temporalwiki-mini")  # as it is committed, and built anew above
    assert load_benchmark(str(tmp_path / "temporalwiki-mini")).hash == uninterrupted.hash
    left = {path.name for path in tmp_path.iterdir()} - {"log", "temporalwiki-mini"}
    assert all(name.startswith(".temporalwiki-mini.") for name in left), left
