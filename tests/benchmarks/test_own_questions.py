"""Questions of one's own: where the answer goes, and what is said of each that is malformed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.benchmarks.own_questions import asked
from conftest import Command
from helpers.own import GOOD, HEADER, assert_refused, write_own


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


def test_a_byte_order_mark_is_noted_and_left_out(command: Command, tmp_path: Path) -> None:
    sources = write_own(tmp_path, "\ufeff" + GOOD)
    given = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    done = command("build", "own", *given, "--pretest-model", "tiny", "--out", "mine")
    assert done.code == 0
    assert "begins with a byte-order mark, which is left out" in done.err
