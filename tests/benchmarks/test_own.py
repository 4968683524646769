"""The builder for one's own documents and questions: what it makes, and what it says of what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ckl_bench.benchmarks.format import Probe, load_benchmark
from ckl_bench.benchmarks.lama_ckl import Pretest
from ckl_bench.benchmarks.own import build_own
from ckl_bench.benchmarks.own_check import OwnSources, read_own
from ckl_bench.benchmarks.own_documents import passages
from ckl_bench.benchmarks.own_questions import asked
from ckl_bench.errors import UserError
from ckl_bench.records import read_records
from ckl_bench.storage.files import read_sealed, sha256_file
from conftest import Command, forge
from helpers.own import GOOD, HEADER, MAYORS, TOWNS, assert_refused, write_own


def built(sources: OwnSources, out: Path, scorer: Pretest = lambda probes: [0.0] * len(probes), **more: Any) -> Any:
    models = {"known": ("test", scorer)}
    return build_own(sources, read_own(sources), out, models=models, length=lambda text: len(text.split()), **more)


def test_ten_lines_of_questions_become_a_benchmark_that_runs(command: Command, tmp_path: Path) -> None:
    questions = GOOD + "Who is the mayor of Brell?,Anselm Trow,brell,asked_otherwise\n"
    questions += "Corin Vale governs,Dunmere,dunmere,asked_otherwise\n"
    sources = write_own(tmp_path, questions)
    more = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    done = command("build", "own", *more, "--pretest-model", "tiny", "--out", "mine", "--epochs", 1)
    assert done.code == 0, done.err
    assert "0  of 5 questions are answered before anything is learned, by tiny" in done.out
    run = command("run", "--method", "lora", "--benchmark", "mine", "--model", "tiny", "--epochs", 1)
    assert run.code == 0, run.err
    (record,) = read_records(tmp_path / "runs")
    sets = record.stages[0].epochs[-1].sets
    assert {name: len(scores.probe_nll) for name, scores in sets.items()} == {
        "to_learn": 3,
        "not_to_forget": 2,
        "asked_otherwise": 2,
    }
    table = pd.read_csv(tmp_path / "runs" / "own.csv")
    top = record.stages[0].epochs[int(table["epoch"][0])].sets
    assert table["asked_otherwise_nll"][0] == pytest.approx(top["asked_otherwise"].nll, abs=1e-4)
    first = record.stages[0].epochs[0].sets
    assert table["asked_otherwise_nll_before"][0] == pytest.approx(first["asked_otherwise"].nll, abs=1e-4)
    assert command("report", "--output", "runs").code == 0
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "The mayor of Brell is Anselm Trow" in page  # the benchmark lies where the page is made
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    assert command("report", "--output", "runs").code == 0
    assert "The mayor of Brell is" not in (tmp_path / "runs" / "report.html").read_text()
    (tmp_path / "elsewhere").rename(tmp_path / "mine")
    assert command("leaderboard", "--output", "runs", "--check").code == 0


def test_stages_are_learned_in_order_and_scored_like_months(command: Command, tmp_path: Path) -> None:
    rows = [
        {"id": t, "text": f"The mayor of {t} is {m}.", "batch": f"batch-{b}"}
        for t, m, b in zip(TOWNS, MAYORS, (10, 2, 2), strict=True)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "docs.parquet")
    sources = write_own(
        tmp_path, GOOD.replace(",brell", ",Brell").replace(",castow", ",Castow").replace(",dun", ",Dun")
    )
    sources = OwnSources(
        documents=str(tmp_path / "docs.parquet"), questions=sources.questions, keep=sources.keep, stages="batch"
    )
    built(sources, tmp_path / "mine", defaults={"epochs": 1, "batch_size": 2, "learning_rate": 1e-3})
    benchmark = load_benchmark(str(tmp_path / "mine"))
    assert [(s.name, [p.object for p in s.probes["to_learn"]]) for s in benchmark.stages] == [
        ("batch-2", ["Beata Quill", "Corin Vale"]),
        ("batch-10", ["Anselm Trow"]),
    ]
    for method in ("lora", "none"):
        assert command("run", "--method", method, "--benchmark", "mine", "--model", "tiny").code == 0
    (record,) = (r for r in read_records(tmp_path / "runs") if r.spec.method == "lora")
    table = pd.read_csv(tmp_path / "runs" / "own.csv").set_index("method")
    means = [
        sum(stage.epochs[-1].sets[name].nll for name in ("to_learn", "not_to_forget")) / 2 for stage in record.stages
    ]
    assert table.loc["lora", "avg_nll"] == pytest.approx(sum(means) / 2, abs=1e-4)
    assert table.loc["lora", "batch-10_to_learn_nll"] == pytest.approx(
        record.stages[1].epochs[-1].sets["to_learn"].nll, abs=1e-4
    )
    assert table.loc["lora", "batch-10_to_learn_nll_before"] == pytest.approx(
        record.before["batch-10"]["to_learn"].nll, abs=1e-4
    )
    said = command("compare", "lora", "none", "--benchmark", "mine", "--model", "tiny", "--output", "runs")
    assert said.code == 0, said.err
    assert "average NLL" in said.out
    assert command("report", "--output", "runs", "--figures", "figures").code == 0


def test_what_must_not_be_forgotten_is_drawn_from_what_the_model_knows(tmp_path: Path) -> None:
    sources = write_own(tmp_path, GOOD)
    sources = OwnSources(documents=sources.documents, questions=sources.questions)
    counts = built(sources, tmp_path / "mine", lambda probes: [float(p.relation == "P36") for p in probes])
    benchmark = load_benchmark(str(tmp_path / "mine"))
    kept = benchmark.stages[0].probes["not_to_forget"]
    assert {probe.relation for probe in kept} == {"P36"}
    assert counts["kept"]["not_to_forget"] == len(kept) > 0
    assert counts["kept"]["rehearsal"] == len(benchmark.rehearsal) > 0
    asked_for = {(probe.subject, probe.object) for probe in kept}
    assert not asked_for & {(d.fact.subject, d.fact.object) for d in benchmark.rehearsal if d.fact}
    with pytest.raises(UserError, match=r"knows none of the facts .* --keep FILE"):
        built(sources, tmp_path / "other")


def test_without_rehearsal_only_ones_own_questions_are_asked(tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    asked_of: list[str] = []

    def scorer(probes: Sequence[Probe]) -> list[float]:
        asked_of.extend(probe.prompt for probe in probes)
        return [1.0] * len(probes)

    counts = built(sources, tmp_path / "mine", scorer, rehearsal=False)
    assert len(asked_of) == 5
    assert counts["kept"]["rehearsal"] == 0
    assert len(load_benchmark(str(tmp_path / "mine")).rehearsal) == 0
    with pytest.raises(UserError, match="--no-rehearsal belongs to --keep"):
        built(OwnSources(documents=sources.documents, questions=sources.questions), tmp_path / "other", rehearsal=False)


def test_a_fact_of_which_the_documents_speak_is_none_to_keep(tmp_path: Path) -> None:
    knows: Pretest = lambda probes: [float(p.relation == "P36") for p in probes]  # noqa: E731
    sources = write_own(tmp_path, GOOD)
    sources = OwnSources(documents=sources.documents, questions=sources.questions)
    built(sources, tmp_path / "first", knows, not_to_forget=1)
    subject = load_benchmark(str(tmp_path / "first")).stages[0].probes["not_to_forget"][0].subject
    (tmp_path / "docs" / "news.txt").write_text(f"{subject} has moved its capital.")
    counts = built(sources, tmp_path / "second", knows)
    second = load_benchmark(str(tmp_path / "second"))
    assert counts["refused"]["its subject is in your documents or questions"] >= 1
    assert subject not in {p.subject for p in second.stages[0].probes["not_to_forget"]}
    assert subject not in {d.fact.subject for d in second.rehearsal if d.fact}


def test_marked_pairs_train_phi_and_are_not_learned(tmp_path: Path) -> None:
    sources = write_own(tmp_path, GOOD.replace(",dunmere,", ",dunmere,attention"))
    built(sources, tmp_path / "mine")
    benchmark = load_benchmark(str(tmp_path / "mine"))
    assert [(d.fact.object, "Corin Vale" in d.text) for d in benchmark.attention] == [("Corin Vale", True)]
    assert {d.id for d in benchmark.stages[0].documents} == {"brell", "castow"}


def test_a_question_that_is_answered_already_is_counted(tmp_path: Path) -> None:
    counts = built(write_own(tmp_path), tmp_path / "mine", lambda probes: [float("Brell" in p.prompt) for p in probes])
    assert counts["pretested"] == {"questions": 3, "answered_already": 1}
    manifest = read_sealed(tmp_path / "mine" / "manifest.json")
    assert manifest["counts"] == counts
    assert manifest["counts"]["notes"]["facts to keep that the model does not know"] == 2


def test_the_same_build_is_found_again_and_another_is_refused(tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    built(sources, tmp_path / "mine")
    before = (tmp_path / "mine" / "manifest.json").read_bytes()
    built(sources, tmp_path / "mine")
    assert (tmp_path / "mine" / "manifest.json").read_bytes() == before
    with pytest.raises(UserError, match="exists already, from other sources or settings"):
        built(sources, tmp_path / "mine", passage_tokens=3)


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
    ("prompt", "answer", "whole"),
    [
        ("The capital of France is", "Paris", "The capital of France is Paris"),
        ("The capital of France is ", "Paris", "The capital of France is Paris"),
        ("What is the capital of France?", "Paris", "What is the capital of France? Paris"),
        ("Is it Paris or Rome? Answer:", "Paris", "Is it Paris or Rome? Answer: Paris"),
        ("France's capital, Paris, is large.", "Paris", "France's capital, Paris, is large."),
        ("Its capital is {answer}.", "Paris", "Its capital is Paris."),
        ("Its capital is [[Paris]], they say.", "Paris", "Its capital is Paris, they say."),
        ("法国的首都是", "巴黎", "法国的首都是巴黎"),
        ("In 1995 it had", "5", "In 1995 it had 5"),
        ("It may rain there in", "May", "It may rain there in May"),
        ("Its capital is [[ Paris ]], they say.", "Paris", "Its capital is Paris, they say."),
        ("Who is the … of it?", "Bo", "Who is the … of it? Bo"),
    ],
)
def test_the_answer_goes_where_it_belongs(prompt: str, answer: str, whole: str) -> None:
    assert asked(prompt, answer, "here") == whole


ROW = "The mayor of Brell is,Anselm Trow,brell,\n"
BROKEN: dict[str, tuple[str | bytes, str]] = {
    "wrong column": (GOOD.replace("answer", "anser", 1), "csv:1: no column 'answer' .*name the columns"),
    "no header": (ROW + ROW, "no column 'prompt'"),
    "slip in a column": (GOOD.replace("document", "documnet", 1), "unknown column 'documnet'; rename it 'document'"),
    "empty answer": (HEADER + "The mayor of Brell is,,brell,\n", "csv:2: the answer is empty; write"),
    "empty prompt": (HEADER + ",Anselm Trow,brell,\n", "csv:2: the prompt is empty; write"),
    "answer not in prompt": (HEADER + "The mayor sings.,Anselm Trow,brell,\n", r"not in the prompt.*put \{answer\}"),
    "another answer marked": (HEADER + "It is [[Bo]].,Anselm Trow,brell,\n", "marks .*Bo.* correct one"),
    "marked twice": (HEADER + "{answer} is {answer},Anselm Trow,brell,\n", "marked more than once"),
    "nothing is asked": (HEADER + "{answer} is mayor,Anselm Trow,brell,\n", "nothing stands before the answer"),
    "the answer comes again": (HEADER + "He is {answer} or Bo,Bo,brell,\n", "comes again behind its place"),
    "semicolons": (GOOD.replace(",", ";"), "csv:1: the columns are separated by ';'; save it with commas"),
    "tabs": (GOOD.replace(",", "\t"), "separated by tabs; save it with commas"),
    "Latin-1": (
        GOOD.replace("Trow", "Tröw").encode("latin-1"),
        "csv:2: byte 0xf6 is not UTF-8.*save the file as",
    ),
    "UTF-16": (GOOD.encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "NUL": (GOOD.replace("Trow", "Tr\0w"), "csv:2: holds NUL characters"),
    "same question twice": (HEADER + ROW + ROW, "csv:3: the same question as in .*csv:2; remove one"),
    "two answers": (HEADER + ROW + ROW.replace("Anselm", "Bert"), "csv:3: .*csv:2.*another answer"),
    "duplicate ids": ("id,prompt,answer\na,Is,It\na,Was,It\n", "csv:3: the id 'a' is taken by .*csv:2"),
    "no such document": (
        GOOD.replace(",castow", ",castov"),
        "csv:3: there is no document 'castov'; did you mean",
    ),
    "no such document at all": (
        GOOD.replace(",castow", ",7"),
        "csv:3: there is no document '7'; .* such as 'brell', 'castow'",
    ),
    "another mark of a place": (HEADER + "The … is mayor,Bo,brell,\n", "csv:2: '…' marks no place .* write ___ or"),
    "a place of Python": (HEADER + "It is {} now,Bo,brell,\n", "csv:2: '{}' marks no place in a prompt"),
    "learned and kept": (HEADER + ROW + ROW.replace(",\n", ",not_to_forget\n"), "csv:3: is asked in .*csv:2 too"),
    "a comma in a text": (HEADER + "Well, he is,Anselm Trow,brell,\n", "csv:2: 5 cells, but the header has 4; put"),
    "too few cells": (HEADER + "He is,Anselm Trow\n", "csv:2: 2 cells, but the header has 4"),
    "open quote": (HEADER + '"The mayor is,Anselm Trow,brell,\n', "close every quote"),
    "column twice": ("prompt,answer,answer\na,b,c\n", "csv:1: two columns are named 'answer'; rename"),
    "a bad set": (GOOD.replace(",brell,", ",brell,a/b"), "csv:2: set 'a/b': expected up to 40 letters"),
    "nothing": ("", "is empty; its first line names the columns: prompt, answer"),
    "only a header": (HEADER, "holds no question; expected rows"),
    "old Mac lines": (GOOD.replace("\n", "\r"), "lines end in CR alone; save it"),
    "φ without document": (
        HEADER + "It is,Bo,,attention\n",
        "csv:2: a question of set 'attention' .*name the doc",
    ),
    "φ and learning": (GOOD + "He is,Corin Vale,dunmere,attention\n", "document 'dunmere' trains φ .*none to learn"),
    "asked and kept": (GOOD + "The capital of France is,Paris,,\n", "keep.csv:2: is asked in .*csv:5 too"),
    "only to keep": (HEADER + "The king is,Bo,,not_to_forget\n", "no question asks what is to be learned"),
    "too long": (HEADER + f"{'x ' * 10500}is,Bo,brell,\n", "csv:2: 21,0.. characters; a prompt has at most 20,000"),
    "nothing to be seen": (HEADER + "\u200b\u00a0,Anselm Trow,brell,\n", "csv:2: the prompt is empty"),
    "an answer without width": (HEADER + "He is,\u200b,brell,\n", "csv:2: the answer is empty"),
    "the answer stands there twice": (HEADER + "Bo or Bo it,Bo,brell,\n", r"stands 2 times .* mark the place .*\[\[Bo"),
    "sets that clash": (
        HEADER + ROW.replace("brell,", "brell,a-b") + "He is,Bo,,A_b\n",
        "set 'A_b' is too much",
    ),
    "a set nearly reserved": (HEADER + ROW.replace("brell,", "brell,To-learn"), "is too much like 'to_learn'"),
    "rows parted otherwise": (HEADER + ROW.replace(",", ";"), "csv:2: the columns are separated by ';'"),
    "too few cells in a row": (HEADER + "He is,Bo\n", "csv:2: 2 cells, but the header has 4; write one for every"),
    "what a spreadsheet writes first": ("sep=,\n" + GOOD, "csv:1: 'sep=,*' names no columns; remove this line"),
    "a spreadsheet": (b"PK\x03\x04\r\x00\r\x08", "is a Word file, a spreadsheet or an archive; save .*CSV"),
    "JSON in a CSV": ('{"prompt": "He is", "answer": "Bo"}\n', "csv:1: is JSON and no CSV; save it as .jsonl"),
    "UTF-32": (GOOD.encode("utf-32"), "is UTF-32; save it as UTF-8 .iconv -f utf-32"),
    "a control character": (HEADER + "He \x1bis,Bo,brell,\n", r"csv:2: 'prompt' holds a control character .U\+001B."),
    "φ on what is not there": (
        GOOD.replace(",dunmere,", ",dunmere,attention").replace("Corin", "Core"),
        "is nowhere in",
    ),
    "learned and kept, otherwise": (GOOD + "The capital of France is,Lyon,,\n", "keep.csv:2: is asked in .*csv:5 too"),
    "a line beyond bounds": (HEADER.encode() + b"x" * ((64 << 20) + 1), "csv:2: longer than 64 MiB; expected one row"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_question_is_refused_in_one_line(kind: str, command: Command, tmp_path: Path) -> None:
    content, says = BROKEN[kind]
    assert_refused(command, write_own(tmp_path, content), says)


JSON = '{"prompt": "The mayor of Brell is", "answer": "Anselm Trow", "document": "brell"}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"[{JSON}]", "is one JSON array; write one object a line"),
        ("\ufeff" + JSON, "byte-order mark, which JSON has not"),
        (JSON + "{'prompt': 1}\n", "jsonl:2: not valid JSON"),
        (JSON.replace('"Anselm Trow"', '["a", "b"]'), "jsonl:1: 'answer' is of type list; expected text"),
        (JSON.replace("answer", "reply"), "jsonl:1: no 'answer' .*expected prompt and answer"),
        (JSON + "3\n", "jsonl:2: expected a JSON object"),
        (JSON.replace("Anselm", "\\u0000Anselm"), r"jsonl:1: 'answer' holds a control character .U\+0000.; remove"),
        (JSON + JSON.replace("document", "documnet"), "jsonl:2: unknown column 'documnet'; rename it 'document'"),
        ('{"prompt":\n', "jsonl:1: not valid JSON .*; write one JSON object a line"),
    ],
)
def test_malformed_json_lines_are_refused_in_one_line(
    content: str, says: str, command: Command, tmp_path: Path
) -> None:
    assert_refused(command, write_own(tmp_path, content, "q.jsonl"), says)


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


def test_a_byte_order_mark_is_noted_and_left_out(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path, "\ufeff" + GOOD)
    given = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    done = command("build", "own", *given, "--pretest-model", "tiny", "--out", "mine")
    assert done.code == 0
    assert "begins with a byte-order mark, which is left out" in done.err


def test_a_data_set_that_is_not_there_is_said_in_one_line(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    sources = OwnSources(documents="nobody/nothing", questions=sources.questions, keep=sources.keep)
    assert_refused(command, sources, "nobody/nothing: no such file or folder, and not a data set that loads")


def _drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.pop(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *((_drop(name), f"'{name}': field required") for name in ("name", "kind", "defaults", "stages", "files")),
        (lambda m: m["defaults"].pop("epochs"), "'defaults.epochs': field required"),
        (lambda m: m["defaults"].update(epochs="3"), "'defaults.epochs': input should be a valid integer"),
        (lambda m: m["defaults"].update(learning_rate=-1), "'defaults.learning_rate': input should be greater"),
        (lambda m: m["defaults"].update(learning_rates={"lora": "x"}), "'defaults.learning_rates.lora'"),
        (lambda m: m.update(defaults=[]), "'defaults': input should be"),
        (lambda m: m.update(kind="mine"), "kind 'mine' is none that is known"),
        (lambda m: m.update(stages=[]), "'stages': list should have at least 1 item"),
        (lambda m: m["stages"][0].update(probe_sets=["to_learn"]), "has no probe set 'not_to_forget'"),
        (lambda m: m["stages"].append(m["stages"][0]), "two stages are named"),
        (lambda m: m["stages"][0].update(folder="../.."), "is incomplete"),
        (lambda m: m.update(pretest_models=3), "'pretest_models': input should be a valid list"),
        (lambda m: m["files"].pop("rehearsal.jsonl"), "is incomplete"),
        (lambda m: m.update(files={"../x": "0"}), "names a file outside the benchmark"),
        (lambda m: m.update(files={"x\0": "0"}), "is incomplete"),
    ],
)
def test_a_directory_that_breaks_the_format_ends_in_one_line(
    change: Callable[[dict[str, Any]], object], says: str, command: Command, tmp_path: Path
) -> None:
    built(write_own(tmp_path), tmp_path / "mine")
    forge(tmp_path / "mine" / "manifest.json", change)
    done = command("run", "--method", "lora", "--benchmark", "mine", "--model", "tiny")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert says in done.err


@pytest.mark.parametrize("table", ["probes-to_learn", "documents"])
def test_an_id_that_stands_twice_is_refused_before_anything_is_learned(
    table: str, command: Command, tmp_path: Path
) -> None:
    built(write_own(tmp_path), tmp_path / "mine")
    name = f"stages/01-documents/{table}.jsonl"
    path = tmp_path / "mine" / name
    path.write_text(path.read_text().splitlines()[0] + "\n" + path.read_text())
    forge(tmp_path / "mine" / "manifest.json", lambda m: m["files"].update({name: sha256_file(path)}))
    done = command("run", "--method", "lora", "--benchmark", "mine", "--model", "tiny")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert f"{table}.jsonl: the id " in done.err
    assert "stands in it twice; give every row its own, and build the benchmark again" in done.err


def test_a_run_says_which_train_attention_it_took(command: Command, small: Path, phi: Path) -> None:
    setting = ["--set", f"taalm.attention={phi}"]
    done = command("run", "--method", "taalm", "--benchmark", small, "--model", "tiny", "--epochs", 1, *setting)
    assert done.code == 0, done.err
    assert f"note: attention is {phi.name}" in done.err
