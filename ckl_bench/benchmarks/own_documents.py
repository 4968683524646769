"""Documents of one's own: a folder of text files, a table, or a data set of the hub -> texts with ids and stages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.own_tables import (
    Note,
    blank,
    decoded,
    encoding,
    heading,
    known_columns,
    one_form,
    read_table,
    whole,
)
from ckl_bench.errors import UserError, first_line, utf8
from ckl_bench.progress import log

TEXT_FILES = (".txt", ".md")
LARGEST_TEXT = 64 << 20  # bytes of one text file
ONE_STAGE = "documents"  # the stage's name where there is but one
# The block of `key: value` at the start of a Markdown file, which is about the text and no part of it.
_FRONT = re.compile(r"---[ \t]*\r?\n[\w-]+[ \t]*:(?:[^\n]*\n)+?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])[\"'”’)\]]*\s+|(?<=[。！？])")


@dataclass(frozen=True, kw_only=True)
class Text:
    """A document before it is cut: its id, its text, the name of its stage, and where it stands."""

    id: str
    text: str
    stage: str
    where: str


def read_documents(source: str, *, column: str, stages: str | None, note: Note = log) -> list[Text]:
    """The documents of a folder of .txt and .md files, a table, or a data set's id; none is empty, no id comes twice.

    `column` holds the text, `id` the id where there is such a column (else the row's number), `stages` the name of the
    stage (of a folder's files: `folder`, where a file lies). Raises UserError that says where and what to do.
    """
    path = Path(source)
    if not source.strip():
        raise UserError(f"--documents '{source}': names nothing; give a folder, a table or an id")
    if path.is_dir():
        found = list(_folder(path, stages, note))
    elif path.exists() or path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", *TEXT_FILES):
        if path.suffix.lower() in TEXT_FILES:
            raise UserError(
                f"--documents {source}: one text file; give the folder in which it lies"
                if path.exists()
                else f"--documents {source}: does not exist; give a folder of .txt or .md files, or a table"
            )
        rows = ((f"{path}:{number}", number, row) for number, row in read_table(path, ["id", column], note))
        found = list(_table(rows, lambda where: heading(path, where), column, stages, note))
    else:
        found = list(_table(_hub(source), lambda where: source, column, stages, note))
    if not found:
        raise UserError(f"--documents {source}: no document in it; expected at least one text to learn")
    seen: dict[str, str] = {}
    texts: dict[tuple[str, str], str] = {}
    for text in found:
        if text.id in seen:
            mend = "rename one of the files" if path.is_dir() else "give each document its own"
            raise UserError(f"{text.where}: the id '{text.id}' is taken by {seen[text.id]}; {mend}")
        seen[text.id] = text.where
        other = texts.setdefault((text.stage, text.text), text.where)
        if other != text.where:
            note(f"note: {text.where} says the same as {other}, so it is learned twice")
    return found


def text_files(folder: Path) -> tuple[list[Path], int]:
    """The .txt and .md files of a folder and those in it, and how many others there are; hidden ones are none.

    Links are followed, each folder is read once. UserError for what should be a text or a folder and cannot be read.
    """
    texts, others = [], 0
    visited: set[str] = set()
    top = folder.resolve()

    def fail(error: OSError) -> None:
        raise _unreadable(error.filename, error)

    for within, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        here = os.path.realpath(within)
        if here in visited:
            folders.clear()
            continue
        visited.add(here)
        inside = [os.path.join(within, name) for name in folders if not name.startswith(".")]
        folders[:] = sorted(os.path.basename(path) for path in inside if not top.is_relative_to(os.path.realpath(path)))
        for name in names:
            path = Path(within) / name
            if name.startswith("."):
                continue
            if not utf8(str(path.relative_to(folder))):
                raise UserError(f"{path}: its name is not UTF-8; rename it")
            if path.suffix.lower() not in TEXT_FILES:
                others += 1
            elif path.is_file():
                texts.append(path)
            else:
                raise _unreadable(path, None)
    return sorted(texts), others


def _unreadable(path: Path | str, error: OSError | None) -> UserError:
    reason = (error.strerror or error) if error else "it is a broken link, or no file"
    return UserError(f"cannot read {path}: {reason}; mend it, or take it out of the folder")


def _folder(folder: Path, stages: str | None, note: Note) -> Iterator[Text]:
    if stages not in (None, "folder"):
        raise UserError(f"--stages {stages}: files in folders have no columns; give --stages folder, or a table")
    texts, others = text_files(folder)
    if not texts:
        raise UserError(f"--documents {folder}: no .txt or .md file in it ({others} others); convert them to text")
    if others:
        note(f"note: {others} files of {folder} are not .txt or .md, and are not read")
    fronts = 0
    for path in texts:
        try:
            with open(path, "rb") as stream:
                content = stream.read(LARGEST_TEXT + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(content) > LARGEST_TEXT:
            raise UserError(f"{path} is larger than {LARGEST_TEXT >> 20} MiB; split it into several files")
        encoding(path, content)
        text = decoded(content.removeprefix(b"\xef\xbb\xbf"), str(path))
        front = _FRONT.match(text) if path.suffix.lower() == ".md" else None
        if front is not None:
            text, fronts = text[front.end() :], fronts + 1
        stage = one_form(path.parent.relative_to(folder).as_posix()) if stages else ONE_STAGE
        if stage == ".":
            raise UserError(f"{path}: lies in no folder of its own, so it has no stage; move it into one")
        if not one_form(path.stem):
            raise UserError(f"{path}: its name is blank, and would be the document's id; rename it")
        yield Text(id=one_form(path.stem), text=_filled(text, str(path)), stage=stage, where=str(path))
    if fronts:
        note(f"note: {fronts} .md files of {folder} begin with front matter (between ---), which is left out")


def _table(
    rows: Iterator[tuple[str, int, dict[str, Any]]],
    named: Callable[[str], str],
    column: str,
    stages: str | None,
    note: Note,
) -> Iterator[Text]:
    """Rows as documents; `named` says of a row's place where its columns are named."""
    if stages == column:
        raise UserError(f"--stages {stages}: is the column of the text; give one that says when each is learned")
    columns: set[str] = set()
    for where, number, row in rows:
        wanted = [column, *([stages] if stages is not None else [])]
        for name in wanted:
            if name not in row:
                option = "--text-column" if name == column else "--stages"
                found = ", ".join(map(str, row))
                raise UserError(f"{named(where)}: no column '{name}'; give {option} one of: {found}")
        if not columns.issuperset(row):  # of JSON every row has its own
            known_columns(list(row), ["id", *wanted], named(where), None if columns else note)
            columns.update(row)
        text = row[column]
        if not isinstance(text, str):
            raise UserError(f"{where}: '{column}' is {_kind(text)}; expected text")
        own = _named(row.get("id", number), "id", where)
        if not own:
            raise UserError(f"{where}: the id is empty; give every document one, or leave the column out")
        stage = ONE_STAGE if stages is None else _named(row[stages], stages, where)
        if not stage:
            raise UserError(f"{where}: '{stages}' is empty; every document belongs to a stage")
        yield Text(id=own, text=_filled(text, where), stage=stage, where=where)


def _named(value: object, column: str, where: str) -> str:
    """A cell as a name, empty where there is none; UserError for what is no text, number or date."""
    value = whole(value)
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if value is None or (isinstance(value, str) and blank(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | date):
        raise UserError(f"{where}: '{column}' is {_kind(value)}; expected text, a whole number or a date")
    return one_form(str(value))


def _kind(value: object) -> str:
    return "empty" if value is None else f"of type {type(value).__name__}"


def _filled(text: str, where: str) -> str:
    if blank(text):
        raise UserError(f"{where}: the document is empty; give it a text, or leave it out")
    if "\0" in text:
        raise UserError(f"{where}: holds NUL characters, so it is no text; give plain text in UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _hub(source: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Rows of `owner/name[:config][@split]`, which `datasets` loads; UserError where it cannot."""
    name, _, split = source.partition("@")
    name, _, config = name.partition(":")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UserError(f"--documents {source}: no such file or folder, and no id of a data set (owner/name)")
    from datasets import load_dataset

    try:
        rows = load_dataset(name, config or None, split=split or "train")
        yield from ((f"{source}, row {number}", number, row) for number, row in enumerate(rows, 1))
    except UserError:
        raise
    except Exception as error:  # its own, the hub's, or a network's
        raise UserError(
            f"--documents {source}: no such file or folder, and not a data set that loads ({first_line(error)})"
        ) from error


def passages(text: str, most: int, length: Callable[[str], int]) -> list[str]:
    """A text in passages of at most `most` tokens (`length` counts them), cut at paragraph ends, else at sentence ends.

    Where one sentence alone is longer it is cut between words, and a word longer than that within it.
    """
    if length(text) <= most:
        return [text]
    cuts: Mapping[str, Callable[[str], list[str]]] = {
        "\n\n": lambda whole: re.split(r"\n\s*\n", whole),
        " ": lambda whole: [part for part in _SENTENCE_END.split(whole) if part],
        "  ": lambda whole: whole.split(),  # words, which a space joins as well
    }
    for joint, cut in cuts.items():
        parts = [part.strip() for part in cut(text) if part.strip()]
        if len(parts) > 1:
            return _packed(parts, joint[:2] if joint == "\n\n" else " ", most, length)
    half = len(text) // 2
    return [*passages(text[:half], most, length), *passages(text[half:], most, length)] if half else [text]


def _packed(parts: list[str], joint: str, most: int, length: Callable[[str], int]) -> list[str]:
    """As many neighbouring parts together as there is room for; what is too long alone is cut further."""
    made: list[str] = []
    for part in parts:
        if length(part) > most:
            made += passages(part, most, length)
        elif made and length(made[-1] + joint + part) <= most:
            made[-1] += joint + part
        else:
            made.append(part)
    return made
