"""Solved pairs of another benchmark in one's own: what joins it, what is passed over, and who learns from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.own import build_own
from ckl_bench.benchmarks.own_check import OwnSources, read_own
from conftest import Command
from helpers.own import GOOD, MAYORS, TOWNS, write_own

FEW = ("restate.beams=2", "restate.replay=4", "restate.statements=2", "lora-null.questions=8", "lora-null.r=2")
TRAINING = ("--set", "r=2", "--set", "epochs=1")


def built(sources: OwnSources, out: Path) -> dict[str, object]:
    models = {"known": ("test", lambda probes: [0.0] * len(probes))}
    made: dict[str, object] = build_own(
        sources, read_own(sources), out, models=models, length=lambda text: len(text.split())
    )
    return made


def test_pairs_of_another_benchmark_join_as_they_are(tmp_path: Path, small: Path) -> None:
    sources = replace(write_own(tmp_path, GOOD), pairs=str(small))
    counts = built(sources, tmp_path / "mine")
    mine, other = load_benchmark(str(tmp_path / "mine")), load_benchmark(str(small))
    assert counts["kept"]["attention"] == len(other.attention) == 11  # type: ignore[index]
    files = (mine.manifest["files"], other.manifest["files"])
    assert files[0]["attention/train.jsonl"] == files[1]["attention/train.jsonl"]  # what was trained on them fits
    assert {"file": "small", "sha256": other.hash} in [
        {name: source[name] for name in ("file", "sha256")} for source in mine.manifest["sources"]
    ]


def test_pairs_about_what_is_asked_are_passed_over_and_marked_ones_stand_first(tmp_path: Path, small: Path) -> None:
    pairs = load_benchmark(str(small)).attention
    told, kept = pairs[0].fact, pairs[1].fact
    marked = f"{TOWNS[2]} is run by,{MAYORS[2]},extra,attention\n"
    sources = write_own(tmp_path, GOOD + marked)
    docs = Path(sources.documents)
    (docs / "brell.txt").write_text(f"{(docs / 'brell.txt').read_text()} It lies far from {told.subject}.")
    (docs / "extra.txt").write_text(f"{TOWNS[2]} is run by {MAYORS[2]}.")
    assert sources.keep is not None
    sources.keep.write_text(f"prompt,answer\n{kept.subject} is well known for,{kept.object}\n")
    counts = built(replace(sources, pairs=str(small)), tmp_path / "mine")
    mine = load_benchmark(str(tmp_path / "mine"))
    subjects = [row.fact.subject for row in mine.attention]
    assert mine.attention[0].text == f"{TOWNS[2]} is run by {MAYORS[2]}."
    assert not {told.subject, kept.subject} & set(subjects)
    passed = sum(row.fact.subject == told.subject or row.fact == kept for row in pairs)
    assert counts["refused"]["solved pairs about what your documents or questions speak of"] == passed  # type: ignore[index]
    assert len(mine.attention) == 1 + len(pairs) - passed


def test_the_methods_that_learn_from_pairs_run_on_ones_own_documents(
    command: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = write_own(tmp_path, GOOD)
    shipped = tmp_path / "data" / "writers" / "tiny--small.safetensors"
    shipped.parent.mkdir(parents=True)
    made = command("prepare", "restate", "--benchmark", small, "--model", "tiny", "--out", shipped, *TRAINING)
    assert made.code == 0, made.err
    more = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    build = ("build", "own", *more, "--no-rehearsal", "--pretest-model", "tiny", "--out")
    assert command(*build, "mine", "--pairs", small).code == 0
    monkeypatch.setattr("ckl_bench.storage.prepared.data_dir", lambda: tmp_path / "data")
    run = ("run", "--benchmark", "mine", "--model", "tiny", "--epochs", 1, "--json", "--method")
    few = [word for one in FEW for word in ("--set", one)]
    found, named = command(*run, "restate+lora-null", *few), [*few, "--set", "restate.writer=small"]
    by_name = command(*run, "restate+lora-null", *named, "--output", "other")
    assert (found.code, by_name.code) == (0, 0), found.err + by_name.err
    assert json.loads(found.out)["stages"] == json.loads(by_name.out)["stages"]
    assert json.loads(by_name.out)["told"] is False
    wrong = command(*run, "restate", "--set", "restate.writer=elsewhere")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "there is no writer 'elsewhere' for model 'tiny'; take one trained on other facts" in wrong.err


@pytest.mark.parametrize("method", ["restate", "lora-null", "restate+lora-null"])
def test_without_pairs_these_methods_say_how_to_get_some(method: str, command: Command, tmp_path: Path) -> None:
    built(write_own(tmp_path, GOOD), tmp_path / "mine")
    done = command("run", "--method", method, "--benchmark", "mine", "--model", "tiny")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "build it with --pairs lama-ckl-mini" in done.err
    assert not (tmp_path / "runs").exists()


def refused(command: Command, sources: OwnSources, *more: object) -> str:
    given: Sequence[object] = ("--documents", sources.documents, "--questions", sources.questions, "--out", "out")
    done = command("build", "own", *given, "--pretest-model", "tiny", *more)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert not Path("out").exists()
    return done.err


def test_what_has_no_pairs_to_give_is_one_line(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path, GOOD)
    built(sources, tmp_path / "mine")
    assert "has no solved pairs" in refused(command, sources, "--pairs", "mine")
    assert "nowhere" in refused(command, sources, "--pairs", "nowhere")
