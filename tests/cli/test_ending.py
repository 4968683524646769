"""How a command ends: errors and interruptions are one line and an exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ckl_bench.records import read_record
from conftest import RAISING, Command

RUN = ("run", "--model", "tiny")


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError",
        'RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can\'t allocate memory")',
        'RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")',
    ],
)
def test_out_of_memory_names_what_reduces_it(error: str, command: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "bad.py").write_text(RAISING.format(error))
    result = command(*RUN, "--benchmark", small, "--method", "bad")
    assert (result.code, "Traceback" in result.err) == (1, False)
    (line,) = (line for line in result.err.splitlines() if line.startswith("error:"))
    for words in ("out of memory", "step 1", "--micro-batch", "--max-tokens", "qlora", "--model"):
        assert words in line
    (path,) = (tmp_path / "runs" / "records").glob("*.json")
    assert "out of memory" in (read_record(path).error or "")


def test_an_error_is_one_line_of_bounded_length(command: Command) -> None:
    result = command("run", "--method", "x" * 100_000)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert len(result.err) < 600
    assert result.err.startswith("error: unknown method 'xxx")


def test_out_of_memory_before_training_is_one_line_too(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ckl_bench.learning.run.load_benchmark", raising)
    result = command(*RUN, "--benchmark", small, "--method", "lora")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "--micro-batch" in result.err


def test_what_a_library_makes_of_a_signal_is_an_interruption(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def query(folder: Path) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:  # as DuckDB does
            raise RuntimeError("Query interrupted") from error

    (tmp_path / "out" / "records").mkdir(parents=True)
    monkeypatch.setattr("ckl_bench.records.read_records", query)
    result = command("leaderboard", "--output", "out")
    assert (result.code, result.err.count("\n")) == (130, 1)
    assert result.err.startswith("error: interrupted; run the same command again to go on: ckl-bench leaderboard")


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ckl_bench", "fly"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: No such command 'fly'.\n")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a system without hangups")
@pytest.mark.parametrize(
    ("number", "before", "code"),
    [("SIGUSR1", "SIG_DFL", 130), ("SIGHUP", "SIG_DFL", 130), ("SIGHUP", "SIG_IGN", 0)],
)
def test_notices_of_preemption_interrupt_and_nohup_is_kept(number: str, before: str, code: int) -> None:
    program = (
        f"import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.{before})\n"
        "from ckl_bench.cli.ending import to_the_end\n"
        f"to_the_end(lambda: os.kill(os.getpid(), signal.{number}), ['run'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = "error: interrupted; run the same command again to go on: ckl-bench run\n" if code else ""
    assert (done.returncode, done.stderr) == (code, said)


def test_a_signal_behind_the_end_of_a_command_changes_nothing() -> None:
    code = (
        "import atexit, os, signal, sys\nfrom ckl_bench.cli.app import main\n"
        "from ckl_bench.storage.stops import STOPS\nfor number in STOPS:\n"
        "    atexit.register(os.kill, os.getpid(), number)\n"
        "main(sys.argv[1:])"
    )
    for arguments, expected in ((["--help"], (0, "")), (["fly"], (2, "error: No such command 'fly'.\n"))):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == expected


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    code = "import os, sys\nos.rmdir(os.getcwd())\nfrom ckl_bench.cli.app import main\nmain(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, "methods"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the folder you are in does not exist any more; cd to another one\n"
