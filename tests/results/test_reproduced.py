"""Marks of runs that were made again: who, where, when; counted by the tables; of this very record."""

from __future__ import annotations

import io
import platform
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ckl_bench.records import read_record, write_record
from ckl_bench.results.reproduced import Mark, add_mark, read_marks
from ckl_bench.results.tables import tables
from ckl_bench.storage.files import sha256_file
from conftest import Command, forge
from helpers.runs import KEPT, LEARNED, TINY_RECORD, make_once, record


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    make_once(monkeypatch)


def mark(folder: Path, run_id: str, **changes: Any) -> Mark:
    """Somebody's mark of a record in `folder`."""
    named = dict.fromkeys(("who", "platform", "device", "when", "ckl_bench", "commit", "agreed"), "x")
    path = folder / "records" / f"{run_id}.json"
    return Mark(**{"run_id": run_id, "record_sha256": sha256_file(path), **named, **changes})


def test_reproduce_marks_what_agrees(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: None
) -> None:
    for name, value in (("COUNT", "1"), ("KEY_0", "user.name"), ("VALUE_0", "A. Reader")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    path = write_record(tmp_path / "board", read_record(TINY_RECORD))
    result = command("reproduce", path)
    assert result.code == 0, result.err
    file = tmp_path / "board" / "reproduced" / path.name
    assert f"{file}: marked as reproduced" in result.out
    assert "numbers" in result.out
    (found,) = read_marks(tmp_path / "board")[path.stem]
    assert (found.run_id, found.who) == (path.stem, "A. Reader")
    assert found.platform == f"{platform.system()} {platform.machine()}"
    assert platform.node() not in file.read_text() or not platform.node()
    assert command("leaderboard", "--output", tmp_path / "board", "--check").code == 0
    assert list(pd.read_csv(tmp_path / "board" / "lama-ckl.csv")["reproduced"]) == [1]


def test_what_does_not_agree_or_lies_elsewhere_gets_no_mark(command: Command, tmp_path: Path, once: None) -> None:
    def worse(value: dict[str, Any]) -> None:
        scores = value["stages"][0]["epochs"][-1]["sets"]["to_learn"]
        scores["probe_nll"] = [nll + 3 for nll in scores["probe_nll"]]
        scores["nll"] += 3

    path = write_record(tmp_path / "board", read_record(TINY_RECORD))
    forge(path, worse)
    assert command("reproduce", path).code == 1
    assert not (tmp_path / "board" / "reproduced").exists()
    shutil.copy(TINY_RECORD, tmp_path / "alone.json")
    result = command("reproduce", tmp_path / "alone.json")
    assert result.code == 0
    assert "gets no mark" in result.err


def test_a_folder_that_cannot_be_written_is_a_note(command: Command, tmp_path: Path, once: None) -> None:
    path = write_record(tmp_path / "board", read_record(TINY_RECORD))
    (tmp_path / "board" / "reproduced").write_text("a file in the way")
    result = command("reproduce", path)
    assert result.code == 0
    assert "note: the mark" in result.err
    assert "numbers agree" in result.out


def test_the_tables_count_runs_with_a_mark_of_the_record_that_is_there(tmp_path: Path) -> None:
    runs = [record(LEARNED, KEPT, seed=seed) for seed in range(3)]
    for run in runs:
        write_record(tmp_path, run)

    def counted() -> int:
        table = pd.read_csv(io.StringIO(tables(runs, tmp_path)["lama-ckl.csv"]))
        assert "reproduced" in table.columns
        return int(table["reproduced"][0])

    assert counted() == 0
    for who in ("one", "another", "another"):  # who is counted once
        add_mark(tmp_path, mark(tmp_path, runs[0].run_id, who=who))
    add_mark(tmp_path, mark(tmp_path, runs[1].run_id))
    assert [len(marks) for marks in read_marks(tmp_path).values()] in ([1, 2], [2, 1])
    assert counted() == 2
    forge(tmp_path / "records" / f"{runs[0].run_id}.json", lambda value: value["environment"].update(device="forged"))
    assert counted() == 1


def test_a_mark_that_was_changed_or_moved_is_found(command: Command, tmp_path: Path) -> None:
    runs = [record(LEARNED, KEPT, seed=seed) for seed in range(2)]
    for run in runs:
        write_record(tmp_path, run)
    file = add_mark(tmp_path, mark(tmp_path, runs[0].run_id))
    assert command("leaderboard", "--output", tmp_path).code == 0
    whole = file.read_text()
    other = file.with_name(f"{runs[1].run_id}.json")

    def found(words: str) -> None:
        result = command("leaderboard", "--output", tmp_path)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert words in result.err

    file.write_text(whole.replace('"who": "x"', '"who": "y"'))
    found("is not as it was written")
    file.write_text(whole)
    forge(file, lambda value: value["marks"][0].update(agreed=3))
    found("holds no marks")
    file.unlink()
    other.write_text(whole)
    found("holds marks of another run")
