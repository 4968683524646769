"""LAMA's release as it is read: against the published rows, row by row, and with every kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import Fact
from ckl_bench.benchmarks.lama_sources import (
    descriptive_prompt,
    read_lama,
    read_published,
    read_relations,
    schematic_prompt,
)
from ckl_bench.storage.files import read_jsonl
from conftest import Command, write_lama


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
