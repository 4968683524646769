"""Records stored by many processes at once, some of them killed: none is lost or doubled, and the table is right."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import time
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ckl_bench.records import EpochScores, Record, SetScores, read_record, read_records
from ckl_bench.results.output import finished, store
from ckl_bench.results.tables import first_difference
from helpers.runs import TINY_RECORD

PROCESSES = 8
SHARE = (
    int(os.environ.get("CKL_BENCH_RECORDS", "200")) // PROCESSES
)  # every table is made of all records: 2000 take long


def _short(record: Record) -> Record:
    """The record with two probes a set, so that thousands are read in seconds."""

    def cut(scores: SetScores) -> SetScores:
        accuracy, nll = scores.probe_accuracy[:2], scores.probe_nll[:2]
        lists = {"probe_accuracy": accuracy, "probe_nll": nll, "probe_guess": scores.probe_guess[:2]}
        return scores.model_copy(update={**lists, "accuracy": sum(accuracy) / 2, "nll": sum(nll) / 2})

    def epoch(scores: EpochScores) -> EpochScores:
        return scores.model_copy(update={"sets": {name: cut(s) for name, s in scores.sets.items()}})

    (stage,) = record.stages
    ids = {name: own[:2] for name, own in stage.probe_ids.items()}
    own = {"probe_ids": ids, "epochs": [epoch(e) for e in stage.epochs], "token_weights": [], "rehearsed": []}
    return record.model_copy(update={"stages": [stage.model_copy(update=own)]})


def _records(number: int, template: Record) -> list[Record]:
    """What one process has to store: runs of 25 rows that it shares with the others."""
    specs = [
        template.spec.model_copy(update={"seed": SHARE * number + i, "learning_rate": 1e-4 * (i % 25 + 1)})
        for i in range(SHARE)
    ]
    return [template.model_copy(update={"spec": spec, "run_id": spec.run_id}) for spec in specs]


def _store_all(folder: Path, number: int, template: Record) -> None:
    """As `run` does: what is there already is not made again."""
    for record in _records(number, template):
        if finished(folder, record.run_id) is None:
            store(folder, record)


def _start(folder: Path, number: int, template: Record) -> ForkProcess:
    process = multiprocessing.get_context("fork").Process(target=_store_all, args=(folder, number, template))
    process.start()
    return process


@pytest.mark.slow
def test_records_stored_by_eight_processes_of_which_some_are_killed(tmp_path: Path) -> None:
    template, draw = _short(read_record(TINY_RECORD)), random.Random(0)
    processes = [_start(tmp_path, number, template) for number in range(PROCESSES)]
    killed = 0
    for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        while len(list(tmp_path.glob("records/*.json"))) < share * PROCESSES * SHARE:
            assert any(process.is_alive() for process in processes)
            time.sleep(0.01)
        for number in draw.sample(range(PROCESSES), 3):
            killed += processes[number].is_alive()
            processes[number].kill()
            processes[number].join()
            processes[number] = _start(tmp_path, number, template)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert killed > 10
    expected = {record.run_id: record for number in range(PROCESSES) for record in _records(number, template)}
    found = list(read_records(tmp_path))
    assert len(found) == len(expected) == PROCESSES * SHARE
    assert {record.run_id: record for record in found} == expected
    assert first_difference(tmp_path, found) is None
    with open(tmp_path / "lama-ckl.csv", newline="") as file:
        listed = [run_id for row in csv.DictReader(file) for run_id in row["run_ids"].split()]
    assert sorted(listed) == sorted(expected)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    records = {f"records/{run_id}.json" for run_id in expected}
    locks = {name for name in left if name.startswith("records/.") and name.endswith(".json.tmp.lock")}
    assert len(locks) <= killed  # one who is killed cannot take away the file by which it locked; nobody else holds it
    assert left - locks == {"records", "lama-ckl.csv", "lama-ckl.md", *records}


def _store_together(folder: Path, record: Record, barrier: Barrier) -> None:
    barrier.wait()
    store(folder, record)


def test_those_that_end_at_once_leave_a_table_of_all(tmp_path: Path) -> None:
    """Each reads all records and writes the table: one that has read too early may not write last."""
    template, context = _short(read_record(TINY_RECORD)), multiprocessing.get_context("fork")
    for turn in range(12):
        folder, barrier = tmp_path / str(turn), context.Barrier(PROCESSES)
        records = [records[0] for records in (_records(number, template) for number in range(PROCESSES))]
        processes = [context.Process(target=_store_together, args=(folder, r, barrier)) for r in records]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        assert first_difference(folder, list(read_records(folder))) is None


def test_a_failed_run_takes_no_finished_ones_place(tmp_path: Path) -> None:
    done = read_record(TINY_RECORD)
    failed = Record.model_validate(done.model_dump() | {"status": "failed", "error": "the loss is nan"})
    for record, expected in ((failed, failed), (done, done), (failed, done)):
        store(tmp_path, record)
        assert list(read_records(tmp_path)) == [expected]
        assert first_difference(tmp_path, [expected]) is None
