"""A benchmark's directory that breaks the format, by a manifest or a table that was changed, is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.storage.files import sha256_file
from conftest import Command, forge
from helpers.own import built, write_own


def _drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.pop(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *((_drop(name), f"'{name}': field required") for name in ("name", "kind", "defaults", "stages", "files")),
        (lambda m: m["defaults"].pop("epochs"), "'defaults.epochs': field required"),
        (lambda m: m["defaults"].update(epochs="3"), "'defaults.epochs': input should be a valid integer"),
        (lambda m: m["defaults"].update(learning_rate=-1), "'defaults.learning_rate': input should be greater"),
        (lambda m: m["defaults"].update(learning_rates={"lora": "x"}), "'defaults.learning_rates.lora'"),
        (lambda m: m.update(defaults=[]), "'defaults': input should be"),
        (lambda m: m.update(kind="mine"), "kind 'mine' is none that is known"),
        (lambda m: m.update(stages=[]), "'stages': list should have at least 1 item"),
        (lambda m: m["stages"][0].update(probe_sets=["to_learn"]), "has no probe set 'not_to_forget'"),
        (lambda m: m["stages"].append(m["stages"][0]), "two stages are named"),
        (lambda m: m["stages"][0].update(folder="../.."), "is incomplete"),
        (lambda m: m.update(pretest_models=3), "'pretest_models': input should be a valid list"),
        (lambda m: m["files"].pop("rehearsal.jsonl"), "is incomplete"),
        (lambda m: m.update(files={"../x": "0"}), "names a file outside the benchmark"),
        (lambda m: m.update(files={"x\0": "0"}), "is incomplete"),
    ],
)
def test_a_directory_that_breaks_the_format_ends_in_one_line(
    change: Callable[[dict[str, Any]], object], says: str, command: Command, tmp_path: Path
) -> None:
    built(write_own(tmp_path), tmp_path / "mine")
    forge(tmp_path / "mine" / "manifest.json", change)
    done = command("run", "--method", "lora", "--benchmark", "mine", "--model", "tiny")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert says in done.err


@pytest.mark.parametrize("table", ["probes-to_learn", "documents"])
def test_an_id_that_stands_twice_is_refused_before_anything_is_learned(
    table: str, command: Command, tmp_path: Path
) -> None:
    built(write_own(tmp_path), tmp_path / "mine")
    name = f"stages/01-documents/{table}.jsonl"
    path = tmp_path / "mine" / name
    path.write_text(path.read_text().splitlines()[0] + "\n" + path.read_text())
    forge(tmp_path / "mine" / "manifest.json", lambda m: m["files"].update({name: sha256_file(path)}))
    done = command("run", "--method", "lora", "--benchmark", "mine", "--model", "tiny")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert f"{table}.jsonl: the id " in done.err
    assert "stands in it twice; give every row its own, and build the benchmark again" in done.err
