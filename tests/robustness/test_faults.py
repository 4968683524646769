"""Every write of a command may fail: old files stay, one line says so, the same command then ends as undisturbed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from ckl_bench.errors import UserError
from ckl_bench.results import tables as leaderboard
from ckl_bench.storage.writing import write_files
from harness.commands import long_commands, table_commands
from harness.faults import HARMLESS, Command, Fault, Injection, ending, inject, must
from helpers.children import shim, start

needs_shim = pytest.mark.skipif(shim() is None, reason="calls are made to fail by a library that a C compiler makes")
MOST = os.environ.get("CKL_BENCH_FAULTS", "4")  # faults a command: so many of them, evenly spread, or "all"


TABLES = ("leaderboard", "submit", "new-method", "report", "figures")
LONG = ("run", "run, fresh", "run, two seeds", "train-attention", "build lama-ckl", "build temporalwiki")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    return table_commands(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    return long_commands(tmp_path_factory.mktemp("long"))


def wrongs(command: Command, work: Path, most: int | None = None, begin: int = 0) -> list[str]:
    """What went wrong where faults were injected, of which there must have been some."""
    tallies = inject(Injection(command, work), most, begin=begin)
    assert sum(tally.failed for tally in tallies.values()) >= (most or 20)
    return [found for tally in tallies.values() for found in tally.wrong]


def some_wrongs(names: Sequence[str], name: str, commands: Mapping[str, Command], work: Path) -> list[str]:
    """`wrongs` of so many faults as are asked for; each command begins with those that the one before has not had."""
    if MOST == "all":
        return wrongs(commands[name], work / "work")
    return wrongs(commands[name], work / "work", int(MOST), int(MOST) * names.index(name))


@needs_shim
def test_the_tables_survive_every_fault(tables: dict[str, Command], tmp_path: Path) -> None:
    assert wrongs(tables["leaderboard"], tmp_path / "work") == []


@needs_shim
@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES[1:])
def test_what_stood_on_disk_survives_a_fault_anywhere(name: str, tables: dict[str, Command], tmp_path: Path) -> None:
    assert some_wrongs(TABLES, name, tables, tmp_path) == []


@needs_shim
@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_a_long_command_goes_on_behind_a_fault(name: str, long: dict[str, Command], tmp_path: Path) -> None:
    assert some_wrongs(LONG, name, long, tmp_path) == []


@needs_shim
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fault", "k"),
    [("run, fresh", Fault("write", errno.EIO), 3), ("train-attention", Fault("rename", errno.EDQUOT), 8)],
    ids=["a record for a failed run", "one of the two files of φ"],
)
def test_what_stands_is_not_given_up(name: str, fault: Fault, k: int, long: dict[str, Command], tmp_path: Path) -> None:
    assert Injection(long[name], tmp_path / "work").wrong(fault, k) is None


def _in_place(contents: Mapping[Path, bytes]) -> None:
    for path, content in contents.items():
        try:
            with open(path, "wb", buffering=0) as file:
                for start in range(0, len(content), 1000):
                    file.write(content[start : start + 1000])
        except OSError as error:
            raise UserError(f"cannot write {path}") from error


def _leaving_half(contents: Mapping[Path, bytes]) -> None:
    for path, content in contents.items():
        try:
            path.with_name(f".{path.name}.tmp").write_bytes(content)
        except OSError as error:
            raise UserError(f"cannot write {path}") from error
        os.replace(path.with_name(f".{path.name}.tmp"), path)


def _with_traceback(contents: Mapping[Path, bytes]) -> None:
    try:
        write_files(contents)
    except UserError as error:
        raise RuntimeError("nobody expects this") from error


def _believing(contents: Mapping[Path, bytes]) -> None:
    for path, content in contents.items():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, content)  # what it returns is not looked at
        os.close(descriptor)


def _write_with(writer: Callable[[Mapping[Path, bytes]], None]) -> None:
    vars(leaderboard)["write_files"] = writer


@needs_shim
@pytest.mark.parametrize(
    ("writer", "fault", "words"),
    [
        (_in_place, Fault("write", errno.EIO), "neither as it was nor as it should become"),
        (_leaving_half, Fault("write", errno.EIO), ".tmp is left"),
        (_with_traceback, Fault("fsync", errno.EIO), "exit code 1, a traceback, 0 error lines"),
        (_believing, Fault("short", 0), "is not whole"),
    ],
)
def test_a_writer_that_is_not_careful_is_caught(
    writer: Callable[[Mapping[Path, bytes]], None], fault: Fault, words: str, tables: dict[str, Command], tmp_path: Path
) -> None:
    given = tables["leaderboard"]
    careless = Command(arguments=given.arguments, given=given.given, before=partial(_write_with, writer))
    injection = Injection(careless, tmp_path / "work")
    found = [injection.wrong(fault, k) for k in range(1, injection.calls[fault.kind] + 1)]
    assert any(words in (one or "") for one in found), found


@pytest.mark.parametrize(
    ("code", "errors", "needed", "fine"),
    [
        (0, "note: a\n", 0, True),
        (2, "note: a\nerror: cannot write a\n", 1, True),
        (1, "error: No space left on device\n", None, True),
        (0, "note: a\n", 1, False),
        (1, "error: cannot write a\n", 0, False),
        (1, "", 1, False),
        (2, "error: a\nerror: b\n", 1, False),
        (1, "Traceback (most recent call last):\nerror: a\n", 1, False),
        (-6, "error: a\n", 1, False),
        (None, "error: a\n", 1, False),
    ],
)
def test_an_end_that_says_too_little_or_too_much_is_noticed(
    code: int | None, errors: str, needed: int | None, fine: bool
) -> None:
    assert (ending(code, errors, must=needed) is None) == fine


def test_only_what_is_named_may_fail_without_a_word() -> None:
    write = Fault("write", errno.ENOSPC, full=True)
    assert must(write, "/a/out/.tables.lock", 1) is None
    assert must(write, "/a/out/table.csv", 1) == 1
    assert must(write, "", 0) == 0
    assert must(Fault("short", 0), "/a/out/table.csv", 1) == 0
    assert must(Fault("fsync", errno.EIO), "/a/out/.tables.lock", 1) == 1
    assert {kind for kind, _ in HARMLESS} == {"write", "truncate", "close"}


RUN = ("--method", "lora", "--model", "tiny", "--limit", "3", "--epochs", "1", "--output", "out")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to print to")
PLACES = (("/dev/full", 1), (os.devnull, 0))  # and the least exit code there


@FULL
@pytest.mark.parametrize("words", ["methods", "leaderboard --output out"])
def test_a_full_disk_behind_stdout_is_one_line(words: str, tables: dict[str, Command], tmp_path: Path) -> None:
    shutil.copytree(tables["leaderboard"].given, tmp_path / "here")
    program = [sys.executable, "-c", "from ckl_bench.cli.app import main; main()", *words.split()]
    for place, needed in PLACES:
        with open(place, "w") as out:
            ended = subprocess.run(program, cwd=tmp_path / "here", stdout=out, stderr=subprocess.PIPE, text=True)
        assert ending(ended.returncode, ended.stderr, must=needed) is None, ended.stderr


@FULL
@pytest.mark.slow
@pytest.mark.parametrize("words", ["run --json", "run"])
def test_a_full_disk_behind_a_run_is_one_line(words: str, tmp_path: Path) -> None:
    for place, needed in PLACES:
        child = start([*words.split(), *RUN], tmp_path, tmp_path / "logs", out=Path(place))
        ended, errors = child.wait(), child.err.read_text()
        assert ending(ended, errors, must=needed) is None, errors
