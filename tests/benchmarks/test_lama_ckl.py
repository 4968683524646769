"""The LAMA-ckl builder: the benchmark that it makes of the published rows and of a small release, and damage to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import Fact, load_benchmark
from ckl_bench.benchmarks.lama_ckl import build_from_lama
from ckl_bench.benchmarks.lama_select import Rules
from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_jsonl, read_sealed
from ckl_bench.storage.json import sealed
from ckl_bench.storage.writing import write_json
from conftest import Command, knows_first_capitals, write_lama

MODELS = {"known": ("test", knows_first_capitals)}


def test_published_files_become_a_benchmark_row_for_row(reference: Path, tmp_path: Path, command: Command) -> None:
    result = command("build", "lama-ckl", "--published", reference / "lama_ckl", "--out", tmp_path / "full")
    assert result.code == 0
    benchmark = load_benchmark(str(tmp_path / "full"))
    assert benchmark.manifest["defaults"] == {"epochs": 30, "batch_size": 64, "learning_rate": 1e-4}
    stage = benchmark.stages[0]
    assert {name: len(probes) for name, probes in stage.probes.items()} == {"to_learn": 500, "not_to_forget": 500}
    rows = [row for _, row in read_jsonl(reference / "lama_ckl" / "variant.jsonl")]
    assert [d.text for d in stage.documents] == [row["evidence"] for row in rows]
    assert [p.prompt for p in stage.probes["to_learn"]] == [row["task_descriptive"] for row in rows]


def test_the_sets_are_disjoint_and_the_counts_add_up(small: Path) -> None:
    benchmark = load_benchmark(str(small))
    stage = benchmark.stages[0]
    probed = [*stage.probes["to_learn"], *stage.probes["not_to_forget"]]
    assert [d.id for d in stage.documents] == [p.id for p in stage.probes["to_learn"]]
    apart = [*benchmark.attention, *benchmark.rehearsal]
    assert not {p.id for p in probed} & {d.id for d in apart}
    assert not {(p.subject, p.relation) for p in probed} & {(d.fact.subject, d.fact.relation) for d in apart if d.fact}
    assert not {d.text for d in stage.documents} & {d.text for d in apart}
    counts = benchmark.manifest["counts"]
    assert counts["facts"] == 24
    assert counts["kept"] == {"to_learn": 5, "not_to_forget": 5, "attention": 11, "rehearsal": 3}
    assert all(d.fact and d.fact.object in d.text and len(d.text) > 200 for d in [*stage.documents, *apart])


def test_evidence_reads_as_its_source_wrote_it(tmp_path: Path) -> None:
    folder = write_lama(tmp_path / "lama")
    path = folder / "TREx" / "P108.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    rows[0]["evidences"][1] |= {"obj_surface": "Omani", "masked_sentence": "Person 0, an [MASK] clerk" + ", so" * 80}
    rows[0]["obj_label"] = "Oman"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_from_lama(folder, tmp_path / "b", models=MODELS, to_learn=12, not_to_forget=5)
    (stage,) = load_benchmark(str(tmp_path / "b")).stages
    (document,) = (d for d in stage.documents if d.id == rows[0]["uuid"])
    assert document.text.startswith("Person 0, an Omani clerk, so")
    assert document.fact == Fact(subject="Person 0", relation="P108", object="Oman", surface="Omani")
    (probe,) = (p for p in stage.probes["to_learn"] if p.id == rows[0]["uuid"])
    assert probe.object == "Oman"
    assert all(d.fact and d.fact.surface is None for d in stage.documents if d.id != document.id)


def passing(folder: Path) -> Path:
    """A release one of whose attention rows and one of whose rehearsal rows states the first to-learn fact."""
    said = " Person 0 was seen at ObjectP108x0."
    for code, number in (("P36", 9), ("P36", 7)):  # not known to the pre-test model, known to it
        path = folder / "TREx" / f"{code}.jsonl"
        rows = [row for _, row in read_jsonl(path)]
        rows[number]["evidences"][1]["masked_sentence"] += said
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_rows_that_state_a_probed_fact_in_passing_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = passing(write_lama(tmp_path / "lama"))
    size = {"models": MODELS, "to_learn": 12, "not_to_forget": 6, "seed": 1}
    counts = build_from_lama(folder, tmp_path / "b", **size)  # type: ignore[arg-type]
    benchmark = load_benchmark(str(tmp_path / "b"))
    known = {p.id for p in benchmark.stages[0].probes["not_to_forget"]}
    stating = {"attention": 1, "rehearsal": int("P36-7" not in known)}
    assert counts["stating_a_probed_fact"] == benchmark.manifest["counts"]["stating_a_probed_fact"] == stating
    assert counts["left_out"]["states a probed fact in passing"] == sum(stating.values())
    assert not {"P36-7", "P36-9"} & {d.id for d in [*benchmark.attention, *benchmark.rehearsal]}
    kept = build_from_lama(folder, tmp_path / "kept", rules=Rules(keep_stated=True), **size)  # type: ignore[arg-type]
    assert kept["kept_stated"] == stating
    assert kept["kept"]["attention"] == counts["kept"]["attention"] + 1
    assert "P36-9" in {d.id for d in load_benchmark(str(tmp_path / "kept")).attention}


def test_the_papers_rules_are_options_and_a_message_says_at_which_the_facts_fell(tmp_path: Path) -> None:
    folder = write_lama(tmp_path / "lama")
    size = {"models": MODELS, "to_learn": 1, "not_to_forget": 1}
    with pytest.raises(UserError, match="24 evidence of 5000 characters or less"):
        build_from_lama(folder, tmp_path / "b", rules=Rules(min_evidence=5000), **size)  # type: ignore[arg-type]
    both = Rules(invariant=frozenset({"P36", "P108"}))
    with pytest.raises(UserError, match="no fact qualifies; of 24 facts read fell: 24 of a relation that does"):
        build_from_lama(folder, tmp_path / "b", rules=both, **size)  # type: ignore[arg-type]
    other = Rules(invariant=frozenset({"P108"}))
    with pytest.raises(UserError, match=r"12 of a relation that changes .*; 12 not wholly known"):
        build_from_lama(folder, tmp_path / "b", rules=other, **size)  # type: ignore[arg-type]


def test_the_same_source_gives_the_same_hash_and_another_seed_another(lama: Path, tmp_path: Path) -> None:
    hashes = []
    for i, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(i) / "b"
        build_from_lama(lama, out, models=MODELS, to_learn=5, not_to_forget=5, seed=seed)
        hashes.append(load_benchmark(str(out)).hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_facts_in_no_set_are_counted_by_reason(tmp_path: Path) -> None:
    folder = write_lama(tmp_path / "lama")
    path = folder / "TREx" / "P108.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    for row in rows[1:]:
        row["sub_label"] = "Person 0"  # every other employer of the one person whose employer is asked for
        row["evidences"][1]["masked_sentence"] += " It was Person 0."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    half = {
        "half": (
            "r",
            lambda probes: [
                0.5 if p.id == "P36-11" else s for p, s in zip(probes, knows_first_capitals(probes), strict=True)
            ],
        )
    }
    counts = build_from_lama(folder, tmp_path / "b", models=half, to_learn=1, not_to_forget=8)
    assert counts["kept"] == {"to_learn": 1, "not_to_forget": 8, "attention": 3, "rehearsal": 0}
    assert counts["left_out"] == {
        "known in part: its pre-test accuracy fits no set": 1,
        "shares its passage, or subject and relation, with a probe": 11,
    }


def test_build_through_the_command_with_a_real_pretest(tmp_path: Path, command: Command) -> None:
    folder = write_lama(tmp_path / "lama")
    arguments = ("build", "lama-ckl", "--lama", folder, "--pretest-model", "tiny", "--out", tmp_path / "b")
    result = command(*arguments, "--to-learn", 4, "--not-to-forget", 4)
    assert result.code == 2  # a random model knows no capital
    assert "--not-to-forget 4: no fact qualifies" in result.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("damage", ["documents", "probes", "manifest", "schema", "empty"])
def test_a_damaged_benchmark_is_refused(damage: str, small: Path, tmp_path: Path, command: Command) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(small, folder)
    stage = folder / "stages" / "01-facts"
    manifest = read_sealed(folder / "manifest.json")
    if damage == "documents":
        (stage / "documents.jsonl").open("a").write("\n")
        words = "does not match the manifest"
    elif damage == "probes":
        (stage / "probes-to_learn.jsonl").unlink()
        words = "missing"
    elif damage == "manifest":
        del manifest["stages"]
        words = "'stages': field required"
    elif damage == "schema":
        manifest["schema"] = 99
        words = "schema 99"
    else:
        (stage / "probes-to_learn.jsonl").write_text("")
        manifest["files"]["stages/01-facts/probes-to_learn.jsonl"] = (
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        words = "probe set 'to_learn' of stage 'facts' is empty"
    write_json(folder / "manifest.json", sealed(manifest))
    result = command("run", "--method", "lora", "--model", "tiny", "--benchmark", folder)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("\n") == 1
