"""Commands survive being killed; and what the torture harness looks for, it finds."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.records import read_record, read_records, write_record
from ckl_bench.results.tables import write_tables
from conftest import forge
from harness.torture import Scenario, complaint, flaw, orphans, outcome, scenarios, torment, wrong_end
from helpers.runs import TINY_RECORD

NAMES = ("run, lama-ckl", "run, months", "run, seeds", "train-attention", "build lama-ckl", "build temporalwiki")


@pytest.fixture(scope="module")
def small_scenarios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scenario]:
    """The scenarios at a size that takes a second or two."""
    return scenarios(tmp_path_factory.mktemp("inputs"), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "leaderboard"])
def test_a_killed_command_started_again_ends_as_undisturbed(
    name: str, small_scenarios: dict[str, Scenario], tmp_path: Path
) -> None:
    assert small_scenarios.keys() == {*NAMES, "leaderboard"}
    tally = torment(small_scenarios[name], 3, random.Random(name), tmp_path, name)
    assert tally.wrong is None
    assert (tally.kills, tally.survived) == (3, 3)


@pytest.fixture
def ended(small: Path, phi: Path, tmp_path: Path) -> Path:
    """What commands might have left: a record with its tables, φ, a benchmark."""
    out = tmp_path / "ended"
    write_record(out, read_record(TINY_RECORD))
    write_tables(out, read_records(out))
    for path in (phi, phi.with_suffix(".json")):
        shutil.copy(path, out / path.name)
    shutil.copytree(small, out / "benchmark")
    return out


def one(folder: Path, pattern: str) -> Path:
    return next(iter(sorted(folder.rglob(pattern))))


def with_byte_changed(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = one(folder, pattern)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))

    return change


def with_other_score(folder: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        scores = record["stages"][0]["epochs"][-1]["sets"]["to_learn"]
        scores["probe_guess"][0] += "x"

    forge(one(folder, "records/*.json"), change)


def with_other_times(folder: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["cost"]["seconds"]["train"] += 1
        record["environment"]["started"] = "2030-01-01T00:00:00+00:00"

    forge(one(folder, "records/*.json"), change)
    write_tables(folder, read_records(folder))


def with_table_cut(folder: Path) -> None:
    path = one(folder, "*.csv")
    path.write_text(path.read_text()[:-20])


def with_old_table(folder: Path) -> None:
    path = one(folder, "*.csv")
    path.write_text(path.read_text().replace(",1,", ",2,", 1))


def with_seed_lost(folder: Path) -> None:
    one(folder, "records/*.json").unlink()


@pytest.mark.parametrize(
    ("doctor", "words"),
    [
        (with_other_times, None),
        (with_other_score, "differs at character"),
        (with_seed_lost, "is missing"),
        (with_byte_changed("records/*.json"), "is not whole"),
        (with_byte_changed("*.safetensors"), "is not whole"),
        (with_byte_changed("benchmark/**/documents.jsonl"), "benchmark is not whole"),
        (with_table_cut, "cut short"),
        (with_old_table, "the records give"),
        (lambda folder: (folder / "checkpoints").mkdir(), "checkpoints is left over"),
        (lambda folder: (folder / "benchmark.work").mkdir(), "benchmark.work is left over"),
        (lambda folder: (folder / "records" / ".497c.json.tmp").touch(), ".497c.json.tmp is left over"),
        (lambda folder: (folder / "run.lock").touch(), "run.lock is left over"),
        (lambda folder: (folder / "core").touch(), "core is too much"),
    ],
)
def test_a_doctored_outcome_is_noticed(doctor: Callable[[Path], Any], words: str | None, ended: Path) -> None:
    expected = outcome(ended)
    assert wrong_end(ended, expected) is None
    doctor(ended)
    found = wrong_end(ended, expected)
    assert found is None if words is None else words in (found or ""), found


def test_half_a_file_under_a_passing_name_is_no_flaw(ended: Path) -> None:
    (ended / "records" / ".half.json.tmp").write_text("{")
    assert flaw(ended) is None
    (ended / "records" / "half.json").write_text("{")
    assert "half.json is not whole" in (flaw(ended) or "")


@pytest.mark.parametrize(
    ("code", "stop", "errors", "fine"),
    [
        (0, None, "note: a\n", True),
        (0, signal.SIGINT, "", True),
        (-9, signal.SIGKILL, "", True),
        (130, signal.SIGTERM, "note: a\nerror: interrupted; run the same command again\n", True),
        (None, signal.SIGINT, "", False),
        (1, None, "error: the loss is nan\n", False),
        (-15, signal.SIGTERM, "", False),
        (-9, signal.SIGINT, "", False),
        (130, signal.SIGKILL, "error: interrupted\n", False),
        (130, signal.SIGINT, "", False),
        (130, signal.SIGINT, "Traceback (most recent call last):\nerror: interrupted\n", False),
        (0, signal.SIGINT, "error: interrupted\n", False),
    ],
)
def test_an_end_that_is_not_as_it_should_be_is_noticed(
    code: int | None, stop: int | None, errors: str, fine: bool
) -> None:
    assert (complaint(code, stop, errors) is None) == fine


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found through /proc")
def test_a_worker_that_stays_behind_is_noticed_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.torture.LINGER", 0.2)
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    command = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    command.communicate()
    assert "1 of its processes still run" in (orphans(command.pid) or "")
    assert orphans(command.pid) is None
