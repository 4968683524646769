"""Marks of runs that were made again and agreed: `reproduced/<run_id>.json` beside the folder's records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_sealed, sha256_file
from ckl_bench.storage.json import sealed
from ckl_bench.storage.locks import locked
from ckl_bench.storage.writing import write_json


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Mark(_Model):
    """One repetition of a run that agreed with its record: somebody's word, as a record is."""

    run_id: str
    """The run that was made again."""
    record_sha256: str
    """Hash of the record's file that was confirmed; of another one it says nothing."""
    who: str
    """Git's user name of the one who made it again, or the name of the account."""
    platform: str
    """Operating system and processor architecture of the repetition."""
    device: str
    """What computed it: cpu with its name, or the GPU's name."""
    when: str
    """UTC time at which the repetition started, ISO 8601."""
    ckl_bench: str
    """Version of this package that made it."""
    commit: str
    """Git commit of the checkout that made it."""
    agreed: str
    """What agreed, and how closely."""


class _Marks(_Model):
    """The marks of one run."""

    run_id: str
    """The run; the file's name."""
    marks: list[Mark]
    """In the order in which they were made."""


def read_marks(folder: Path) -> dict[str, list[Mark]]:
    """Run id -> the marks of its record as it stands in `folder`; runs without any are left out.

    A mark of another record of the same run, which this one has replaced, does not count. Raises UserError for a file
    that is not as it was written.
    """
    found = {path.stem: list(_standing(folder, path)) for path in sorted((folder / "reproduced").glob("*.json"))}
    return {run_id: marks for run_id, marks in found.items() if marks}


def add_mark(folder: Path, mark: Mark) -> Path:
    """Add a mark to those of its run in `folder`, whole or not at all; returns their file.

    One that is there already is not added twice. Processes that do so at once take turns. Raises UserError where the
    file cannot be written, or is not as it was written.
    """
    path = folder / "reproduced" / f"{mark.run_id}.json"
    with locked(folder / "reproduced" / f".{mark.run_id}.lock", f"the marking of run {mark.run_id}", wait=True):
        marks = _read(path) if path.is_file() else []
        if mark not in marks:
            write_json(path, sealed(_Marks(run_id=mark.run_id, marks=[*marks, mark]).model_dump()))
    return path


def _standing(folder: Path, path: Path) -> Iterator[Mark]:
    record = folder / "records" / path.name
    there = sha256_file(record) if record.is_file() else ""
    return (mark for mark in _read(path) if mark.record_sha256 == there)


def _read(path: Path) -> list[Mark]:
    try:
        found = _Marks.model_validate(read_sealed(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path} holds no marks ({'.'.join(map(str, first['loc']))}: {first['msg']}); remove it"
        ) from error
    if any(run_id != path.stem for run_id in (found.run_id, *(mark.run_id for mark in found.marks))):
        raise UserError(f"{path} holds marks of another run than {path.stem}; remove or rename it")
    return found.marks
