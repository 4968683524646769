"""The LAMA-ckl builder: against the published rows, and on a small release with every kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import Fact, load_benchmark
from ckl_bench.benchmarks.lama_ckl import build_from_lama
from ckl_bench.benchmarks.lama_select import Rules, eligible, select
from ckl_bench.benchmarks.lama_sources import (
    Candidate,
    descriptive_prompt,
    read_lama,
    read_published,
    read_relations,
    schematic_prompt,
)
from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_jsonl, read_sealed
from ckl_bench.storage.json import sealed
from ckl_bench.storage.writing import write_json
from conftest import Command, knows_first_capitals, write_lama

MODELS = {"known": ("test", knows_first_capitals)}


def test_every_published_row_lands_in_the_set_it_came_from(reference: Path) -> None:
    variant = read_published(reference / "lama_ckl" / "variant.jsonl")
    invariant = read_published(reference / "lama_ckl" / "invariant_descriptive.jsonl")
    assert (len(variant), len(invariant)) == (500, 500)
    for candidate in variant:
        assert eligible(candidate, "to_learn", "descriptive")
        assert not eligible(candidate, "not_to_forget", "descriptive")
    for candidate in invariant:
        assert eligible(candidate, "not_to_forget", "descriptive")
        assert not eligible(candidate, "to_learn", "descriptive")
    chosen = select([*variant, *invariant], to_learn=500, not_to_forget=500, seed=42, form="descriptive")
    assert {c.id for c in chosen.to_learn} <= {c.id for c in variant}
    assert {c.id for c in chosen.not_to_forget} == {c.id for c in invariant}
    assert not chosen.rehearsal


def test_published_prompts_are_rebuilt_to_the_letter(reference: Path) -> None:
    relations = read_relations(reference / "lama_ckl" / "relations.jsonl")
    rows = 0
    for name in ("variant.jsonl", "invariant_descriptive.jsonl"):
        for c in read_published(reference / "lama_ckl" / name):
            label, template = relations[c.fact.relation]
            assert descriptive_prompt(template, c.fact.subject, c.fact.object) == c.descriptive
            assert schematic_prompt(c.fact.subject, label, c.fact.object) == c.schematic
            rows += 1
    assert rows == 1000


def test_the_release_layout_gives_back_the_published_facts(reference: Path) -> None:
    candidates, refused = read_lama(reference / "lama_raw")
    published = [
        c
        for name in ("variant.jsonl", "invariant_descriptive.jsonl")
        for c in read_published(reference / "lama_ckl" / name)
    ]
    assert len(candidates) + sum(refused.values()) == 1000
    by_id = {c.id: c for c in candidates}
    for row in published:
        if row.id in by_id:
            mine = by_id[row.id]
            assert (mine.fact, mine.evidence) == (row.fact, row.evidence)
            assert (mine.descriptive, mine.schematic) == (row.descriptive, row.schematic)
    assert set(refused) <= {"the same fact again"}  # the released pipeline does not look for repeated facts


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


def candidate(code: str, descriptive: tuple[float, ...], schematic: tuple[float, ...]) -> Candidate:
    return Candidate(
        id=code,
        fact=Fact(subject="s", relation=code, object="o"),
        evidence="e",
        descriptive="d",
        schematic="s",
        scores={"descriptive": descriptive, "schematic": schematic},
    )


def test_the_selection_rules_at_their_borders() -> None:
    variant, invariant = "P108", "P36"
    assert eligible(candidate(invariant, (1.0, 1.0), (0.0, 0.0)), "not_to_forget", "descriptive")
    assert not eligible(candidate(invariant, (1.0, 0.99), (1.0, 1.0)), "not_to_forget", "descriptive")
    assert eligible(candidate(invariant, (1.0, 0.99), (1.0, 1.0)), "not_to_forget", "schematic")
    assert not eligible(candidate(variant, (1.0,), (1.0,)), "not_to_forget", "descriptive")
    assert eligible(candidate(variant, (0.0,), (0.0,)), "to_learn", "descriptive")
    assert not eligible(candidate(variant, (0.0,), (0.1,)), "to_learn", "descriptive")
    assert not eligible(candidate(invariant, (0.0,), (0.0,)), "to_learn", "descriptive")
    assert eligible(candidate(invariant, (0.49,), (0.0,)), "attention", "descriptive")
    assert not eligible(candidate(variant, (0.5,), (0.0,)), "attention", "descriptive")


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


def test_the_longest_evidence_is_taken_and_short_or_foreign_ones_are_counted(tmp_path: Path) -> None:
    folder = write_lama(tmp_path / "lama")
    path = folder / "TREx" / "P108.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    rows[0]["evidences"] = rows[0]["evidences"][:1]
    rows[1]["evidences"][1]["masked_sentence"] = "nobody knows [MASK] " + "at all " * 40
    rows[2]["evidences"][1]["masked_sentence"] = "Person 2 works " + "day and night " * 20
    rows[3] = rows[4]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    candidates, refused = read_lama(folder)
    assert len(candidates) == 20
    assert refused == {
        "evidence of 200 characters or less": 1,
        "subject not in the evidence": 1,
        "object not in the evidence": 1,
        "the same fact again": 1,
    }


def test_a_row_with_a_fault_is_refused_and_counted_and_the_others_are_read(tmp_path: Path) -> None:
    folder = write_lama(tmp_path / "lama")
    path = folder / "TREx" / "P108.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    rows[0]["evidences"].append({"masked_sentence": " "})
    rows[1]["uuid"] = rows[2]["uuid"]
    longest = rows[3]["evidences"][1]
    longest["masked_sentence"] = longest["masked_sentence"].replace("[MASK]", rows[3]["obj_label"])
    rows[4]["evidences"][1] |= {"obj_surface": "Umber", "masked_sentence": "Person 4, an [MASK]n" + ", so" * 80}
    rows[5]["evidences"] = []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    candidates, refused = read_lama(folder)
    assert refused == {
        "an empty masked sentence": 1,
        "the same uuid again": 1,
        "no [MASK] in the masked sentence": 1,
        "object not in the evidence": 1,  # Umber in Umbern
        "evidence of 200 characters or less": 1,
    }
    assert len(candidates) == 24 - 5


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


@pytest.mark.parametrize(("begin", "end"), [("", "\n"), ("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_a_release_is_read_whatever_its_lines_begin_and_end_with(begin: str, end: str, tmp_path: Path) -> None:
    relation = {"relation": "P36", "template": "The capital of [X] is [Y] .", "label": "capital"}
    sentences = ["Lesotho, [MASK]ish of old.", "Lesotho has [MASK], and [MASK]'s hills."]
    rows = [
        {
            **{"uuid": str(i), "sub_label": " Lesotho", "obj_label": "Maseru ", "predicate_id": "P36"},
            "evidences": [{"obj_surface": " Maseru", "masked_sentence": sentence}],
        }
        for i, sentence in enumerate(sentences)
    ]
    (tmp_path / "TREx").mkdir()
    for path, lines in ((tmp_path / "relations.jsonl", [relation]), (tmp_path / "TREx" / "P36.jsonl", rows)):
        path.write_bytes((begin + "".join(json.dumps(line) + end for line in lines)).encode())
    (found,), refused = read_lama(tmp_path, 10)
    assert found.fact == Fact(subject="Lesotho", relation="P36", object="Maseru")
    assert found.evidence == "Lesotho has Maseru, and Maseru's hills."
    assert found.descriptive == "The capital of Lesotho is Maseru ."
    assert refused == {"object not in the evidence": 1}


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


def test_caps_bound_a_relation(tmp_path: Path) -> None:
    many = [
        Candidate(
            id=f"{code}{i}",
            fact=Fact(subject=f"{code}s{i}", relation=code, object=f"o{i}"),
            evidence=f"{code}e{i}",
            descriptive="d",
            schematic="s",
            scores={"descriptive": (known,), "schematic": (known,)},
        )
        for code, count, known in (("P530", 600, 0.0), ("P36", 1, 1.0))
        for i in range(count)
    ]
    with pytest.raises(UserError, match="130 facts qualify"):
        select(many, to_learn=131, not_to_forget=1, seed=0, form="descriptive")
    chosen = select(many, to_learn=130, not_to_forget=1, seed=0, form="descriptive")
    assert (len(chosen.to_learn), len(chosen.attention)) == (130, 350)


def spoil_line(folder: Path) -> None:
    (folder / "TREx" / "P108.jsonl").open("a").write("{not json\n")


def spoil_relation(folder: Path) -> None:
    path = folder / "relations.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def spoil_template(folder: Path) -> None:
    path = folder / "relations.jsonl"
    path.write_text(path.read_text().replace("[Y]", "Y"))


def spoil_field(folder: Path) -> None:
    path = folder / "TREx" / "P36.jsonl"
    path.write_text(path.read_text().replace('"obj_label": "ObjectP36x2"', '"obj_label": null'))


def spoil_all(folder: Path) -> None:
    for path in (folder / "TREx").iterdir():
        path.unlink()


def spoil_bytes(folder: Path) -> None:
    (folder / "TREx" / "P36.jsonl").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_line, "P108.jsonl:13: not valid JSON"),
        (spoil_relation, "P108.jsonl:1: relation P108 is not in"),
        (spoil_template, "relations.jsonl:1: the template needs both"),
        (spoil_field, "P36.jsonl:3: expected a non-empty text 'obj_label'"),
        (spoil_all, "holds no facts"),
        (spoil_bytes, "P36.jsonl:1: not valid UTF-8"),
    ],
)
def test_a_broken_source_is_one_line_and_leaves_nothing(
    spoil: Callable[[Path], None], words: str, tmp_path: Path, command: Command
) -> None:
    folder = write_lama(tmp_path / "lama")
    spoil(folder)
    result = command("build", "lama-ckl", "--lama", folder, "--pretest-model", "tiny", "--out", tmp_path / "out" / "b")
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert words in result.err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


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
