"""Repeating a committed run, and what may join the leaderboard."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.learning.environment import environment
from ckl_bench.records import Record, read_record, read_records, write_record
from ckl_bench.results.reproduce import SURROUNDINGS, agreement
from ckl_bench.results.tables import first_difference, write_tables
from ckl_bench.storage.files import leaderboards_dir
from conftest import Command, forge
from helpers.runs import TINY_RECORD, make_once, record, short_run

RUN = ("run", "--method", "rho1+mixreview", "--model", "tiny", "--json")


@pytest.fixture
def run_of() -> Record:
    return short_run()


def test_a_committed_run_of_the_tiny_model_repeats(command: Command) -> None:
    result = command("reproduce", TINY_RECORD)
    assert result.code == 0, result.out[-500:] + result.err
    numbers = [line for line in result.out.splitlines() if " epoch " in line]
    assert len(numbers) == 3 * 2 * (read_record(TINY_RECORD).spec.epochs + 1)  # of every set accuracy and NLL
    assert "numbers agree" in result.out
    then, here = read_record(TINY_RECORD).environment, environment("cpu")
    if all(getattr(then, name) == getattr(here, name) for name in SURROUNDINGS):
        assert all(line.endswith(": equal") for line in numbers)  # whatever commit is tested here


def test_a_number_that_does_not_repeat_is_found(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_once(monkeypatch)

    def worse(record: dict[str, Any]) -> None:
        scores = record["stages"][0]["epochs"][-1]["sets"]["to_learn"]
        scores["probe_nll"] = [value + 3 for value in scores["probe_nll"]]
        scores["nll"] += 3

    shutil.copy(TINY_RECORD, tmp_path / "other.json")
    forge(tmp_path / "other.json", worse)
    result = command("reproduce", tmp_path / "other.json")
    assert result.code == 1
    assert "to_learn nll" in next(line for line in result.out.splitlines() if "DIFFERS" in line)
    assert "do not agree" in result.err


@pytest.mark.parametrize(("right", "agrees"), [(2, True), (4, True), (20, False), (0, True)])
def test_elsewhere_a_mean_may_move_within_its_interval(right: int, agrees: bool) -> None:
    def run(count: int) -> Record:
        return record([[0.0] * 64, [1.0] * count + [0.0] * (64 - count)], [[1.0] * 64] * 2)

    then = run(2)  # where all probes agree (epoch 0, what was kept), nothing may move
    for changed in ({"threads": 64}, {"commit": "1" * 40}):
        elsewhere = then.environment.model_copy(update=changed)
        found = agreement(then, run(right).model_copy(update={"environment": elsewhere}))
        assert found.agrees == agrees
        assert not agreement(run(0), run(1).model_copy(update={"environment": elsewhere})).agrees
    assert agreement(then, run(right)).agrees == (right == 2)  # here nothing may move


def test_a_run_that_cannot_be_made_here_says_what_differs(command: Command, tmp_path: Path) -> None:
    changed = read_record(TINY_RECORD)
    spec = changed.spec.model_copy(update={"benchmark_hash": "a" * 64})
    other = changed.model_copy(update={"spec": spec, "run_id": spec.run_id})
    path = write_record(tmp_path, other)
    result = command("reproduce", path)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "the record's benchmark_hash is aaaa" in result.err
    assert command("reproduce", "nothing").code == 2


def test_a_submitted_record_joins_the_tables(run_of: Record, command: Command, tmp_path: Path) -> None:
    path = write_record(tmp_path / "mine", run_of)
    result = command("submit", path, "--output", tmp_path / "board")
    assert result.code == 0, result.err
    assert f"git add {tmp_path / 'board'}" in result.out
    assert read_record(tmp_path / "board" / "records" / path.name) == run_of
    assert command("leaderboard", "--output", tmp_path / "board", "--check").code == 0
    assert command("submit", path, "--output", tmp_path / "board").code == 0  # again: nothing changes


def altered(**changes: Any) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        spec = record.spec.model_copy(update=changes)
        return record.model_copy(update={"spec": spec, "run_id": spec.run_id})

    return change


def with_stage(**changes: Any) -> Callable[[Record], Record]:
    return lambda r: r.model_copy(update={"stages": [r.stages[0].model_copy(update=changes)]})


def with_scores(**changes: Any) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        value = record.model_dump()
        scores = value["stages"][0]["epochs"][1]["sets"]["to_learn"]
        count = len(scores["probe_nll"])
        for name, number in changes.items():
            scores[f"probe_{name}"], scores[name] = [number] * count, number
        return Record.model_validate(value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (altered(limit=3), "run it without --limit"),
        (altered(benchmark="elsewhere"), "unknown benchmark 'elsewhere'"),
        (altered(benchmark_hash="b" * 64), "its benchmark_hash is bbbb"),
        (altered(hyperparameters={"oracle": {}, "loro": {}}), "unknown method 'loro'; did you mean 'lora'"),
        (altered(hyperparameters={"oracle": {}, "lora": {"rank": 3}}), "unknown setting of lora 'rank'"),
        (altered(epochs=2), "scores of all 2 epochs"),
        (with_stage(rehearsed=["stolen"]), "it read document 'stolen'"),
        (with_stage(rehearsed=[]), ""),
        (with_scores(accuracy=1.5), "not between 0 and 1"),
        (lambda r: r.model_copy(update={"status": "failed", "error": "no"}), "the run failed (no)"),
        (
            lambda r: r.model_copy(update={"environment": r.environment.model_copy(update={"commit": "a+changes"})}),
            "differ from their commit",
        ),
    ],
)
def test_what_may_not_join_is_refused_whole(
    change: Callable[[Record], Record], words: str, run_of: Record, command: Command, tmp_path: Path
) -> None:
    good = write_record(tmp_path / "good", run_of)
    bad = write_record(tmp_path / "bad", change(run_of))
    result = command("submit", good, bad, "--output", tmp_path / "board")
    if words:
        *reasons, last = result.err.splitlines()
        assert (result.code, last) == (2, "error: 1 of 2 records cannot be submitted; nothing was written")
        assert any(words in reason for reason in reasons), result.err
        assert all(reason.startswith(f"{bad}: ") for reason in reasons)
        assert not (tmp_path / "board").exists()
    else:
        assert result.code == 0, result.err


def _write(folder: Path, first: int, count: int, template: dict[str, Any]) -> None:
    for seed in range(first, first + count):
        record = Record.model_validate(template)
        spec = record.spec.model_copy(update={"seed": seed})
        write_record(folder, record.model_copy(update={"spec": spec, "run_id": spec.run_id}))
        if seed % 5 == 0:
            write_tables(folder, read_records(folder))


def test_eight_writers_of_which_some_are_killed_end_in_a_correct_table(tmp_path: Path) -> None:
    template = read_record(TINY_RECORD).model_dump()
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, 100 * i, 15, template)) for i in range(8)]
    for writer in writers:
        writer.start()
    writers[2].join(0.4)
    for writer in writers[2:5]:
        writer.kill()
    for writer in writers:
        writer.join()
    records = list(read_records(tmp_path))  # every file that is there is whole
    finished = {seed for i in (0, 1, 5, 6, 7) for seed in range(100 * i, 100 * i + 15)}
    assert finished <= {record.spec.seed for record in records}
    write_tables(tmp_path, records)
    assert first_difference(tmp_path, records) is None
    table = (tmp_path / "lama-ckl.csv").read_text().splitlines()
    assert len(table) == 2
    assert f",{len(records)}," in table[1]


def test_a_digit_changed_in_a_committed_record_fails_the_check(tmp_path: Path, command: Command) -> None:
    shutil.copytree(leaderboards_dir(), tmp_path / "board", ignore=shutil.ignore_patterns("__pycache__"))
    assert command("leaderboard", "--output", tmp_path / "board", "--check").code == 0
    path, text = sorted((path, path.read_text()) for path in (tmp_path / "board" / "records").glob("*.json"))[0]
    path.write_text(re.sub(r'("nll": )', r"\g<1>1", text, count=1))
    result = command("leaderboard", "--output", tmp_path / "board", "--check")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "is not as it was written" in result.err
