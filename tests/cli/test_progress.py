"""One line that moves, where there is a terminal, and nothing of it anywhere else."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import termios
from pathlib import Path
from select import select

import pytest
from rich.cells import cell_len
from rich.console import Console

from ckl_bench.cli.options import say
from ckl_bench.progress import Line, hidden, line
from ckl_bench.records import write_record
from conftest import Command
from helpers.runs import KEPT, LEARNED, record
from helpers.terminal import ESCAPES, frames, on_terminal

LONG = "taalm+kadapter+mixreview+recadam(t0=32.0)"


def drawn(shown: Line, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    console.print(shown, end="")
    assert isinstance(console.file, io.StringIO)
    return ESCAPES.sub("", console.file.getvalue()).rstrip("\n")


@pytest.mark.parametrize("seconds", [1, 59, 3000, 40_000])
@pytest.mark.parametrize("label", ["lora", "taalm+lora", LONG, "日本語" * 20])
@pytest.mark.parametrize(
    "status",
    [
        "",
        "seed 1/1  epoch 1/8",
        "seed 2/3  epoch 4/8  loss 1.23  learn 0.21 keep 0.83",
        "seed 12/16  epoch 104/128  loss 1.23  learn 0.21 keep 0.83",
        "seed 2/3  2021-0809  loss 1.23  NLL 14.56/13.21",
        "far too long a status" * 9,
    ],
)
def test_the_line_fits(label: str, status: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ckl_bench.progress.time.monotonic", lambda: now[0])
    shown = Line(label, status, total=2)
    now[0] += seconds
    shown.advance(1)
    for width in (40, 80, 120):
        text = drawn(shown, width)
        assert "\n" not in text
        assert cell_len(text) <= width - 2  # where the terminal echoes ^C without breaking the line
    at_80, at_120 = drawn(shown, 80), drawn(shown, 120)
    if len(status) < 80:
        assert status in at_80
        assert shown.left() in at_80
        assert label[0] in at_80
    if len(label) < 30 and len(status) < 80:
        assert label in at_120
        assert "━━━━━" in at_120


def test_what_gives_way_is_the_bar_and_then_the_middle_of_the_label() -> None:
    shown = Line(LONG, "seed 2/3", total=2)
    assert LONG in drawn(shown, 120)
    assert "━" in drawn(shown, 120)
    assert LONG in drawn(shown, 56)
    assert "━" not in drawn(shown, 56)
    assert "taal…2.0)" in drawn(shown, 23)


def test_the_time_left_is_pace_times_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("ckl_bench.progress.time.monotonic", lambda: now[0])
    shown = Line("x")
    shown.begin(100, done=40)  # 40 were done before this process
    assert shown.left() == ""
    now[0] += 20
    shown.advance(10)  # 2 s each
    assert shown.left() == "1:40 left"
    now[0] += 30  # it goes down by itself
    assert shown.left() == "1:10 left"
    now[0] += 7200
    assert shown.left() == "0:00 left"
    shown.advance(0)
    assert shown.left() == "10h04 left"


def test_a_line_inside_of_another_takes_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    with line("outer") as outer, line("inner") as inner, hidden():
        inner.advance(1)
        assert (outer.label, inner.label) == ("outer", "inner")
    assert capsys.readouterr() == ("", "")  # no terminal


def test_a_run_says_where_it_is(small: Path, tmp_path: Path) -> None:
    words = ("run", "--method", "lora", "--model", "tiny", "--seed", "5", "--seed", "6", "--epochs", "3")
    code, out, got = on_terminal(*words, "--benchmark", small, cwd=tmp_path)
    seen = frames(got)
    assert code == 0
    assert "loading torch" in seen[0]
    assert any("lora  seed 1/2  loading tiny" in text for text in seen)
    assert all(cell_len(text) <= 80 for text in seen)
    assert "loading" not in out
    assert got.rstrip().endswith(".json")
    assert "\x1b[2K" in got[got.rindex("seed 2/2") :]  # nothing of it remains


def test_what_reads_many_records_says_so_first(tmp_path: Path) -> None:
    board = tmp_path / "board"
    for seed in (0, 1):
        for method in ("lora", "none"):
            write_record(board, record(LEARNED, KEPT, method=method, seed=seed))
    for words, found in (
        (("leaderboard", "--output", board), "from 4 records"),
        (("leaderboard", "--output", board, "--check"), "the tables agree"),
        (("compare", "lora", "none", "--benchmark", "made-up", "--model", "tiny", "--output", board), "lora against"),
        (("submit", board / "nowhere.json", "--output", board), ""),
    ):
        code, out, got = on_terminal(*words, cwd=tmp_path)
        assert code == (0 if found else 2), got
        assert "reading the records" in frames(got)[0], words
        assert found in out
        assert "\x1b[2K" in got  # nothing of it remains
        assert "reading the records" not in out


@pytest.mark.slow
def test_a_longer_run_says_all(tmp_path: Path) -> None:
    words = ("run", "--method", "lora", "--model", "tiny", "--seed", "5", "--seed", "6", "--epochs", "2")
    code, _, got = on_terminal(*words, "--limit", "32", cwd=tmp_path)
    assert code == 0
    one = [text for text in frames(got) if "seed 1/2" in text]
    for part in ("epoch 0/2  scoring", "epoch 1/2  loss ", "epoch 2/2  loss "):
        assert any(part in text for text in one), part
    parts = ("lora", "seed 1/2", "epoch 2/2", "loss ", "learn 0.", "keep 0.", " left")
    assert [text for text in one if all(part in text for part in parts) and len(text.rstrip()) <= 80], one[-5:]


def test_where_there_is_no_terminal_there_is_no_line(command: Command, small: Path) -> None:
    result = command("run", "--method", "lora", "--model", "tiny", "--benchmark", small)
    assert result.code == 0
    assert [text.split(":")[0] for text in result.err.splitlines()] == ["note", "general English", "record"]


def test_a_terminal_gets_errors_and_notes_broken_between_words(command: Command, tmp_path: Path) -> None:
    plain = command("run", "--method", "nosuchmethod").err
    assert plain.count("\n") == 1
    code, out, got = on_terminal("run", "--method", "nosuchmethod", cwd=tmp_path, columns=50)
    got = ESCAPES.sub("", got[got.index("error:") :]).replace("\r\n", "\n")
    assert (code, out) == (2, "")
    assert got.split() == plain.split()
    assert got.count("\n") > 2
    assert all(len(text) <= 50 for text in got.split("\n"))


def test_a_path_is_not_broken(tmp_path: Path) -> None:
    path = "a-rather/long-path/" * 5 + "model.gguf"
    _, _, got = on_terminal("run", "--method", "lora", "--model", path, cwd=tmp_path, columns=40)
    assert path in got


def test_a_command_to_type_again_is_in_one_piece(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "stops.py").write_text(
        '"""Is interrupted as it is loaded."""\nimport os, signal, time\n'
        "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    )
    words = ("run", "--method", "stops", "--model", "tiny", "--epochs", "3", "--batch-size", "4", "--lr", "0.001")
    code, _, got = on_terminal(*words, cwd=tmp_path, columns=40)
    assert code == 130
    assert f"\n  ckl-bench {' '.join(words)}" in got


def test_what_is_said_on_a_terminal_is_broken_between_words() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    with os.fdopen(theirs, "w") as stream, contextlib.redirect_stdout(stream):
        say("       0  of 20 questions are answered before anything is learned, by smollm2-135m")
        say("next: ckl-bench run --method lora --benchmark mine --model smollm2-135m")
        got = b"".join(iter(lambda: os.read(ours, 4096) if select([ours], [], [], 1)[0] else b"", b""))
    os.close(ours)
    assert got.decode().splitlines() == [
        "       0  of 20 questions are answered before",
        "  anything is learned, by smollm2-135m",
        "next: ckl-bench run --method lora --benchmark mine --model smollm2-135m",  # to be copied
    ]
