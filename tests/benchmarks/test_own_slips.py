"""Slips that cannot be seen, or that look right: signs, numbers, dates, the same thing written twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckl_bench.benchmarks.own_check import OwnSources, read_own
from ckl_bench.errors import UserError
from conftest import Command
from helpers.own import GOOD, HEADER, TOWNS, assert_refused, write_own

WHO = "The mayor of Brell is"
SLIPS: dict[str, tuple[str | bytes, str]] = {
    "letters put together otherwise": (
        f"{HEADER}It is the Cafe\u0301,Caf\u00e9,brell,\n",
        "differ by signs that look alike",
    ),
    "a space that does not break": (f"{HEADER}He is Anselm\u00a0Trow,Anselm Trow,brell,\n", "by signs that look alike"),
    "capital letters": (
        f"{HEADER}He is ANSELM TROW,Anselm Trow,brell,\n",
        "'ANSELM TROW' .* differ by capital letters",
    ),
    "capital letters, further before": (f"{HEADER}So ANSELM TROW rules,Anselm Trow,brell,\n", "by capital letters"),
    "a part of a number": (
        f"{HEADER}It has 42.0,42,brell,\n",
        r"only within something longer; .* mark the place: ..42",
    ),
    "a mark of direction": (f"{HEADER}{WHO},\u200fTrow,brell,\n", r"csv:2: 'answer' begins .* cannot be seen .U.200F."),
    "files put together": (
        f"{GOOD}\ufeff{WHO} still,Bo,brell,\n",
        r"csv:5: 'prompt' begins .* cannot be seen .U.FEFF.",
    ),
    "the same of two documents": (
        f"{HEADER}The mayor is,A,brell,\nThe mayor is,B,castow,\n",
        "csv:3: asks what .*csv:2",
    ),
    "a quote that stays open": (f'{HEADER}"{WHO},Trow,brell,\n{WHO} not,Bo,brell,\n', "csv:2: a quote .* never closed"),
    "a quote within a text": (
        f'{HEADER}"The "mayor" is",Trow,brell,\n',
        'csv:2: in the row that begins here: .* as ""',
    ),
    "quotes of a word processor": (f"{HEADER}“Brell, a town, has”,Trow,brell,\n", "csv:2: quotes .* are straight"),
    "a carriage return": (
        f"{HEADER}{WHO},Trow,brell,\r{WHO} not,Bo,brell,\n",
        "csv:2: has a carriage return .CR. within",
    ),
    "a comment before the names": (f"# mine\n{GOOD}", "csv:1: names one column .'# mine'. .* prompt, answer"),
    "what a benchmark has already": (f"{HEADER}{WHO},Trow,brell,rehearsal\n", "csv:2: set 'rehearsal' .* name it anew"),
    "kept and learned, by its capitals": (
        f"{GOOD}the capital of  France is,Paris,,\n",
        "keep.csv:2: is asked in .*csv:5",
    ),
    "a PDF": (b"%PDF-1.7\n", "is a PDF, and no plain text"),
}


@pytest.mark.parametrize("kind", SLIPS)
def test_a_slip_that_is_hard_to_see_is_said_in_one_line(kind: str, command: Command, tmp_path: Path) -> None:
    content, says = SLIPS[kind]
    assert_refused(command, write_own(tmp_path, content), says)


def test_a_key_that_stands_twice_is_refused(command: Command, tmp_path: Path) -> None:
    row = f'{{"prompt": "{WHO}", "answer": "Trow", "answer": "Bo"}}\n'
    assert_refused(command, write_own(tmp_path, row, "q.jsonl"), "jsonl:1: .*'answer' stands twice")


def test_a_folder_in_place_of_a_table_is_refused(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    sources.questions.unlink()
    sources.questions.mkdir()
    assert_refused(command, sources, "it is no file; give a .csv")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: (d / "a.txt").write_bytes(b"{\\rtf1 A}"), "a.txt is RTF, and no plain text"),
        (
            lambda d: (d / "more").mkdir() or (d / "more" / "brell.txt").write_text("B."),
            "brell' is taken .* rename one",
        ),
        (
            lambda d: Path(os.fsdecode(os.fsencode(d) + b"/\xff.txt")).write_text("A."),
            "its name is not UTF-8; rename it",
        ),
    ],
)
def test_a_document_that_is_none_is_refused(
    change: Callable[[Path], object], says: str, command: Command, tmp_path: Path
) -> None:
    sources = write_own(tmp_path)
    change(tmp_path / "docs")
    assert_refused(command, sources, says)


def staged(folder: Path, *when: str) -> OwnSources:
    """The three documents in a table whose column `when` names their stages."""
    sources = write_own(folder)
    rows = "".join(f"{t.lower()},{t} is a town.,{w}\n" for t, w in zip(TOWNS, when, strict=True))
    (folder / "d.csv").write_text("id,text,when\n" + rows)
    return OwnSources(documents=str(folder / "d.csv"), questions=sources.questions, keep=sources.keep, stages="when")


@pytest.mark.parametrize(
    "when",
    [
        ("Q1 2025", "Q2 2025", "Q4 2024"),
        ("Q1/25", "Q2/25", "Q4/24"),
        ("März 2024", "Mai 2024", "Juni 2024"),
        ("01-03-2024", "02-01-2024", "03-02-2024"),
        ("01.03.24", "02.01.24", "03.02.24"),
        ("March", "April", "May"),
        ("1st March 2024", "2nd May 2024", "3rd June 2024"),
        ("Monday", "Tuesday", "Friday"),
    ],
)
def test_stages_whose_order_would_be_guessed_are_refused(when: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the order of such dates is not clear; write them as 2024-03"):
        read_own(staged(tmp_path, *when))


@pytest.mark.parametrize(
    "when",
    [
        ("2023-Q4", "2024-Q1", "2024-Q2"),
        ("Q1 2024", "Q2 2024", "Q3 2024"),
        ("FY9", "FY10", "FY11"),
        ("Marathon", "Marketing", "Mayor"),
        ("1.2.4", "1.2.30", "1.3.1"),
        ("release 2023", "release 2024", "release 2025"),
        ("20231201", "20240101", "20240301"),
    ],
)
def test_stages_whose_order_is_clear_are_taken(when: tuple[str, ...], tmp_path: Path) -> None:
    assert tuple(read_own(staged(tmp_path, *reversed(when))).stages) == when


def test_the_column_of_the_text_is_none_of_stages(tmp_path: Path) -> None:
    sources = staged(tmp_path, "1", "2", "3")
    with pytest.raises(UserError, match="--stages text: is the column of the text"):
        read_own(OwnSources(documents=sources.documents, questions=sources.questions, keep=sources.keep, stages="text"))


def test_a_later_stage_may_have_another_answer(tmp_path: Path) -> None:
    sources = staged(tmp_path, "1", "2", "3")
    sources.questions.write_text(HEADER + "".join(f"The capital is,{t},{t.lower()},\n" for t in TOWNS))
    assert [q.probe.object for q in read_own(sources).questions] == list(TOWNS)


def test_what_may_be_meant_is_noted(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path, f"{GOOD}{WHO},Old Trow,brell,outdated\n{WHO},Anselm Trow,brell,again\n,,,\n,,,\n")
    (tmp_path / "docs" / "note.md").write_text("---\ntitle: A note\n---\nOf the town.")
    (tmp_path / "docs" / "copy.txt").write_bytes((tmp_path / "docs" / "brell.txt").read_bytes())
    (tmp_path / "docs" / "castow.txt").write_text("Its mayor is Beata\nQuill.\r\rIt has a fair.\r")
    given = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    done = command("build", "own", *given, "--no-rehearsal", "--pretest-model", "tiny", "--out", "mine")
    assert done.code == 0, done.err
    assert "csv:5 asks what" in done.err
    assert f"csv:6 asks what {sources.questions}:2 asks, in another set; is that meant?" in done.err
    assert "1 .md files of" in done.err
    assert "copy.txt says the same as" in done.err
    assert f"the answer of {sources.questions}:5 is nowhere in its document" in done.err  # and no other one
    assert '"text": "Its mayor is Beata\\nQuill.\\n\\nIt has a fair."' in "".join(
        path.read_text() for path in Path("mine").glob("stages/*/documents.jsonl")
    )


def test_answers_in_any_script_stand_where_they_belong(tmp_path: Path) -> None:
    rows = "עיר הבירה של צרפת היא,פריז,brell,\nThe mascot is 🦊,🦊,brell,\n"
    rows += "Its flag is,🏴󠁧󠁢󠁳󠁣󠁴󠁿,brell,\n法国的首都是巴黎,巴黎,brell,\n"
    prompts = [q.probe.prompt for q in read_own(write_own(tmp_path, HEADER + rows)).questions]
    assert prompts == ["עיר הבירה של צרפת היא פריז", "The mascot is 🦊", "Its flag is 🏴󠁧󠁢󠁳󠁣󠁴󠁿", "法国的首都是巴黎"]


def test_a_name_that_is_no_text_is_refused(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    given = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    out = os.fsdecode(b"m\xff")
    done = command("build", "own", *given, "--no-rehearsal", "--pretest-model", "tiny", "--out", out)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "this name is not UTF-8; give another --out" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "keep.csv", "questions.csv"]


def test_a_name_is_found_however_its_letters_are_put_together(tmp_path: Path) -> None:
    sources = write_own(tmp_path, f"{HEADER}It is,Caf\u00e9, caf\u00e9,\n")
    (tmp_path / "docs" / "cafe\u0301 .txt").write_text("It is Caf\u00e9.")
    assert [q.document for q in read_own(sources).questions] == ["caf\u00e9"]


def test_whole_numbers_of_a_column_with_gaps_are_integers(tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    rows = {"prompt": ["The year is", "It was"], "answer": [1987.0, 1988.0], "document": [1.0, float("nan")]}
    pq.write_table(pa.table(rows), tmp_path / "q.parquet")
    (tmp_path / "d.csv").write_text("id,text\n1,It was 1987.\n")
    read = read_own(OwnSources(documents=str(tmp_path / "d.csv"), questions=tmp_path / "q.parquet", keep=sources.keep))
    assert [(q.probe.object, q.document) for q in read.questions] == [("1987", "1"), ("1988", None)]


_NO_TEXT = pa.array([b"\xff"]).view(pa.string())


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"text": _NO_TEXT}, "column 'text' cannot be read .UnicodeDecodeError"),
        ({"when": pa.array([2**31 - 1], pa.date32())}, "column 'when' cannot be read .OverflowError"),
        ({"when": pa.array([1], pa.timestamp("s", tz="Foo/Bar"))}, "column 'when' cannot be read .*Foo/Bar"),
        ({"body": pa.array(["A."])}, "d.parquet: no column 'text'; give --text-column one of: body"),
    ],
)
def test_what_python_cannot_read_of_parquet_is_refused(
    columns: dict[str, pa.Array], says: str, command: Command, tmp_path: Path
) -> None:
    sources = write_own(tmp_path)
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    sources = OwnSources(documents=str(tmp_path / "d.parquet"), questions=sources.questions, keep=sources.keep)
    assert_refused(command, sources, says)


def test_documents_come_from_a_data_set_by_its_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []

    def load(name: str, config: str | None, split: str) -> list[dict[str, object]]:
        asked.append((name, config, split))
        return [{"id": town.lower(), "body": f"{town} is a town."} for town in TOWNS]

    monkeypatch.setattr("datasets.load_dataset", load)
    questions = write_own(tmp_path).questions
    for given in ("owner/name:config@split", "owner/name"):
        read = read_own(OwnSources(documents=given, questions=questions, text_column="body"))
        assert [text.id for text in read.stages["documents"]] == ["brell", "castow", "dunmere"]
    assert asked == [("owner/name", "config", "split"), ("owner/name", None, "train")]
    with pytest.raises(UserError, match="owner/name: no column 'text'; give --text-column one of: id, body"):
        read_own(OwnSources(documents="owner/name", questions=questions))


@pytest.mark.parametrize(
    ("documents", "questions", "says"),
    [
        ("", "q.csv", "--documents '': names nothing; give a folder"),
        ("nope.txt", "q.csv", "--documents nope.txt: does not exist; give a folder"),
        ("docs", "", "--questions: names no file; give a .csv"),
    ],
)
def test_what_is_not_there_is_said(documents: str, questions: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_own(OwnSources(documents=documents, questions=Path(questions)))


def test_two_columns_of_one_name_are_refused_in_parquet_too(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array(["A."]), pa.array(["B."])], names=["text", "text"]), tmp_path / "d.parquet")
    with pytest.raises(UserError, match="two columns are named 'text'; rename one of them"):
        read_own(OwnSources(documents=str(tmp_path / "d.parquet"), questions=tmp_path / "q.csv"))
