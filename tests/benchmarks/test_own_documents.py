"""Documents of one's own: how they are found and cut into passages, and what is said of each that is malformed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ckl_bench.benchmarks.own_check import OwnSources, read_own
from ckl_bench.benchmarks.own_documents import passages
from ckl_bench.errors import UserError
from conftest import Command
from helpers.own import TOWNS, assert_refused, built, write_own


def test_long_documents_are_cut_at_paragraphs_then_sentences_then_words() -> None:
    def length(text: str) -> int:
        return len(text.split())

    text = "One two three.\n\nFour five. Six seven eight.\n\n" + " ".join(["nine"] * 9) + "\n\nTen."
    parts = passages(text, 4, length)
    assert parts == ["One two three.", "Four five.", "Six seven eight.", "nine nine nine nine", "nine nine nine nine",
                     "nine\n\nTen."]  # fmt: skip
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert passages(text, 100, length) == [text]
    assert "".join(passages("x" * 100, 30, len)) == "x" * 100


def test_a_document_is_not_called_as_a_passage_of_another(tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    (tmp_path / "docs" / "brell#2.txt").write_text("More.")
    with pytest.raises(UserError, match="document 'brell#2' is called as a passage of 'brell' is; rename it"):
        built(sources, tmp_path / "mine", passage_tokens=4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: (d / "void.txt").write_text(" \n"), "void.txt: the document is empty"),
        (lambda d: (d / "brell.md").write_text("Twice."), "brell.txt: the id 'brell' is taken by .*brell.md"),
        (lambda d: (d / "a.txt").write_bytes(b"caf\xe9"), "a.txt: byte 0xe9 is not UTF-8"),
        (lambda d: (d / "a.txt").write_bytes(b"\x00\x01"), "a.txt: holds NUL characters"),
        (lambda d: (d / "a.txt").write_text("\ufeff\u200b\n"), "a.txt: the document is empty"),
        (lambda d: (d / "a.txt").write_bytes("A".encode("utf-16")), "a.txt is UTF-16; save it as UTF-8"),
        (lambda d: (d / "a.txt").symlink_to("a.txt"), "cannot read .*a.txt: it is a broken link, or no file"),
        (lambda d: os.mkfifo(d / "a.txt"), "cannot read .*a.txt: it is a broken link, or no file"),
        (lambda d: (d / "a.md").write_text("---\na: b\n---\n"), "a.md: the document is empty"),
        (lambda d: (d / " .txt").write_text("A."), "its name is blank"),
        (lambda d: (d / "brell.txt").rename(d / "brell.docx"), "no document 'brell' .files .* were not read: 1.; exp"),
        (lambda d: [f.rename(f.with_suffix(".pdf")) for f in d.iterdir()], "no .txt or .md file in it .3 others"),
    ],
)
def test_a_malformed_document_is_refused_in_one_line(
    change: Callable[[Path], object], says: str, command: Command, tmp_path: Path
) -> None:
    sources = write_own(tmp_path)
    change(tmp_path / "docs")
    assert_refused(command, sources, says)


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        ([{"body": "x"}], (), "jsonl:1: no column 'text'; give --text-column one of: body"),
        ([{"text": None}], (), "jsonl:1: 'text' is empty; expected text"),
        ([{"text": "a", "id": "x"}, {"text": "b", "id": "x"}], (), "jsonl:2: the id 'x' is taken by"),
        ([{"text": "a", "id": ""}], (), "jsonl:1: the id is empty"),
        ([{"text": "a", "id": {"a": 1}}], (), "jsonl:1: 'id' is of type dict; expected text, a whole number or a date"),
        ([{"text": "a"}], ("--stages", ""), "jsonl:1: no column ''; give --stages one of: text"),
        ([{"text": "a"}], ("--lr", "nan"), "--lr nan: expected a rate above 0"),
        (
            [{"text": t, "id": t.lower(), "date": d} for t, d in zip(TOWNS, ("May", "June 2023", "July"), strict=True)],
            ("--stages", "date"),
            "stage 'May': the order of such dates is not clear",
        ),
        ([{"text": "a"}], ("--stages", "date"), "no column 'date'; give --stages one of: text"),
        ([{"text": "a", "date": ""}], ("--stages", "date"), "'date' is empty; every document belongs to a stage"),
        (
            [
                {"text": t, "id": t.lower(), "date": d}
                for t, d in zip(TOWNS, ("03/2024", "11/2023", "1/2022"), strict=True)
            ],
            ("--stages", "date"),
            "the order of such dates is not clear; write them as 2024-03",
        ),
        (
            [{"text": t, "id": t.lower(), "date": t} for t in (*TOWNS, "Silent")],
            ("--stages", "date"),
            "stage 'Silent': no question of set 'to_learn' asks about its documents",
        ),
    ],
)
def test_a_malformed_table_of_documents_is_refused_in_one_line(
    rows: list[dict[str, object]], more: tuple[str, ...], says: str, command: Command, tmp_path: Path
) -> None:
    sources = write_own(tmp_path)
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = OwnSources(documents=str(tmp_path / "d.jsonl"), questions=sources.questions, keep=sources.keep)
    assert_refused(command, sources, says, *more)


def test_folders_are_read_once_though_links_lead_back(tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.md").write_text("More.")
    (tmp_path / "docs" / "back").symlink_to("..")
    (tmp_path / "docs" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "docs" / "again").symlink_to(tmp_path / "elsewhere")
    texts = read_own(sources).stages["documents"]
    assert sorted(text.id for text in texts) == ["brell", "castow", "dunmere", "more"]


def test_the_benchmark_goes_beside_its_documents(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path / "docs" / "deep")
    within = OwnSources(documents=str(tmp_path), questions=sources.questions, keep=sources.keep)
    assert_refused(command, within, "lies in the folder of documents, and would be read with them; put it elsewhere")


def test_a_data_set_that_is_not_there_is_said_in_one_line(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    sources = OwnSources(documents="nobody/nothing", questions=sources.questions, keep=sources.keep)
    assert_refused(command, sources, "nobody/nothing: no such file or folder, and not a data set that loads")
