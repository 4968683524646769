"""Published LAMA-ckl rows with solved pairs that another benchmark lends: what joins, what stays out, who learns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ckl_bench.benchmarks.format import Fact, load_benchmark
from conftest import Command

BARE = Fact(subject="Aro", relation="P39", object="Bel"), Fact(subject="Cid", relation="P19", object="Dor")


def row(fact: Fact, uuid: str) -> Mapping[str, object]:
    return {
        "relation_code": fact.relation,
        "uuid": uuid,
        "task_descriptive": f"{fact.subject} is told to be {fact.object} .",
        "task_schematic": f"subject is {fact.subject} , relation is told , object is {fact.object}",
        "subject": fact.subject,
        "relation_label": "told",
        "object": fact.object,
        "masked_evidence": f"They say that {fact.subject} is [MASK].",
        "evidence": f"They say that {fact.subject} is {fact.object}.",
        "scores": {"descriptive": {"a model": 0.0}, "schematic": {"a model": 0.0}},
    }


def published(folder: Path, learn: Fact, keep: Fact) -> Path:
    folder.mkdir()
    for name, fact in (("variant", learn), ("invariant_descriptive", keep)):
        (folder / f"{name}.jsonl").write_text(json.dumps(row(fact, f"{name}-0")) + "\n")
    return folder


def test_pairs_join_but_for_those_of_a_probed_fact(tmp_path: Path, small: Path, command: Command) -> None:
    pairs = load_benchmark(str(small)).attention
    same, stated = pairs[0].fact, pairs[1].fact
    asked_otherwise = Fact(**{**asdict(same), "object": "Nobody"})  # the same relation of the same subject
    said = Fact(**{**asdict(stated), "relation": "P19"})  # which the pair's text states
    folder = published(tmp_path / "src", asked_otherwise, said)
    build = ("build", "lama-ckl", "--published", folder, "--pairs", small, "--out")
    done = command(*build, "built")
    assert done.code == 0, done.err
    mine = load_benchmark("built")
    out = [
        pair.id
        for pair in pairs
        if (pair.fact.subject, pair.fact.relation) == (same.subject, same.relation)
        or (stated.subject in pair.text and stated.object in pair.text)
    ]
    assert {pairs[0].id, pairs[1].id} <= set(out)
    assert [pair.id for pair in mine.attention] == [pair.id for pair in pairs if pair.id not in out]
    assert f"{len(mine.attention)}  attention" in done.out
    assert f"{len(out)}  refused: solved pairs of a probed fact" in done.out
    assert mine.manifest["sources"][-1]["sha256"] == load_benchmark(str(small)).hash
    assert command(*build, "built").code == 0  # it is there already
    assert command("run", "--method", "oracle", "--benchmark", "built", "--model", "tiny", "--epochs", 1).code == 0


def test_without_pairs_the_message_says_how_to_get_some(tmp_path: Path, small: Path, command: Command) -> None:
    folder = published(tmp_path / "src", *BARE)
    assert command("build", "lama-ckl", "--published", folder, "--out", "bare").code == 0
    run = command("run", "--method", "restate+lora-null", "--benchmark", "bare", "--model", "tiny")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "--pairs lama-ckl-mini (build own, build lama-ckl --published)" in run.err


def test_pairs_are_for_published_rows_and_need_some_to_lend(tmp_path: Path, small: Path, command: Command) -> None:
    folder = published(tmp_path / "src", *BARE)
    assert command("build", "lama-ckl", "--published", folder, "--out", "bare").code == 0
    build = ("build", "lama-ckl", "--out", "other", "--pairs")
    none = command(*build, "bare", "--published", folder)
    assert (none.code, none.err.count("\n")) == (2, 1)
    assert "has no solved pairs" in none.err
    lama = command(*build, small, "--lama", tmp_path, "--pretest-model", "tiny")
    assert lama.code == 2
    assert "is for --published DIR" in lama.err
    assert not Path("other").exists()
