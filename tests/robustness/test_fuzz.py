"""Damaged input is refused in one line or harmless, for every reader; and a reader that believes it is found out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.errors import CklError, UserError
from ckl_bench.storage.files import read_json, sha256_bytes
from ckl_bench.storage.json import CHECKSUM, sealed
from harness.fuzz import hunt
from harness.fuzz_bench import OUTSIDE, SECRET, Bench, Damaged, Reader
from harness.fuzz_readers import READERS

SLOW = ("benchmark", "attention", "model folder", "gguf")
EXAMPLES = {name: 15 if name in SLOW else 20 for name in READERS}  # `make fuzz` has thousands


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in READERS]
)
def test_damaged_input_is_refused_in_one_line_or_harmless(name: str, tmp_path: Path) -> None:
    counts, findings = hunt(READERS[name], EXAMPLES[name], 0, tmp_path)
    assert not findings
    assert counts.total() == EXAMPLES[name]
    assert counts["refused"] or not READERS[name].strict


def record_without_its_checksum(folder: Path, scratch: Path) -> Any:
    return read_json(folder / "record.json")


def record_without_any_check(folder: Path, scratch: Path) -> Any:
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


class Wordy(CklError):
    """An error that does not keep to a line."""

    def __init__(self) -> None:
        Exception.__init__(self, "word " * 500)


def error_of_many_words(folder: Path, scratch: Path) -> Any:
    content = (folder / "record.json").read_bytes()
    if content != Path(folder.parents[1] / "made" / "input" / "record.json").read_bytes():
        raise Wordy


def does(what: Callable[[Path], object]) -> Callable[[Path, Path], Any]:
    """A reader of records that does something else first, in the folder it reads, and then refuses."""

    def read(folder: Path, scratch: Path) -> Any:
        if (folder.parents[1] / "done").exists():
            what(folder)
            raise UserError("refused")
        (folder.parents[1] / "done").touch()  # valid input is read first

    return read


BROKEN: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "believes": (record_without_its_checksum, "believed"),
    "crashes": (record_without_any_check, "Error at test_fuzz.py"),
    "is long-winded": (error_of_many_words, "an error of 2499 characters"),
    "writes into its input": (does(lambda folder: (folder / "more.txt").touch()), "wrote outside"),
    "writes beside its target": (does(lambda folder: Path("rows.jsonl").write_text("")), "wrote outside"),
    "takes memory": (does(lambda folder: bytearray(16 << 30)), "MemoryError"),
    "dies": (does(lambda folder: os.kill(os.getpid(), 11)), "signal 11"),
    "hangs": (does(lambda folder: time.sleep(9)), "signal 14"),
    "computes for ever": (does(lambda folder: sum(iter(int, 1))), "signal 24"),
    "prints pages": (does(lambda folder: print("warning: " * 10_000, flush=True)), "prints pages"),
}


FATAL = {"takes memory", "dies", "hangs", "computes for ever"}  # shown by every input, and slowly


@pytest.mark.parametrize("fault", BROKEN)
def test_a_reader_without_its_protection_is_found_out(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second of computing may take several where other tests run beside it.
    monkeypatch.setattr("harness.fuzz_bench.WALL_SECONDS", 2 if fault == "hangs" else 20)
    monkeypatch.setattr("harness.fuzz_bench.CPU_SECONDS", 1)
    monkeypatch.setattr("harness.fuzz.SHRINK_SECONDS", 1)
    read, words = BROKEN[fault]
    examples = 2 if fault in FATAL else 30
    counts, findings = hunt(replace(READERS["record"], read=read, restore=None), examples, 0, tmp_path)
    assert counts["wrong"]
    assert any(words in finding for finding in findings.values()), findings


def test_a_finding_is_made_small_and_told(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "letters.txt").write_text("abc" * 300)

    def read(folder: Path, scratch: Path) -> str:
        content = (folder / "letters.txt").read_bytes() if (folder / "letters.txt").is_file() else b""
        if content[:1] != b"a":
            raise UserError("does not begin with a")
        return content.decode(errors="replace")

    reader = Reader(name="letters", make=make, read=read)
    _, findings = hunt(reader, 30, 0, tmp_path)
    (text,) = findings.values()
    assert text.startswith("believed: the result is another one | letters.txt (")
    bench = Bench(reader, tmp_path / "again")
    assert bench.judge(Damaged({"letters.txt": b"abc"}, False)).kind == "wrong"
    assert bench.judge(Damaged({"letters.txt": b"abc"}, True)).kind == "other"  # the checksum was made right
    assert bench.judge(Damaged({"letters.txt": b"b"}, False)) == ("refused", "does not begin with a")
    assert bench.judge(Damaged({"letters.txt": b"abc" * 300}, False)).kind == "same"


@pytest.mark.parametrize("way", ["named", "linked"])
def test_the_outside_cannot_be_read_even_with_the_right_hash(way: str, tmp_path: Path) -> None:
    bench = Bench(READERS["benchmark"], tmp_path)
    files: Any = dict(bench.valid)
    manifest = json.loads(files["manifest.json"])
    name = OUTSIDE if way == "named" else "rehearsal.jsonl"
    manifest["files"][name] = sha256_bytes(SECRET)
    del manifest[CHECKSUM]
    files["manifest.json"] = json.dumps(sealed(manifest)).encode()
    if way == "linked":
        files[name] = OUTSIDE
    found = bench.judge(Damaged(files, True))
    assert found.kind == "refused"
    assert "names a file outside the benchmark" in found.text
