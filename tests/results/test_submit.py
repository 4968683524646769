"""All that is wrong with all records given; a second record of a run that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckl_bench.records import Record, read_record, write_record
from ckl_bench.results.reproduced import read_marks
from conftest import Command, forge
from helpers.runs import TINY_RECORD, short_run


@pytest.fixture
def board(command: Command, tmp_path: Path) -> Path:
    """A leaderboard with one run."""
    folder = tmp_path / "board"
    assert command("submit", write_record(tmp_path / "first", short_run()), "--output", folder).code == 0
    return folder


def again(folder: Path, **changes: Any) -> Path:
    """A record of the same run, made with something else."""
    run = short_run()
    return write_record(folder, run.model_copy(update={"environment": run.environment.model_copy(update=changes)}))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_that_is_wrong_is_said_of_every_record(command: Command, tmp_path: Path) -> None:
    good = write_record(tmp_path / "good", short_run())
    broken = tmp_path / "broken.json"
    broken.write_bytes(good.read_bytes().replace(b'"train": ', b'"train": 1'))
    limited = tmp_path / "limited.json"
    limited.write_bytes(TINY_RECORD.read_bytes())

    def worse(record: dict[str, Any]) -> None:
        record["environment"]["commit"] = "0+changes"
        record["stages"][0]["rehearsed"] = ["stolen"]

    forge(limited, worse)
    result = command("submit", good, broken, limited, tmp_path / "none.json", "--output", tmp_path / "board")
    *reasons, last = result.err.splitlines()
    assert (result.code, last) == (2, "error: 3 of 4 records cannot be submitted; nothing was written")
    said = {path: [reason for reason in reasons if reason.startswith(f"{path}: ")] for path in (good, broken, limited)}
    assert not said[good]
    assert "is not as it was written" in " ".join(said[broken])
    for words in ("run it without --limit", "differ from their commit", "it read document 'stolen'"):
        assert any(words in reason for reason in said[limited]), words
    assert not (tmp_path / "board").exists()


def test_the_same_record_twice_is_there_already(command: Command, board: Path, tmp_path: Path) -> None:
    before = contents(board)
    result = command("submit", write_record(tmp_path, short_run()), "--output", board)
    assert result.code == 0
    assert "is there already" in result.err
    assert contents(board) == before


def test_a_second_record_that_agrees_is_noted_and_marks_nothing(command: Command, board: Path, tmp_path: Path) -> None:
    run_id, path = short_run().run_id, again(tmp_path, device="another", started="2030-01-01T00:00:00+00:00")
    before = contents(board)
    result = command("submit", path, "--output", board)
    assert result.code == 0, result.err
    assert f"run {run_id} is there already" in result.err
    assert "numbers agree" in result.err
    assert "handed in, not run here" in result.err  # nobody here has seen it run: a copy would agree as well
    assert read_marks(board) == {}
    assert contents(board) == before
    assert command("leaderboard", "--output", board, "--check").code == 0


def test_a_second_record_with_other_numbers_is_refused(command: Command, board: Path, tmp_path: Path) -> None:
    def better(record: dict[str, Any]) -> None:
        scores = record["stages"][0]["epochs"][-1]["sets"]["to_learn"]
        scores["probe_nll"] = [value - 0.001 for value in scores["probe_nll"]]
        scores["nll"] -= 0.001

    def weighed(record: dict[str, Any]) -> None:
        record["stages"][0]["epochs"][-1]["views"] = {"own": record["stages"][0]["epochs"][-1]["sets"]}

    before = contents(board)
    for change, words in ((better, "to_learn nll: "), (weighed, "scores in the same places")):
        path = write_record(tmp_path, short_run())
        forge(path, change)
        result = command("submit", path, "--output", board)
        assert result.code == 2
        assert f"run {short_run().run_id} is there already with other numbers: " in result.err
        assert words in result.err
        assert contents(board) == before


def test_two_records_of_one_run_given_at_once_are_compared(command: Command, tmp_path: Path) -> None:
    paths = [write_record(tmp_path / "one", short_run()), again(tmp_path / "two", threads=64)]
    result = command("submit", *paths, "--output", tmp_path / "board")
    assert result.code == 0, result.err
    assert "handed in, not run here" in result.err
    assert read_marks(tmp_path / "board") == {}
    kept: Record = read_record(tmp_path / "board" / "records" / paths[0].name)
    assert kept == short_run()
