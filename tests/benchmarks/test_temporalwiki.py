"""TemporalWiki: the builder against what its authors wrote, its mistakes in one line, and a build that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.format import load_benchmark
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
