"""What identifies a run, and records of the schema before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from ckl_bench.records import read_record, read_records, write_record
from ckl_bench.results.leagues import labels
from ckl_bench.results.rows import Row
from ckl_bench.spec import SCHEMA, Spec
from ckl_bench.storage.files import leaderboards_dir
from ckl_bench.storage.json import sha256_json
from conftest import Command, forge
from helpers.runs import record

NEW = record([[0.0] * 4, [1.0] * 4], [[1.0] * 4] * 2)


def test_the_run_id_is_the_hash_of_every_field() -> None:
    fields = NEW.spec.model_dump()
    assert set(fields) == set(Spec.model_fields)
    assert NEW.spec.run_id == sha256_json(fields)[:16]
    for name, value in (("tokenizer_hash", "d" * 64), ("dtype", "bfloat16")):
        assert NEW.spec.model_copy(update={name: value}).run_id != NEW.run_id


def test_a_record_of_the_old_schema_keeps_its_id_and_its_bytes(tmp_path: Path) -> None:
    old = next(record for record in read_records(leaderboards_dir()) if record.spec.schema_version == 1)
    assert not {"tokenizer_hash", "dtype"} & set(old.spec.model_dump())
    assert old.run_id == old.spec.run_id
    again = write_record(tmp_path, old)
    assert read_record(again) == old
    assert '"tokenizer_hash"' not in again.read_text(encoding="utf-8")


def test_a_new_spec_as_of_the_old_schema() -> None:
    old = NEW.spec.as_of(1)
    assert old.schema_version == 1
    assert old == Spec(**old.model_dump())
    assert NEW.spec.as_of(SCHEMA) == NEW.spec
    with pytest.raises(ValueError, match="schema 1 knows no dtype but float32"):
        NEW.spec.model_copy(update={"dtype": "bfloat16"}).as_of(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer_hash": ""}, "tokenizer_hash is missing"),
        ({"schema_version": 1}, "tokenizer_hash is no part of schema 1"),
        ({"schema_version": SCHEMA + 1}, f"newer than {SCHEMA}; update ckl-bench"),
        ({"dtype": "int8"}, "Input should be"),
    ],
)
def test_a_spec_is_of_its_schema(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Spec.model_validate({**NEW.spec.model_dump(), **changes})


def test_tables_show_old_records_as_of_the_old_schema(command: Command, tmp_path: Path) -> None:
    old = NEW.model_copy(update={"spec": NEW.spec.as_of(1), "run_id": NEW.spec.as_of(1).run_id})
    write_record(tmp_path, NEW)
    write_record(tmp_path, old)
    assert command("leaderboard", "--output", tmp_path).code == 0
    table = pd.read_csv(tmp_path / "lama-ckl.csv")
    assert sorted(table["schema_version"]) == [1, 2]
    assert set(table["dtype"]) == {"float32"}
    assert list(table["tokenizer_hash"].isna()) == list(table["schema_version"] == 1)
    text = (tmp_path / "lama-ckl.md").read_text(encoding="utf-8")
    assert "lora@schema=1" in text
    result = command("compare", "lora@schema=1", "lora@schema=2", "--benchmark", "made-up", "--model", "tiny",
                     "--output", tmp_path)  # fmt: skip
    assert result.code == 0, result.err


def test_a_record_of_a_newer_schema_says_what_to_do(command: Command, tmp_path: Path) -> None:
    path = write_record(tmp_path, NEW)
    forge(path, lambda made: made["spec"].update(schema_version=SCHEMA + 1))
    result = command("leaderboard", "--output", tmp_path)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "update ckl-bench" in result.err


def test_the_committed_records_are_read() -> None:
    every = [read_record(path) for path in sorted((leaderboards_dir() / "records").glob("*.json"))]
    assert every
    assert all(made.spec.run_id == made.run_id for made in every)


def test_an_old_row_says_so_only_where_a_new_one_has_its_name() -> None:
    def row(method: str, schema: int) -> Row:
        return {"method": method, "schema_version": schema, "learning_rate": 1e-3, "tokenizer_hash": schema > 1 or None}

    made = [row("lora", 1), row("ewc", 1), row("rho1", 1), row("lora", 2)]
    assert labels(made) == ["lora@schema=1", "ewc", "rho1", "lora"]
    assert labels(made[:3]) == ["lora", "ewc", "rho1"]
