"""What is made once and cached is believed only as it was made, and made by one process alone."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from functools import partial
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.storage.files import cache_dir
from ckl_bench.storage.seals import is_sealed, made_once
from harness.fuzz_sources import make_gguf
from helpers.children import start


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[Path]:
    """An empty cache, and what this process remembers of it, to be cleared as if the next process read it."""
    seen: set[Path] = set()
    monkeypatch.setattr("ckl_bench.storage.seals._WHOLE", seen)
    monkeypatch.setenv("CKL_BENCH_CACHE", str(tmp_path / "cache"))
    return seen


def texts(benchmark: Path) -> list[str]:
    stage = load_benchmark(str(benchmark)).stages[0]
    return [document.text for document in stage.documents] + [p.prompt for p in stage.probes["to_learn"]]


def test_a_cached_table_with_a_changed_byte_is_made_again(
    small: Path, forgetful: set[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = texts(small)
    tables = sorted((cache_dir() / "arrow").glob("*/rows.arrow"))
    assert len(tables) == 3  # documents, and both probe sets
    for table in tables:
        valid = table.read_bytes()
        for place in range(0, len(valid), len(valid) // 9):
            table.write_bytes(valid[:place] + bytes([valid[place] ^ 1]) + valid[place + 1 :])
            forgetful.clear()
            assert texts(small) == expected
            assert table.read_bytes() == valid
            assert f"{table.parent} is not as it was made" in capsys.readouterr().err
        table.unlink()
        forgetful.clear()
        assert texts(small) == expected


def _slowly(folder: Path) -> None:
    with open(folder.parent / "makers", "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.3)
    (folder / "file").write_text("made")


def test_processes_that_want_the_same_folder_take_turns_and_one_makes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=made_once, args=(tmp_path / "made", _slowly)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "makers").read_text().count("\n") == 1
    assert is_sealed(tmp_path / "made")
    assert {path.name for path in tmp_path.iterdir()} == {"made", "makers"}


def test_what_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        made_once(tmp_path / "made", fails)
    assert not list(tmp_path.iterdir())


def _with_files_of_at_most(largest: int, cache: Path) -> None:
    os.environ["CKL_BENCH_CACHE"] = str(cache)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))


def test_a_model_that_does_not_fit_on_the_disk_is_one_line(tmp_path: Path) -> None:
    make_gguf(tmp_path)
    arguments = ["run", "--method", "lora", "--model", "model.gguf", "--epochs", "1", "--limit", "2"]

    def run(largest: int) -> tuple[int | None, str]:
        before = partial(_with_files_of_at_most, largest, tmp_path / "cache")
        child = start(arguments, tmp_path, tmp_path / "logs", before=before)
        return child.wait(120), child.err.read_text()

    code, said = run(40_000)  # bytes, which hold its tables, but not its weights
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert (code, "Traceback" in said) == (2, False)
    assert f"cannot write {tmp_path / 'cache' / 'models'}" in line
    assert "File too large" in line
    assert not list((tmp_path / "cache" / "models").iterdir())
    code, said = run(1 << 30)
    assert code == 0, said
